//! What the benchmarks share: a load generator, machine facts, figures.
//!
//! `cargo run --release -p orama-benches --bin first_light` measures one node
//! and writes `benches/RESULTS.md`; `--bin many_nodes` and `--bin sql` measure three and append to it.

pub mod baseline;
pub mod etcd;
pub mod facts;
pub mod figures;
pub mod load;
pub mod nodes;
pub mod peer;
pub mod report;
