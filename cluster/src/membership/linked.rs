//! A node with a mesh: a member that comes back, one that joins, or the one
//! that begins the cluster.

use std::sync::Arc;
use std::time::{Duration, Instant};

use orama_proto::GroupId;
use orama_proto::command::MetaCommand;
use orama_proto::topology::ClusterId;
use tokio::sync::watch;

use super::core::Core;
use super::desk::{Desk, Door, State};
use super::form::{self, Way};
use super::seeker::Seeker;
use super::start::{Opened, draw, storage};
use super::{Cluster, ClusterError, LinkOptions, controller, join, links, replicas};
use crate::consensus::Begin;
use crate::mesh::{Mesh, Service};
use crate::meta::ConfirmError;

/// One try to confirm that the metadata is up to date.
const CONFIRM_WITHIN: Duration = Duration::from_secs(2);
/// A directory of a cluster of one asks its seeds for so long whether they are another's.
const SEEDS_WITHIN: Duration = Duration::from_secs(4);
/// A node that was let in and hears nothing asks again.
const REJOIN_AFTER: Duration = Duration::from_secs(20);
/// Between two lines about what is awaited.
const REPORT: Duration = Duration::from_secs(5);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// Serves the mesh, finds out what this node is to be, and becomes it.
pub(super) async fn start(
    opened: Opened,
    mesh: Mesh,
    links: LinkOptions,
) -> Result<Cluster, ClusterError> {
    let desk = Desk::new(&mesh);
    mesh.serve(Service::Membership, Arc::new(Door(Arc::clone(&desk))));
    let idle = Arc::new(watch::Sender::new(links.join.is_empty()));
    let stop = watch::Sender::new(false);
    let seeker = Seeker::start(
        mesh.clone(),
        links.join.clone(),
        idle.subscribe(),
        stop.subscribe(),
    );
    let begun = begin(opened, &mesh, &desk, &seeker, &links, &idle).await;
    match begun {
        Ok(core) => {
            let ended = core.stop.subscribe();
            tokio::spawn(async move {
                let mut ended = ended;
                // Also when the core is dropped without being stopped.
                let _ = ended.wait_for(|stop| *stop).await;
                stop.send_replace(true);
            });
            Ok(Cluster::over(core, Some(desk)))
        }
        Err(error) => {
            stop.send_replace(true);
            desk.close();
            Err(error)
        }
    }
}

async fn begin(
    opened: Opened,
    mesh: &Mesh,
    desk: &Arc<Desk>,
    seeker: &Seeker,
    links: &LinkOptions,
    idle: &Arc<watch::Sender<bool>>,
) -> Result<Arc<Core>, ClusterError> {
    let pristine = opened.groups.is_pristine(GroupId::META).map_err(storage)?;
    let way = match pristine {
        true => Some(form::decide(mesh, desk, seeker, links).await?),
        false => None,
    };
    let how = match way {
        Some(Way::Found) => Begin::Found,
        _ => Begin::Wait,
    };
    let core = opened.run_meta(how).await?;
    let result = become_member(&core, mesh, desk, seeker, idle, way, pristine).await;
    match result {
        Ok(()) => Ok(core),
        Err(error) => {
            core.stop_tasks().await;
            Err(error)
        }
    }
}

