//! What the kernel says about this process, under the names that Prometheus
//! client libraries agree on. Read at each scrape; zero where /proc is missing.

use prometheus::{Counter, Gauge, Opts, Registry};

/// Gauges of the process.
pub(super) struct ProcessMetrics {
    resident: Gauge,
    open_fds: Gauge,
    max_fds: Gauge,
    threads: Gauge,
    cpu: Counter,
}

/// Ticks of /proc/self/stat in a second; fixed at 100 in the kernel's user interface.
const TICKS_PER_SECOND: f64 = 100.0;

impl ProcessMetrics {
    /// Makes and registers them.
    ///
    /// # Errors
    /// When a name is taken.
    pub(super) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let gauge = |name: &str, help: &str| -> Result<Gauge, prometheus::Error> {
            let gauge = Gauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let cpu = Counter::with_opts(Opts::new(
            "process_cpu_seconds_total",
            "Processor time, user and system",
        ))?;
        registry.register(Box::new(cpu.clone()))?;
        Ok(Self {
            resident: gauge("process_resident_memory_bytes", "Resident memory")?,
            open_fds: gauge("process_open_fds", "Open file descriptors")?,
            max_fds: gauge("process_max_fds", "Limit of open file descriptors")?,
            threads: gauge("process_threads", "Threads")?,
            cpu,
        })
    }

    /// Reads the present values.
    pub(super) fn refresh(&self) {
        if let Ok(entries) = std::fs::read_dir("/proc/self/fd") {
            self.open_fds.set(entries.count() as f64);
        }
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        self.max_fds
            .set(limit.current.map_or(f64::INFINITY, |n| n as f64));
        let Ok(stat) = std::fs::read_to_string("/proc/self/stat") else {
            return;
        };
        // The command's name may hold anything, but no field after it holds a parenthesis.
        let fields: Vec<f64> = stat
            .rsplit_once(')')
            .map_or("", |(_, rest)| rest)
            .split_whitespace()
            .map(|field| field.parse().unwrap_or(0.0))
            .collect();
        // Fields of proc(5), counted from 3, which is the first one here.
        let field = |number: usize| fields.get(number - 3).copied().unwrap_or(0.0);
        let cpu = (field(14) + field(15)) / TICKS_PER_SECOND;
        self.cpu.inc_by((cpu - self.cpu.get()).max(0.0));
        self.threads.set(field(20));
        self.resident
            .set(field(24) * rustix::param::page_size() as f64);
    }
}
