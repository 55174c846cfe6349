//! What is wrong with the links now. Only traffic between nodes is touched:
//! clients reach every node over links of their own.

use std::collections::BTreeSet;

use super::Cluster;

/// The faults of all links.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Faults {
    /// Packets from the first to the second are dropped.
    pub cut: BTreeSet<(usize, usize)>,
    /// Packets that reach any node are dropped with this chance, percent.
    pub loss: u32,
    /// What these nodes send is limited to so many kbit/s.
    pub slow: Vec<(usize, u32)>,
}

impl Cluster {
    /// No packet passes between the two.
    pub fn cut(&mut self, a: usize, b: usize) {
        self.faults.cut.extend([(a, b), (b, a)]);
        self.apply_faults();
    }
    /// What `from` sends does not reach `to`; the other way is open.
    pub fn cut_one_way(&mut self, from: usize, to: usize) {
        self.faults.cut.insert((from, to));
        self.apply_faults();
    }
    /// Nothing passes between this node and any other.
    pub fn isolate(&mut self, i: usize) {
        for other in (0..self.len()).filter(|other| *other != i) {
            self.faults.cut.extend([(i, other), (other, i)]);
        }
        self.apply_faults();
    }
    /// Every node loses this many percent of what reaches it.
    pub fn loss(&mut self, percent: u32) {
        self.faults.loss = percent;
        self.apply_faults();
    }
    /// A node sends no faster than this.
    pub fn slow(&mut self, i: usize, kbit: u32) {
        self.faults.slow.push((i, kbit));
        self.apply_faults();
    }
    /// All links are whole again.
    pub fn heal(&mut self) {
        self.faults = Faults::default();
        self.apply_faults();
    }

    pub(super) fn apply_faults(&self) {
        if self.can_cut() {
            self.links.apply(&self.faults);
        } else {
            assert_eq!(
                self.faults,
                Faults::default(),
                "links cannot be cut here: ask can_cut first"
            );
        }
    }
}
