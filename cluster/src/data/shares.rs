//! Each database's share of its group's apply time.
//!
//! A group applies entry after entry, so that every write waits for all that the log has before
//! it. What is in the log cannot be taken back; so its leader lets writes into the log only as
//! fast as they are applied, and while they wait their database's turn comes by these rules:
//!
//! 1. **Window.** What a database has under way is expected to take at most its part of 200 ms:
//!    200 ms divided by the databases that have anything under way. One write may always be.
//! 2. **Turns.** Of writes that are expected to take more than 50 ms each (*long* ones), a group
//!    has one under way at a time. The databases take turns.
//! 3. **Rest.** After an entry that took *t* ≥ 50 ms no long one begins for another *t* (at most
//!    10 s): long writes get half of the time at most. And its database owes *t* until *t* has
//!    passed; one that owes more than 10 s is refused.
//!
//! Rest and debt count only while another database has short writes: alone, or among
//! others of its kind, a database may have everything. Cheap writes of one namespace fill its
//! window of 512 long before they fill 200 ms, so that no rule ever touches them.
//!
//! What a write will take is what the last ones of its shape took (`costs`). What turns out dear
//! without warning is what these rules cannot hold back: at most the window, once; then its
//! database owes it.
//!
//! All of this is a leader's, of one term: nothing of it is replicated, nothing of it decides
//! what an entry does. Entries that this node did not let in (a follower's, replayed ones) count
//! for nothing.

mod account;
mod costs;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use orama_proto::GroupId;
use orama_proto::sql::DatabaseId;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::metrics::Metrics;
use super::shape::Shape;
use crate::consensus::{Admission, Pass};
use account::{Account, Waiter};

/// What a group's log holds is expected to take so long at most, long entries aside.
const BACKLOG: Duration = Duration::from_millis(200);
/// An entry that takes longer is a long one.
const LONG: Duration = Duration::from_millis(50);
/// Writes of one database under way at its leader.
const WINDOW_MAX: usize = 512;
/// After a long entry the next one waits as long as it took, at most so long.
const REST_MAX: Duration = Duration::from_secs(10);
/// A database that owes more is refused.
const DEBT_BEARABLE: Duration = Duration::from_secs(10);
/// Nobody owes more.
const DEBT_MAX: Duration = Duration::from_secs(600);
/// Who wrote so lately still counts as one that writes.
const LATELY: Duration = Duration::from_secs(1);
/// Writes of one database that wait for their turn, and their bytes; further ones are refused.
const WAITING_MAX: usize = 1024;
const WAITING_BYTES_MAX: usize = 8 << 20;
/// Databases of a group that are remembered.
const ACCOUNTS_MAX: usize = 4096;
/// One that did nothing for so long and owes nothing is forgotten.
const FORGET_AFTER: Duration = Duration::from_secs(60);
/// While anybody waits it is looked so often whose turn has come without anything ending.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// When to try again: at least, and at most so much later.
const AGAIN: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(60)];
/// It is said once in so long that a database is limited.
const SAY_EVERY: Duration = Duration::from_secs(60);

/// The shares of one group.
pub(super) struct Shares {
    group: GroupId,
    state: Mutex<State>,
    metrics: Metrics,
}

/// What is known of the group's databases.
#[derive(Default)]
struct State {
    term: u64,
    accounts: HashMap<DatabaseId, Account>,
    /// Databases of which writes wait, or did a moment ago: whose turn is next comes first.
    waiting: VecDeque<DatabaseId>,
    /// Databases with anything under way.
    active: u32,
    /// A long write is under way.
    long: bool,
    /// The next one begins not before.
    rests_until: Option<Instant>,
    /// Somebody looks every while.
    looked_after: bool,
    /// When idle accounts were looked for.
    swept: Option<Instant>,
    /// Databases that the metric counts here.
    shown: i64,
}

