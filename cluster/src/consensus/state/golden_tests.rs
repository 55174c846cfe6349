//! What lies beside the data of a group's state stays what it is.

use super::*;
use crate::consensus::golden_tests::{AT, membership};
use crate::golden::Golden;

#[test]
fn golden_cells_of_the_state() {
    let mut golden = Golden::open("state");
    let written = GroupState::applied_cell(AT, &membership(), 1 << 100).unwrap();
    golden.holds("applied", &written, |bytes| {
        let read: AppliedRecord = cell::open(APPLIED, APPLIED_VERSION, bytes).unwrap();
        let hash = u128::from_be_bytes(read.hash);
        GroupState::applied_cell(read.at, &read.membership, hash).unwrap()
    });
    let seal = |owner: u64| cell::seal(OWNER, OWNER_VERSION, &owner).unwrap();
    golden.holds("owner", &seal(300), |bytes| {
        seal(cell::open(OWNER, OWNER_VERSION, bytes).unwrap())
    });
}
