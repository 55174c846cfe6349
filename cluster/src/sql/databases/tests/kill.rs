//! A copy of the directory, taken at any moment, opens and comes to the same state.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

use super::*;
use crate::sql::databases::points;

struct Copies {
    to: PathBuf,
    from: PathBuf,
    count: usize,
    names: BTreeSet<&'static str>,
}

impl Copies {
    fn take(&mut self, name: &'static str) {
        copy_dir(&self.from, &self.to.join(self.count.to_string()));
        self.count += 1;
        self.names.insert(name);
    }
}

#[test]
fn a_kill_at_any_moment_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let live = dir.path().join("g");
    let log = workload(11, 48);
    let copies = Rc::new(RefCell::new(Copies {
        to: dir.path().join("copies"),
        from: live.clone(),
        count: 0,
        names: BTreeSet::new(),
    }));
    let databases = open_with(&live, 2, 2);
    let watching = Rc::clone(&copies);
    points::watch(move |name| watching.borrow_mut().take(name));
    for (n, entry) in log.iter().enumerate() {
        let index = n as u64 + 1;
        apply_entry(&databases, index, entry);
        if index.is_multiple_of(6) {
            copies.borrow_mut().take("between");
        }
        match index {
            13 | 37 => databases.harden(&floor(index)).unwrap(),
            20 => drop(databases.save().unwrap()),
            30 => {
                // Its copy is as far as it is: nothing is to be replayed.
                let copy = dir.path().join("copy.db");
                let id = databases.list()[0].id.clone();
                databases.backup(&id, &copy).unwrap().unwrap();
                databases.fence(&id, "for once").unwrap();
                points::ignore();
                databases.replace(&id, Some(&copy)).unwrap();
                let watching = Rc::clone(&copies);
                points::watch(move |name| watching.borrow_mut().take(name));
            }
            _ => {}
        }
    }
    points::ignore();
    let wanted = expected(&log, 48);
    assert_eq!(truth(&databases), wanted);
    let copies = copies.borrow();
    for name in [
        "file made",
        "file named",
        "row deleted",
        "files synced",
        "backup written",
    ] {
        assert!(copies.names.contains(name), "{name}: {:?}", copies.names);
    }
    for n in 0..copies.count {
        let databases = open(&copies.to.join(n.to_string()));
        replay(&databases, &log, 48);
        assert_eq!(truth(&databases), wanted, "copy {n}");
        databases.harden(&floor(48)).unwrap();
        databases.close();
    }
    // After an orderly end nothing has to be opened to know the state.
    let databases = open(&copies.to.join("0"));
    assert!(!databases.unclean);
    assert_eq!(databases.hash(), wanted.hash);
    assert_eq!(databases.handles.count(), 0);
    assert_eq!(databases.floor(), Some(floor(48)));
    assert_eq!(truth(&databases), wanted);
}

