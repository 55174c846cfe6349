//! Histories that a register can show, and histories that it cannot.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

fn event(action: Action, outcome: Outcome, start: u64, end: u64) -> Event {
    Event {
        key: "k".into(),
        client: "c".into(),
        action,
        outcome,
        start,
        end,
    }
}
fn write(value: &str, outcome: Outcome, start: u64, end: u64) -> Event {
    event(Action::Write(value.into()), outcome, start, end)
}
fn read(value: &str, start: u64, end: u64) -> Event {
    let value = (!value.is_empty()).then(|| value.to_owned());
    event(Action::Read, Outcome::Saw(value), start, end)
}
fn swap(expected: &str, new: &str, outcome: Outcome, start: u64, end: u64) -> Event {
    let action = Action::Swap {
        expected: (!expected.is_empty()).then(|| expected.to_owned()),
        new: new.into(),
    };
    event(action, outcome, start, end)
}
use Outcome::{Differed, Done, Failed, Unknown};

#[test]
fn possible_histories_are_accepted() {
    let histories: &[(&str, Vec<Event>)] = &[
        ("nothing", vec![]),
        ("a read of nothing", vec![read("", 0, 1)]),
        (
            "concurrent reads may see old and new in either order of their starts",
            vec![
                write("a", Done, 0, 1),
                write("b", Done, 2, 10),
                read("b", 3, 8),
                read("a", 4, 9),
            ],
        ),
        (
            "an unknown write that appears later",
            vec![
                write("a", Done, 0, 1),
                write("b", Unknown, 2, 3),
                read("a", 4, 5),
                read("b", 6, 7),
            ],
        ),
        (
            "an unknown write that never appears",
            vec![
                write("a", Done, 0, 1),
                write("b", Unknown, 2, 3),
                read("a", 4, 5),
            ],
        ),
        (
            "an unknown write that only a refused swap noticed",
            vec![
                write("a", Done, 0, 1),
                write("b", Unknown, 2, 3),
                swap("a", "c", Differed, 4, 5),
                write("d", Done, 6, 7),
                read("d", 8, 9),
            ],
        ),
        (
            "a chain of unknown swaps of which only the last was seen",
            vec![
                swap("", "a", Unknown, 0, 1),
                swap("a", "b", Unknown, 2, 3),
                swap("b", "c", Unknown, 4, 5),
                read("c", 6, 7),
            ],
        ),
        (
            "a failed write",
            vec![
                write("a", Done, 0, 1),
                write("b", Failed, 2, 3),
                read("a", 4, 5),
            ],
        ),
        (
            "swaps",
            vec![
                swap("", "a", Done, 0, 1),
                swap("", "b", Differed, 2, 3),
                swap("a", "c", Done, 4, 9),
                swap("a", "d", Differed, 4, 9),
                read("c", 10, 11),
            ],
        ),
        (
            "an unknown swap between two done ones",
            vec![
                swap("", "a", Done, 0, 1),
                swap("a", "b", Unknown, 2, 3),
                swap("b", "c", Done, 4, 5),
                read("c", 6, 7),
            ],
        ),
    ];
    for (name, history) in histories {
        let found = check(history);
        assert!(found.is_empty(), "{name}: {}", found[0]);
    }
}

#[test]
fn impossible_histories_are_refused() {
    let histories: &[(&str, Vec<Event>)] = &[
        (
            "stale read",
            vec![
                write("a", Done, 0, 1),
                write("b", Done, 2, 3),
                read("a", 4, 5),
            ],
        ),
        ("lost write", vec![write("a", Done, 0, 1), read("", 2, 3)]),
        (
            "two leaders swapped the same value",
            vec![
                swap("", "a", Done, 0, 1),
                swap("a", "b", Done, 2, 9),
                swap("a", "c", Done, 3, 8),
            ],
        ),
        (
            "new, then old again",
            vec![
                write("a", Done, 0, 1),
                write("b", Unknown, 2, 3),
                read("b", 4, 5),
                read("a", 6, 7),
            ],
        ),
        (
            "an unknown write that comes back after another was seen over it",
            vec![
                write("a", Unknown, 0, 1),
                read("a", 2, 3),
                write("b", Done, 4, 5),
                read("a", 6, 7),
            ],
        ),
        (
            "a failed write that took effect",
            vec![write("a", Failed, 0, 1), read("a", 2, 3)],
        ),
        (
            "a refused swap that took effect",
            vec![
                write("x", Done, 0, 1),
                swap("a", "b", Differed, 2, 3),
                read("b", 4, 5),
            ],
        ),
        (
            "a swap that was refused although nothing else was there",
            vec![write("a", Done, 0, 1), swap("a", "b", Differed, 2, 3)],
        ),
        (
            "seen before it was written",
            vec![read("a", 0, 1), write("a", Done, 2, 3)],
        ),
        ("never written", vec![read("a", 0, 1)]),
        (
            "the two readers disagree on the order",
            vec![
                write("a", Done, 0, 10),
                write("b", Done, 0, 10),
                read("a", 11, 12),
                read("b", 13, 14),
            ],
        ),
    ];
    for (name, history) in histories {
        assert_eq!(check(history).len(), 1, "{name}");
    }
}

