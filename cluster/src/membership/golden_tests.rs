//! What nodes say to each other about membership stays what it is.

use std::collections::{BTreeMap, BTreeSet};

use orama_proto::topology::{ClusterId, Member, NodeState};
use orama_proto::{GroupId, NodeId, Timestamp};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::wire::{self, Answer, Ask, Known, Phase, Standing, View};
use crate::consensus::GroupView;
use crate::golden::{Golden, has_every_variant};

fn holds<T: Serialize + DeserializeOwned>(golden: &mut Golden, sample: &str, value: &T) {
    golden.holds(sample, &wire::encode(value).unwrap(), |bytes| {
        wire::encode(&wire::decode::<T>(bytes).unwrap())
            .unwrap()
            .to_vec()
    });
}

#[test]
fn golden_messages_of_members() {
    let golden = &mut Golden::open("membership");
    let known = || Known {
        node: NodeId(300),
        addresses: vec!["/ip4/127.0.0.1/tcp/1".into()],
    };
    let member = Member {
        id: NodeId(300),
        name: "n1".into(),
        addresses: vec!["/ip4/127.0.0.1/tcp/1".into()],
        version: "0.1.0".into(),
        state: NodeState::Active,
        joined_at: Timestamp(4),
    };
    let lead = Ask::Lead {
        group: GroupId(5),
        to: NodeId(6),
    };
    let join = Ask::Join {
        member,
        pristine: true,
    };
    let asks = [
        (
            "probe",
            Ask::Probe {
                known: vec![known()],
            },
        ),
        ("agree", Ask::Agree { expect: 3 }),
        ("join", join),
        ("views", Ask::Views),
        ("lead", lead),
    ];
    has_every_variant(asks.iter().map(|(_, it)| it));
    for (sample, ask) in asks {
        holds(golden, sample, &ask);
    }
    let cluster = ClusterId(0x1234);
    let probed = [
        ("probed-starting", Phase::Starting, Standing::Member),
        ("probed-fresh", Phase::Fresh, Standing::Stranger),
        ("probed-joining", Phase::Joining, Standing::Unknown),
        ("probed-member", Phase::Member(cluster), Standing::Member),
    ];
    has_every_variant(probed.iter().map(|(_, it, _)| it));
    has_every_variant(probed.iter().map(|(_, _, it)| it));
    let probed = probed.map(|(sample, phase, standing)| {
        let known = vec![known()];
        let answer = Answer::Probe {
            phase,
            standing,
            known,
        };
        (sample, answer)
    });
    let view = GroupView {
        leader: Some(NodeId(1)),
        term: 3,
        last: 9,
        applied: 8,
        voters: BTreeSet::from([NodeId(1), NodeId(2)]),
        learners: BTreeSet::from([NodeId(3)]),
        changing: true,
        matched: BTreeMap::from([(NodeId(2), 7)]),
        stopped: false,
    };
    let joined = Answer::Joined {
        cluster,
        members: vec![known()],
    };
    let answers = [
        ("done", Answer::Done),
        ("joined", joined),
        ("elsewhere", Answer::Elsewhere(known())),
        ("later", Answer::Later("why".into())),
        ("refused", Answer::Refused("why".into())),
        (
            "viewed",
            Answer::Views(vec![(GroupId(5), View::from(view))]),
        ),
    ];
    let answers: Vec<_> = probed.into_iter().chain(answers).collect();
    has_every_variant(answers.iter().map(|(_, it)| it));
    for (sample, answer) in answers {
        holds(golden, sample, &answer);
    }
}
