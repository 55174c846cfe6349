//! What the benchmarks share: a load generator, machine facts, figures.
//!
//! `cargo run --release -p orama-benches --bin first_light` measures one node
//! and writes `benches/RESULTS.md`; `--bin many_nodes` measures three and appends to it.

pub mod facts;
pub mod figures;
pub mod load;
pub mod peer;
