//! Percentiles and medians.

use std::time::Duration;

/// Durations of many calls, sorted.
#[derive(Debug, Clone, Default)]
pub struct Latencies(Vec<u64>);

impl Latencies {
    /// Of these nanoseconds.
    pub fn new(mut nanos: Vec<u64>) -> Self {
        nanos.sort_unstable();
        Self(nanos)
    }
    /// The nanoseconds, sorted.
    pub fn into_nanos(self) -> Vec<u64> {
        self.0
    }
    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    /// The duration that this fraction of the calls did not exceed; zero without calls.
    pub fn percentile(&self, fraction: f64) -> Duration {
        let last = self.0.len().saturating_sub(1);
        let at = ((last as f64) * fraction).round() as usize;
        Duration::from_nanos(self.0.get(at.min(last)).copied().unwrap_or_default())
    }
}

/// The middle of these values; zero without values.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// A duration for a table.
pub fn shown(duration: Duration) -> String {
    let micros = duration.as_nanos() as f64 / 1_000.0;
    if micros >= 10_000.0 {
        format!("{:.0} ms", micros / 1_000.0)
    } else if micros >= 1_000.0 {
        format!("{:.2} ms", micros / 1_000.0)
    } else {
        format!("{micros:.1} µs")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_come_from_sorted_values() {
        let latencies = Latencies::new((1..=101).rev().collect());
        assert_eq!(latencies.percentile(0.5), Duration::from_nanos(51));
        assert_eq!(latencies.percentile(0.99), Duration::from_nanos(100));
        assert_eq!(Latencies::default().percentile(0.5), Duration::ZERO);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
    }
}
