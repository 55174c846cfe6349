//! The cluster as an operator sees and changes it (CONTRACT 14.2).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use orama_cluster::DatabaseStatus;
use orama_cluster::data::Expect;
use orama_cluster::membership::Departure;
use orama_proto::api::{ClusterStatus, RegisterValue};
use orama_proto::load::LoadReport;
use orama_proto::{ApiError, GroupId, NodeId, RequestId};

use super::Inner;
use crate::errors;

/// How long members have to answer for the status.
const STATUS_WITHIN: Duration = Duration::from_secs(2);
/// How long a call waits for a member to have left; it goes on by itself.
const LEAVE_WITHIN: Duration = Duration::from_secs(60);
/// How long a group has to change its leader.
const TRANSFER_WITHIN: Duration = Duration::from_secs(10);
/// How long a register's read or write may take.
const REGISTER_WITHIN: Duration = Duration::from_secs(5);

impl Inner {
    pub(super) async fn cluster_status(&self) -> ClusterStatus {
        let status = self.cluster.status(Instant::now() + STATUS_WITHIN).await;
        with_loads(status, &self.loads())
    }

    /// How busy the members said they are, lately.
    fn loads(&self) -> BTreeMap<NodeId, LoadReport> {
        self.router.loads().into_iter().collect()
    }

    pub(super) async fn drain_member(
        &self,
        request_id: &RequestId,
        node: &str,
        undo: bool,
    ) -> Result<(), ApiError> {
        let done = self.cluster.drain(request_id, node, undo).await;
        done.map_err(errors::operation)?;
        self.settle().await;
        Ok(())
    }

    pub(super) async fn remove_member(
        &self,
        request_id: &RequestId,
        node: &str,
    ) -> Result<Departure, ApiError> {
        let deadline = Instant::now() + LEAVE_WITHIN;
        let done = self.cluster.leave(request_id, node, deadline).await;
        let departure = done.map_err(errors::operation)?;
        self.settle().await;
        Ok(departure)
    }

    pub(super) async fn transfer(
        &self,
        request_id: &RequestId,
        group: GroupId,
        node: &str,
    ) -> Result<(), ApiError> {
        let deadline = Instant::now() + TRANSFER_WITHIN;
        let done = self.cluster.transfer(request_id, group, node, deadline);
        done.await.map_err(errors::operation)
    }

    pub(super) async fn databases(&self, group: GroupId) -> Result<Vec<DatabaseStatus>, ApiError> {
        let found = self.cluster.data().databases(group, STATUS_WITHIN).await;
        found.map_err(errors::data)
    }

    pub(super) async fn register(
        &self,
        group: GroupId,
        key: &str,
    ) -> Result<RegisterValue, ApiError> {
        let deadline = Instant::now() + REGISTER_WITHIN;
        let value = self.cluster.data().register(group, key, deadline).await;
        Ok(RegisterValue {
            value: value.map_err(errors::data)?,
            ..RegisterValue::default()
        })
    }

    pub(super) async fn set_register(
        &self,
        group: GroupId,
        key: &str,
        value: RegisterValue,
    ) -> Result<(), ApiError> {
        let (value, expect) = wanted(value)?;
        let deadline = Instant::now() + REGISTER_WITHIN;
        let data = self.cluster.data();
        let done = data.set_register(group, key, &value, expect, deadline);
        done.await.map_err(errors::data)
    }
}

/// What is to be set, and on what condition.
fn wanted(asked: RegisterValue) -> Result<(String, Expect), ApiError> {
    let value = asked
        .value
        .ok_or_else(|| ApiError::validation("value required"))?;
    let expect = match (asked.if_value, asked.if_absent) {
        (None, false) => Expect::Anything,
        (None, true) => Expect::Absent,
        (Some(present), false) => Expect::Value(present),
        (Some(_), true) => {
            let text = "if_value and if_absent contradict each other";
            return Err(ApiError::validation(text));
        }
    };
    Ok((value, expect))
}

fn with_loads(mut status: ClusterStatus, loads: &BTreeMap<NodeId, LoadReport>) -> ClusterStatus {
    let by_id: BTreeMap<_, _> = loads.iter().map(|(id, l)| (id.to_string(), *l)).collect();
    for node in &mut status.nodes {
        node.load = by_id.get(&node.id).copied();
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;
    use orama_proto::api::ClusterNode;

    #[test]
    fn conditions_of_a_register_are_told_apart() {
        let ask = |value: Option<&str>, if_value: Option<&str>, if_absent| {
            let asked = RegisterValue {
                value: value.map(str::to_owned),
                if_value: if_value.map(str::to_owned),
                if_absent,
            };
            wanted(asked).map_err(|e| e.code.status())
        };
        let v = "v".to_owned();
        assert_eq!(
            ask(Some("v"), None, false),
            Ok((v.clone(), Expect::Anything))
        );
        assert_eq!(ask(Some("v"), None, true), Ok((v.clone(), Expect::Absent)));
        let old = Expect::Value("o".into());
        assert_eq!(ask(Some("v"), Some("o"), false), Ok((v, old)));
        assert_eq!(ask(Some("v"), Some("o"), true), Err(400));
        assert_eq!(ask(None, None, false), Err(400));
    }

    #[test]
    fn loads_find_their_nodes() {
        let node = |id: u64| ClusterNode {
            id: NodeId(id).to_string(),
            name: String::new(),
            addresses: Vec::new(),
            role: String::new(),
            state: String::new(),
            version: String::new(),
            load: None,
        };
        let status = ClusterStatus {
            nodes: vec![node(1), node(0xab)],
            ..ClusterStatus::default()
        };
        let load = LoadReport {
            running: 7,
            ..LoadReport::default()
        };
        let status = with_loads(status, &BTreeMap::from([(NodeId(0xab), load)]));
        assert_eq!(status.nodes[0].load, None);
        assert_eq!(status.nodes[1].load, Some(load));
    }
}
