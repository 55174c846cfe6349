"""Renders the chart with several sets of values and checks what comes out.

Usage: check_chart.py HELM CHART. Standard library only: the manifests are
turned into JSON by a chart of one template, made here, whose only act is
helm's own `fromYaml | toJson`.
"""

import base64
import contextlib
import http.server
import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

HELM, CHART = sys.argv[1:3]
CHECKS = 0


def check(fact: bool, what: str) -> None:
    global CHECKS
    CHECKS += 1
    if not fact:
        sys.exit(f"error: chart: {what}")


def run(*args: str) -> subprocess.CompletedProcess:
    return subprocess.run([HELM, *args], capture_output=True, text=True, timeout=60)


def to_objects(text: str) -> list[dict]:
    with tempfile.TemporaryDirectory() as temp:
        root = Path(temp)
        (root / "templates").mkdir()
        (root / "Chart.yaml").write_text("apiVersion: v2\nname: json\nversion: 0.1.0\n")
        documents = [d for d in ("\n" + text).split("\n---\n") if d.strip()]
        for i, document in enumerate(documents):
            (root / f"d{i}.txt").write_text(document)
        (root / "templates/all.yaml").write_text(
            '{{- range $path, $_ := .Files.Glob "*.txt" }}\n'
            "---\n{{ $.Files.Get $path | fromYaml | toJson }}\n{{- end }}\n"
        )
        done = run("template", "json", temp)
        check(done.returncode == 0, f"the manifests are no YAML:\n{done.stderr}")
        # One line of JSON for each document.
        objects = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    check(len(objects) == len(documents), f"{len(documents)} manifests, {len(objects)} of them readable")
    for item in objects:
        check("Error" not in item and "kind" in item, f"a manifest is no YAML: {item}")
    return objects


def render(
    *sets: str, values: dict | None = None, release: str = "test", cluster: str | None = None
) -> dict[str, dict]:
    """Answers the objects by `Kind/name`; `cluster` is the API server that `lookup` asks."""
    args = ["template", release, CHART, "--namespace", "apps"]
    if cluster:
        args += ["--dry-run=server", "--disable-openapi-validation", "--kube-apiserver", cluster]
    for item in sets:
        args += ["--set", item]
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(values or {}, file)
        file.flush()
        done = run(*args, "--values", file.name)
    check(done.returncode == 0, f"does not render with {sets} {values}:\n{done.stderr}")
    objects = to_objects(done.stdout)
    named = {f"{o['kind']}/{o['metadata']['name']}": o for o in objects}
    check(len(named) == len(objects), "two objects share a name")
    return named


def refused(*sets: str, saying: str) -> None:
    args = ["template", "test", CHART]
    for item in sets:
        args += ["--set", item]
    done = run(*args)
    check(done.returncode != 0, f"accepts {sets}")
    check(saying in done.stderr, f"refuses {sets} without saying {saying!r}:\n{done.stderr}")


def container(objects: dict[str, dict], name: str) -> dict:
    containers = objects[f"StatefulSet/{name}"]["spec"]["template"]["spec"]["containers"]
    check(len(containers) == 1, "one container expected")
    return containers[0]


def env(objects: dict[str, dict], name: str) -> dict[str, str]:
    variables = container(objects, name)["env"]
    names = [v["name"] for v in variables]
    check(len(set(names)) == len(names), f"a variable is set twice: {names}")
    return {v["name"]: v.get("value") for v in variables}


