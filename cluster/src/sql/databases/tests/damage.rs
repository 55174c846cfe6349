//! Flipped bits, missing and exchanged files.

use super::*;

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    let at = at % bytes.len();
    bytes[at] ^= 0x55;
    fs::write(path, bytes).unwrap();
}

/// A group with three databases, closed in order or not.
fn made(dir: &Path, close: bool) -> Databases {
    let databases = open(dir);
    for (n, name) in ["aa", "bb", "cc"].into_iter().enumerate() {
        let insert = "INSERT INTO t SELECT value, hex(randomblob(40)) FROM (WITH RECURSIVE c(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM c LIMIT 500) SELECT value FROM c)";
        wrote(
            &databases,
            &id(name),
            n as u64 + 1,
            &["CREATE TABLE t (n, x)", insert],
        );
    }
    databases
        .set_registers(4, &[("k".into(), "v".into())])
        .unwrap();
    databases.harden(&floor(4)).unwrap();
    if close {
        databases.close();
    }
    databases
}

fn live_files(dir: &Path) -> Vec<PathBuf> {
    files_ending(&layout::live(dir), ".db")
}

#[test]
fn a_damaged_or_missing_file_fences_its_database_alone() {
    let dir = tempfile::tempdir().unwrap();
    let live = dir.path().join("g");
    drop(made(&live, true));
    let files = live_files(&live);
    flip(&files[0], 3);
    fs::remove_file(&files[1]).unwrap();
    let databases = open(&live);
    assert!(ask(&databases, &id("aa"), "SELECT count(*) FROM t").is_err());
    let why = write(&databases, &id("bb"), 5, &["SELECT 1"])
        .unwrap()
        .unwrap_err()
        .why;
    assert!(why.contains("missing"), "{why}");
    assert!(!files[1].exists(), "nothing is made in its place");
    assert!(ask(&databases, &id("cc"), "SELECT count(*) FROM t").is_ok());
    let fenced: Vec<_> = databases
        .list()
        .into_iter()
        .filter(|d| d.fenced.is_some())
        .collect();
    assert_eq!(fenced.len(), 2, "{fenced:?}");
    assert_eq!(databases.metrics.fenced.get(), 2);
    assert_eq!(databases.metrics.fences.get(), 2);
    // It stays so.
    drop(databases);
    let databases = open(&live);
    assert!(databases.list()[1].fenced.is_some());
    let manifest = databases.save().unwrap();
    assert!(databases.saved(&manifest, &id("cc")).unwrap().is_some());
    assert!(databases.saved(&manifest, &id("bb")).is_err());
    assert!(databases.saved(&manifest, &id("zz")).unwrap().is_none());
}

#[test]
fn after_a_kill_files_are_read_before_they_are_used() {
    let dir = tempfile::tempdir().unwrap();
    let live = dir.path().join("g");
    let databases = made(&live, false);
    let killed = dir.path().join("killed");
    copy_dir(&live, &killed);
    drop(databases);
    let files = live_files(&killed);
    // The header of a page in the middle; its log, which is in the file, would hide it.
    fs::remove_file(files::beside(&files[0], "-wal")).unwrap();
    let middle = fs::metadata(&files[0]).unwrap().len() / 8192 * 4096;
    let mut bytes = fs::read(&files[0]).unwrap();
    bytes[middle as usize..middle as usize + 8].fill(0xff);
    fs::write(&files[0], bytes).unwrap();
    let databases = open(&killed);
    assert!(databases.unclean);
    // SELECT 1 touches nothing of it.
    let error = ask(&databases, &id("aa"), "SELECT 1").unwrap_err();
    assert!(error.contains("fenced"), "{error}");
    assert_eq!(
        ask(&databases, &id("bb"), "SELECT 1 AS n").unwrap(),
        "[{\"n\":1}]"
    );
}

#[test]
fn a_log_that_lost_what_the_floor_says_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let live = dir.path().join("g");
    let databases = open(&live);
    let one = id("aa");
    wrote(&databases, &one, 1, &["CREATE TABLE t (n)"]);
    databases.harden(&floor(1)).unwrap();
    let early = dir.path().join("early");
    copy_dir(&live, &early);
    for index in 2..=5 {
        wrote(
            &databases,
            &one,
            index,
            &["INSERT INTO t VALUES (zeroblob(9000))"],
        );
    }
    databases.harden(&floor(5)).unwrap();
    let late = dir.path().join("late");
    copy_dir(&live, &late);
    drop(databases);
    // An older copy of the file is put back.
    for suffix in ["", "-wal"] {
        let name = files::beside(&live_files(&early)[0], suffix);
        let to = late.join("live").join(name.file_name().unwrap());
        fs::copy(&name, to).unwrap();
    }
    let databases = open(&late);
    let why = write(&databases, &one, 6, &["SELECT 1"])
        .unwrap()
        .unwrap_err()
        .why;
    assert!(why.contains("was at 5"), "{why}");
}

