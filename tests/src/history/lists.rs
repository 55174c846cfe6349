//! Lists that only grow: appends of unique elements and reads of the whole list.
//!
//! The longest list that anybody saw names every place, so there is one order
//! that the history must have had: each append at its element's place, each read
//! behind the last element it saw. The history is linearizable if and only if no operation had
//! ended before one began that comes earlier in that order.

use std::collections::{BTreeMap, HashMap};

/// What a client did to a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Appended this element, acknowledged.
    Appended(String),
    /// Tried to append this element; whether it happened is unknown.
    Tried(String),
    /// Was told that this element was not appended.
    Refused(String),
    /// Read the list.
    Read(Vec<String>),
}

/// One operation. Times are nanoseconds of one clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The list.
    pub key: String,
    /// Who asked, for people.
    pub client: String,
    /// What happened.
    pub act: Act,
    /// When it was sent.
    pub start: u64,
    /// When the answer, or the lack of one, was known.
    pub end: u64,
}

/// What no list could have shown, with the list's name; empty when there is nothing.
pub fn check(history: &[Listed]) -> Vec<String> {
    let mut keys: BTreeMap<&str, Vec<&Listed>> = BTreeMap::new();
    for op in history {
        keys.entry(&op.key).or_default().push(op);
    }
    let found = keys.into_iter().flat_map(|(key, ops)| {
        let wrong = check_key(&ops);
        wrong.into_iter().map(move |text| format!("{key}: {text}"))
    });
    found.collect()
}

/// An operation without the elements a long read saw.
fn line(op: &Listed) -> String {
    let act = match &op.act {
        Act::Read(list) => format!(
            "read {} elements, the last {:?}",
            list.len(),
            list.last().map_or("", String::as_str)
        ),
        other => format!("{other:?}"),
    };
    format!(
        "[{:.3} ms .. {:.3} ms] {}: {act}",
        op.start as f64 / 1e6,
        op.end as f64 / 1e6,
        op.client
    )
}