def defaults() -> None:
    name = "test-orama"
    objects = render()
    check(
        sorted(objects)
        == [
            f"Secret/{name}-keys",
            f"Service/{name}",
            f"Service/{name}-headless",
            f"ServiceAccount/{name}",
            f"StatefulSet/{name}",
        ],
        f"other objects than expected: {sorted(objects)}",
    )
    secret = objects[f"Secret/{name}-keys"]
    key = base64.b64decode(base64.b64decode(secret["data"]["master-key"], validate=True), validate=True)
    check(len(key) == 32, f"the master key has {len(key)} bytes")
    token = base64.b64decode(secret["data"]["admin-token"], validate=True)
    check(len(token) >= 32 and token.isalnum(), "the admin token is weak")
    check(secret["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep", "the keys die with the release")
    again = render()[f"Secret/{name}-keys"]
    check(secret["data"] != again["data"], "the keys are not random")

    spec = objects[f"StatefulSet/{name}"]["spec"]
    pod = spec["template"]["spec"]
    one = container(objects, name)
    version = next(
        line.split('"')[1] for line in Path(CHART, "Chart.yaml").read_text().splitlines() if line.startswith("appVersion")
    )
    check(spec["replicas"] == 1, "not one replica")
    check(spec["serviceName"] == f"{name}-headless", "serviceName is not the headless service")
    check(one["image"] == f"orama:{version}", f"image {one['image']}")
    check(one["args"] == ["node", "run"], f"args {one['args']}")
    for probe, path in [("startupProbe", "/livez"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")]:
        check(one[probe]["httpGet"] == {"path": path, "port": "metrics"}, f"{probe} {one[probe]}")
    ports = {p["name"]: p["containerPort"] for p in one["ports"]}
    check(ports == {"http": 6001, "metrics": 9090, "mesh": 4001}, f"ports {ports}")
    check(pod["terminationGracePeriodSeconds"] > 30, "the grace period is not longer than the drain")
    check(pod["securityContext"]["runAsNonRoot"] is True and pod["securityContext"]["runAsUser"] > 0, "runs as root")
    check(
        one["securityContext"]
        == {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}},
        "the container's security context",
    )
    check(pod["enableServiceLinks"] is False, "service links put ORAMA_* variables into the pod")
    check(pod["automountServiceAccountToken"] is False, "a service account token is mounted")

    mounts = {m["name"]: m["mountPath"] for m in one["volumeMounts"]}
    variables = env(objects, name)
    check(variables["ORAMA_DATA_DIR"].startswith(mounts["data"] + "/"), "the data directory is not on the volume")
    volume = next(v for v in pod["volumes"] if v["name"] == "keys")
    check(volume["secret"]["secretName"] == f"{name}-keys", "the keys' volume names another secret")
    for variable, item in [("ORAMA_MASTER_KEY_FILE", "master-key"), ("ORAMA_ADMIN_TOKEN_FILE", "admin-token")]:
        check(variables[variable] == f"{mounts['keys']}/{item}", f"{variable} {variables[variable]}")
    check(variables["ORAMA_DRAIN_TIMEOUT"] == "30s", "the drain timeout")
    # One node, ready to become several: it listens, and forms a cluster of itself.
    check(variables["ORAMA_CLUSTER_SECRET_FILE"] == f"{mounts['keys']}/cluster-secret", "the cluster secret's file")
    check({i["key"] for i in volume["secret"]["items"]} == set(secret["data"]), "keys that are not mounted")
    check(len(base64.b64decode(secret["data"]["cluster-secret"], validate=True)) >= 32, "the cluster secret is weak")
    check(variables["ORAMA_BOOTSTRAP_EXPECT"] == "1", "one node waits for others")
    check([c["metadata"]["name"] for c in spec["volumeClaimTemplates"]] == ["data"], "the volume claim")
    check(spec["persistentVolumeClaimRetentionPolicy"]["whenDeleted"] == "Retain", "the volume dies with the release")

    labels = spec["template"]["metadata"]["labels"]
    selectors = [spec["selector"]["matchLabels"]]
    selectors += [objects[f"Service/{s}"]["spec"]["selector"] for s in (name, f"{name}-headless")]
    check(all(s.items() <= labels.items() for s in selectors), "a selector does not select the pods")
    check(objects[f"Service/{name}-headless"]["spec"]["clusterIP"] == "None", "the headless service has an address")
    service = objects[f"Service/{name}"]["spec"]
    check(service["ports"] == [{"name": "http", "port": 6001, "targetPort": "http", "protocol": "TCP"}], "the service")
    annotations = spec["template"]["metadata"]["annotations"]
    check(
        annotations
        == {"prometheus.io/scrape": "true", "prometheus.io/port": "9090", "prometheus.io/path": "/metrics"},
        f"annotations {annotations}",
    )


def choices() -> None:
    digest = "sha256:" + "0a" * 32
    objects = render(
        values={
            "secrets": {"existingSecret": "mine"},
            "image": {"repository": "registry.example/orama", "digest": digest},
            "drainTimeoutSeconds": 120,
            "baseDomain": "fn.example",
            "settings": {"max_running": 2000000, "workers": 4, "max_queue_wait": "1s"},
            "extraEnv": [{"name": "TZ", "value": "UTC"}],
            "metrics": {"scrape": False},
            "serviceAccount": {"create": False},
            "persistence": {"storageClass": "fast", "size": "50Gi"},
            "service": {"type": "NodePort", "port": 80},
            "nodeSelector": {"disk": "ssd"},
            "tolerations": [{"key": "k", "operator": "Exists"}],
            "affinity": {"nodeAffinity": {}},
            "podLabels": {"team": "x", "app.kubernetes.io/name": "other"},
            "imagePullSecrets": [{"name": "pull"}],
            "priorityClassName": "high",
        },
        release="orama",
    )
    # The release's name says orama already; no keys and no account are made.
    check(sorted(objects) == ["Service/orama", "Service/orama-headless", "StatefulSet/orama"], f"{sorted(objects)}")
    spec = objects["StatefulSet/orama"]["spec"]
    pod = spec["template"]["spec"]
    check(pod["volumes"][0]["secret"]["secretName"] == "mine", "the existing secret is not used")
    check(container(objects, "orama")["image"] == f"registry.example/orama@{digest}", "the digest does not win")
    check(pod["terminationGracePeriodSeconds"] == 135, "the grace period does not follow the drain")
    check(pod["serviceAccountName"] == "default", "the service account")
    variables = env(objects, "orama")
    check(variables["ORAMA_MAX_RUNNING"] == "2000000", f"a large number is {variables['ORAMA_MAX_RUNNING']}")
    check(variables["ORAMA_WORKERS"] == "4" and variables["ORAMA_MAX_QUEUE_WAIT"] == "1s", "settings")
    check(variables["ORAMA_BASE_DOMAIN"] == "fn.example" and variables["TZ"] == "UTC", "variables")
    check(variables["ORAMA_DRAIN_TIMEOUT"] == "120s", "the drain timeout")
    check(not spec["template"]["metadata"].get("annotations"), "scrape annotations are there though off")
    claim = spec["volumeClaimTemplates"][0]["spec"]
    check(claim["storageClassName"] == "fast" and claim["resources"]["requests"]["storage"] == "50Gi", "the claim")
    check(objects["Service/orama"]["spec"]["ports"][0]["port"] == 80, "the service's port")
    check(pod["nodeSelector"] == {"disk": "ssd"} and pod["priorityClassName"] == "high", "scheduling")
    check(render("replicas=0")["StatefulSet/test-orama"]["spec"]["replicas"] == 0, "cannot be scaled to 0")


def three_nodes() -> None:
    objects = render("replicas=3")
    name = "test-orama"
    headless = objects[f"Service/{name}-headless"]["spec"]
    spec = objects[f"StatefulSet/{name}"]["spec"]
    pod = spec["template"]["spec"]
    labels = spec["template"]["metadata"]["labels"]
    variables = env(objects, name)
    check(spec["replicas"] == 3, "not three replicas")
    check(spec["podManagementPolicy"] == "Parallel", "one pod would wait for the next for ever")
    check(headless["publishNotReadyAddresses"] is True, "nodes cannot find each other before they are ready")
    mesh = [p for p in headless["ports"] if p["name"] == "mesh"]
    check(mesh == [{"name": "mesh", "port": 4001, "targetPort": "mesh", "protocol": "TCP"}], "the mesh's port")
    check(variables["ORAMA_JOIN"] == f"dns:{name}-headless.apps.svc.cluster.local:4001", variables["ORAMA_JOIN"])
    told = variables["ORAMA_MESH_ADVERTISE"]
    check(told == f"/dns/$(ORAMA_NODE_NAME).{name}-headless.apps.svc.cluster.local/tcp/4001", told)
    order = list(variables)
    check(order.index("ORAMA_NODE_NAME") < order.index("ORAMA_MESH_ADVERTISE"), "the pod's name is not known yet")
    check(variables["ORAMA_BOOTSTRAP_EXPECT"] == "3", "the first start does not wait for all")
    check(variables["ORAMA_MESH_LISTEN"] == "/ip4/0.0.0.0/tcp/4001", "where the mesh listens")
    check(variables["ORAMA_DATA_GROUPS"] == "4" and variables["ORAMA_REPLACE_AFTER"] == "5m", "the cluster's settings")
    budget = objects[f"PodDisruptionBudget/{name}"]["spec"]
    check(budget["maxUnavailable"] == 1, "more than one node may be drained at once")
    check(budget["selector"]["matchLabels"].items() <= labels.items(), "the budget does not select the pods")
    apart = pod["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"][0]["podAffinityTerm"]
    check(apart["topologyKey"] == "kubernetes.io/hostname", "pods are not spread over machines")
    check(apart["labelSelector"]["matchLabels"].items() <= labels.items(), "the affinity does not select the pods")

    # A template that does not change keeps the pods as they are when the number of replicas does.
    fixed = [render(f"replicas={n}", "cluster.bootstrapExpect=3") for n in (3, 5)]
    templates = [o[f"StatefulSet/{name}"]["spec"]["template"] for o in fixed]
    check(templates[0] == templates[1], "scaling restarts the pods")
    other = render("replicas=5", "cluster.domain=k8s.example", "podDisruptionBudget.enabled=false")
    check(env(other, name)["ORAMA_JOIN"].endswith(".svc.k8s.example:4001"), "the cluster's domain")
    check(env(other, name)["ORAMA_BOOTSTRAP_EXPECT"] == "5", "five are expected")
    check(f"PodDisruptionBudget/{name}" not in other, "the budget cannot be turned off")

    alone = render("cluster.enabled=false")
    check(not [v for v in env(alone, name) if v in ("ORAMA_JOIN", "ORAMA_CLUSTER_SECRET_FILE")], "a mesh though off")
    check(len(container(alone, name)["ports"]) == 2, "the mesh's port though off")
    check("affinity" not in alone[f"StatefulSet/{name}"]["spec"]["template"]["spec"], "one node has an affinity")
    check(env(render("replicas=0"), name)["ORAMA_BOOTSTRAP_EXPECT"] == "1", "a stopped cluster")


def refusals() -> None:
    refused("replicas=3", "cluster.enabled=false", saying="replicas: 3 needs cluster.enabled")
    refused("cluster.replaceAfter=soon", saying="replaceAfter")
    refused("cluster.secret=x", saying="secret")
    refused("settings.join=x", saying="join")
    refused("replicas=-1", saying="replicas")
    refused("replica=1", saying="replica")
    refused("image.digest=latest", saying="digest")
    refused("settings.master_key=x", saying="master_key")
    refused("settings.MaxRunning=5", saying="MaxRunning")
    refused("drainTimeoutSeconds=0", saying="drainTimeoutSeconds")
    refused("persistence.accessModes={ReadWriteMany}", saying="accessModes")
    refused("secrets.masterKey=x", saying="masterKey")


@contextlib.contextmanager
def cluster_with(data: dict[str, str]) -> Iterator[str]:
    """As much of a Kubernetes API as `lookup` needs, holding one Secret with this data."""

    def resources(group: str, *kinds: str) -> dict:
        items = [{"name": k.lower() + "s", "kind": k, "namespaced": True, "verbs": ["get"]} for k in kinds]
        return {"kind": "APIResourceList", "groupVersion": group, "resources": items}

    apps = {"groupVersion": "apps/v1", "version": "v1"}
    answers = {
        "/version": {"major": "1", "minor": "30", "gitVersion": "v1.30.0"},
        "/api": {"kind": "APIVersions", "versions": ["v1"]},
        "/apis": {
            "kind": "APIGroupList",
            "apiVersion": "v1",
            "groups": [{"name": "apps", "versions": [apps], "preferredVersion": apps}],
        },
        "/api/v1": resources("v1", "Secret", "Service", "ServiceAccount"),
        "/apis/apps/v1": resources("apps/v1", "StatefulSet"),
        "/api/v1/namespaces/apps/secrets/test-orama-keys": {
            "kind": "Secret",
            "apiVersion": "v1",
            "metadata": {
                "name": "test-orama-keys",
                "namespace": "apps",
                # helm touches only what it made itself.
                "labels": {"app.kubernetes.io/managed-by": "Helm"},
                "annotations": {"meta.helm.sh/release-name": "test", "meta.helm.sh/release-namespace": "apps"},
            },
            "data": data,
        },
    }
    absent = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = answers.get(self.path.split("?")[0])
            body = json.dumps(answer or absent).encode()
            self.send_response(200 if answer else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def keys_are_kept() -> None:
    text = lambda value: base64.b64encode(value.encode()).decode()
    there = {"master-key": text("old:AAAA"), "admin-token": text("the-token-of-the-first-install")}
    there["cluster-secret"] = text("the-secret-of-the-first-install")
    with cluster_with(there) as cluster:
        data = render(cluster=cluster)["Secret/test-orama-keys"]["data"]
    check(data == there, f"an upgrade replaces the keys: {data}")
    with cluster_with({"master-key": there["master-key"]}) as cluster:
        data = render(cluster=cluster)["Secret/test-orama-keys"]["data"]
    check(data["master-key"] == there["master-key"] and data["admin-token"], "an upgrade replaces the master key")


def long_name() -> None:
    objects = render(release="r" * 53)
    longest = max(len(o["metadata"]["name"]) for o in objects.values())
    # A pod's controller-revision label adds 11 characters to the StatefulSet's name; the limit is 63.
    check(longest <= 63 and len(next(n for n in objects if n.startswith("StatefulSet/"))) - 12 <= 52, "names too long")


defaults()
choices()
three_nodes()
refusals()
keys_are_kept()
long_name()
print(f"chart: {CHECKS} checks passed with {run('version', '--short').stdout.strip()}")