#[test]
fn keys_are_checked_by_themselves() {
    let mut bad = vec![write("a", Done, 0, 1), read("", 2, 3)];
    let mut good = vec![write("a", Done, 0, 1), read("a", 2, 3)];
    for event in &mut good {
        event.key = "other".into();
    }
    bad.append(&mut good);
    let found = check(&bad);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].key, "k");
    assert!(
        found[0].to_string().contains("not linearizable"),
        "{}",
        found[0]
    );
}

/// Plays a register in one order and stretches each operation around its
/// moment, which leaves the history possible.
fn play(choices: &[(u8, u8, u8, u8)], key: &str) -> Vec<Event> {
    let mut state: Option<String> = None;
    let mut past: Vec<Option<String>> = vec![None];
    let mut events = Vec::new();
    for (i, (kind, fate, before, after)) in choices.iter().enumerate() {
        let at = 1_000 + i as u64 * 10;
        let new = format!("v{i}");
        let guess = match fate % 3 {
            0 => past[usize::from(*before) % past.len()].clone(),
            _ => state.clone(),
        };
        let action = match kind % 4 {
            0 | 1 => Action::Read,
            2 => Action::Write(new.clone()),
            _ => Action::Swap {
                expected: guess,
                new: new.clone(),
            },
        };
        // An eighth gets no answer; half of these happened all the same.
        let unknown = fate % 8 == 7;
        let happens = !unknown || fate % 16 == 7;
        let outcome = match &action {
            Action::Read => Outcome::Saw(state.clone()),
            Action::Write(_) if happens => Done,
            Action::Swap { expected, .. } if happens && *expected != state => Differed,
            Action::Swap { .. } if happens => Done,
            _ => Unknown,
        };
        if outcome == Done {
            state = Some(new);
            past.push(state.clone());
        }
        let outcome = match outcome {
            _ if unknown && action != Action::Read => Unknown,
            other => other,
        };
        let end = if outcome == Unknown {
            // The client may have given up long before it took effect.
            at - u64::from(*before) + 1
        } else {
            at + u64::from(*after)
        };
        events.push(Event {
            key: key.into(),
            client: format!("c{}", i % 8),
            action,
            outcome,
            start: at - u64::from(*before),
            end,
        });
    }
    events
}

fn choices(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<(u8, u8, u8, u8)>> {
    prop::collection::vec((any::<u8>(), any::<u8>(), 0..80u8, 0..80u8), count)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn whatever_a_register_shows_is_accepted(choices in choices(1..120)) {
        let found = check(&play(&choices, "k"));
        prop_assert!(found.is_empty(), "{}", found[0]);
    }

    #[test]
    fn a_read_of_an_overwritten_value_is_refused(choices in choices(1..80), pick in any::<prop::sample::Index>()) {
        let mut events = play(&choices, "k");
        // Two writes and a read of the first one, in between and before the rest of the history.
        let at = events[pick.index(events.len())].start;
        let key = |event: Event| Event { key: "k".into(), ..event };
        let last = events.iter().map(|e| e.end).max().unwrap_or(0).max(at);
        events.push(key(write("first", Done, last + 1, last + 2)));
        events.push(key(write("second", Done, last + 3, last + 4)));
        events.push(key(read("first", last + 5, last + 6)));
        prop_assert_eq!(check(&events).len(), 1);
    }

    #[test]
    fn a_read_of_a_later_value_is_refused(choices in choices(2..80)) {
        let mut events = play(&choices, "k");
        // The first read that ended before some write began sees that write.
        let read = events.iter().position(|e| e.action == Action::Read);
        let Some(read) = read else { return Ok(()) };
        let later = events.iter().find(|e| {
            e.outcome == Done && e.start > events[read].end
        });
        let Some(value) = later.and_then(|e| match &e.action {
            Action::Write(value) => Some(value.clone()),
            Action::Swap { new, .. } => Some(new.clone()),
            Action::Read => None,
        }) else { return Ok(()) };
        events[read].outcome = Outcome::Saw(Some(value));
        prop_assert_eq!(check(&events).len(), 1);
    }

    #[test]
    fn a_lost_write_is_refused(choices in choices(1..80)) {
        let mut events = play(&choices, "k");
        let last = events.iter().map(|e| e.end).max().unwrap_or(0);
        events.push(write("kept", Done, last + 1, last + 2));
        events.push(read("", last + 3, last + 4));
        prop_assert_eq!(check(&events).len(), 1);
    }
}

#[test]
fn ten_thousand_operations_take_seconds() {
    let mut seed = crate::Rng::new(7);
    let mut events = Vec::new();
    for key in 0..80 {
        let choices: Vec<_> = (0..150)
            .map(|_| {
                let bits = seed.draw().to_le_bytes();
                (bits[0], bits[1], bits[2] % 40, bits[3] % 40)
            })
            .collect();
        events.extend(play(&choices, &format!("k{key}")));
    }
    let began = Instant::now();
    let found = check(&events);
    assert!(found.is_empty(), "{}", found[0]);
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "{:?}",
        began.elapsed()
    );
    println!("{} operations in {:?}", events.len(), began.elapsed());
}