async fn become_member(
    core: &Arc<Core>,
    mesh: &Mesh,
    desk: &Arc<Desk>,
    seeker: &Seeker,
    idle: &Arc<watch::Sender<bool>>,
    way: Option<Way>,
    pristine: bool,
) -> Result<(), ClusterError> {
    let topology = core.meta.topology();
    let voters = core.meta_group.view().voters;
    let sole = voters.len() == 1 && voters.contains(&core.node);
    let own = match topology.cluster {
        Some(cluster) => {
            core.watch_standing(&topology);
            // A directory of a cluster of one needs nobody to go on: whether it
            // was meant for another cluster must be asked first.
            let mut seeker = seeker.clone();
            if topology.nodes.len() <= 1 && seeker.seeds > 0 {
                seeker.first_round(SEEDS_WITHIN).await;
            }
            refuse_foreign(&seeker, cluster)?;
            cluster
        }
        None if way == Some(Way::Found) || sole => found(core).await?,
        None => {
            desk.set(State::Joining);
            join::request(core, mesh, pristine).await?
        }
    };
    mesh.belong_to(own);
    desk.set(State::Member(Arc::downgrade(core)));
    core.spawn(links::run(Arc::clone(core), mesh.clone(), Arc::clone(idle)));
    core.spawn(controller::run(Arc::clone(core)));
    core.spawn(replicas::run(Arc::clone(core)));
    arrive(core, mesh, seeker, own, topology.cluster.is_none() && !sole).await
}

fn refuse_foreign(seeker: &Seeker, own: ClusterId) -> Result<(), ClusterError> {
    match seeker.foreign(own) {
        None => Ok(()),
        Some((name, other)) => Err(ClusterError::Refused(format!(
            "this data directory belongs to cluster {own}, and {name}, which it is to join, to cluster {other}; use the seeds of its own cluster, or an empty directory"
        ))),
    }
}

/// Begins a cluster, or goes on where an earlier try stopped.
async fn found(core: &Core) -> Result<ClusterId, ClusterError> {
    let init = MetaCommand::InitCluster {
        cluster: draw()?,
        data_groups: core.options.data_groups,
        first_voters: core.expected_voters(),
    };
    let put = MetaCommand::PutMember {
        member: core.member(),
        replaces: None,
    };
    for done in futures::future::join_all([core.propose(init), core.propose(put)]).await {
        done.map_err(storage)?;
    }
    let cluster = core.meta.topology().cluster;
    let cluster = cluster.ok_or_else(|| storage("the cluster has no name"))?;
    tracing::info!(%cluster, "a new cluster was begun");
    Ok(cluster)
}

/// Waits until this node is a member of a usable cluster and its metadata is up to date.
async fn arrive(
    core: &Arc<Core>,
    mesh: &Mesh,
    seeker: &Seeker,
    own: ClusterId,
    joins: bool,
) -> Result<(), ClusterError> {
    let start = Instant::now();
    let mut reported = start;
    let mut asked = Instant::now();
    loop {
        let deadline = Instant::now() + CONFIRM_WITHIN;
        let confirmed = core.meta.confirm(deadline).await;
        let topology = core.meta.topology();
        let inside = topology.nodes.contains_key(&core.node);
        core.watch_standing(&topology);
        if *core.removed.borrow() {
            return Err(ClusterError::Refused(
                "it was removed from the cluster; to come back it needs an empty data directory"
                    .into(),
            ));
        }
        let why = match &confirmed {
            Ok(()) if !inside => "to be let in".to_owned(),
            Ok(()) if core.is_complete() => {
                let millis = start.elapsed().as_millis() as u64;
                tracing::info!(cluster = %own, members = topology.nodes.len(), millis, "this node is a member");
                return Ok(());
            }
            Ok(()) => {
                let voters = core.meta_group.view().voters.len();
                format!("{} voters, there are {voters}", core.voters_at_first())
            }
            Err(ConfirmError::Stopped(why)) => return Err(storage(why)),
            Err(error) => error.to_string(),
        };
        if confirmed.is_err() || !core.is_complete() {
            refuse_foreign(seeker, own)?;
        }
        if joins && !inside && asked.elapsed() >= REJOIN_AFTER {
            asked = Instant::now();
            join::request(core, mesh, false).await?;
        }
        if reported.elapsed() >= REPORT {
            reported = Instant::now();
            let linked = core.linked(&topology);
            let missing: Vec<&str> = topology
                .nodes
                .values()
                .filter(|m| !linked.contains(&m.id))
                .map(|m| m.name.as_str())
                .collect();
            tracing::info!(awaits = why, unreachable = ?missing, "waiting for the cluster");
        }
        tokio::time::sleep(LOOK).await;
    }
}
