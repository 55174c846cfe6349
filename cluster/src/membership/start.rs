//! From a data directory to a member: alone, as a member that comes back, as
//! one that joins, or as the one that begins the cluster.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use orama_proto::command::MetaCommand;
use orama_proto::topology::{ClusterId, Placement};
use orama_proto::{GroupId, NodeId, limits};
use tokio::sync::watch;

use super::core::Core;
use super::desk::{Desk, Door, State};
use super::form::{self, Way};
use super::metrics::Metrics;
use super::seeker::Seeker;
use super::{Cluster, ClusterError, ClusterOptions, LinkOptions};
use super::{controller, join, links, replicas};
use crate::DataDir;
use crate::consensus::{self, Begin, GroupOptions, Groups, OpenFault, Paths, StorageFault};
use crate::data::{DataGroups, DataOptions};
use crate::mesh::{Mesh, MeshError, MeshOptions, NodeKey, Service};
use crate::meta::{ConfirmError, MetaMachine, MetaStore};

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

fn storage(what: impl ToString) -> ClusterError {
    ClusterError::Storage(what.to_string())
}

fn opened(fault: OpenFault) -> ClusterError {
    match fault {
        OpenFault::NotReady(after) => ClusterError::NotReady(after),
        OpenFault::Storage(StorageFault::Foreign { group, .. }) if group == GroupId::META => {
            ClusterError::Refused("it was removed from the cluster".into())
        }
        OpenFault::Storage(fault) => storage(fault),
    }
}

fn check(options: &ClusterOptions) -> Result<(), ClusterError> {
    let settings = |what: &str| Err(ClusterError::Settings(what.into()));
    if options.name.is_empty() || options.name.len() > limits::ADDRESS_MAX_BYTES {
        return settings("the node's name must have 1 to 256 bytes");
    }
    if options.data_groups as usize > limits::DATA_GROUPS_MAX {
        return settings("there are at most 256 data groups");
    }
    if !(1..=limits::REPLICAS_MAX).contains(&options.replicas) {
        return settings("a data group has 1 to 9 replicas");
    }
    if options.voters_max.is_multiple_of(2) || options.voters_max > limits::REPLICAS_MAX {
        return settings("the number of voters must be odd and at most 9");
    }
    Ok(())
}

/// What is open before the metadata runs.
struct Opened {
    node: NodeId,
    options: ClusterOptions,
    groups: Groups,
    mesh: Option<Mesh>,
    metrics: Metrics,
    databases: PathBuf,
    registry: prometheus::Registry,
}

impl Opened {
    async fn run_meta(self, begin: Begin) -> Result<Arc<Core>, ClusterError> {
        let group_options = GroupOptions {
            snapshot_every: self.options.snapshot_every,
            ready_within: self.options.ready_within,
        };
        let machine = Arc::<MetaMachine>::default();
        let shared = Arc::clone(&machine) as Arc<dyn consensus::Machine>;
        let shared = consensus::Backend::Pairs(shared);
        let group = self
            .groups
            .start(GroupId::META, shared, &group_options, begin)
            .await
            .map_err(opened)?;
        let meta = MetaStore::over(group.clone(), machine);
        let data = DataGroups::new(
            self.node,
            self.groups.clone(),
            meta.clone(),
            self.mesh.clone(),
            DataOptions::new(self.databases, group_options),
            &self.registry,
        )
        .map_err(|e| ClusterError::Mesh(MeshError::Metrics(e)))?;
        Ok(Core::new(
            self.node,
            self.options,
            self.groups,
            meta,
            group,
            data,
            self.mesh,
            self.metrics,
        ))
    }
}

/// Where a node lives, and who it is.
pub(super) struct Home {
    pub(super) paths: Paths,
    pub(super) node: NodeId,
    /// Needed by a node with a mesh.
    pub(super) key: Option<NodeKey>,
}

/// See [`Cluster::start`].
pub(super) async fn start(
    dir: &DataDir,
    options: ClusterOptions,
    registry: &prometheus::Registry,
) -> Result<Cluster, ClusterError> {
    let home = Home {
        paths: Paths {
            log: dir.raft_log(),
            state: dir.state(),
            snapshots: dir.snapshots(),
            databases: dir.databases(),
        },
        node: dir.node_id(),
        key: options.links.is_some().then(|| dir.key().clone()),
    };
    start_in(home, options, registry).await
}

/// The same without a data directory's lock and key file.
pub(super) async fn start_in(
    home: Home,
    options: ClusterOptions,
    registry: &prometheus::Registry,
) -> Result<Cluster, ClusterError> {
    let Home { paths, node, key } = home;
    check(&options)?;
    let metered = |e: prometheus::Error| ClusterError::Mesh(MeshError::Metrics(e));
    let metrics = Metrics::register(registry).map_err(metered)?;
    let consensus = consensus::Metrics::register(registry).map_err(metered)?;
    let mesh = match (&options.links, key) {
        (None, _) => None,
        (Some(_), None) => return Err(ClusterError::Settings("the node has no key".into())),
        (Some(links), Some(key)) => {
            if key.node_id() != node {
                return Err(ClusterError::Settings(
                    "the key on disk is another node's".into(),
                ));
            }
            let options = MeshOptions {
                key,
                name: options.name.clone(),
                version: options.version.clone(),
                listen: links.listen.clone(),
                advertise: links.advertise.clone(),
                secrets: links.secrets.clone(),
            };
            Some(Mesh::start(options, registry).await?)
        }
    };
    let groups = Groups::open(&paths, node, mesh.clone(), consensus).await;
    let groups = match groups {
        Ok(groups) => groups,
        Err(fault) => {
            if let Some(mesh) = &mesh {
                mesh.shutdown().await;
            }
            return Err(storage(fault));
        }
    };
    let opened = Opened {
        node,
        groups: groups.clone(),
        mesh: mesh.clone(),
        metrics,
        options: options.clone(),
        databases: paths.databases.clone(),
        registry: registry.clone(),
    };
    let started = match (mesh.clone(), options.links) {
        (Some(mesh), Some(links)) => linked(opened, mesh, links).await,
        _ => alone(opened).await,
    };
    if started.is_err() {
        groups.shutdown().await;
        if let Some(mesh) = mesh {
            mesh.shutdown().await;
        }
    }
    started
}