/// Cuts the end of a file off, or fills it with zeros.
fn tear(path: &Path, from: u64, pick: u64) {
    let mut bytes = fs::read(path).unwrap();
    let keep = (from + pick % (bytes.len() as u64 - from + 1)) as usize;
    if pick.is_multiple_of(3) {
        bytes[keep..].fill(0);
    } else {
        bytes.truncate(keep);
    }
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_power_cut_loses_at_most_what_is_after_the_floor() {
    let dir = tempfile::tempdir().unwrap();
    let live = dir.path().join("g");
    let log = workload(5, 60);
    let databases = open_with(&live, 2, 2);
    replay(&databases, &log, 30);
    databases.harden(&floor(30)).unwrap();
    let synced = dir.path().join("synced");
    copy_dir(&live, &synced);
    for index in 31..=60 {
        apply_entry(&databases, index, &log[index as usize - 1]);
    }
    let wanted = expected(&log, 60);
    assert_eq!(truth(&databases), wanted);
    for cut in 0..24_u64 {
        // Each file has what was synced at least, and any part of the rest.
        let left = dir.path().join(format!("cut{cut}"));
        copy_dir(&live, &left);
        let size = |path: &Path| fs::metadata(path).map_or(0, |m| m.len());
        tear(
            &left.join("group.db-wal"),
            size(&synced.join("group.db-wal")),
            cut.wrapping_mul(7919),
        );
        for (n, path) in files_ending(&left.join("live"), "").into_iter().enumerate() {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let before = synced.join("live").join(&name);
            let pick = (cut + 3).wrapping_mul(104_729 + n as u64 * 31);
            match before.exists() {
                // Never checkpointed since: only its log grew.
                true if name.ends_with("-wal") => tear(&path, size(&before), pick),
                true => {}
                // Nobody synced a directory since: new names may be missing.
                false if pick.is_multiple_of(4) => fs::remove_file(&path).unwrap(),
                false => tear(&path, 0, pick),
            }
        }
        // Files that were deleted since may be there again.
        for path in files_ending(&synced.join("live"), "") {
            let back = left.join("live").join(path.file_name().unwrap());
            if cut.is_multiple_of(2) && !back.exists() {
                fs::copy(&path, back).unwrap();
            }
        }
        let databases = match Databases::open(&left, GROUP, DatabasesOptions::default(), &metrics())
        {
            Ok(Ok(databases)) => databases,
            other => panic!("cut {cut}: {:?}", other.map(|o| o.err())),
        };
        // Databases that were dropped after the floor may be missing; the log drops them again.
        for index in 31..=60 {
            match &log[index as usize - 1] {
                Entry::Write(id, sql) => {
                    let transaction = transaction(id, sql);
                    let item = Item {
                        index,
                        stamp: stamp(index),
                        transaction: &transaction,
                    };
                    let _ = databases.apply(id, &[item]).unwrap();
                }
                entry => apply_entry(&databases, index, entry),
            }
        }
        assert_eq!(truth(&databases), wanted, "cut {cut}");
    }
}

#[test]
fn what_a_rebuild_left_half_done_is_fenced() {
    let dir = tempfile::tempdir().unwrap();
    let live = dir.path().join("g");
    let databases = open(&live);
    let one = id("aa");
    wrote(&databases, &one, 1, &["CREATE TABLE t (n)"]);
    let copy = dir.path().join("copy.db");
    databases.backup(&one, &copy).unwrap().unwrap();
    for index in 2..=9 {
        wrote(&databases, &one, index, &["INSERT INTO t VALUES (1)"]);
    }
    databases.fence(&one, "it differs").unwrap();
    let fenced = write(&databases, &one, 10, &["INSERT INTO t VALUES (1)"]).unwrap();
    assert_eq!(fenced.unwrap_err().why, "it differs");
    databases.harden(&floor(10)).unwrap();
    assert_eq!(databases.replace(&one, Some(&copy)).unwrap().applied, 1);
    for index in 2..=6 {
        wrote(&databases, &one, index, &["INSERT INTO t VALUES (1)"]);
    }
    // The floor rises meanwhile: what is missing will not be replayed.
    databases.harden(&floor(12)).unwrap();
    let manifest = databases.save().unwrap();
    let error = databases.saved(&manifest, &one).unwrap_err().to_string();
    assert!(error.contains("being rebuilt"), "{error}");
    let half = dir.path().join("half");
    copy_dir(&live, &half);
    for index in 7..=10 {
        wrote(&databases, &one, index, &["INSERT INTO t VALUES (1)"]);
    }
    let done = dir.path().join("done");
    copy_dir(&live, &done);

    let databases = open(&half);
    let why = ask(&databases, &one, "SELECT 1").unwrap_err();
    assert!(why.contains("at entry 6, and was at 10"), "{why}");
    // From nothing, with a young log.
    assert_eq!(databases.replace(&one, None).unwrap(), Mark::default());
    for sql in ["CREATE TABLE t (n)"]
        .into_iter()
        .chain(["INSERT INTO t VALUES (1)"; 9])
    {
        let index = databases.list()[0].mark.applied + 1;
        wrote(&databases, &one, index, &[sql]);
    }
    assert_eq!(
        ask(&databases, &one, "SELECT count(*) AS n FROM t").unwrap(),
        "[{\"n\":9}]"
    );
    assert_eq!(layout::aside(&half), 2);

    let databases = open(&done);
    assert_eq!(
        ask(&databases, &one, "SELECT count(*) AS n FROM t").unwrap(),
        "[{\"n\":9}]"
    );
}
