//! From a keeper's files to a state that the log goes on from.
//!
//! What the keeper says is a floor: everything up to there is in its files, and they may
//! hold more. Entries after it are given to it again.

use std::sync::Arc;

use super::container::is_spoiled;
use super::fault::StorageFault;
use super::keeper::{CommandLog, Keeper, Resumed};
use super::recover::Recovery;
use super::snapshot::{SnapshotFile, SnapshotStore};
use super::state::Unusable;

/// Snapshots of this node, and what was wrong with those that were refused.
pub(super) struct Found {
    pub(super) snapshots: Arc<SnapshotStore>,
    pub(super) damaged: Vec<String>,
}

impl Recovery<'_> {
    /// Opens the keeper, and rebuilds it when its files do not fit. Answers where it is,
    /// and whether it was made anew. Blocks.
    pub(super) fn open_files(
        &self,
        keeper: &Arc<dyn Keeper>,
        found: Found,
    ) -> Result<(Resumed, bool), StorageFault> {
        let log: Arc<dyn CommandLog> = Arc::new(self.log.clone());
        let why = match keeper.open(log)? {
            Err(why) => why,
            Ok(resumed) => match self.settle(keeper, resumed, found.snapshots.newest())? {
                Ok(resumed) => return Ok((resumed, false)),
                Err(Unusable(why)) => why,
            },
        };
        self.rebuild_files(keeper, &why, found)
            .map(|resumed| (resumed, true))
    }

    /// The state as it is, if the log goes on from it.
    fn settle(
        &self,
        keeper: &Arc<dyn Keeper>,
        mut resumed: Resumed,
        newest: Option<SnapshotFile>,
    ) -> Result<Result<Resumed, Unusable>, StorageFault> {
        self.check_reach("the state", resumed.at, &resumed.membership)?;
        let installed = newest.as_ref().and_then(|s| s.header.at);
        // A snapshot of its own is never ahead of a keeper. It is a leader's, and this node
        // died before the state was replaced by it; or the files are an older copy.
        if let Some(newest) = newest.filter(|s| s.header.at > resumed.at) {
            let ahead = newest.resumed();
            let adopted = newest
                .pairs()
                .and_then(|manifest| keeper.adopt(&manifest, &ahead));
            if let Err(error) = adopted {
                let at = ahead.at.map_or(0, |at| at.index);
                let why = format!("it ends before the snapshot at {at}, which failed: {error}");
                return Ok(Err(Unusable(why)));
            }
            tracing::info!(group = %self.group, index = ahead.at.map_or(0, |at| at.index), "a leader's snapshot was taken over at last");
            resumed = ahead;
        }
        let (purged, last) = self.log.ends();
        let fits = self.fits(resumed.at, purged, last, installed)?;
        Ok(fits.map(|()| resumed))
    }

    /// From the newest snapshot whose files are sound, or from nothing.
    fn rebuild_files(
        &self,
        keeper: &Arc<dyn Keeper>,
        why: &str,
        mut found: Found,
    ) -> Result<Resumed, StorageFault> {
        let group = self.group;
        let fault = |what: String| StorageFault::State { group, what };
        let (purged, _) = self.log.ends();
        let bridges = |s: &SnapshotFile| {
            purged.is_none_or(|p| s.header.at.is_some_and(|at| at.index >= p.index))
        };
        for snapshot in found.snapshots.kept().iter().filter(|s| bridges(s)) {
            let resumed = snapshot.resumed();
            let index = resumed.at.map_or(0, |at| at.index);
            tracing::warn!(group = %group, why, snapshot = index, "the state is rebuilt from snapshot and log");
            let rebuilt = snapshot
                .pairs()
                .and_then(|manifest| keeper.rebuild(Some((&manifest, &resumed))));
            match rebuilt {
                Ok(()) => return Ok(resumed),
                // openraft would install it, being the newest.
                Err(error) if is_spoiled(&error) => {
                    found.snapshots.set_aside(snapshot, &error);
                    let what = format!("the snapshot at {index} is damaged: {error}");
                    found.damaged.push(what);
                }
                Err(error) => return Err(fault(format!("it cannot be rebuilt: {error}"))),
            }
        }
        if let Some(purged) = purged {
            return Err(StorageFault::NoBridge {
                group,
                why: why.to_owned(),
                purged: purged.index,
                damaged: found.damaged,
            });
        }
        tracing::warn!(group = %group, why, "the state is rebuilt from the log");
        keeper
            .rebuild(None)
            .map_err(|e| fault(format!("it cannot be rebuilt: {e}")))?;
        Ok(Resumed::default())
    }
}
