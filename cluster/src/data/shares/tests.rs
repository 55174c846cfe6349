//! The rules on a clock of our own, and the handle with its passes.

use super::*;
use orama_proto::{Namespace, Timestamp};

const CHEAP: Duration = Duration::from_micros(100);
const DEAR: Duration = Duration::from_secs(1);
const QUICK: Shape = Shape(1);
const SLOW: Shape = Shape(2);

fn id(name: &str) -> DatabaseId {
    DatabaseId {
        namespace: Namespace::parse(name).unwrap(),
        born: Timestamp(1),
    }
}

/// A state, its time, and who waits.
struct Bench {
    state: State,
    now: Instant,
    waiting: Vec<(String, oneshot::Receiver<Pass>)>,
    under_way: Vec<Ticket>,
}

impl Bench {
    fn new() -> Self {
        Self {
            state: State::default(),
            now: Instant::now(),
            waiting: Vec::new(),
            under_way: Vec::new(),
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    /// Whether it is in at once; `None` when it is refused.
    fn ask(&mut self, name: &str, shape: Shape) -> Option<bool> {
        match self.state.ask(&id(name), shape, 100, self.now) {
            Said::In(ticket) => self.under_way.push(ticket),
            Said::Wait(pass, _) => {
                self.waiting.push((name.into(), pass));
                return Some(false);
            }
            Said::Refused(_) => return None,
            Said::Unknown => panic!("there is room"),
        }
        Some(true)
    }

    fn granted(&mut self, (granted, _): (Vec<Granted>, u64)) -> Vec<String> {
        let tickets: Vec<Ticket> = granted.into_iter().map(|g| g.ticket).collect();
        let names = tickets.iter().map(|t| t.id.namespace.to_string());
        let names = names.collect();
        self.under_way.extend(tickets);
        names
    }

    fn look(&mut self) -> Vec<String> {
        let granted = self.state.look(self.now);
        self.granted(granted)
    }

    /// Applies all that is under way of a database, each in so long; who is let in then.
    fn apply(&mut self, name: &str, shape: Shape, took: Duration) -> Vec<String> {
        let all = std::mem::take(&mut self.under_way);
        let (done, rest): (Vec<_>, Vec<_>) = all.into_iter().partition(|t| t.id == id(name));
        self.under_way = rest;
        self.pass(took * u32::try_from(done.len()).unwrap());
        let costs = vec![(shape, took); done.len()];
        self.state.applied(&id(name), &costs, self.now);
        let mut names = Vec::new();
        for ticket in done {
            let granted = self.state.ended(&ticket, self.now);
            names.extend(self.granted(granted));
        }
        names
    }

    fn count(&self, name: &str) -> usize {
        let of = |t: &&Ticket| t.id == id(name);
        self.under_way.iter().filter(of).count()
    }
}

#[test]
fn a_new_database_begins_small_and_cheap_writes_open_its_whole_window() {
    let mut bench = Bench::new();
    let first = (0..WINDOW_MAX + 88).filter(|_| bench.ask("busy", QUICK) == Some(true));
    assert_eq!(first.count(), 4, "the window of what nobody knows");
    let mut applied = 0;
    while bench.count("busy") < WINDOW_MAX {
        applied += bench.count("busy");
        assert!(applied < WINDOW_MAX, "{applied} writes did not open it");
        bench.apply("busy", QUICK, CHEAP);
        // As many clients come again.
        while bench.state.accounts[&id("busy")].waiting.len() < WINDOW_MAX {
            assert_eq!(bench.ask("busy", QUICK), Some(false));
        }
        bench.look();
    }
    // Alone, for as long as it likes: never less, never refused.
    for _ in 0..1000 {
        bench.apply("busy", QUICK, CHEAP);
        while bench.ask("busy", QUICK) == Some(true) {}
        assert_eq!(bench.count("busy"), WINDOW_MAX);
        bench.waiting.clear();
    }
}

#[test]
fn long_writes_of_all_databases_come_one_at_a_time_and_by_turns() {
    let mut bench = Bench::new();
    for name in ["first", "second"] {
        assert_eq!(bench.ask(name, SLOW), Some(true));
        bench.apply(name, SLOW, DEAR);
    }
    bench.pass(Duration::from_secs(5));
    assert_eq!(bench.ask("first", SLOW), Some(true));
    for name in ["first", "first", "second", "second"] {
        assert_eq!(bench.ask(name, SLOW), Some(false), "one is under way");
    }
    let mut order = Vec::new();
    let mut under_way = String::from("first");
    for _ in 0..4 {
        // Nobody has short ones: there is no rest.
        let next = bench.apply(&under_way, SLOW, DEAR);
        assert_eq!(next.len(), 1);
        under_way = next[0].clone();
        order.push(under_way.clone());
    }
    assert_eq!(order[..3], ["first", "second", "first"]);
    assert_eq!(order[3], "second");
}

#[test]
fn beside_short_writes_long_ones_get_half_of_the_time() {
    let mut bench = Bench::new();
    bench.ask("slow", SLOW);
    bench.apply("slow", SLOW, DEAR);
    bench.pass(Duration::from_secs(5));
    for _ in 0..30 {
        bench.ask("quick", QUICK);
        bench.apply("quick", QUICK, CHEAP);
    }
    bench.ask("slow", SLOW);
    for _ in 0..20 {
        bench.ask("slow", SLOW);
    }
    let begun = bench.now;
    let mut long = Duration::ZERO;
    while bench.now - begun < Duration::from_secs(16) {
        assert!(bench.count("slow") <= 1);
        assert_eq!(bench.ask("quick", QUICK), Some(true), "never waits itself");
        // The log's order: what was let in before is applied before.
        if bench.count("slow") > 0 {
            bench.apply("slow", SLOW, DEAR);
            assert_eq!(bench.count("slow"), 0, "it rests");
            long += DEAR;
        }
        bench.apply("quick", QUICK, CHEAP);
        bench.pass(Duration::from_millis(3));
        bench.look();
    }
    let part = long.as_secs_f64() / (bench.now - begun).as_secs_f64();
    assert!((0.4..=0.55).contains(&part), "{part}");
}

#[test]
fn what_turned_dear_without_warning_is_owed_and_refused_while_others_write() {
    let mut bench = Bench::new();
    for _ in 0..40 {
        bench.ask("turncoat", QUICK);
        bench.apply("turncoat", QUICK, CHEAP);
    }
    while bench.ask("turncoat", QUICK) == Some(true) {}
    let burst = bench.count("turncoat");
    assert_eq!(burst, WINDOW_MAX);
    assert_eq!(bench.ask("quick", QUICK), Some(true));
    bench.apply("turncoat", QUICK, Duration::from_millis(60));
    assert_eq!(bench.count("turncoat"), 0, "it rests");
    assert_eq!(bench.ask("turncoat", QUICK), None, "it owes too much");
    let owes = bench.state.accounts[&id("turncoat")].owes(bench.now);
    assert_eq!(
        owes,
        Duration::from_millis(60) * u32::try_from(burst).unwrap()
    );
    bench.apply("quick", QUICK, CHEAP);
    bench.pass(LATELY);
    assert_eq!(bench.ask("turncoat", QUICK), Some(false), "alone it may");
    assert_eq!(bench.look().len(), 1);
    bench.ask("quick", QUICK);
    assert_eq!(bench.ask("turncoat", QUICK), None);
    bench.pass(owes);
    assert!(bench.ask("turncoat", QUICK).is_some());
}

#[test]
fn databases_divide_the_backlog() {
    let mut bench = Bench::new();
    let took = Duration::from_millis(10);
    let names: Vec<String> = (0..4).map(|n| format!("db{n}")).collect();
    for name in &names {
        for _ in 0..60 {
            bench.ask(name, QUICK);
            bench.apply(name, QUICK, took);
        }
    }
    for _ in 0..30 {
        for name in &names {
            bench.ask(name, QUICK);
        }
    }
    let all: Duration = bench.under_way.iter().map(|t| t.expected).sum();
    assert!(all <= BACKLOG + took, "{all:?}");
    for name in &names {
        assert!(bench.count(name) >= 4, "{name}: {}", bench.count(name));
    }
}

#[test]
fn entries_that_this_node_did_not_let_in_count_for_nothing() {
    let mut bench = Bench::new();
    assert!(
        !bench
            .state
            .applied(&id("other"), &[(SLOW, DEAR)], bench.now)
    );
    assert!(bench.state.accounts.is_empty());
    bench.ask("mine", QUICK);
    bench.apply("mine", QUICK, CHEAP);
    bench
        .state
        .applied(&id("mine"), &[(QUICK, DEAR)], bench.now);
    assert!(bench.state.accounts[&id("mine")].costs.of(QUICK) < LONG);
    assert_eq!(bench.state.rests_until, None);
}

#[test]
fn accounts_are_forgotten_and_never_too_many() {
    let mut bench = Bench::new();
    for n in 0..ACCOUNTS_MAX {
        assert_eq!(bench.ask(&format!("db{n}"), QUICK), Some(true));
    }
    let ask = |bench: &mut Bench| bench.state.ask(&id("more"), QUICK, 1, bench.now);
    assert!(matches!(ask(&mut bench), Said::Unknown), "let through");
    assert_eq!(bench.state.accounts.len(), ACCOUNTS_MAX);
    for ticket in std::mem::take(&mut bench.under_way) {
        bench.state.ended(&ticket, bench.now);
    }
    assert_eq!(bench.state.active, 0);
    bench.pass(FORGET_AFTER);
    assert!(matches!(ask(&mut bench), Said::In(_)));
    assert_eq!(bench.state.accounts.len(), 1);
}

#[test]
fn so_many_wait_and_no_more() {
    let mut bench = Bench::new();
    while bench.ask("busy", QUICK) == Some(true) {}
    for _ in 1..WAITING_MAX {
        assert_eq!(bench.ask("busy", QUICK), Some(false));
    }
    assert_eq!(bench.ask("busy", QUICK), None);
    // Who gave up makes room.
    bench.waiting.truncate(10);
    assert_eq!(bench.ask("busy", QUICK), Some(false));
    let large = |bench: &mut Bench| {
        let bytes = WAITING_BYTES_MAX / 2 + 1;
        match bench.state.ask(&id("busy"), QUICK, bytes, bench.now) {
            Said::Wait(pass, _) => bench.waiting.push(("busy".into(), pass)),
            _ => return false,
        }
        true
    };
    assert!(large(&mut bench));
    assert!(!large(&mut bench), "nor so many bytes");
}

fn shares() -> (Arc<Shares>, Metrics) {
    let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
    (Shares::new(GroupId(1), metrics.clone()), metrics)
}

fn now(admission: Admission) -> Pass {
    match admission {
        Admission::Now(Some(pass)) => pass,
        _ => panic!("its turn should be now"),
    }
}

fn later(admission: Admission) -> oneshot::Receiver<Pass> {
    match admission {
        Admission::Later { pass, .. } => pass,
        _ => panic!("it should wait"),
    }
}

#[tokio::test]
async fn a_pass_that_is_dropped_lets_the_next_one_in_and_who_is_gone_is_passed_over() {
    let (shares, metrics) = shares();
    let ask = || shares.admit(id("acme"), QUICK, 10, 1);
    let mut passes: Vec<Pass> = (0..4).map(|_| now(ask())).collect();
    let (gone, next, last) = (later(ask()), later(ask()), later(ask()));
    assert_eq!(metrics.databases_limited.get(), 1);
    drop(gone);
    drop(passes.pop());
    let next = next.await.unwrap();
    drop((next, passes));
    drop(last.await.unwrap());
    assert_eq!(metrics.share_waits.with_label_values(&["waited"]).get(), 3);
    assert_eq!(metrics.share_waits.with_label_values(&["late"]).get(), 1);
    while shares.state.lock().looked_after {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(metrics.databases_limited.get(), 0);
    assert_eq!(shares.state.lock().active, 0);
}

#[tokio::test]
async fn a_new_term_begins_anew_and_those_who_wait_ask_again() {
    let (shares, metrics) = shares();
    let ask = |term| shares.admit(id("acme"), QUICK, 10, term);
    let before: Vec<Pass> = (0..4).map(|_| now(ask(1))).collect();
    let waits = later(ask(1));
    let after = now(ask(2));
    assert!(waits.await.is_err());
    drop(before);
    assert_eq!(
        shares.state.lock().active,
        1,
        "the old ones are not counted"
    );
    drop(after);
    assert_eq!(shares.state.lock().active, 0);
    let held = now(ask(2));
    drop(shares);
    drop(held);
    assert_eq!(metrics.databases_limited.get(), 0);
}

/// Nothing ends, only time passes.
#[tokio::test]
async fn a_rest_ends_by_itself() {
    let (shares, _) = shares();
    let ask = |name, shape| shares.admit(id(name), shape, 10, 1);
    let quick = now(ask("quick", QUICK));
    let first = now(ask("slow", SLOW));
    let took = Duration::from_millis(200);
    shares.applied(&id("slow"), &[(SLOW, took)]);
    let rested = Instant::now();
    drop(first);
    let next = later(ask("slow", SLOW));
    let next = next.await.unwrap();
    assert!(rested.elapsed() >= took - Duration::from_millis(20));
    drop((next, quick));
}
