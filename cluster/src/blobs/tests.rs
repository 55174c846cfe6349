//! What the blob store promises, on real files.

use std::fs::{self, File};
use std::path::PathBuf;
use std::time::SystemTime;

use prometheus::Registry;

use super::small_disk::SmallDisk;
use super::*;

struct Place {
    dir: tempfile::TempDir,
    store: BlobStore,
    registry: Registry,
}

fn place() -> Place {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::new();
    let store = BlobStore::open(dir.path(), &registry).unwrap();
    Place {
        dir,
        store,
        registry,
    }
}

impl Place {
    fn file(&self, cid: ContentId) -> PathBuf {
        self.store.files.path(cid)
    }
    fn age(&self, cid: ContentId, secs: u64) {
        let file = File::options().write(true).open(self.file(cid)).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(secs))
            .unwrap();
    }
    fn names(&self, sub: &str) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(self.dir.path().join(sub))
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
    fn counter(&self, name: &str) -> f64 {
        let families = self.registry.gather();
        let family = families.iter().find(|f| f.name() == name).unwrap();
        family
            .get_metric()
            .iter()
            .map(|m| m.get_counter().get_value())
            .sum()
    }
}

#[tokio::test]
async fn what_was_put_is_read_back() {
    let place = place();
    for bytes in [
        Bytes::new(),
        Bytes::from_static(b"x"),
        vec![7; 3_000_000].into(),
    ] {
        let cid = place.store.put(bytes.clone()).await.unwrap();
        assert_eq!(cid, ContentId::of(&bytes));
        assert_eq!(place.store.get(cid).await.unwrap(), bytes);
        assert!(place.store.contains(cid).await);
        let name = cid.to_string();
        let path = place.dir.path().join(&name[name.len() - 2..]).join(&name);
        assert_eq!(fs::read(path).unwrap(), bytes);
    }
    assert_eq!(place.names("tmp"), Vec::<String>::new());
    let absent = ContentId::of(b"absent");
    assert!(!place.store.contains(absent).await);
    assert!(matches!(place.store.get(absent).await, Err(BlobError::Missing(c)) if c == absent));
}

#[tokio::test]
async fn blobs_outlive_the_store_and_a_crash_between_temp_and_rename_leaves_nothing() {
    let place = place();
    let cid = place.store.put(Bytes::from_static(b"kept")).await.unwrap();
    fs::write(place.dir.path().join("tmp/0"), b"half a bl").unwrap();
    let again = BlobStore::open(place.dir.path(), &Registry::new()).unwrap();
    assert_eq!(again.get(cid).await.unwrap(), "kept");
    assert_eq!(place.names("tmp"), Vec::<String>::new());
    // The name that the dead writer used is free again.
    again.put(Bytes::from_static(b"half a blob")).await.unwrap();
}

#[tokio::test]
async fn a_flipped_byte_is_found_counted_and_kept_aside() {
    let place = place();
    let cid = place.store.put(vec![1; 10_000].into()).await.unwrap();
    let mut rotten = fs::read(place.file(cid)).unwrap();
    rotten[5_000] ^= 1;
    fs::write(place.file(cid), &rotten).unwrap();
    let found = match place.store.get(cid).await {
        Err(BlobError::Corrupt { found, .. }) => found,
        other => panic!("{other:?}"),
    };
    assert_eq!(found, ContentId::of(&rotten));
    assert!(matches!(
        place.store.get(cid).await,
        Err(BlobError::Missing(_))
    ));
    let aside = place.names("corrupt");
    assert_eq!(aside.len(), 1);
    assert!(aside[0].starts_with(&format!("{cid}.")), "{aside:?}");
    let kept = place.dir.path().join("corrupt").join(&aside[0]);
    assert_eq!(fs::read(kept).unwrap(), rotten);
    assert_eq!(place.counter("orama_blob_corrupt_total"), 1.0);
    // The same deploy again heals it.
    assert_eq!(place.store.put(vec![1; 10_000].into()).await.unwrap(), cid);
    assert_eq!(place.store.get(cid).await.unwrap(), vec![1; 10_000]);
}

