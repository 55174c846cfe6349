//! A counter that every acknowledged change raises by one and answers with its
//! new value: the versions of a function. A deploy is a fetch-and-increment,
//! the function's details are a read.

/// What a client did to a counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Raised it; acknowledged with this version.
    Raised(u64),
    /// Tried to raise it; whether it happened is unknown.
    Unknown,
    /// Read it; 0 before the first version.
    Read(u64),
}

/// One operation. Times are nanoseconds of one clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versioned {
    /// Who asked, for people.
    pub client: String,
    /// What happened.
    pub change: Change,
    /// When it was sent.
    pub start: u64,
    /// When the answer, or the lack of one, was known.
    pub end: u64,
}

impl Versioned {
    fn value(&self) -> Option<u64> {
        match self.change {
            Change::Raised(value) | Change::Read(value) => Some(value),
            Change::Unknown => None,
        }
    }
}

/// What no counter could have shown; empty when there is nothing.
///
/// Every operation's place in the order is known by its value, so it is enough
/// that no pair contradicts the clock, that no version was given out twice, and
/// that there are never more versions than attempts.
pub fn check(history: &[Versioned]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut by_end: Vec<&Versioned> = history.iter().filter(|v| v.value().is_some()).collect();
    let mut by_start = by_end.clone();
    by_end.sort_by_key(|v| v.end);
    by_start.sort_by_key(|v| v.start);
    let mut starts: Vec<u64> = history
        .iter()
        .filter(|v| !matches!(v.change, Change::Read(_)))
        .map(|v| v.start)
        .collect();
    starts.sort_unstable();

    // In order of start, against the newest of all that ended before.
    let mut ended = by_end.iter().peekable();
    let mut newest: Option<&Versioned> = None;
    for next in &by_start {
        while let Some(before) = ended.next_if(|v| v.end < next.start) {
            if newest.is_none_or(|n| before.value() > n.value()) {
                newest = Some(before);
            }
        }
        let (Some(before), value) = (newest, next.value()) else {
            continue;
        };
        let stale = match next.change {
            Change::Raised(_) => value <= before.value(),
            _ => value < before.value(),
        };
        if stale {
            wrong.push(format!(
                "it went back: {before:?} ended before {next:?} began"
            ));
        }
    }
    let mut raised: Vec<(u64, &Versioned)> = history
        .iter()
        .filter_map(|v| match v.change {
            Change::Raised(value) => Some((value, v)),
            _ => None,
        })
        .collect();
    raised.sort_by_key(|(value, _)| *value);
    for pair in raised.windows(2) {
        if pair[0].0 == pair[1].0 {
            wrong.push(format!(
                "given out twice: {:?} and {:?}",
                pair[0].1, pair[1].1
            ));
        }
    }
    for next in &by_end {
        let attempts = starts.partition_point(|start| *start <= next.end) as u64;
        if next.value().is_some_and(|value| value > attempts) {
            wrong.push(format!(
                "more versions than attempts ({attempts}) before the end of {next:?}"
            ));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(change: Change, start: u64, end: u64) -> Versioned {
        Versioned {
            client: "c".into(),
            change,
            start,
            end,
        }
    }

    #[test]
    fn a_plain_history_is_accepted() {
        use Change::{Raised, Read, Unknown};
        let history = [
            op(Read(0), 0, 1),
            op(Raised(1), 2, 5),
            op(Read(1), 3, 4),
            op(Unknown, 6, 7),
            op(Read(1), 8, 9),
            op(Read(2), 10, 11),
            op(Raised(4), 12, 20),
            op(Raised(3), 12, 20),
            op(Read(4), 21, 22),
        ];
        assert_eq!(check(&history), Vec::<String>::new());
    }

    #[test]
    fn contradictions_are_found() {
        use Change::{Raised, Read, Unknown};
        let wrong: &[(&str, &[Versioned])] = &[
            ("back", &[op(Raised(1), 0, 1), op(Read(0), 2, 3)]),
            (
                "back",
                &[op(Unknown, 0, 9), op(Read(1), 1, 2), op(Read(0), 3, 4)],
            ),
            (
                "back",
                &[op(Raised(2), 0, 1), op(Unknown, 0, 1), op(Raised(1), 2, 3)],
            ),
            (
                "twice",
                &[op(Raised(1), 0, 5), op(Raised(1), 1, 6), op(Unknown, 0, 1)],
            ),
            ("more", &[op(Read(1), 0, 1), op(Raised(1), 2, 3)]),
            // One deploy that was applied twice.
            ("more", &[op(Raised(2), 0, 1)]),
        ];
        for (word, history) in wrong {
            let found = check(history);
            assert!(
                found.iter().any(|text| text.contains(word)),
                "{word}: {history:?} -> {found:?}"
            );
        }
    }
}
