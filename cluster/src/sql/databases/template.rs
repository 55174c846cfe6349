//! Makes the file of a new database as a copy of an empty one. SQLite would go through several
//! synced steps (header, mode of the log, our table); a copy is one write and one sync. What is
//! in it is what SQLite made of the same steps, once, so all replicas allocate pages alike
//! whichever way their file came to be.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use super::super::{EngineFault, Writer};
use super::{files, layout};

/// The image, as soon as it is needed for the first time: a few pages.
#[derive(Default)]
pub(super) struct Template(Mutex<Option<Arc<[u8]>>>);

impl Template {
    /// Makes a database that has nothing in it, and opens it. What was in its place goes. The file
    /// is synced, its directory is not: SQLite throws the log of a file without bytes away, and a
    /// file without a name has no log.
    pub(super) fn make(&self, dir: &Path, path: &Path) -> Result<Writer, EngineFault> {
        let image = self.image(dir)?;
        files::remove(path)
            .and_then(|()| write(path, &image))
            .map_err(|e| files::io_fault(path, &e))?;
        Writer::open(path, false)
    }

    fn image(&self, dir: &Path) -> Result<Arc<[u8]>, EngineFault> {
        let mut known = self.0.lock();
        if let Some(image) = &*known {
            return Ok(Arc::clone(image));
        }
        let path = layout::template(dir);
        let io = |e: io::Error| files::io_fault(&path, &e);
        files::remove(&path).map_err(io)?;
        drop(Writer::open(&path, false)?);
        files::end_log(&path)?;
        let image: Arc<[u8]> = fs::read(&path).map_err(io)?.into();
        files::remove(&path).map_err(io)?;
        Ok(Arc::clone(known.insert(image)))
    }
}

fn write(path: &Path, image: &[u8]) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    file.write_all(image)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_what_sqlite_makes() {
        let dir = tempfile::tempdir().unwrap();
        layout::make(dir.path()).unwrap();
        let (copied, made) = (dir.path().join("copied"), dir.path().join("made"));
        let template = Template::default();
        // Whatever is in its place goes, its log first.
        fs::write(&copied, [7; 9000]).unwrap();
        fs::write(files::beside(&copied, "-wal"), [7; 900]).unwrap();
        let writer = template.make(dir.path(), &copied).unwrap();
        assert_eq!(writer.mark(), super::super::Mark::default());
        drop(writer);
        drop(Writer::open(&made, true).unwrap());
        files::end_log(&made).unwrap();
        files::end_log(&copied).unwrap();
        assert_eq!(fs::read(&copied).unwrap(), fs::read(&made).unwrap());
        assert!(!layout::template(dir.path()).exists());
    }
}
