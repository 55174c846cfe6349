//! Letting commands in at the leader: a keeper may have one wait for its turn, or refuse
//! it, before anything of it is in the log.

use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::group::{Group, ProposeFault};

/// A command waits so long for its turn at most, and at most for half of its time.
const TURN_WAIT: Duration = Duration::from_secs(4);
/// Whoever proposed a command may be gone; it is under way until its fate is known, or so
/// long (a leader that lost its peers would wait for ever).
const FATE_WAIT: Duration = Duration::from_secs(60);

/// Held while a command is under way.
pub(crate) type Pass = Box<dyn Send + Sync>;

/// Whether a command may be appended.
pub(crate) enum Admission {
    /// At once. Nothing to hold: it does not count.
    Now(Option<Pass>),
    /// When the pass comes. None will come when the sender is gone: to be asked again.
    Later {
        /// Brings it.
        pass: oneshot::Receiver<Pass>,
        /// If it does not come in time: when to try again.
        again: Duration,
    },
    /// Not now: when to try again.
    Busy(Duration),
}

/// Why a command was not let in. Nothing was appended.
pub(super) enum NotIn {
    Fault(ProposeFault),
    /// The leader may be another one.
    Again,
}

impl Group {
    /// Waits for a command's turn on this node, the leader.
    pub(super) async fn admitted(
        &self,
        command: &[u8],
        until: Instant,
    ) -> Result<Option<Pass>, NotIn> {
        let Some(keeping) = &self.inner.keeping else {
            return Ok(None);
        };
        match keeping.keeper.admit(command, self.term()) {
            Admission::Now(pass) => Ok(pass),
            Admission::Busy(again) => Err(NotIn::Fault(ProposeFault::Busy(again))),
            Admission::Later { pass, again } => {
                let now = Instant::now();
                let wait = (until.saturating_duration_since(now) / 2).min(TURN_WAIT);
                match tokio::time::timeout(wait, pass).await {
                    Ok(Ok(pass)) => Ok(Some(pass)),
                    Ok(Err(_)) => Err(NotIn::Again),
                    Err(_) => Err(NotIn::Fault(ProposeFault::Busy(again))),
                }
            }
        }
    }
}

/// A command that was handed over. Its pass outlives whoever waits for the answer.
pub(super) struct UnderWay<T: Send + 'static> {
    write: Option<Pin<Box<dyn Future<Output = T> + Send>>>,
    pass: Option<Pass>,
}

impl<T: Send + 'static> UnderWay<T> {
    pub(super) fn new(write: impl Future<Output = T> + Send + 'static, pass: Option<Pass>) -> Self {
        Self {
            write: Some(Box::pin(write)),
            pass,
        }
    }

    /// The answer; `None` when it was not there within `wait`.
    pub(super) async fn answer(mut self, wait: Duration) -> Option<T> {
        let write = self.write.as_mut()?;
        let answer = tokio::time::timeout(wait, write).await.ok()?;
        self.write = None;
        Some(answer)
    }
}

impl<T: Send + 'static> Drop for UnderWay<T> {
    fn drop(&mut self) {
        if let (Some(write), Some(pass)) = (self.write.take(), self.pass.take())
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(async move {
                let _pass = pass;
                // Only its end is of interest.
                let _ = tokio::time::timeout(FATE_WAIT, write).await;
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_pass_is_held_until_the_answer_even_when_nobody_waits() {
        let (held, watched) = std::sync::mpsc::channel::<()>();
        let pass = |held: &std::sync::mpsc::Sender<()>| -> Option<Pass> {
            Some(Box::new(parking_lot::Mutex::new(held.clone())))
        };
        let (answer, write) = oneshot::channel::<u8>();
        let under_way = UnderWay::new(write, pass(&held));
        drop(held);
        assert!(under_way.answer(Duration::ZERO).await.is_none(), "late");
        let gone = |watched: &std::sync::mpsc::Receiver<()>| {
            watched.try_recv() == Err(std::sync::mpsc::TryRecvError::Disconnected)
        };
        tokio::task::yield_now().await;
        assert!(!gone(&watched), "still under way");
        answer.send(1).unwrap();
        while !gone(&watched) {
            tokio::task::yield_now().await;
        }
        let (held, watched) = std::sync::mpsc::channel::<()>();
        let under_way = UnderWay::new(async { 2 }, pass(&held));
        drop(held);
        assert_eq!(under_way.answer(Duration::from_secs(9)).await, Some(2));
        assert!(gone(&watched));
    }
}
