//! Time limits and fairness, all on one thread.

use std::time::{Duration, Instant};

use super::*;
use crate::runtime::GuestError;

const LIMIT: Duration = Duration::from_secs(1);

fn timed_out(outcome: &Outcome) {
    assert_eq!(
        outcome.result,
        Err(GuestError::Timeout { after: LIMIT }),
        "{outcome:?}"
    );
    assert!(
        outcome.duration >= LIMIT - Duration::from_millis(5),
        "{outcome:?}"
    );
    assert!(outcome.duration < LIMIT * 2, "{outcome:?}");
}

#[tokio::test]
async fn a_loop_and_a_sleep_run_out_of_time() {
    let node = Node::new();
    let spin = node.prepare(LOOP).await;
    let sleep = node.prepare(&sleeper(60_000)).await;
    let secret = node
        .prepare(
            r#"(module (import "env" "get_secret" (func $get (param i32 i32) (result i64)))
            (memory (export "memory") 1) (data (i32.const 0) "NEVER")
            (func (export "malloc") (param i32) (result i32) unreachable)
            (func (export "_start") (drop (call $get (i32.const 0) (i32.const 5)))))"#,
        )
        .await;
    let (spin, sleep, secret) = tokio::join!(
        node.runtime.run(&spin, node.call(b"")),
        node.runtime.run(&sleep, node.call(b"")),
        node.runtime.run(&secret, node.call(b""))
    );
    timed_out(&spin);
    timed_out(&sleep);
    timed_out(&secret);
}

#[tokio::test]
async fn sleepers_wait_together() {
    let node = Node::new();
    let module = node.prepare(&sleeper(300)).await;
    let started = Instant::now();
    let calls = (0..100).map(|_| node.runtime.run(&module, node.call(b"")));
    for outcome in futures::future::join_all(calls).await {
        assert!(outcome.result.is_ok(), "{outcome:?}");
        assert!(outcome.duration >= Duration::from_millis(300));
    }
    assert!(
        started.elapsed() < Duration::from_millis(1500),
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test]
async fn loops_do_not_stop_an_echo() {
    let node = Node::new();
    let spin = node.prepare(LOOP).await;
    let echo = node.prepare(ECHO).await;
    let loops = futures::future::join_all((0..4).map(|_| node.runtime.run(&spin, node.call(b""))));
    // Counted from here: echoes that had to wait for the loops' end come too late.
    let end = Instant::now() + LIMIT / 2;
    let echoes = async {
        let mut slowest = Duration::ZERO;
        let mut done = 0;
        while Instant::now() < end {
            let asked = Instant::now();
            // As a request would: after the thread has been given up once.
            tokio::task::yield_now().await;
            let outcome = node.runtime.run(&echo, node.call(b"x")).await;
            assert_eq!(outcome.result.unwrap(), "x");
            slowest = slowest.max(asked.elapsed());
            done += 1;
        }
        (done, slowest)
    };
    let (loops, (done, slowest)) = tokio::join!(loops, echoes);
    loops.iter().for_each(timed_out);
    // One slice of one loop lies between two echoes; a busy machine adds its own.
    assert!(done > 20, "{done} echoes, slowest {slowest:?}");
    assert!(slowest < Duration::from_millis(200), "{slowest:?}");
}

/// Works for 200 ms, then sleeps, then ends.
fn burn_then_sleep(milliseconds: u64) -> String {
    format!(
        r#"(module
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "clock_time_get" (func $time (param i32 i64 i32) (result i32)))
  (memory (export "memory") 1)
  (func $now (result i64) (drop (call $time (i32.const 1) (i64.const 0) (i32.const 200))) (i64.load (i32.const 200)))
  (func (export "_start") (local $end i64)
    (local.set $end (i64.add (call $now) (i64.const 200000000)))
    (loop $l (br_if $l (i64.lt_u (call $now) (local.get $end))))
    (i32.store (i32.const 16) (i32.const 1))
    (i64.store (i32.const 24) (i64.const {}))
    (if (call $poll (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128)) (then unreachable))))"#,
        milliseconds * 1_000_000
    )
}

