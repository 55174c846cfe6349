//! What membership counts.

use orama_proto::topology::{NodeState, Topology};
use prometheus::{IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

#[derive(Debug, Clone)]
pub(super) struct Metrics {
    members: IntGaugeVec,
    pub(super) voters: IntGauge,
    epoch: IntGauge,
    pub(super) leaderless: IntGauge,
    pub(super) actions: IntCounterVec,
    pub(super) joins: IntCounterVec,
}

impl Metrics {
    pub(super) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::with_opts(Opts::new(name, help))?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        let counter = |name: &str, help: &str, label: &str| {
            let counter = IntCounterVec::new(Opts::new(name, help), &[label])?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let members = IntGaugeVec::new(
            Opts::new(
                "orama_cluster_members",
                "Members by what they are meant to do.",
            ),
            &["state"],
        )?;
        registry.register(Box::new(members.clone()))?;
        Ok(Self {
            members,
            voters: gauge("orama_cluster_voters", "Voters of the metadata group.")?,
            epoch: gauge("orama_cluster_epoch", "Epoch of the topology.")?,
            leaderless: gauge(
                "orama_cluster_groups_without_leader",
                "Groups of which this node holds a replica and knows no leader.",
            )?,
            actions: counter(
                "orama_cluster_controller_actions_total",
                "Changes of members, placement and leaders that this node made as a leader, by kind.",
                "kind",
            )?,
            joins: counter(
                "orama_cluster_joins_total",
                "Nodes that asked this node to be let in, by result.",
                "result",
            )?,
        })
    }

    pub(super) fn topology(&self, topology: &Topology) {
        for state in [NodeState::Active, NodeState::Draining, NodeState::Leaving] {
            let count = topology.nodes.values().filter(|m| m.state == state).count();
            self.members
                .with_label_values(&[state.as_str()])
                .set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        self.epoch
            .set(i64::try_from(topology.epoch).unwrap_or(i64::MAX));
    }
}
