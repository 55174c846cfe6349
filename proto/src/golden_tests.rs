//! The formats of commands and messages stay what they are.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_bytes::ByteBuf;

use crate::blob::{BLOB_VERSION, BlobChunk, BlobReply, BlobRequest};
use crate::command::{
    ApiKeyRecord, COMMAND_VERSION, MetaCommand, MetaEnvelope, MetaRefusal, MetaReply,
};
use crate::error::ErrorCode;
use crate::forward::{ForwardReply, ForwardedInvoke, NotTaken, WireError};
use crate::frame::{self, Head, Outcome};
use crate::function::{FunctionSpec, FunctionStatus, FunctionVersion};
use crate::gather::{GATHER_VERSION, GatherReply, GatherRequest, VisibleReply, VisibleRequest};
use crate::golden::{Golden, has_every_variant};
use crate::invocation::{
    InvocationRecord, InvocationStatus, LogLevel, LogLine, Principal, RECORD_VERSION, Trigger,
};
use crate::load::{LOAD_VERSION, LoadReport};
use crate::sealed::{SealedValue, WrappedKey};
use crate::topology::{ClusterId, Member, NodeState, Placement};
use crate::{
    ContentId, FunctionName, GroupId, Namespace, NodeId, RequestId, SecretName, Timestamp, record,
};

fn holds<T: Serialize + DeserializeOwned>(
    golden: &mut Golden,
    sample: &str,
    version: u8,
    value: &T,
) {
    let written = record::encode(version, value).unwrap();
    golden.holds(sample, &written, |bytes| {
        record::encode(version, &record::decode::<T>(version, bytes).unwrap()).unwrap()
    });
}

fn namespace() -> Namespace {
    Namespace::parse("acme").unwrap()
}

fn function() -> FunctionName {
    FunctionName::parse("hello").unwrap()
}

fn secret() -> SecretName {
    SecretName::parse("KEY").unwrap()
}

fn wrapped(by: &str) -> WrappedKey {
    WrappedKey {
        master_key_id: by.into(),
        nonce: vec![1; 24],
        ciphertext: vec![2; 3],
    }
}

fn spec() -> FunctionSpec {
    FunctionSpec {
        is_public: true,
        is_internal: false,
        memory_limit_mb: 64,
        timeout_seconds: 30,
        retry_count: 3,
        retry_delay_seconds: 5,
        env_vars: [("A".to_owned(), "1".to_owned())].into(),
    }
}

fn version() -> FunctionVersion {
    FunctionVersion {
        function_id: "f-1".into(),
        namespace: namespace(),
        name: function(),
        version: 7,
        wasm_cid: ContentId::of(b"wasm"),
        wasm_bytes: 4,
        spec: spec(),
        status: FunctionStatus::Inactive,
        created_at: Timestamp(8),
        updated_at: Timestamp(9),
        created_by: "somebody".into(),
        rolled_back_from: Some(2),
    }
}

fn commands() -> Vec<(&'static str, MetaCommand)> {
    let (namespace, name) = (namespace(), function());
    let member = Member {
        id: NodeId(11),
        name: "n1".into(),
        addresses: vec!["/ip4/127.0.0.1/tcp/1".into()],
        version: "0.1.0".into(),
        state: NodeState::Draining,
        joined_at: Timestamp(12),
    };
    let placement = Placement {
        replicas: vec![NodeId(11), NodeId(300)],
        founder: NodeId(11),
        formed: true,
    };
    vec![
        (
            "init-platform-keys",
            MetaCommand::InitPlatformKeys {
                sealed: wrapped("k1"),
            },
        ),
        (
            "create-namespace",
            MetaCommand::CreateNamespace {
                namespace: namespace.clone(),
                data_key: wrapped("k1"),
            },
        ),
        (
            "delete-namespace",
            MetaCommand::DeleteNamespace {
                namespace: namespace.clone(),
            },
        ),
        (
            "create-api-key",
            MetaCommand::CreateApiKey {
                key: ApiKeyRecord {
                    id: "id".into(),
                    namespace: namespace.clone(),
                    hash: [3; 32],
                    label: "for people".into(),
                    created_at: Timestamp(4),
                },
            },
        ),
        (
            "revoke-api-key",
            MetaCommand::RevokeApiKey {
                namespace: namespace.clone(),
                key_id: "id".into(),
            },
        ),
        (
            "deploy-function",
            MetaCommand::DeployFunction {
                namespace: namespace.clone(),
                name: name.clone(),
                new_function_id: "f-1".into(),
                wasm_cid: ContentId::of(b"wasm"),
                wasm_bytes: 4,
                spec: spec(),
                created_by: "somebody".into(),
            },
        ),
        (
            "rollback-function",
            MetaCommand::RollbackFunction {
                namespace: namespace.clone(),
                name: name.clone(),
                to: 2,
                created_by: "somebody".into(),
            },
        ),
        (
            "set-function-enabled",
            MetaCommand::SetFunctionEnabled {
                namespace: namespace.clone(),
                name: name.clone(),
                enabled: true,
            },
        ),
        (
            "delete-function",
            MetaCommand::DeleteFunction {
                namespace: namespace.clone(),
                name: name.clone(),
                version: Some(3),
            },
        ),
        (
            "put-secret",
            MetaCommand::PutSecret {
                namespace: namespace.clone(),
                name: secret(),
                value: SealedValue {
                    version: 5,
                    nonce: vec![6; 12],
                    ciphertext: vec![7; 4],
                },
            },
        ),
        (
            "delete-secret",
            MetaCommand::DeleteSecret {
                namespace: namespace.clone(),
                name: secret(),
            },
        ),
        (
            "rewrap-data-key",
            MetaCommand::RewrapDataKey {
                namespace: namespace.clone(),
                replaces: wrapped("k1"),
                data_key: wrapped("k2"),
            },
        ),
        (
            "rewrap-platform-keys",
            MetaCommand::RewrapPlatformKeys {
                replaces: wrapped("k1"),
                sealed: wrapped("k2"),
            },
        ),
        (
            "init-cluster",
            MetaCommand::InitCluster {
                cluster: ClusterId(0x1234),
                data_groups: 32,
                first_voters: 3,
            },
        ),
        (
            "put-member",
            MetaCommand::PutMember {
                member,
                replaces: Some(NodeId(10)),
            },
        ),
        (
            "set-member-state",
            MetaCommand::SetMemberState {
                node: NodeId(11),
                state: NodeState::Leaving,
            },
        ),
        (
            "remove-member",
            MetaCommand::RemoveMember { node: NodeId(11) },
        ),
        (
            "place-group",
            MetaCommand::PlaceGroup {
                group: GroupId(2),
                placement,
                epoch: 9,
            },
        ),
    ]
}

