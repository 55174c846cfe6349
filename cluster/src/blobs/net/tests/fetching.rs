//! Blobs from elsewhere: chunks, holders that break off, lie or rot.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};

use orama_proto::blob::{BLOB_CHUNK_BYTES, BlobChunk};
use xxhash_rust::xxh3::xxh3_64;

use super::super::fetch::FETCHES_AT_ONCE;
use super::*;
use crate::blobs::BLOB_MAX_BYTES;

#[tokio::test]
async fn a_missing_blob_is_fetched_kept_and_then_local() {
    let town = Arc::<Town>::default();
    let (a, b) = (Node::new(&town, 1), Node::new(&town, 2));
    for len in [0, 1, BLOB_CHUNK_BYTES, 2 * BLOB_CHUNK_BYTES + 77] {
        let bytes = content(len);
        let cid = b.put(&bytes).await;
        assert_eq!(a.net.get(cid).await.unwrap(), bytes);
        assert!(a.holds(cid).await);
        let before = town.calls.lock().len();
        assert_eq!(a.net.get(cid).await.unwrap(), bytes);
        a.net.ensure(cid).await.unwrap();
        assert_eq!(town.calls.lock().len(), before);
    }
    assert_eq!(
        a.counter("orama_blob_received_bytes_total"),
        b.counter("orama_blob_served_bytes_total")
    );
    let nowhere = ContentId::of(b"nowhere");
    let missing = a.net.get(nowhere).await;
    assert!(matches!(missing, Err(BlobError::Missing(c)) if c == nowhere));
    assert!(a.net.inner.fetches.is_empty());
}

#[tokio::test]
async fn alone_nobody_is_asked() {
    let town = Arc::<Town>::default();
    let a = Node::new(&town, 1);
    let cid = ContentId::of(b"x");
    assert!(matches!(a.net.get(cid).await, Err(BlobError::Missing(_))));
    assert!(matches!(
        a.net.ensure(cid).await,
        Err(BlobError::Missing(_))
    ));
    assert_eq!(a.counter("orama_blob_fetches_total"), 0.0);
}

#[tokio::test]
async fn another_holder_goes_on_where_the_first_broke_off() {
    let town = Arc::<Town>::default();
    let nodes = [1, 2, 3].map(|id| Node::new(&town, id));
    let bytes = content(4 * BLOB_CHUNK_BYTES + 5);
    let cid = nodes[1].put(&bytes).await;
    nodes[2].put(&bytes).await;
    // Whoever is read from first breaks at the third chunk, for good.
    let mut broken = None;
    town.weather(move |to, request| match request {
        BlobRequest::Read { offset, .. }
            if *offset >= 2 << 20 && *broken.get_or_insert(to) == to =>
        {
            Fault::Lost
        }
        _ => Fault::None,
    });
    assert_eq!(nodes[0].net.get(cid).await.unwrap(), bytes);
    let reads = town.reads();
    let offsets: Vec<_> = reads.iter().map(|(_, offset)| offset >> 20).collect();
    assert_eq!(offsets, [0, 1, 2, 2, 3, 4]);
    assert_ne!(reads[2].0, reads[3].0);
    assert_eq!(reads[0].0, reads[2].0);
}

#[tokio::test]
async fn a_holder_whose_lane_is_full_is_asked_again() {
    let town = Arc::<Town>::default();
    let (a, b) = (Node::new(&town, 1), Node::new(&town, 2));
    let bytes = content(2 * BLOB_CHUNK_BYTES);
    let cid = b.put(&bytes).await;
    // Taken from the end.
    let mut faults = vec![Fault::None, Fault::Busy, Fault::Busy];
    town.weather(move |_, request| match request {
        BlobRequest::Read { offset: 1.., .. } => faults.pop().unwrap_or(Fault::None),
        _ => Fault::None,
    });
    assert_eq!(a.net.get(cid).await.unwrap(), bytes);
    let offsets: Vec<_> = town.reads().iter().map(|(_, o)| o >> 20).collect();
    assert_eq!(offsets, [0, 1, 1, 1]);
}

#[tokio::test]
async fn a_broken_link_to_the_only_holder_does_not_start_over() {
    let town = Arc::<Town>::default();
    let (a, b) = (Node::new(&town, 1), Node::new(&town, 2));
    let bytes = content(3 * BLOB_CHUNK_BYTES);
    let cid = b.put(&bytes).await;
    let mut once = true;
    town.weather(move |_, request| match request {
        BlobRequest::Read { offset, .. } if *offset == 2 << 20 && std::mem::take(&mut once) => {
            Fault::Lost
        }
        _ => Fault::None,
    });
    assert_eq!(a.net.get(cid).await.unwrap(), bytes);
    let offsets: Vec<_> = town.reads().iter().map(|(_, o)| o >> 20).collect();
    assert_eq!(offsets, [0, 1, 2, 2]);
}

