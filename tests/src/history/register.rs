//! Registers: each key's history by itself, prepared for the search.

use std::collections::{BTreeMap, HashMap};
use std::fmt::{self, Write as _};

use super::search::{Effect, Step, Verdict, search};
use super::{Action, Event, Outcome};

/// A key whose history no single register could have shown.
#[derive(Debug, Clone)]
pub struct Violation {
    /// The register.
    pub key: String,
    /// What is wrong, with the operations around it.
    pub report: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "register {}: {}", self.key, self.report)
    }
}

/// Checks every key's history. Empty: all of it is linearizable.
///
/// Values written to one key must be unique.
pub fn check(events: &[Event]) -> Vec<Violation> {
    let mut keys: BTreeMap<&str, Vec<&Event>> = BTreeMap::new();
    for event in events {
        keys.entry(&event.key).or_default().push(event);
    }
    keys.into_iter()
        .filter_map(|(key, events)| check_key(events).err().map(|report| (key, report)))
        .map(|(key, report)| Violation {
            key: key.to_owned(),
            report,
        })
        .collect()
}

/// The value an action leaves.
fn written(action: &Action) -> Option<&str> {
    match action {
        Action::Read => None,
        Action::Write(value) => Some(value),
        Action::Swap { new, .. } => Some(new),
    }
}

/// The value whose presence an event proves.
fn observed(event: &Event) -> Option<&str> {
    match (&event.action, &event.outcome) {
        (_, Outcome::Saw(value)) => value.as_deref(),
        (Action::Swap { expected, .. }, Outcome::Done) => expected.as_deref(),
        _ => None,
    }
}

/// Who wrote a value, and the end of the first operation that observed it.
struct Life<'a> {
    writer: Option<&'a Event>,
    proven_by: u64,
}

fn lives<'a>(events: &[&'a Event]) -> Result<HashMap<&'a str, Life<'a>>, String> {
    let mut lives: HashMap<&str, Life<'_>> = HashMap::new();
    let unseen = || Life {
        writer: None,
        proven_by: u64::MAX,
    };
    for event in events {
        if let Some(value) = written(&event.action) {
            let life = lives.entry(value).or_insert_with(unseen);
            if life.writer.replace(event).is_some() {
                return Err(format!(
                    "the value {value} was written twice: the test is wrong"
                ));
            }
        }
        if let Some(value) = observed(event) {
            let life = lives.entry(value).or_insert_with(unseen);
            life.proven_by = life.proven_by.min(event.end);
        }
    }
    prove_chains(events, &mut lives);
    Ok(lives)
}

/// A swap without an answer whose new value was seen found what it expected,
/// and so proves that value too.
fn prove_chains(events: &[&Event], lives: &mut HashMap<&str, Life<'_>>) {
    loop {
        let mut changed = false;
        for event in events.iter().rev() {
            let (Action::Swap { expected, new }, Outcome::Unknown) =
                (&event.action, &event.outcome)
            else {
                continue;
            };
            let proven = lives.get(new.as_str()).map_or(u64::MAX, |l| l.proven_by);
            let before = expected.as_deref().and_then(|value| lives.get_mut(value));
            if let Some(life) = before
                && life.proven_by > proven
            {
                life.proven_by = proven;
                changed = true;
            }
        }
        if !changed {
            return;
        }
    }
}

