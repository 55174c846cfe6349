//! Snapshots for other replicas, from friends and from whoever else.

use proptest::prelude::*;

use super::*;
use crate::sql::databases::manifest::Pairs;

fn full(dir: &Path) -> (Databases, Pairs) {
    let databases = open(dir);
    for (n, name) in ["aa", "bb"].into_iter().enumerate() {
        wrote(
            &databases,
            &id(name),
            n as u64 + 1,
            &["CREATE TABLE t (n)", "INSERT INTO t VALUES (1)"],
        );
    }
    databases
        .set_registers(3, &[("k".into(), "v".into())])
        .unwrap();
    let manifest = databases.save().unwrap();
    (databases, manifest)
}

fn body(databases: &Databases, manifest: &[manifest::Pair]) -> Vec<u8> {
    let mut body = Vec::new();
    databases.write_body(manifest, &mut body).unwrap();
    body
}

#[test]
fn a_snapshot_goes_to_another_replica_whole() {
    let dir = tempfile::tempdir().unwrap();
    let (databases, mut manifest) = full(&dir.path().join("a"));
    databases.fence(&id("bb"), "it differs").unwrap();
    manifest = {
        assert_eq!(
            databases.body_bytes(&manifest),
            body(&databases, &manifest).len() as u64
        );
        databases.save().unwrap()
    };
    let sent = body(&databases, &manifest);
    assert_eq!(databases.body_bytes(&manifest), sent.len() as u64);

    let other = open(&dir.path().join("b"));
    wrote(&other, &id("cc"), 1, &["CREATE TABLE t (n)"]);
    let unpacked = other.unpack(&mut &sent[..]).unwrap();
    assert_eq!(
        ask(&other, &id("cc"), "SELECT count(*) AS n FROM t").unwrap(),
        "[{\"n\":0}]"
    );
    // A save of its own meanwhile does not delete what was unpacked.
    let own = other.save().unwrap();
    other.keep(&[own]).unwrap();
    other.reset(&unpacked, Some(&floor(3))).unwrap();
    assert_eq!(
        ask(&other, &id("aa"), "SELECT count(*) AS n FROM t").unwrap(),
        "[{\"n\":1}]"
    );
    let fenced = ask(&other, &id("bb"), "SELECT 1").unwrap_err();
    assert!(fenced.contains("it differs"), "{fenced}");
    assert_eq!(other.list().len(), 2);
    assert_eq!(
        (other.register("k").as_deref(), other.registers_applied()),
        (Some("v"), 3)
    );
    assert_eq!(other.hash_at(&id("aa"), 1), databases.hash_at(&id("aa"), 1));
    other.keep(std::slice::from_ref(&unpacked)).unwrap();
    assert_eq!(
        files_ending(&layout::backups(&dir.path().join("b")), "").len(),
        1
    );
    // It can be passed on.
    assert_eq!(body(&other, &unpacked), sent);
}

#[test]
fn a_damaged_backup_is_named_and_not_sent() {
    let dir = tempfile::tempdir().unwrap();
    let live = dir.path().join("a");
    let (databases, manifest) = full(&live);
    let path = files_ending(&layout::backups(&live), ".db").remove(1);
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    let sound = fs::read(&path).unwrap();
    for (what, bytes) in [
        ("flipped", {
            let mut b = sound.clone();
            b[4100] ^= 1;
            b
        }),
        ("cut", sound[..4096].to_vec()),
        ("longer", [&sound[..], &[0; 10]].concat()),
    ] {
        fs::write(&path, bytes).unwrap();
        let error = databases
            .write_body(&manifest, &mut Vec::new())
            .unwrap_err();
        assert!(error.to_string().contains(&name), "{what}: {error}");
        assert_eq!(error.kind(), ErrorKind::InvalidData, "{what}");
        let error = databases.saved(&manifest, &id("bb")).unwrap_err();
        assert!(error.to_string().contains(&name), "{what}: {error}");
        assert!(databases.saved(&manifest, &id("aa")).unwrap().is_some());
        let error = databases.reset(&manifest, None).unwrap_err();
        assert!(error.to_string().contains(&name), "{what}: {error}");
    }
    fs::remove_file(&path).unwrap();
    let error = databases
        .write_body(&manifest, &mut Vec::new())
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(databases.list().len(), 2, "the live ones stay");
    assert!(ask(&databases, &id("bb"), "SELECT * FROM t").is_ok());
}

/// Unpacks what must not be accepted, and leaves nothing behind.
fn refused(databases: &Databases, live: &Path, body: &[u8]) -> String {
    let error = databases.unpack(&mut &body[..]).unwrap_err();
    assert!(
        files_ending(&layout::backups(live), "").is_empty(),
        "{error}"
    );
    error.to_string()
}

#[test]
fn hostile_bodies_are_refused_and_leave_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (databases, manifest) = full(&dir.path().join("a"));
    let good = body(&databases, &manifest);
    let live = dir.path().join("b");
    let other = open(&live);
    for cut in (0..good.len()).step_by(211).chain([good.len() - 1]) {
        refused(&other, &live, &good[..cut]);
    }
    let longer = [&good[..], &[0]].concat();
    assert!(refused(&other, &live, &longer).contains("after its end"));
    let mut huge = good.clone();
    huge[17..21].fill(0xff);
    assert!(refused(&other, &live, &huge).contains("at most"));
    let mut version = good.clone();
    version[8] = 9;
    assert!(refused(&other, &live, &version).contains("version 9"));
    let mut changed = good;
    let at = changed.len() - 5000;
    changed[at] ^= 1;
    assert!(refused(&other, &live, &changed).contains("arrived damaged"));
    // A file of more bytes than any disk has.
    let theirs = directory::Saved {
        serial: 1,
        applied: 5,
        hash: 1,
        bytes: u64::MAX,
        sum: 1,
    };
    let said = (id("aa"), manifest::Entry::Saved(theirs));
    let said = orama_proto::record::encode(1, &said).unwrap();
    let mut endless = [&b"ORAMASQL\x01"[..], &[0; 8], &[0; 4], &1_u32.to_be_bytes()].concat();
    endless.extend((said.len() as u32).to_be_bytes());
    endless.extend(said);
    endless.resize(endless.len() + 100_000, 7);
    let error = other.unpack(&mut &endless[..]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    assert!(files_ending(&layout::backups(&live), "").is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn no_body_breaks_anything(
        noise in proptest::collection::vec(any::<u8>(), 0..2000),
        flips in proptest::collection::vec((0.0..1.0_f64, 1..=255_u8), 0..4),
        begin in any::<bool>(),
    ) {
        thread_local! {
            static GOOD: (tempfile::TempDir, Vec<u8>, Databases) = {
                let dir = tempfile::tempdir().unwrap();
                let (databases, manifest) = full(&dir.path().join("a"));
                let good = body(&databases, &manifest);
                let other = open(&dir.path().join("b"));
                (dir, good, other)
            };
        }
        GOOD.with(|(_, good, other)| {
            let mut hostile = if begin { b"ORAMASQL\x01".to_vec() } else { Vec::new() };
            hostile.extend(&noise);
            assert!(other.unpack(&mut &hostile[..]).is_err());
            let mut flipped = good.clone();
            for (at, bits) in &flips {
                let at = (at * flipped.len() as f64) as usize;
                flipped[at] ^= bits;
            }
            let unpacked = other.unpack(&mut &flipped[..]);
            assert_eq!(unpacked.is_ok(), flipped == *good);
            other.keep(&[]).unwrap();
        });
    }
}