/// A write that is let in.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Ticket {
    id: DatabaseId,
    term: u64,
    expected: Duration,
    long: bool,
}

/// One that waited and whose turn it is now.
struct Granted {
    to: oneshot::Sender<Pass>,
    ticket: Ticket,
}

/// What is said to one that asks.
enum Said {
    In(Ticket),
    Wait(oneshot::Receiver<Pass>, Duration),
    Refused(Duration),
    /// There are more databases than are remembered.
    Unknown,
}

/// Gives a write's place back.
struct Held {
    shares: Arc<Shares>,
    ticket: Ticket,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.shares.ended(&self.ticket);
    }
}

impl Shares {
    pub(super) fn new(group: GroupId, metrics: Metrics) -> Arc<Self> {
        Arc::new(Self {
            group,
            state: Mutex::default(),
            metrics,
        })
    }

    /// Asks for a write of so many bytes, on the leader of this term.
    pub(super) fn admit(
        self: &Arc<Self>,
        id: DatabaseId,
        shape: Shape,
        bytes: usize,
        term: u64,
    ) -> Admission {
        let now = Instant::now();
        let mut begun = false;
        let (said, left) = {
            let mut state = self.state.lock();
            let left = state.of_term(term);
            let said = state.ask(&id, shape, bytes, now);
            if matches!(said, Said::Wait(..)) && !state.looked_after {
                (state.looked_after, begun) = (true, true);
            }
            self.show(&mut state);
            (said, left)
        };
        // Their receivers ask again.
        drop(left);
        if begun {
            self.look_after();
        }
        let waits = &self.metrics.share_waits;
        match said {
            Said::In(ticket) => {
                let shares = Arc::clone(self);
                Admission::Now(Some(Box::new(Held { shares, ticket })))
            }
            Said::Unknown => Admission::Now(None),
            Said::Wait(pass, again) => {
                waits.with_label_values(&["waited"]).inc();
                Admission::Later { pass, again }
            }
            Said::Refused(again) => {
                waits.with_label_values(&["refused"]).inc();
                self.say(&id, now, "is refused");
                Admission::Busy(again)
            }
        }
    }

    /// Entries of a database were applied: how long each took.
    pub(super) fn applied(&self, id: &DatabaseId, costs: &[(Shape, Duration)]) {
        let now = Instant::now();
        let long = self.state.lock().applied(id, costs, now);
        if long {
            self.say(id, now, "waits for its turns");
        }
    }

    fn ended(self: &Arc<Self>, ticket: &Ticket) {
        let (granted, late) = {
            let mut state = self.state.lock();
            let granted = state.ended(ticket, Instant::now());
            self.show(&mut state);
            granted
        };
        self.grant(granted, late);
    }

    /// Tells those whose turn it is. Not with the state held: who is gone gives the place back.
    fn grant(self: &Arc<Self>, granted: Vec<Granted>, late: u64) {
        if late > 0 {
            let waits = &self.metrics.share_waits;
            waits.with_label_values(&["late"]).inc_by(late);
        }
        for Granted { to, ticket } in granted {
            let shares = Arc::clone(self);
            // One that comes back is dropped, and with it its place is free.
            drop(to.send(Box::new(Held { shares, ticket })));
        }
    }

    /// Looks whose turn has come, as long as anybody waits.
    fn look_after(self: &Arc<Self>) {
        let Ok(runtime) = Handle::try_current() else {
            self.state.lock().looked_after = false;
            return;
        };
        let shares = Arc::downgrade(self);
        runtime.spawn(async move {
            loop {
                tokio::time::sleep(LOOK_EVERY).await;
                let Some(shares) = shares.upgrade() else {
                    return;
                };
                let ((granted, late), done) = {
                    let mut state = shares.state.lock();
                    let granted = state.look(Instant::now());
                    shares.show(&mut state);
                    state.looked_after = !state.waiting.is_empty();
                    (granted, !state.looked_after)
                };
                shares.grant(granted, late);
                if done {
                    return;
                }
            }
        });
    }