#[test]
fn golden_commands_of_the_metadata() {
    let mut golden = Golden::open("commands");
    has_every_variant(commands().iter().map(|(_, it)| it));
    for (sample, command) in commands() {
        let envelope = MetaEnvelope {
            request_id: RequestId::from("r-1"),
            at: Timestamp(1_700_000_000_000_000),
            command,
        };
        holds(&mut golden, sample, COMMAND_VERSION, &envelope);
    }
}

#[test]
fn golden_replies_of_the_metadata() {
    let mut golden = Golden::open("replies");
    let what = || "function".to_owned();
    let name = || "hello".to_owned();
    let replies = [
        ("done", MetaReply::Done),
        ("unchanged", MetaReply::Unchanged),
        ("version", MetaReply::Version(Box::new(version()))),
        (
            "missing",
            MetaReply::Refused(MetaRefusal::Missing {
                what: what(),
                name: name(),
            }),
        ),
        (
            "exists",
            MetaReply::Refused(MetaRefusal::Exists {
                what: what(),
                name: name(),
            }),
        ),
        (
            "conflict",
            MetaReply::Refused(MetaRefusal::Conflict { what: what() }),
        ),
        (
            "limit",
            MetaReply::Refused(MetaRefusal::LimitReached {
                what: what(),
                limit: 7,
            }),
        ),
    ];
    has_every_variant(replies.iter().map(|(_, it)| it));
    has_every_variant(replies.iter().filter_map(|(_, it)| match it {
        MetaReply::Refused(refusal) => Some(refusal),
        _ => None,
    }));
    for (sample, reply) in replies {
        // The version of a reply is the metadata machine's.
        holds(&mut golden, sample, 1, &reply);
    }
}

#[test]
fn golden_messages_between_nodes() {
    let golden = &mut Golden::open("messages");
    let cid = ContentId::of(b"x");
    let requests = [
        ("blob-has", BlobRequest::Has { cid }),
        ("blob-read", BlobRequest::Read { cid, offset: 7 }),
        ("blob-hold", BlobRequest::Hold { cid, bytes: 9 }),
    ];
    has_every_variant(requests.iter().map(|(_, it)| it));
    for (sample, request) in requests {
        holds(golden, sample, BLOB_VERSION, &request);
    }
    let chunk = BlobChunk {
        total: 70_000,
        digest: 5,
        bytes: vec![1, 2, 3],
    };
    let replies = [
        ("blob-absent", BlobReply::Absent),
        ("blob-here", BlobReply::Here { bytes: 9 }),
        ("blob-chunk", BlobReply::Chunk(chunk)),
        ("blob-held", BlobReply::Held),
    ];
    has_every_variant(replies.iter().map(|(_, it)| it));
    for (sample, reply) in replies {
        holds(golden, sample, BLOB_VERSION, &reply);
    }
    let request = GatherRequest {
        namespace: namespace(),
        function: function(),
        limit: 50,
        after: Some("a".into()),
        request_id: Some(RequestId::from("r-1")),
    };
    holds(golden, "gather-request", GATHER_VERSION, &request);
    let reply = GatherReply {
        records: vec![ByteBuf::from(vec![1, 2, 3])],
        cut: true,
    };
    holds(golden, "gather-reply", GATHER_VERSION, &reply);
    holds(
        golden,
        "visible-request",
        GATHER_VERSION,
        &VisibleRequest { index: 300 },
    );
    holds(
        golden,
        "visible-reply",
        GATHER_VERSION,
        &VisibleReply { applied: 301 },
    );
    let load = LoadReport {
        running: 1,
        queued: 2,
        capacity: 3,
        latency_us: 70_000,
        closed: true,
    };
    holds(golden, "load", LOAD_VERSION, &load);
}

