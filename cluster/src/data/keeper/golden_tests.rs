//! What a floor says of its group stays what it is.

use super::*;
use crate::consensus::golden_tests::{AT, membership};
use crate::golden::Golden;

#[test]
fn golden_floors() {
    let mut golden = Golden::open("floors");
    for (sample, at) in [("floor", Some(AT)), ("floor-of-nothing", None)] {
        let progress = Progress {
            at,
            membership: membership(),
        };
        golden.holds(sample, &progress.floor().unwrap().opaque, |bytes| {
            let floor = Floor {
                index: 0,
                opaque: bytes.to_vec(),
            };
            let read = Progress::of(&resumed(&floor).unwrap());
            read.floor().unwrap().opaque
        });
    }
}