fn check_key(ops: &[&Listed]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut writers: HashMap<&str, &Listed> = HashMap::new();
    let mut longest: &[String] = &[];
    for op in ops {
        match &op.act {
            Act::Appended(element) | Act::Tried(element) | Act::Refused(element) => {
                if writers.insert(element, op).is_some() {
                    return vec![format!("{element} was appended twice: the test is wrong")];
                }
            }
            Act::Read(list) if list.len() > longest.len() => longest = list,
            Act::Read(_) => {}
        }
    }
    let mut places: HashMap<&str, usize> = HashMap::new();
    for (place, element) in longest.iter().enumerate() {
        if places.insert(element, place).is_some() {
            wrong.push(format!("{element} is in the list twice"));
        }
        match writers.get(element.as_str()) {
            None => wrong.push(format!("{element} was seen and nobody appended it")),
            Some(op) if matches!(op.act, Act::Refused(_)) => {
                wrong.push(format!("seen, though its writer was refused: {}", line(op)));
            }
            Some(_) => {}
        }
    }
    for op in ops {
        if let Act::Read(list) = &op.act
            && list.iter().zip(longest).any(|(a, b)| a != b)
        {
            wrong.push(format!(
                "two reads saw lists of which none begins the other: {}",
                line(op)
            ));
        }
    }
    if !wrong.is_empty() {
        return wrong;
    }
    // Twice the place, so that reads lie between appends; acknowledged elements
    // that nobody saw come after everything. An attempt that nobody saw may never happen.
    let rank = |op: &Listed| match &op.act {
        Act::Read(list) => Some(2 * list.len()),
        Act::Appended(element) => Some(
            places
                .get(element.as_str())
                .map_or(usize::MAX, |p| 2 * p + 1),
        ),
        Act::Tried(element) => places.get(element.as_str()).map(|p| 2 * p + 1),
        Act::Refused(_) => None,
    };
    let mut order: Vec<(usize, &Listed)> = ops
        .iter()
        .filter_map(|op| rank(op).map(|rank| (rank, *op)))
        .collect();
    order.sort_by_key(|(rank, _)| *rank);
    let mut latest: Option<&Listed> = None;
    for group in order.chunk_by(|a, b| a.0 == b.0) {
        for (_, op) in group {
            // An attempt without an answer may have happened long after it was given up.
            let ended = !matches!(op.act, Act::Tried(_));
            if let Some(before) = latest
                && ended
                && op.end < before.start
            {
                wrong.push(format!(
                    "the first had ended before the second began, and yet it comes later in the list: {} | {}",
                    line(op),
                    line(before)
                ));
            }
        }
        for (_, op) in group {
            if latest.is_none_or(|before| op.start > before.start) {
                latest = Some(op);
            }
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(act: Act, start: u64, end: u64) -> Listed {
        Listed {
            key: "k".into(),
            client: "c".into(),
            act,
            start,
            end,
        }
    }
    fn add(element: &str, start: u64, end: u64) -> Listed {
        op(Act::Appended(element.into()), start, end)
    }
    fn tried(element: &str, start: u64, end: u64) -> Listed {
        op(Act::Tried(element.into()), start, end)
    }
    fn read(list: &str, start: u64, end: u64) -> Listed {
        let list = list.split_whitespace().map(str::to_owned).collect();
        op(Act::Read(list), start, end)
    }

    #[test]
    fn possible_histories_are_accepted() {
        let histories: &[&[Listed]] = &[
            &[],
            &[read("", 0, 1)],
            &[add("a", 0, 1), read("a", 2, 3)],
            // Concurrent with the append: either is right.
            &[add("a", 0, 10), read("", 1, 2), read("a", 3, 4)],
            &[
                add("a", 0, 10),
                add("b", 0, 10),
                read("b", 1, 5),
                read("b a", 11, 12),
            ],
            // Unknown ones appear late, or never.
            &[
                tried("a", 0, 1),
                read("", 2, 3),
                add("b", 4, 5),
                read("b a", 6, 7),
            ],
            &[tried("a", 0, 1), add("b", 2, 3), read("b", 4, 5)],
            // Acknowledged and not read since.
            &[read("", 0, 1), add("a", 2, 3), add("b", 4, 5)],
            &[op(Act::Refused("a".into()), 0, 1), read("", 2, 3)],
        ];
        for history in histories {
            assert_eq!(check(history), Vec::<String>::new(), "{history:?}");
        }
    }

    #[test]
    fn planted_anomalies_are_found() {
        let wrong: &[(&str, &[Listed])] = &[
            ("nobody", &[read("x", 0, 1)]),
            ("twice", &[add("a", 0, 1), read("a a", 2, 3)]),
            (
                "refused",
                &[op(Act::Refused("a".into()), 0, 1), read("a", 2, 3)],
            ),
            // Two branches.
            (
                "none begins the other",
                &[
                    add("a", 0, 9),
                    add("b", 0, 9),
                    read("a", 1, 2),
                    read("b", 1, 2),
                ],
            ),
            // A lost append, seen by a later read; and one seen by nobody at all.
            (
                "comes later",
                &[add("a", 0, 1), add("b", 2, 3), read("b", 4, 5)],
            ),
            ("comes later", &[add("a", 0, 1), read("", 2, 3)]),
            // A stale read.
            (
                "comes later",
                &[
                    add("a", 0, 1),
                    add("b", 2, 3),
                    read("a b", 4, 5),
                    read("a", 6, 7),
                ],
            ),
            // Appended in the wrong order of real time.
            (
                "comes later",
                &[add("a", 0, 1), add("b", 2, 3), read("b a", 4, 5)],
            ),
            // Seen before it was sent.
            ("comes later", &[read("a", 0, 1), tried("a", 2, 3)]),
            // What was seen of an unknown one cannot be unseen.
            (
                "comes later",
                &[tried("a", 0, 1), read("a", 2, 3), read("", 4, 5)],
            ),
            // Torn in the middle: an element disappears and others follow.
            (
                "none begins the other",
                &[
                    add("a", 0, 1),
                    add("b", 2, 3),
                    read("a b", 4, 5),
                    add("c", 6, 7),
                    read("a c", 8, 9),
                    read("a c", 8, 9),
                    read("a b c", 8, 9),
                ],
            ),
        ];
        for (word, history) in wrong {
            let found = check(history);
            assert!(
                found.iter().any(|text| text.contains(word)),
                "{word}: {history:?} -> {found:?}"
            );
        }
    }

    #[test]
    fn keys_are_checked_by_themselves() {
        let mut other = read("b", 0, 9);
        other.key = "other".into();
        let mut writer = add("b", 0, 9);
        writer.key = "other".into();
        let history = [add("a", 0, 9), read("a", 1, 2), other, writer];
        assert_eq!(check(&history), Vec::<String>::new());
    }
}