#[test]
fn golden_forwarded_invocations() {
    let mut golden = Golden::open("forwarded");
    let jwt = Principal::Jwt {
        namespace: namespace(),
        subject: "0xabc".into(),
        claims: [("role".to_owned(), "admin".to_owned())].into(),
    };
    let key = Principal::ApiKey {
        namespace: namespace(),
        key_id: "k".into(),
    };
    let invokes = [
        ("by-nobody", Principal::Anonymous, Trigger::Http),
        ("by-key", key, Trigger::Websocket),
        ("by-token", jwt, Trigger::Pubsub),
        ("by-admin", Principal::Admin, Trigger::Cron),
        ("by-system", Principal::System, Trigger::Function),
    ];
    has_every_variant(invokes.iter().map(|(_, it, _)| it));
    has_every_variant(invokes.iter().map(|(_, _, it)| it));
    for (sample, principal, trigger) in invokes {
        let invoke = ForwardedInvoke {
            request_id: RequestId::from("r-1"),
            namespace: namespace(),
            function: function(),
            function_id: "f-1".into(),
            version: 7,
            wasm_cid: ContentId::of(b"wasm"),
            principal,
            trigger,
            hops: 1,
        };
        golden.holds(sample, &invoke.encode(b"input").unwrap(), |bytes| {
            let (head, at) = ForwardedInvoke::decode(bytes).unwrap();
            head.encode(&bytes[at..]).unwrap()
        });
    }
    let failed = |code| {
        ForwardReply::Failed(WireError {
            code,
            message: "why".into(),
            retryable: true,
            retry_after: Some(1.5),
        })
    };
    let replies = [
        ("done", ForwardReply::Done { duration_ms: 3 }),
        ("failed-first-code", failed(ErrorCode::ValidationFailed)),
        ("failed-last-code", failed(ErrorCode::Timeout)),
        ("busy", ForwardReply::NotTaken(NotTaken::Busy)),
        (
            "namespace-busy",
            ForwardReply::NotTaken(NotTaken::NamespaceBusy),
        ),
        ("not-ready", ForwardReply::NotTaken(NotTaken::NotReady)),
        ("draining", ForwardReply::NotTaken(NotTaken::Draining)),
    ];
    has_every_variant(replies.iter().map(|(_, it)| it));
    has_every_variant(replies.iter().filter_map(|(_, it)| match it {
        ForwardReply::NotTaken(why) => Some(why),
        _ => None,
    }));
    for (sample, reply) in replies {
        golden.holds(sample, &reply.encode(b"out").unwrap(), |bytes| {
            let (head, at) = ForwardReply::decode(bytes).unwrap();
            head.encode(&bytes[at..]).unwrap()
        });
    }
}

#[test]
fn golden_frames() {
    let mut golden = Golden::open("frames");
    let answer = |outcome| Head::Answer { id: 7, outcome };
    let request = Head::Request {
        id: 7,
        service: 6,
        timeout_ms: 1000,
    };
    let heads = [
        ("request", request),
        ("done", answer(Outcome::Done)),
        ("declined", answer(Outcome::Declined)),
        ("busy", answer(Outcome::Busy)),
        ("cancel", Head::Cancel { id: 7 }),
    ];
    has_every_variant(heads.iter().map(|(_, it)| it));
    for (sample, head) in heads {
        let write = |head| {
            let mut out = Vec::new();
            frame::encode_head(head, 0, &mut out).unwrap();
            out
        };
        golden.holds(sample, &write(head), |bytes| {
            write(frame::decode_head(&bytes[frame::PREFIX..]).unwrap().0)
        });
    }
}

#[test]
fn golden_records_of_the_journal() {
    let mut golden = Golden::open("invocations");
    let line = |level| LogLine {
        level,
        message: "said".into(),
        timestamp: Timestamp(3),
    };
    for (sample, status) in [
        ("success", InvocationStatus::Success),
        ("error", InvocationStatus::Error),
        ("timeout", InvocationStatus::Timeout),
    ] {
        let value = InvocationRecord {
            id: "i-1".into(),
            request_id: RequestId::from("r-1"),
            namespace: namespace(),
            function: function(),
            version: 7,
            attempt: 2,
            trigger_type: Trigger::Cron,
            caller_wallet: "0xabc".into(),
            input_size: 10,
            output_size: 11,
            started_at: Timestamp(12),
            completed_at: Timestamp(13),
            duration_ms: 14,
            status,
            error_message: "why".into(),
            memory_used_mb: 15,
            wasm_logs: vec![
                line(LogLevel::Info),
                line(LogLevel::Warn),
                line(LogLevel::Error),
            ],
            dropped_log_lines: 16,
        };
        holds(&mut golden, sample, RECORD_VERSION, &value);
    }
}