    fn show(&self, state: &mut State) {
        let waiting = i64::try_from(state.waiting.len()).unwrap_or(i64::MAX);
        self.metrics.databases_limited.add(waiting - state.shown);
        state.shown = waiting;
    }

    /// Says that a database is held back, once in a while.
    fn say(&self, id: &DatabaseId, now: Instant, what: &str) {
        let mut state = self.state.lock();
        let Some(account) = state.accounts.get_mut(id) else {
            return;
        };
        let due = account.said.is_none_or(|at| now >= at + SAY_EVERY);
        if due {
            account.said = Some(now);
        }
        drop(state);
        if due {
            tracing::warn!(group = %self.group, database = %id, "a database {what}: its writes take long to apply, and others of its group write too");
        }
    }
}

impl Drop for Shares {
    fn drop(&mut self) {
        let shown = self.state.get_mut().shown;
        self.metrics.databases_limited.sub(shown);
    }
}

impl State {
    /// Forgets what was of another term. What comes back is to be dropped without the state held.
    fn of_term(&mut self, term: u64) -> Option<HashMap<DatabaseId, Account>> {
        if self.term == term {
            return None;
        }
        let before = std::mem::take(self);
        self.term = term;
        (self.looked_after, self.shown) = (before.looked_after, before.shown);
        Some(before.accounts)
    }

    /// A write asks.
    fn ask(&mut self, id: &DatabaseId, shape: Shape, bytes: usize, now: Instant) -> Said {
        if !self.accounts.contains_key(id) {
            self.sweep(now);
            if self.accounts.len() >= ACCOUNTS_MAX {
                return Said::Unknown;
            }
            self.accounts.insert(id.clone(), Account::new(now));
        }
        let Some(account) = self.accounts.get(id) else {
            return Said::Unknown;
        };
        let owes = account.owes(now);
        if owes > DEBT_BEARABLE && self.others_write(id, now) {
            return Said::Refused(again(owes - DEBT_BEARABLE));
        }
        let long = account.costs.of(shape) > LONG;
        if account.waiting.is_empty()
            && (!long || self.waiting.is_empty())
            && let Some(ticket) = self.turn(id, shape, now)
        {
            return Said::In(ticket);
        }
        let Some(account) = self.accounts.get_mut(id) else {
            return Said::Unknown;
        };
        account.seen = now;
        if !account.queued {
            account.queued = true;
            self.waiting.push_back(id.clone());
        }
        let expected = account.costs.of(shape);
        let rest = self
            .rests_until
            .map_or(Duration::ZERO, |at| at - now.min(at));
        let ahead = u32::try_from(account.waiting.len()).unwrap_or(u32::MAX);
        let wait = again(rest + expected.saturating_mul(ahead));
        let (to, pass) = oneshot::channel();
        match account.enqueue(Waiter { to, shape, bytes }) {
            true => Said::Wait(pass, wait),
            false => Said::Refused(wait),
        }
    }

    /// Whether another database has short writes, now or a moment ago.
    fn others_write(&self, id: &DatabaseId, now: Instant) -> bool {
        let mut others = self.accounts.iter().filter(|(other, _)| *other != id);
        others.any(|(_, account)| account.writes_short(now))
    }

    /// Lets a write in if its turn has come.
    fn turn(&mut self, id: &DatabaseId, shape: Shape, now: Instant) -> Option<Ticket> {
        let account = self.accounts.get(id)?;
        let expected = account.costs.of(shape);
        let long = expected > LONG;
        let starts = account.under_way == 0;
        if !starts {
            let part = BACKLOG / self.active.max(1);
            if account.under_way >= WINDOW_MAX || account.expected + expected > part {
                return None;
            }
        }
        if long {
            let rests =
                self.rests_until.is_some_and(|at| now < at) || account.owes(now) > Duration::ZERO;
            if self.long || (rests && self.others_write(id, now)) {
                return None;
            }
            self.long = true;
        }
        let account = self.accounts.get_mut(id)?;
        account.begin(expected, long, now);
        self.active += u32::from(starts);
        Some(Ticket {
            id: id.clone(),
            term: self.term,
            expected,
            long,
        })
    }