#[test]
fn any_flipped_byte_of_the_directory_is_noticed_or_harmless() {
    let dir = tempfile::tempdir().unwrap();
    let live = dir.path().join("g");
    drop(made(&live, true));
    let bytes = fs::metadata(live.join("group.db")).unwrap().len() as usize;
    let databases = open(&live);
    let wanted = (
        databases.hash(),
        databases.list(),
        databases.floor(),
        databases.register("k"),
    );
    databases.close();
    drop(databases);
    let (mut noticed, mut harmless) = (0, 0);
    for at in (0..bytes).step_by(37) {
        let damaged = dir.path().join("damaged");
        let _ = fs::remove_dir_all(&damaged);
        copy_dir(&live, &damaged);
        flip(&damaged.join("group.db"), at);
        let opened = Databases::open(&damaged, GROUP, DatabasesOptions::default(), &metrics());
        match opened {
            Ok(Ok(databases)) => {
                let found = (
                    databases.hash(),
                    databases.list(),
                    databases.floor(),
                    databases.register("k"),
                );
                assert_eq!(found, wanted, "byte {at}");
                harmless += 1;
            }
            Ok(Err(why)) => {
                assert!(why.contains("group.db"), "{why}");
                noticed += 1;
            }
            Err(error) => panic!("byte {at}: {error}"),
        }
    }
    assert!(noticed > 5, "{noticed} noticed, {harmless} harmless");
}

#[test]
fn a_directory_that_is_lost_is_rebuilt_from_a_manifest() {
    let dir = tempfile::tempdir().unwrap();
    let live = dir.path().join("g");
    let databases = made(&live, false);
    let manifest = databases.save().unwrap();
    let wanted = (databases.hash(), databases.list().len());
    wrote(&databases, &id("aa"), 5, &["DROP TABLE t"]);
    databases.close();
    drop(databases);
    fs::remove_file(live.join("group.db")).unwrap();
    assert!(open_error(&live).contains("missing"));
    fs::write(live.join("group.db"), b"not a database, whatever it says").unwrap();
    assert!(open_error(&live).contains("group.db"));
    // A backup that is damaged does not become a live file.
    let backup = files_ending(&layout::backups(&live), ".db").remove(0);
    flip(&backup, 5000);
    let error = Databases::reset_dir(&live, &manifest, Some(&floor(4))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    let name = backup.file_name().unwrap().to_string_lossy().into_owned();
    assert!(error.to_string().contains(&name), "{error}");
    assert!(open_error(&live).contains("did not end"));
    flip(&backup, 5000);
    Databases::reset_dir(&live, &manifest, Some(&floor(4))).unwrap();
    let databases = open(&live);
    assert_eq!((databases.hash(), databases.list().len()), wanted);
    assert_eq!(databases.floor(), Some(floor(4)));
    assert_eq!(databases.register("k").as_deref(), Some("v"));
    assert_eq!(
        ask(&databases, &id("aa"), "SELECT count(*) AS n FROM t").unwrap(),
        "[{\"n\":500}]"
    );
    databases.close();
    drop(databases);
    Databases::reset_dir(&live, &[], None).unwrap();
    let databases = open(&live);
    assert_eq!((databases.hash(), databases.floor()), (0, None));
    assert!(databases.list().is_empty());
    drop(databases);
    Databases::erase(&live).unwrap();
    Databases::erase(&live).unwrap();
    assert!(!live.exists());
}

#[test]
fn another_groups_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let other = Databases::open(
        dir.path(),
        GroupId(4),
        DatabasesOptions::default(),
        &metrics(),
    );
    assert!(other.unwrap().err().unwrap().contains("belongs to group"));
}

#[test]
fn a_new_database_that_was_lost_is_made_again_even_two_starts_later() {
    let dir = tempfile::tempdir().unwrap();
    let live = dir.path().join("g");
    let databases = open(&live);
    wrote(&databases, &id("aa"), 1, &["CREATE TABLE t (n)"]);
    let cut = dir.path().join("cut");
    copy_dir(&live, &cut);
    let file = live_files(&cut).remove(0);
    fs::remove_file(files::beside(&file, "-wal")).unwrap();
    fs::write(&file, vec![0x11; 5000]).unwrap();
    // Stopped in order before the log came to it.
    let databases = open(&cut);
    assert!(databases.unclean);
    databases.close();
    drop(databases);
    let databases = open(&cut);
    assert!(!databases.unclean);
    wrote(&databases, &id("aa"), 1, &["CREATE TABLE t (n)"]);
    assert!(ask(&databases, &id("aa"), "SELECT * FROM t").is_ok());
    assert_eq!(databases.metrics.fences.get(), 0);
}
