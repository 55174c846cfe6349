//! One look at the leader for all who wait for one.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use prometheus::{IntCounter, IntCounterVec, Opts, Registry};
use tokio::sync::Mutex;
use tokio::time::timeout_at;

use crate::errors::Seldom;

/// How long an answer is held up for a confirmation.
pub(super) const CONFIRM_WITHIN: Duration = Duration::from_secs(2);

/// Confirmations that local metadata are up to date. However many ask, one
/// round to the leader is under way; who comes while it is needs the next one,
/// because this one may have been answered before whatever they want to see.
pub(crate) struct Confirmations {
    begun: AtomicU64,
    last: Mutex<Last>,
    confirmed: IntCounter,
    failed: IntCounter,
}

#[derive(Default)]
struct Last {
    round: u64,
    ok: bool,
}

impl Confirmations {
    /// Registers the counter.
    ///
    /// # Errors
    /// When its name is taken.
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let rounds = IntCounterVec::new(
            Opts::new(
                "orama_function_confirmations_total",
                "Times the metadata were confirmed before a function was said not to exist.",
            ),
            &["result"],
        )?;
        registry.register(Box::new(rounds.clone()))?;
        Ok(Self {
            begun: AtomicU64::new(0),
            last: Mutex::default(),
            confirmed: rounds.with_label_values(&["confirmed"]),
            failed: rounds.with_label_values(&["failed"]),
        })
    }

    /// Whether a confirmation that began after this call succeeded before the deadline.
    pub(super) async fn after_now<F>(&self, deadline: Instant, ask: impl FnOnce() -> F) -> bool
    where
        F: Future<Output = Result<(), String>>,
    {
        let wanted = self.begun.load(Ordering::SeqCst) + 1;
        let confirmed = async {
            // The lock is for this: who holds it asks, the others wait for the answer.
            let mut last = self.last.lock().await;
            if last.round >= wanted {
                return last.ok;
            }
            let round = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
            let answer = ask().await;
            match &answer {
                Ok(()) => self.confirmed.inc(),
                Err(error) => {
                    static SELDOM: Seldom = Seldom::new();
                    self.failed.inc();
                    if SELDOM.due() {
                        tracing::warn!(%error, "the metadata cannot be confirmed to be up to date");
                    }
                }
            }
            let ok = answer.is_ok();
            *last = Last { round, ok };
            ok
        };
        timeout_at(deadline.into(), confirmed)
            .await
            .unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    use tokio::sync::Semaphore;

    use super::*;

    fn confirmations() -> Confirmations {
        Confirmations::register(&Registry::new()).unwrap()
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(10)
    }

    #[tokio::test]
    async fn many_share_one_round_that_began_after_they_came() {
        let (all, rounds) = (Arc::new(confirmations()), Arc::new(AtomicUsize::new(0)));
        let answers = Arc::new(Semaphore::new(0));
        let ask = || {
            let (rounds, answers) = (Arc::clone(&rounds), Arc::clone(&answers));
            move || async move {
                rounds.fetch_add(1, Ordering::SeqCst);
                answers.acquire().await.unwrap().forget();
                Ok(())
            }
        };
        let mut first = Box::pin(all.after_now(soon(), ask()));
        assert!(futures::poll!(&mut first).is_pending());
        let mut others: Vec<_> = (0..500)
            .map(|_| Box::pin(all.after_now(soon(), ask())))
            .collect();
        for other in &mut others {
            assert!(futures::poll!(other).is_pending());
        }
        assert_eq!(rounds.load(Ordering::SeqCst), 1);
        answers.add_permits(1);
        assert!(first.await);
        // The first round began before the others came: it is not theirs.
        answers.add_permits(1);
        assert!(
            futures::future::join_all(others)
                .await
                .into_iter()
                .all(|ok| ok)
        );
        assert_eq!(rounds.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn who_goes_away_while_asking_leaves_it_to_the_next() {
        let all = confirmations();
        let mut first = Box::pin(all.after_now(soon(), std::future::pending));
        assert!(futures::poll!(&mut first).is_pending());
        let mut second = Box::pin(all.after_now(soon(), || async { Ok(()) }));
        assert!(futures::poll!(&mut second).is_pending());
        drop(first);
        assert!(second.await);
    }

    #[tokio::test]
    async fn failures_and_deadlines_are_no_confirmations() {
        let all = confirmations();
        let failed = || async { Err("no leader".to_owned()) };
        assert!(!all.after_now(soon(), failed).await);
        let now = Instant::now() + Duration::from_millis(5);
        assert!(!all.after_now(now, std::future::pending).await);
        assert!(all.after_now(soon(), || async { Ok(()) }).await);
    }
}