/// Answers as if it had the bytes, through `spoil`.
fn pretend(
    bytes: Vec<u8>,
    spoil: impl Fn(&mut BlobChunk) + Send + Sync + 'static,
) -> impl Fn(BlobRequest) -> BlobReply + Send + Sync + 'static {
    move |request| match request {
        BlobRequest::Has { .. } => BlobReply::Here {
            bytes: bytes.len() as u64,
        },
        BlobRequest::Hold { .. } => BlobReply::Held,
        BlobRequest::Read { offset, .. } => {
            let at = (offset as usize).min(bytes.len());
            let end = bytes.len().min(at + BLOB_CHUNK_BYTES);
            let mut chunk = BlobChunk {
                total: bytes.len() as u64,
                digest: xxh3_64(&bytes[at..end]),
                bytes: bytes[at..end].to_vec(),
            };
            spoil(&mut chunk);
            BlobReply::Chunk(chunk)
        }
    }
}

#[tokio::test]
async fn damaged_chunks_and_lies_do_not_keep_the_blob_away() {
    let good = content(2 * BLOB_CHUNK_BYTES + 9);
    let mut other = good.clone();
    other[BLOB_CHUNK_BYTES + 3] ^= 1;
    let shorter = good[..good.len() - 1].to_vec();
    type Spoil = Box<dyn Fn(&mut BlobChunk) + Send + Sync>;
    let cases: Vec<(&str, Vec<u8>, Spoil)> = vec![
        ("a flipped bit", good.clone(), Box::new(|c| c.bytes[0] ^= 1)),
        ("other bytes", other, Box::new(|_| ())),
        ("too short", shorter, Box::new(|_| ())),
        ("endless", good.clone(), Box::new(|c| c.total = u64::MAX)),
        (
            "too large",
            good.clone(),
            Box::new(|c| c.total = BLOB_MAX_BYTES as u64 + 1),
        ),
        (
            "empty chunks",
            good.clone(),
            Box::new(|c| {
                c.bytes.clear();
                c.digest = xxh3_64(&[]);
            }),
        ),
        (
            "crumbs",
            good.clone(),
            Box::new(|c| {
                c.bytes.truncate(1);
                c.digest = xxh3_64(&c.bytes);
            }),
        ),
        ("more than is left", good.clone(), Box::new(|c| c.total = 1)),
    ];
    for (name, bytes, spoil) in cases {
        let town = Arc::<Town>::default();
        let (a, b) = (Node::new(&town, 1), Node::new(&town, 3));
        let cid = b.put(&good).await;
        liar(&town, 2, pretend(bytes, spoil));
        // Asked for it as the one who wants it held: before anybody else.
        let got = a.net.inner.fetch(cid, Some(NodeId(2))).await;
        assert_eq!(got.unwrap(), good, "{name}");
        assert!(a.holds(cid).await, "{name}");
    }
}

#[tokio::test]
async fn liars_alone_end_in_missing_and_leave_nothing() {
    let town = Arc::<Town>::default();
    let a = Node::new(&town, 1);
    let bytes = content(BLOB_CHUNK_BYTES + 1);
    liar(&town, 2, pretend(bytes.clone(), |_| ()));
    liar(&town, 3, |_| BlobReply::Held);
    liar(&town, 4, |_| BlobReply::Here { bytes: u64::MAX });
    let cid = ContentId::of(b"something else");
    assert!(matches!(a.net.get(cid).await, Err(BlobError::Missing(_))));
    assert!(!a.net.store().contains(cid).await);
    assert!(!a.net.store().contains(ContentId::of(&bytes)).await);
    // One transfer was enough to know it.
    assert_eq!(a.counter("orama_blob_wrong_transfers_total"), 1.0);
    assert!(
        town.calls
            .lock()
            .iter()
            .all(|(_, to, r)| to.0 != 4 || matches!(r, BlobRequest::Has { .. }))
    );
}