    /// Lets in what may come of a database's waiting writes; how many had gone away.
    fn serve(&mut self, id: &DatabaseId, now: Instant, granted: &mut Vec<Granted>) -> u64 {
        let mut late = 0;
        while let Some(account) = self.accounts.get_mut(id) {
            late += account.drop_gone();
            let Some(shape) = account.waiting.front().map(|w| w.shape) else {
                break;
            };
            let Some(ticket) = self.turn(id, shape, now) else {
                break;
            };
            let waiter = self.accounts.get_mut(id).and_then(Account::dequeue);
            if let Some(Waiter { to, .. }) = waiter {
                granted.push(Granted { to, ticket });
            }
        }
        late
    }

    /// Lets in whoever may come, the database that waits longest first.
    fn look(&mut self, now: Instant) -> (Vec<Granted>, u64) {
        let (mut granted, mut late) = (Vec::new(), 0);
        let mut had_long = None;
        for id in std::mem::take(&mut self.waiting) {
            let before = granted.len();
            late += self.serve(&id, now, &mut granted);
            let Some(account) = self.accounts.get_mut(&id) else {
                continue;
            };
            account.queued = !account.waiting.is_empty();
            if !account.queued {
                continue;
            }
            // Who had a long turn is the last to have the next one.
            match granted[before..].iter().any(|g| g.ticket.long) {
                true => had_long = Some(id),
                false => self.waiting.push_back(id),
            }
        }
        self.waiting.extend(had_long);
        (granted, late)
    }

    /// A write is not under way any more.
    fn ended(&mut self, ticket: &Ticket, now: Instant) -> (Vec<Granted>, u64) {
        if ticket.term != self.term {
            return (Vec::new(), 0);
        }
        if ticket.long {
            self.long = false;
        }
        let Some(account) = self.accounts.get_mut(&ticket.id) else {
            return (Vec::new(), 0);
        };
        account.end(ticket.expected, ticket.long, now);
        self.active -= u32::from(account.under_way == 0);
        let waits = !account.waiting.is_empty();
        if ticket.long {
            return self.look(now);
        }
        let mut granted = Vec::new();
        let late = match waits {
            true => self.serve(&ticket.id, now, &mut granted),
            false => 0,
        };
        (granted, late)
    }

    /// Entries were applied; answers whether their database is held back for it.
    fn applied(&mut self, id: &DatabaseId, costs: &[(Shape, Duration)], now: Instant) -> bool {
        let long = costs.iter().any(|(_, took)| *took >= LONG);
        let others = long && self.others_write(id, now);
        let Some(account) = self.accounts.get_mut(id) else {
            return false;
        };
        // Another leader's, or replayed.
        if account.under_way == 0 {
            return false;
        }
        for (shape, took) in costs {
            account.costs.learn(*shape, *took);
            if *took < LONG {
                continue;
            }
            let from = self.rests_until.map_or(now, |at| at.max(now));
            self.rests_until = Some((from + *took).min(now + REST_MAX));
            if others {
                account.owe(*took, now);
            }
        }
        others
    }

    /// Forgets who does nothing and owes nothing.
    fn sweep(&mut self, now: Instant) {
        let due = self.swept.is_none_or(|at| now >= at + FORGET_AFTER);
        if due || self.accounts.len() >= ACCOUNTS_MAX {
            self.swept = Some(now);
            self.accounts.retain(|_, account| !account.is_idle(now));
        }
    }
}

fn again(after: Duration) -> Duration {
    let [least, most] = AGAIN;
    after.clamp(least, most)
}