fn check_key(mut events: Vec<&Event>) -> Result<(), String> {
    events.sort_by_key(|event| event.start);
    let lives = lives(&events)?;
    // These two need no search, and say more than it could.
    for (value, life) in &lives {
        if life.proven_by == u64::MAX {
            continue;
        }
        match life.writer {
            None => return Err(format!("{value} was seen and nobody wrote it")),
            Some(writer) if matches!(writer.outcome, Outcome::Failed | Outcome::Differed) => {
                return Err(format!(
                    "{value} was seen, but its writer was told that nothing changed: {}",
                    line(writer)
                ));
            }
            Some(writer) if writer.start > life.proven_by => {
                return Err(format!(
                    "{value} was seen before it was written: {}",
                    line(writer)
                ));
            }
            Some(_) => {}
        }
    }
    // The latest end of a swap that was refused: it proves that some other
    // value was there, though not which.
    let differed_until = events
        .iter()
        .filter(|event| event.outcome == Outcome::Differed)
        .map(|event| event.end)
        .max()
        .unwrap_or(0);

    let mut numbers: HashMap<&str, u32> = HashMap::new();
    let mut number = |value: Option<&'_ str>| -> u32 {
        let Some(value) = value else { return 0 };
        // The events outlive this function; the map only borrows from them.
        let next = numbers.len() as u32 + 1;
        let value = lives.get_key_value(value).map_or("", |(key, _)| *key);
        *numbers.entry(value).or_insert(next)
    };
    let (mut steps, mut of) = (Vec::new(), Vec::new());
    for event in &events {
        let mut end = event.end;
        let effect = match (&event.action, &event.outcome) {
            (_, Outcome::Failed) | (Action::Read, Outcome::Unknown) => continue,
            (Action::Read, Outcome::Saw(value)) => Effect::Is(number(value.as_deref())),
            (Action::Swap { expected, .. }, Outcome::Differed) => {
                let value = expected.as_deref();
                // A value that nobody ever wrote is never there.
                if value.is_some_and(|value| !lives.contains_key(value)) {
                    continue;
                }
                Effect::IsNot(number(value))
            }
            (action, Outcome::Done | Outcome::Unknown) => {
                if event.outcome == Outcome::Unknown {
                    let proven = written(action)
                        .and_then(|value| lives.get(value))
                        .map_or(u64::MAX, |life| life.proven_by);
                    // Nobody saw it and nobody can have noticed it: without it
                    // every order is as possible as with it.
                    if proven == u64::MAX && event.start > differed_until {
                        continue;
                    }
                    // Whoever saw it had it before the end of seeing it.
                    end = proven;
                }
                match action {
                    Action::Write(value) => Effect::Set(number(Some(value))),
                    Action::Swap { expected, new } => {
                        let expected = expected.as_deref();
                        if expected.is_some_and(|value| !lives.contains_key(value)) {
                            continue;
                        }
                        Effect::Swap(number(expected), number(Some(new)))
                    }
                    Action::Read => return Err(format!("no such outcome: {}", line(event))),
                }
            }
            _ => return Err(format!("no such outcome: {}", line(event))),
        };
        steps.push(Step {
            effect,
            start: event.start,
            end,
        });
        of.push(*event);
    }
    match search(&steps) {
        Verdict::Linearizable => Ok(()),
        Verdict::GaveUp => Err(format!(
            "no verdict on {} operations: rotate keys sooner",
            steps.len()
        )),
        Verdict::Impossible(order) => Err(report(&of, &order)),
    }
}

fn line(event: &Event) -> String {
    format!(
        "[{:>12.3} ms .. {:>12.3} ms] {}: {:?} -> {:?}",
        event.start as f64 / 1e6,
        event.end as f64 / 1e6,
        event.client,
        event.action,
        event.outcome
    )
}

/// The end of the longest order, and what could not follow it.
fn report(events: &[&Event], order: &[usize]) -> String {
    const SHOWN: usize = 8;
    let mut text = format!(
        "not linearizable: {} of {} operations fit into an order. Its end:\n",
        order.len(),
        events.len()
    );
    for i in &order[order.len().saturating_sub(SHOWN)..] {
        let _ = writeln!(text, "    {}", line(events[*i]));
    }
    text.push_str("  and none of these can follow:\n");
    let rest = (0..events.len()).filter(|i| !order.contains(i));
    for i in rest.take(SHOWN) {
        let _ = writeln!(text, "    {}", line(events[i]));
    }
    text
}