#[tokio::test]
async fn mixed_bytes_of_two_holders_are_told_apart() {
    let good = content(3 * BLOB_CHUNK_BYTES);
    let mut bad = good.clone();
    bad[7] ^= 1;
    let town = Arc::<Town>::default();
    let (a, b) = (Node::new(&town, 1), Node::new(&town, 3));
    let cid = b.put(&good).await;
    liar(&town, 2, pretend(bad, |_| ()));
    // The liar begins and breaks off: the honest one's rest does not fit its beginning.
    town.weather(|to, request| match request {
        BlobRequest::Read { offset: 1.., .. } if to == NodeId(2) => Fault::Lost,
        _ => Fault::None,
    });
    let got = a.net.inner.fetch(cid, Some(NodeId(2))).await;
    assert_eq!(got.unwrap(), good);
    assert_eq!(a.counter("orama_blob_wrong_transfers_total"), 1.0);
}

#[tokio::test]
async fn rot_is_healed_from_a_peer_and_not_handed_on() {
    let town = Arc::<Town>::default();
    let (a, b, c) = (
        Node::new(&town, 1),
        Node::new(&town, 2),
        Node::new(&town, 3),
    );
    let good = content(100_000);
    let cid = a.put(&good).await;
    b.put(&good).await;
    let mut rotten = good.clone();
    rotten[5] ^= 1;
    fs::write(a.file(cid), &rotten).unwrap();
    // Somebody asks the rotten node: it notices before it sends anything.
    let got = c.net.inner.fetch(cid, Some(NodeId(1))).await;
    assert_eq!(got.unwrap(), good);
    assert_eq!(a.counter("orama_blob_corrupt_total"), 1.0);
    assert_eq!(c.counter("orama_blob_wrong_transfers_total"), 0.0);
    assert_eq!(a.net.get(cid).await.unwrap(), good);
    fs::write(a.file(cid), &rotten).unwrap();
    assert_eq!(a.net.get(cid).await.unwrap(), good);
    assert_eq!(fs::read(a.file(cid)).unwrap(), good);
    // Without a peer the error says what is wrong here.
    fs::write(a.file(cid), &rotten).unwrap();
    [2, 3].into_iter().for_each(|id| town.cut(id));
    assert!(matches!(
        a.net.get(cid).await,
        Err(BlobError::Corrupt { .. })
    ));
}

#[tokio::test]
async fn callers_share_a_transfer_and_it_outlives_them() {
    let town = Arc::<Town>::default();
    let (a, b) = (Node::new(&town, 1), Node::new(&town, 2));
    let bytes = content(3 * BLOB_CHUNK_BYTES);
    let cid = b.put(&bytes).await;
    let many = futures::future::join_all((0..20).map(|_| a.net.get(cid))).await;
    assert!(many.iter().all(|got| got.as_ref().unwrap() == &bytes));
    assert_eq!(town.reads().len(), 3);

    let other = content(BLOB_CHUNK_BYTES + 1);
    let cid = b.put(&other).await;
    // Dropped as soon as the transfer is under way.
    let asked = tokio::time::timeout(Duration::ZERO, a.net.inner.fetch(cid, None)).await;
    assert!(asked.is_err());
    assert_eq!(a.net.inner.fetch(cid, None).await.unwrap(), other);
    let reads = town.reads();
    assert_eq!(reads.len(), 5, "{reads:?}");
}

#[tokio::test]
async fn few_transfers_run_at_once() {
    let town = Arc::<Town>::default();
    let (a, b) = (Node::new(&town, 1), Node::new(&town, 2));
    let mut cids = Vec::new();
    for i in 0..12 {
        cids.push(b.put(&[i; 1000]).await);
    }
    let now = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let (n, m) = (Arc::clone(&now), Arc::clone(&most));
    town.weather(move |_, request| {
        match request {
            BlobRequest::Has { .. } => {
                let at_once = n.fetch_add(1, Ordering::SeqCst) + 1;
                m.fetch_max(at_once, Ordering::SeqCst);
            }
            _ => {
                n.fetch_sub(1, Ordering::SeqCst);
            }
        }
        Fault::None
    });
    let all = futures::future::join_all(cids.iter().map(|cid| a.net.get(*cid))).await;
    assert!(all.iter().all(Result::is_ok));
    assert!(most.load(Ordering::SeqCst) <= FETCHES_AT_ONCE);
    assert_eq!(now.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn the_net_ends_although_a_handler_is_still_served() {
    let town = Arc::<Town>::default();
    let (a, b) = (Node::new(&town, 1), Node::new(&town, 2));
    let cid = b.put(b"x").await;
    drop(b);
    assert!(matches!(a.net.get(cid).await, Err(BlobError::Missing(_))));
}
