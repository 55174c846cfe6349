//! Reports that come, age and are counted on.

use super::*;

const ID: NodeId = NodeId(7);

fn board(active: bool) -> LoadBoard {
    let board = LoadBoard::default();
    board.set_linked(vec![Linked {
        id: ID,
        name: "b".into(),
        active,
    }]);
    board
}

fn report(running: u32) -> LoadReport {
    LoadReport {
        running,
        capacity: 4,
        latency_us: 9,
        ..LoadReport::default()
    }
}

fn busy(board: &LoadBoard, now: Instant) -> Option<u32> {
    board.members()[0].eligible(None, now).map(|load| load.busy)
}

#[test]
fn a_report_counts_until_it_is_old() {
    let (board, now) = (board(true), Instant::now());
    assert_eq!(busy(&board, now), None, "nothing is known yet");
    assert_eq!(board.members()[0].age(now), None);
    board.report(ID, report(1), now);
    assert_eq!(busy(&board, now + STALE_AFTER), Some(1));
    let late = now + STALE_AFTER + Duration::from_millis(1);
    assert_eq!((busy(&board, late), board.fresh(late)), (None, vec![]));
    assert_eq!(board.fresh(now), [(ID, report(1))]);
    board.report(ID, report(2), late);
    assert_eq!(busy(&board, late), Some(2));
    assert_eq!(board.members()[0].age(late), Some(Duration::ZERO));
}

#[test]
fn full_queued_closed_and_inactive_ones_are_not_asked() {
    let (all, now) = (board(true), Instant::now());
    let eligible = |report| {
        all.report(ID, report, now);
        busy(&all, now).is_some()
    };
    assert!(eligible(report(3)) && !eligible(report(4)));
    let queued = LoadReport {
        queued: 1,
        ..report(0)
    };
    let closed = LoadReport {
        closed: true,
        ..report(0)
    };
    assert!(!eligible(queued) && !eligible(closed) && eligible(report(0)));
    let inactive = board(false);
    inactive.report(ID, report(0), now);
    assert_eq!(busy(&inactive, now), None);
}

#[test]
fn what_was_sent_since_the_report_counts() {
    let (board, now) = (board(true), Instant::now());
    board.report(ID, report(2), now);
    let peer = Arc::clone(&board.members()[0]);
    let first = peer.send();
    assert_eq!(busy(&board, now), Some(3));
    let second = peer.send();
    assert_eq!(busy(&board, now), None, "a burst fills it");
    drop(second);
    assert_eq!(busy(&board, now), Some(3));
    // The next report counts the first; its end makes room at once.
    board.report(ID, report(3), now);
    assert_eq!(busy(&board, now), Some(3));
    let third = peer.send();
    assert_eq!(busy(&board, now), None);
    drop(first);
    assert_eq!(busy(&board, now), Some(3));
    drop(third);
    assert_eq!(busy(&board, now), Some(2));
}

#[test]
fn a_refusal_counts_until_the_next_report() {
    let (board, now) = (board(true), Instant::now());
    let (a, b) = (ContentId::of(b"a"), ContentId::of(b"b"));
    board.report(ID, report(0), now);
    let peer = Arc::clone(&board.members()[0]);
    let (ours, theirs) = (ns("ours"), ns("theirs"));
    let eligible = |module, namespace| peer.eligible(Some((module, namespace)), now).is_some();
    peer.lacks(a);
    assert!(!eligible(&a, &ours) && eligible(&b, &ours));
    peer.is_crowded_with(&theirs);
    assert!(!eligible(&b, &theirs) && eligible(&b, &ours));
    peer.takes_nothing();
    assert!(!eligible(&b, &ours));
    board.report(ID, report(0), now);
    assert!(eligible(&a, &theirs));
    for i in 0..100_u8 {
        peer.lacks(ContentId::of(&[i]));
        peer.is_crowded_with(&ns(&format!("n{i}")));
    }
    let state = peer.state.lock();
    assert_eq!(state.lacking.len(), REFUSED_MAX);
    assert_eq!(state.crowded.len(), REFUSED_MAX);
}

fn ns(text: &str) -> Namespace {
    Namespace::parse(text).unwrap()
}

#[test]
fn only_linked_members_have_a_line() {
    let (board, now) = (board(true), Instant::now());
    board.report(NodeId(99), report(0), now);
    assert!(board.fresh(now).is_empty());
    board.report(ID, report(0), now);
    let again = || Linked {
        id: ID,
        name: "b".into(),
        active: true,
    };
    board.set_linked(vec![again()]);
    assert_eq!(
        board.fresh(now).len(),
        1,
        "a line is kept from round to round"
    );
    board.set_linked(vec![]);
    board.set_linked(vec![again()]);
    assert!(
        board.fresh(now).is_empty(),
        "what broke is not believed again"
    );
}

#[test]
fn one_report_at_a_time_is_under_way() {
    let board = board(true);
    let peer = &board.members()[0];
    let first = peer.tell();
    assert!(first.is_some() && peer.tell().is_none());
    drop(first);
    assert!(peer.tell().is_some());
}
