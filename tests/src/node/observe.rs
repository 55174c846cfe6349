//! What a node says about itself from outside: metrics, memory, log.

use super::Node;

impl Node {
    /// The text of `/metrics`.
    pub async fn metrics_text(&self) -> String {
        let url = format!("{}/metrics", self.metrics);
        let answer = self.http.get(url).send().await.expect("/metrics");
        assert_eq!(answer.status(), 200);
        answer.text().await.expect("/metrics")
    }
    /// Sum over all labels of a metric; a metric that is not there is an error.
    pub async fn metric(&self, name: &str) -> f64 {
        let text = self.metrics_text().await;
        let values: Vec<f64> = text
            .lines()
            .filter(|line| {
                line.strip_prefix(name)
                    .is_some_and(|rest| rest.starts_with([' ', '{']))
            })
            .map(|line| {
                let value = line.rsplit(' ').next().unwrap_or_default();
                value
                    .parse()
                    .unwrap_or_else(|_| panic!("not a sample: {line}"))
            })
            .collect();
        assert!(!values.is_empty(), "no metric {name} in:\n{text}");
        values.iter().sum()
    }

    /// Resident memory of the process, bytes.
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()))
            .expect("the node's status");
        let kib: u64 = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .and_then(|rest| rest.split_whitespace().next())
            .and_then(|n| n.parse().ok())
            .expect("VmRSS");
        kib * 1024
    }

    /// The end of the log.
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }

    /// The lines of the log that no test should see: panics, and ERROR lines that were not announced.
    pub(super) fn alarming_lines(&self) -> Vec<String> {
        let allowed = self.allowed.lock();
        let mut found = Vec::new();
        for start in 1..=self.starts {
            for line in self.log_of(start).lines() {
                let panicked =
                    line.contains("panicked at") || line.contains("has overflowed its stack");
                let error = serde_json::from_str::<serde_json::Value>(line)
                    .is_ok_and(|entry| entry["level"] == "ERROR");
                let announced = self.refused.contains(&start)
                    || allowed.iter().any(|text| line.contains(text.as_str()));
                if panicked || (error && !announced) {
                    found.push(line.to_owned());
                }
            }
        }
        found
    }
}