/// A cluster's name.
fn draw() -> Result<ClusterId, ClusterError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(storage)?;
    Ok(ClusterId(u128::from_be_bytes(bytes)))
}

/// A node for itself: a cluster of one without a mesh.
async fn alone(opened: Opened) -> Result<Cluster, ClusterError> {
    let groups = opened.groups.clone();
    let core = match opened.run_meta(Begin::Found).await {
        Ok(core) => core,
        Err(error) => return Err(error),
    };
    let result = settle_alone(&core).await;
    if let Err(error) = result {
        core.stop_tasks().await;
        groups.shutdown().await;
        return Err(error);
    }
    core.watch_standing(&core.meta.topology());
    core.metrics.topology(&core.meta.topology());
    core.metrics.voters.set(1);
    core.spawn(replicas::run(Arc::clone(&core)));
    Ok(Cluster::over(core, None))
}

/// Cluster, member and data groups of a node for itself. Everything that is
/// missing is begun at once and shares the log's commits.
async fn settle_alone(core: &Core) -> Result<(), ClusterError> {
    let topology = core.meta.topology();
    let voters = core.meta_group.view().voters;
    let others = topology.nodes.keys().any(|n| *n != core.node);
    if others || voters.iter().any(|n| *n != core.node) {
        return Err(ClusterError::Settings(format!(
            "this node belongs to a cluster of {}: it needs the cluster secret and a mesh",
            topology.nodes.len().max(voters.len())
        )));
    }
    let count = match topology.cluster {
        Some(_) => topology.data_groups,
        None => core.options.data_groups,
    };
    let ids: Vec<GroupId> = (1..=count).map(GroupId).collect();
    let starts = ids.iter().map(|g| core.data.start(*g, Begin::Found));
    for started in futures::future::join_all(starts).await {
        started.map_err(opened)?;
    }
    let mut commands = Vec::new();
    let mut epoch = topology.epoch;
    if topology.cluster.is_none() {
        commands.push(MetaCommand::InitCluster {
            cluster: draw()?,
            data_groups: count,
            first_voters: 1,
        });
        epoch += 1;
    }
    let mut member = core.member();
    if let Some(recorded) = topology.nodes.get(&core.node) {
        member.state = recorded.state;
        member.joined_at = recorded.joined_at;
    }
    if topology.nodes.get(&core.node) != Some(&member) {
        commands.push(MetaCommand::PutMember {
            member,
            replaces: None,
        });
        epoch += 1;
    }
    for group in ids {
        let placement = Placement {
            replicas: vec![core.node],
            founder: topology.groups.get(&group).map_or(core.node, |p| p.founder),
            formed: true,
        };
        if topology.groups.get(&group) != Some(&placement) {
            commands.push(MetaCommand::PlaceGroup {
                group,
                placement,
                epoch,
            });
            epoch += 1;
        }
    }
    // They reach the log in this order, and each counts on the one before it.
    let proposals = commands.into_iter().map(|command| core.propose(command));
    for done in futures::future::join_all(proposals).await {
        done.map_err(storage)?;
    }
    Ok(())
}

/// A node with a mesh.
async fn linked(opened: Opened, mesh: Mesh, links: LinkOptions) -> Result<Cluster, ClusterError> {
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

/// Stops what runs: hands over, stops the groups, closes the links.
pub(super) async fn shutdown(core: &Core, desk: Option<&Desk>) {
    core.stop_tasks().await;
    hand_over_all(core).await;
    core.groups.shutdown().await;
    if let Some(desk) = desk {
        desk.close();
    }
    if let Some(mesh) = &core.mesh {
        mesh.shutdown().await;
    }
    core.was_member.store(false, Ordering::Relaxed);
}

/// Leadership goes to voters that have caught up, so that nobody waits for an election.
pub(super) async fn hand_over_all(core: &Core) {
    const WITHIN: Duration = Duration::from_secs(3);
    let topology = core.meta.topology();
    let linked = core.linked(&topology);
    if linked.len() < 2 {
        return;
    }
    let ids = (0..=topology.data_groups).map(GroupId);
    let moves = ids.filter_map(|id| {
        let group = replicas::running(core, id)?;
        let view = group.view();
        let heirs = view.voters.iter().filter(|n| {
            **n != core.node && linked.contains(n) && view.caught_up(**n, super::quorum::CLOSE)
        });
        let heir = heirs.min_by_key(|n| {
            let state = topology.nodes.get(n).map(|m| m.state);
            (state != Some(orama_proto::topology::NodeState::Active), **n)
        })?;
        let heir = *heir;
        (view.leader == Some(core.node)).then_some(async move {
            if let Err(error) = group.transfer(heir, Instant::now() + WITHIN).await {
                tracing::info!(group = %id, %error, "the group was not handed over");
            }
        })
    });
    let moves = futures::future::join_all(moves);
    let _ = tokio::time::timeout(WITHIN, moves).await;
}