#[tokio::test]
async fn a_put_replaces_a_rotten_file() {
    let place = place();
    let good = Bytes::from_static(b"the module");
    let cid = place.store.put(good.clone()).await.unwrap();
    for rotten in [&b"the moduel"[..], b"the mod", b""] {
        fs::write(place.file(cid), rotten).unwrap();
        assert_eq!(place.store.put(good.clone()).await.unwrap(), cid);
        assert_eq!(place.store.get(cid).await.unwrap(), good);
    }
    assert_eq!(place.counter("orama_blob_corrupt_total"), 3.0);
}

#[tokio::test]
async fn files_set_aside_are_bounded_and_the_oldest_go() {
    let place = place();
    for i in 0..CORRUPT_KEPT + 4 {
        fs::write(
            place.dir.path().join(format!("corrupt/old.{}", 100 + i)),
            "",
        )
        .unwrap();
    }
    let cid = place.store.put(Bytes::from_static(b"a")).await.unwrap();
    fs::write(place.file(cid), b"b").unwrap();
    place.store.get(cid).await.unwrap_err();
    let aside = place.names("corrupt");
    assert_eq!(aside.len(), CORRUPT_KEPT);
    assert!(aside.iter().any(|n| n.starts_with(&cid.to_string())));
    assert!(!aside.contains(&"old.104".to_owned()) && aside.contains(&"old.105".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_puts_of_the_same_bytes_agree() {
    let place = place();
    let tasks: Vec<_> = (0..64)
        .map(|i| {
            let store = place.store.clone();
            let bytes = Bytes::from(vec![(i % 3) as u8; 50_000]);
            tokio::spawn(async move {
                let cid = store.put(bytes.clone()).await.unwrap();
                assert_eq!(store.get(cid).await.unwrap(), bytes);
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(place.names("tmp"), Vec::<String>::new());
    // Each was written once, the others found it.
    assert_eq!(place.counter("orama_blob_written_bytes_total"), 150_000.0);
}

#[tokio::test]
async fn a_put_whose_caller_went_away_leaves_no_half_file() {
    let place = place();
    let bytes = Bytes::from(vec![9; 4_000_000]);
    let cid = ContentId::of(&bytes);
    let mut put = Box::pin(place.store.put(bytes));
    assert!(futures::poll!(put.as_mut()).is_pending());
    drop(put);
    // Its permit comes back when it is done, whoever still listens.
    let all = place
        .store
        .permits
        .acquire_many(BLOB_CONCURRENCY as u32)
        .await
        .unwrap();
    drop(all);
    assert_eq!(place.names("tmp"), Vec::<String>::new());
    assert_eq!(place.store.get(cid).await.unwrap().len(), 4_000_000);
}

#[tokio::test]
async fn an_oversized_blob_is_refused_and_an_oversized_file_is_corrupt() {
    let place = place();
    let result = place.store.put(vec![0; BLOB_MAX_BYTES + 1].into()).await;
    assert!(
        matches!(result, Err(BlobError::Io { source, .. }) if source.kind() == io::ErrorKind::FileTooLarge)
    );
    let cid = place.store.put(Bytes::from_static(b"x")).await.unwrap();
    let file = File::options().write(true).open(place.file(cid)).unwrap();
    file.set_len(BLOB_MAX_BYTES as u64 * 100).unwrap();
    assert!(matches!(
        place.store.get(cid).await,
        Err(BlobError::Corrupt { .. })
    ));
}

#[tokio::test]
async fn a_full_disk_is_named_and_nothing_is_left_behind() {
    let disk = SmallDisk::mount(1024);
    let store = BlobStore::open_with(disk.path(), 0, &Registry::new()).unwrap();
    let small = store.put(vec![1; 100_000].into()).await.unwrap();
    let big = Bytes::from(vec![2; 2_000_000]);
    let cid = ContentId::of(&big);
    for _ in 0..3 {
        assert!(matches!(store.put(big.clone()).await, Err(BlobError::Full(c)) if c == cid));
        assert_eq!(fs::read_dir(disk.path().join("tmp")).unwrap().count(), 0);
        assert!(!store.contains(cid).await);
    }
    // What was there is unharmed, and there is room for what fits.
    assert_eq!(store.get(small).await.unwrap().len(), 100_000);
    store.put(vec![3; 500_000].into()).await.unwrap();
}

#[tokio::test]
async fn the_sweep_takes_what_is_old_and_unwanted() {
    let place = place();
    let mut cids = Vec::new();
    for text in ["wanted", "young", "old", "future"] {
        cids.push(
            place
                .store
                .put(Bytes::from_static(text.as_bytes()))
                .await
                .unwrap(),
        );
    }
    place.age(cids[0], 7200);
    place.age(cids[2], 7200);
    let ahead = SystemTime::now() + Duration::from_secs(86_400);
    let file = File::options()
        .write(true)
        .open(place.file(cids[3]))
        .unwrap();
    file.set_modified(ahead).unwrap();
    fs::write(place.dir.path().join("stray"), "not ours").unwrap();
    let keep = HashSet::from([cids[0]]);
    let hour = Duration::from_secs(3600);
    assert_eq!(place.store.sweep(keep.clone(), hour).await.unwrap(), 1);
    assert_eq!(place.store.sweep(keep, hour).await.unwrap(), 0);
    for (i, here) in [true, true, false, true].into_iter().enumerate() {
        assert_eq!(place.store.contains(cids[i]).await, here, "{i}");
    }
    assert!(place.dir.path().join("stray").exists());
    assert_eq!(place.counter("orama_blob_swept_total"), 1.0);
}

#[tokio::test]
async fn a_put_makes_an_old_blob_young() {
    let place = place();
    let bytes = Bytes::from_static(b"deployed, deleted, deployed again");
    let cid = place.store.put(bytes.clone()).await.unwrap();
    place.age(cid, 7200);
    place.store.put(bytes.clone()).await.unwrap();
    let swept = place
        .store
        .sweep(HashSet::new(), Duration::from_secs(3600))
        .await;
    assert_eq!(swept.unwrap(), 0);
    assert_eq!(place.store.get(cid).await.unwrap(), bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_sweep_never_takes_what_a_put_has_just_answered_for() {
    let place = place();
    let bytes = Bytes::from_static(b"contested");
    for _ in 0..100 {
        let cid = place.store.put(bytes.clone()).await.unwrap();
        place.age(cid, 7200);
        let sweep = place.store.sweep(HashSet::new(), Duration::from_secs(3600));
        let (swept, put) = tokio::join!(sweep, place.store.put(bytes.clone()));
        swept.unwrap();
        assert_eq!(place.store.get(put.unwrap()).await.unwrap(), bytes);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blobs_that_come_together_leave_the_metadata_its_room() {
    let disk = SmallDisk::mount(96 << 10);
    let free = || {
        let stat = rustix::fs::statvfs(disk.path()).unwrap();
        stat.f_bavail * stat.f_frsize
    };
    let store = BlobStore::open(disk.path(), &Registry::new()).unwrap();
    let mut puts = tokio::task::JoinSet::new();
    for n in 0..8 {
        let store = store.clone();
        puts.spawn(async move { store.put(vec![n; 6 << 20].into()).await });
    }
    let mut least = u64::MAX;
    let mut stored = 0;
    while let Some(done) = puts.join_next().await {
        least = least.min(free());
        match done.unwrap() {
            Ok(_) => stored += 1,
            Err(error) => assert!(matches!(error, BlobError::Full(_)), "{error}"),
        }
    }
    assert_eq!(stored, 5, "what fits above the reserve");
    assert!(
        least >= crate::disk::BULK_RESERVED_BYTES,
        "{least} bytes left"
    );
}

#[tokio::test]
async fn a_blob_that_cannot_be_opened_now_is_not_set_aside() {
    let place = place();
    let bytes = Bytes::from_static(b"module");
    let cid = place.store.put(bytes.clone()).await.unwrap();
    let file = place.file(cid);
    // Stands for every passing reason, such as being out of descriptors.
    let elsewhere = file.with_extension("elsewhere");
    fs::rename(&file, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&file, &file).unwrap();
    let refused = place.store.put(bytes.clone()).await;
    assert!(matches!(refused, Err(BlobError::Io { .. })), "{refused:?}");
    assert!(place.names("corrupt").is_empty());
    fs::rename(&elsewhere, &file).unwrap();
    assert_eq!(place.store.get(cid).await.unwrap(), bytes);
}
