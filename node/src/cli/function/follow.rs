//! Where `logs --follow` is: which records have been shown, and from where to
//! ask next.
//!
//! Records come sorted by an id that carries a time (UUID v7), but not in that
//! order: one that began its way into the journal earlier may be written
//! later. So the next question begins a little before the newest record, and
//! what comes twice is shown once.

use std::collections::BTreeSet;

use orama_proto::invocation::InvocationRecord;

/// How far back the next question reaches, in milliseconds.
const OVERLAP_MS: u64 = 5_000;
/// Ids remembered; beyond that the oldest are forgotten and not asked for again.
const REMEMBERED: usize = 20_000;

/// Position in a function's records.
#[derive(Debug, Default)]
pub struct Cursor {
    /// Ids shown that a further answer may contain again.
    shown: BTreeSet<String>,
    /// Everything up to here is done with.
    after: Option<String>,
}

/// What is new in an answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct News {
    /// Records not shown before, oldest first.
    pub records: Vec<InvocationRecord>,
    /// Whether there were more than the answer could hold.
    pub gap: bool,
}

impl Cursor {
    /// The `after` parameter of the next question.
    pub fn after(&self) -> Option<&str> {
        self.after.as_deref()
    }

    /// Takes an answer to a question with `limit`, in any order.
    pub fn take(&mut self, mut answer: Vec<InvocationRecord>, limit: usize) -> News {
        let first = self.shown.is_empty() && self.after.is_none();
        let full = answer.len() >= limit;
        let before = answer.len();
        answer.retain(|r| {
            !self.shown.contains(&r.id) && self.after.as_ref().is_none_or(|after| r.id > *after)
        });
        // A full answer of nothing but news began later than we left off.
        let gap = !first && full && answer.len() == before;
        answer.sort_by(|a, b| a.id.cmp(&b.id));
        answer.dedup_by(|a, b| a.id == b.id);
        self.shown.extend(answer.iter().map(|r| r.id.clone()));
        self.advance();
        News {
            records: answer,
            gap,
        }
    }

    fn advance(&mut self) {
        let Some(newest) = self.shown.last().cloned() else {
            return;
        };
        let horizon = time_of(&newest).map(|at| at.saturating_sub(OVERLAP_MS));
        while let Some(oldest) = self.shown.first() {
            let done = match (time_of(oldest), horizon) {
                (Some(at), Some(horizon)) => at < horizon,
                // An id without a time: no overlap can be measured.
                _ => true,
            };
            if !done && self.shown.len() <= REMEMBERED {
                break;
            }
            self.after = self.shown.pop_first();
        }
    }
}

/// Milliseconds since the epoch in a UUID v7.
fn time_of(id: &str) -> Option<u64> {
    let uuid = uuid::Uuid::parse_str(id).ok()?;
    if uuid.get_version_num() != 7 {
        return None;
    }
    let (high, _) = uuid.as_u64_pair();
    Some(high >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use orama_proto::invocation::{InvocationStatus, Trigger};
    use orama_proto::{FunctionName, Namespace, RequestId, Timestamp};

    fn id(ms: u64, n: u64) -> String {
        uuid::Builder::from_unix_timestamp_millis(ms, &[n as u8; 10])
            .into_uuid()
            .to_string()
    }

    fn record(id: String) -> InvocationRecord {
        InvocationRecord {
            id,
            request_id: RequestId::from("r"),
            namespace: Namespace::parse("ns").unwrap(),
            function: FunctionName::parse("f").unwrap(),
            version: 1,
            attempt: 1,
            trigger_type: Trigger::Http,
            caller_wallet: String::new(),
            input_size: 0,
            output_size: 0,
            started_at: Timestamp(0),
            completed_at: Timestamp(0),
            duration_ms: 0,
            status: InvocationStatus::Success,
            error_message: String::new(),
            memory_used_mb: 0,
            wasm_logs: vec![],
            dropped_log_lines: 0,
        }
    }

    fn ids(news: &News) -> Vec<&str> {
        news.records.iter().map(|r| r.id.as_str()).collect()
    }

    /// What the gateway answers: the newest `limit` after the cursor, newest first.
    fn ask(store: &[String], cursor: &Cursor, limit: usize) -> Vec<InvocationRecord> {
        let mut found: Vec<_> = store
            .iter()
            .filter(|id| cursor.after().is_none_or(|after| id.as_str() > after))
            .cloned()
            .collect();
        found.sort();
        found.reverse();
        found.truncate(limit);
        found.into_iter().map(record).collect()
    }

    #[test]
    fn late_records_are_shown_and_none_twice() {
        let mut cursor = Cursor::default();
        let mut store = vec![id(1_000, 1), id(9_000, 1)];
        let news = cursor.take(ask(&store, &cursor, 500), 500);
        assert_eq!(ids(&news), [id(1_000, 1), id(9_000, 1)], "oldest first");
        assert_eq!(cursor.after(), Some(id(1_000, 1).as_str()));
        // Older than the newest shown, written after it.
        store.push(id(8_500, 2));
        store.push(id(9_500, 1));
        let news = cursor.take(ask(&store, &cursor, 500), 500);
        assert_eq!(ids(&news), [id(8_500, 2), id(9_500, 1)]);
        assert_eq!(ids(&cursor.take(ask(&store, &cursor, 500), 500)).len(), 0);
    }

    #[test]
    fn a_gap_is_noticed_and_the_first_answer_is_none() {
        let mut cursor = Cursor::default();
        let mut store: Vec<_> = (0..10).map(|n| id(1_000, n)).collect();
        assert!(!cursor.take(ask(&store, &cursor, 5), 5).gap);
        store.extend((0..4).map(|n| id(2_000, n)));
        let news = cursor.take(ask(&store, &cursor, 5), 5);
        assert!(!news.gap && news.records.len() == 4);
        store.extend((0..6).map(|n| id(3_000, n)));
        assert!(cursor.take(ask(&store, &cursor, 5), 5).gap);
    }

    #[test]
    fn memory_is_bounded_and_ids_without_time_advance() {
        let mut cursor = Cursor::default();
        let many: Vec<_> = (0..REMEMBERED as u64 + 10)
            .map(|n| {
                let random = (n.to_be_bytes())
                    .iter()
                    .chain(&[0, 0])
                    .copied()
                    .collect::<Vec<_>>();
                uuid::Builder::from_unix_timestamp_millis(5, &random.try_into().unwrap())
                    .into_uuid()
                    .to_string()
            })
            .map(record)
            .collect();
        cursor.take(many, usize::MAX);
        assert!(cursor.shown.len() <= REMEMBERED && cursor.after().is_some());

        let mut cursor = Cursor::default();
        cursor.take(vec![record("b".into()), record("a".into())], 500);
        assert_eq!(cursor.after(), Some("b"));
        assert!(
            cursor
                .take(vec![record("b".into())], 500)
                .records
                .is_empty()
        );
    }
}
