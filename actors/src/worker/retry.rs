//! When a failed attempt is followed by another (CONTRACT 8).

use std::time::Duration;

use orama_proto::function::FunctionSpec;
use orama_proto::limits::RETRY_BACKOFF_MAX_SECS;

use crate::runtime::GuestError;

/// What an invocation may take beyond its attempts: its module's way to memory, the network.
const MARGIN: Duration = Duration::from_secs(10);

/// Whether another attempt may end differently. What is a property of the
/// function and its input, and what already took its whole time, is not tried again.
pub(super) fn worth_another(error: &GuestError) -> bool {
    match error {
        GuestError::Exit { .. } | GuestError::Trap(_) | GuestError::Instance(_) => true,
        GuestError::Timeout { .. }
        | GuestError::Memory { .. }
        | GuestError::OutputTooLarge { .. } => false,
    }
}

/// The pause before retry number `retry` (0 for the first): the delay doubled
/// each time, ±25 % so that failures do not come back in step. `random` is in 0..=1.
pub(super) fn pause(spec: &FunctionSpec, retry: u32, random: f64) -> Duration {
    let max = f64::from(RETRY_BACKOFF_MAX_SECS);
    let plain = f64::from(spec.retry_delay_seconds) * 2_f64.powi(retry.min(30) as i32);
    let jitter = 0.75 + 0.5 * random.clamp(0.0, 1.0);
    Duration::from_secs_f64((plain.min(max) * jitter).min(max))
}

/// How long an invocation can take that starts now: every attempt its whole
/// time, every pause its longest, every further attempt its `wait` for a place.
pub(super) fn longest(spec: &FunctionSpec, wait: Duration) -> Duration {
    let attempt = Duration::from_secs(u64::from(spec.timeout_seconds));
    let pauses: Duration = (0..spec.retry_count)
        .map(|retry| pause(spec, retry, 1.0).saturating_add(wait))
        .sum();
    attempt * spec.retry_count.saturating_add(1) + pauses + MARGIN
}

/// A random number in 0..=1.
pub(super) fn random() -> f64 {
    crate::vault::random::number() as f64 / u64::MAX as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_within_bounds_and_stop_at_the_cap() {
        let spec = |delay| FunctionSpec {
            retry_delay_seconds: delay,
            ..FunctionSpec::default()
        };
        for (delay, retry, plain) in [(5, 0, 5.0), (5, 1, 10.0), (5, 4, 80.0), (1, 2, 4.0)] {
            let secs = |r| pause(&spec(delay), retry, r).as_secs_f64();
            assert_eq!(secs(0.0), plain * 0.75);
            assert_eq!(secs(0.5), plain);
            assert_eq!(secs(1.0), plain * 1.25);
        }
        assert_eq!(pause(&spec(300), 4, 1.0), Duration::from_secs(300));
        assert_eq!(pause(&spec(300), u32::MAX, 0.0), Duration::from_secs(225));
        for _ in 0..1_000 {
            assert!((0.0..=1.0).contains(&random()));
        }
    }

    #[test]
    fn the_longest_time_holds_attempts_pauses_and_waits() {
        let spec = FunctionSpec {
            timeout_seconds: 30,
            retry_count: 2,
            retry_delay_seconds: 4,
            ..FunctionSpec::default()
        };
        let wait = Duration::from_secs(3);
        // 3 × 30, pauses of 4 and 8 with a quarter on top, two waits, the margin.
        assert_eq!(
            longest(&spec, wait),
            Duration::from_secs(90 + 5 + 10 + 6 + 10)
        );
    }

    #[test]
    fn only_what_may_end_differently_is_tried_again() {
        let detail = String::new;
        let limit = Duration::from_secs(1);
        assert!(worth_another(&GuestError::Exit {
            code: 1,
            detail: detail()
        }));
        assert!(worth_another(&GuestError::Trap(detail())));
        assert!(worth_another(&GuestError::Instance(detail())));
        assert!(!worth_another(&GuestError::Timeout { after: limit }));
        assert!(!worth_another(&GuestError::Memory {
            limit_mb: 1,
            detail: detail()
        }));
        assert!(!worth_another(&GuestError::OutputTooLarge { limit: 1 }));
    }
}