#[tokio::test]
async fn a_guest_that_waits_gives_up_the_slow_lane() {
    let node = Node::new();
    let module = node.prepare(&burn_then_sleep(1500)).await;
    let mut call = node.call(b"");
    let mut version = (*call.function).clone();
    version.spec.timeout_seconds = 30;
    call.function = Arc::new(version);
    let started = Instant::now();
    let guest = node.runtime.run(&module, call);
    let watch = async {
        // It works for the first 200 ms and is asleep in the window, with much to spare on both sides.
        let (mut working, mut sleeping) = (0, 0);
        while started.elapsed() < Duration::from_millis(1200) {
            let held = node.lane.available_permits() == 0;
            if started.elapsed() < Duration::from_millis(900) {
                working += u32::from(held);
            } else {
                sleeping += u32::from(held);
            }
            tokio::task::yield_now().await;
        }
        (working, sleeping)
    };
    let (outcome, (working, sleeping)) = tokio::join!(guest, watch);
    assert!(outcome.result.is_ok(), "{outcome:?}");
    assert!(working > 0, "200 ms of work need the slow lane");
    assert_eq!(sleeping, 0, "held while sleeping");
    assert_eq!(node.lane.available_permits(), 1);
}

#[tokio::test]
async fn a_long_guest_takes_the_slow_lane_again_after_a_wait() {
    let node = Node::new();
    let module = node.prepare(&burn_then_sleep(300)).await;
    let mut call = node.call(b"");
    let mut version = (*call.function).clone();
    version.spec.timeout_seconds = 30;
    call.function = Arc::new(version);
    let ended = std::cell::Cell::new(false);
    let guest = async {
        let outcome = node.runtime.run(&module, call).await;
        ended.set(true);
        outcome
    };
    let watch = async {
        while node.lane.available_permits() == 1 {
            tokio::task::yield_now().await;
        }
        // Free whenever this task runs: the guest sleeps.
        let mut free = 0;
        while free < 20 {
            tokio::time::sleep(Duration::from_millis(2)).await;
            free = if node.lane.available_permits() == 1 {
                free + 1
            } else {
                0
            };
        }
        let held = node.lane.acquire().await.unwrap();
        assert!(!ended.get(), "the guest was to be asleep");
        tokio::time::sleep(Duration::from_millis(600)).await;
        assert!(!ended.get(), "it went on without the lane");
        drop(held);
    };
    let (outcome, ()) = tokio::join!(guest, watch);
    assert!(outcome.result.is_ok(), "{outcome:?}");
    assert_eq!(node.lane.available_permits(), 1);
}

#[tokio::test]
async fn a_dropped_run_frees_everything() {
    let node = Node::with(Arc::new(tempfile::tempdir().unwrap()), 1, 100);
    let spin = node.prepare(LOOP).await;
    let run = node.runtime.run(&spin, node.call(b""));
    assert!(
        tokio::time::timeout(Duration::from_millis(50), run)
            .await
            .is_err()
    );
    assert_eq!(node.lane.available_permits(), 1);
    assert_eq!(node.run(ECHO, b"x").await.result.unwrap(), "x");
    let families = node.registry.gather();
    let gauge = families
        .iter()
        .find(|f| f.name() == "orama_runtime_instances")
        .unwrap();
    assert_eq!(gauge.get_metric()[0].get_gauge().get_value(), 0.0);
}

#[tokio::test]
async fn the_clock_sleeps_when_idle_and_wakes() {
    let node = Node::new();
    let waited = Instant::now();
    while !node.runtime.inner.ticker.is_asleep() {
        assert!(waited.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    timed_out(&node.run(LOOP, b"").await);
}

#[test]
fn an_invocation_may_move_between_threads() {
    fn send<T: Send>(_: T) {}
    fn check(runtime: &Runtime, module: &PreparedModule, call: Call) {
        send(runtime.run(module, call));
    }
    let _ = check;
}
