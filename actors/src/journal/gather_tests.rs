//! Merging answers, and naming those who gave none.

use orama_proto::Timestamp;
use orama_proto::invocation::{LogLevel, LogLine};
use orama_proto::limits::KIB;

use super::super::sample::record;
use super::*;

fn heavy(id: &str) -> InvocationRecord {
    let line = LogLine {
        level: LogLevel::Info,
        message: "x".repeat(16 * KIB),
        timestamp: Timestamp(0),
    };
    InvocationRecord {
        wasm_logs: vec![line; 16],
        ..record(id)
    }
}

fn answer(ids: &[&str], cut: bool) -> Answer {
    Answer {
        records: ids.iter().map(|id| record(id)).collect(),
        cut,
    }
}

fn ids(records: &[InvocationRecord]) -> Vec<&str> {
    records.iter().map(|r| r.id.as_str()).collect()
}

#[tokio::test]
async fn nobody_waits_for_a_turn_beyond_its_deadline() {
    let places = Semaphore::new(1);
    let soon = || Instant::now() + Duration::from_millis(10);
    let first = turn(&places, soon()).await;
    assert!(first.is_some());
    assert!(turn(&places, soon()).await.is_none());
    drop(first);
    assert!(turn(&places, soon()).await.is_some());
}

#[test]
fn the_newest_of_all_come_first_and_each_once() {
    let answers = || {
        vec![
            answer(&["9", "4", "1"], false),
            answer(&[], false),
            answer(&["8", "4", "3"], false),
        ]
    };
    assert_eq!(ids(&merge(answers(), 9)), ["9", "8", "4", "3", "1"]);
    assert_eq!(ids(&merge(answers(), 2)), ["9", "8"]);
    assert!(merge(Vec::new(), 5).is_empty());
}

#[test]
fn a_cut_answer_leaves_no_hole() {
    let answers = vec![
        answer(&["9", "6"], true),
        answer(&["8", "5", "2"], false),
        answer(&["7", "3"], true),
    ];
    // Between 6 and 3 the first node had more: what the others have there is left out.
    assert_eq!(ids(&merge(answers, 9)), ["9", "8", "7", "6"]);
}

#[test]
fn an_answer_fits_a_frame_and_says_that_it_was_cut() {
    let many: Vec<_> = (0..100)
        .map(|i| heavy(&format!("{:03}", 999 - i)))
        .collect();
    let trimmed = trim(many);
    assert!(trimmed.cut && trimmed.records.len() > 40 && trimmed.records.len() < 50);
    assert_eq!(trimmed.records[0].id, "999");
    let count = trimmed.records.len();
    let reply = write(trimmed).unwrap();
    let bytes = record::encode(GATHER_VERSION, &reply).unwrap();
    assert!(bytes.len() <= GATHER_MAX_BYTES && bytes.len() < Lane::Calls.frame_max());
    let read = read(Ok(bytes.into())).unwrap();
    assert!(read.cut && read.records.len() == count);
    assert!(!trim(vec![heavy("1")]).cut);
    // The most there can be of gathered answers.
    let answers = (0..3)
        .map(|node| Answer {
            records: (0..40)
                .map(|i| heavy(&format!("{i:02}{node}")))
                .rev()
                .collect(),
            cut: false,
        })
        .collect();
    let merged = merge(answers, LOGS_MAX);
    assert!(merged.iter().map(weight).sum::<usize>() <= MERGED_MAX_BYTES);
    assert_eq!(merged[0].id, "392");
}

#[test]
fn what_another_version_wrote_is_passed_over() {
    let mut reply = write(answer(&["2", "1"], false)).unwrap();
    reply.records[0][0] = RECORD_VERSION + 1;
    let bytes = record::encode(GATHER_VERSION, &reply).unwrap();
    let answer = read(Ok(bytes.into())).unwrap();
    assert_eq!(ids(&answer.records), ["1"]);
    let garbage = read(Ok(Bytes::from_static(b"\x01\xff\xff")));
    assert!(matches!(garbage, Err(CallError::Declined { .. })));
}

#[tokio::test]
async fn members_that_do_not_answer_are_named() {
    let members = [
        (1, "one"),
        (2, "two"),
        (3, "three"),
        (4, "four"),
        (5, "five"),
    ];
    let members = members.map(|(id, name)| (NodeId(id), name.to_owned()));
    let (answers, silent) = gather(members.into(), |node| async move {
        match node.0 {
            1 => Ok(answer(&["1"], false)),
            2 => Err(CallError::NotSent(node)),
            3 => Err(CallError::Deadline(node)),
            4 => Err(CallError::Declined {
                node,
                why: "its journal cannot be read".into(),
            }),
            _ => {
                // After all the others.
                tokio::task::yield_now().await;
                Ok(answer(&["2"], false))
            }
        }
    })
    .await;
    assert_eq!(silent, ["four", "three", "two"]);
    assert_eq!(ids(&merge(answers, 9)), ["2", "1"]);
}
