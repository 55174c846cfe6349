//! Strangers, and members that break the rules.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures::{AsyncReadExt as _, AsyncWriteExt as _, StreamExt};
use libp2p::Stream;
use libp2p::swarm::SwarmEvent;
use libp2p::swarm::dial_opts::DialOpts;
use orama_proto::frame::{Head, encode_head};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::hello::{Greeting, Hello};
use super::transport::{Direction, Opened};
use super::*;

/// Somebody who knows the secret and then writes what it likes.
struct Member {
    lanes: Vec<(Lane, Stream)>,
    /// Those on which the victim calls.
    theirs: Vec<(Lane, Stream)>,
    /// Done when the connection has ended.
    ended: tokio::task::JoinHandle<()>,
}

async fn join(victim: &Node) -> Member {
    let key = NodeKey::generate().unwrap();
    let secrets = ClusterSecrets::parse(SECRET).unwrap();
    let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
    let mut swarm = transport::build(&key.pair(), &secrets, &metrics).unwrap();
    let address = addresses::of_socket(victim.socket());
    let dial = DialOpts::unknown_peer_id().address(address).build();
    swarm.dial(dial).unwrap();
    let mut streams = loop {
        if let SwarmEvent::ConnectionEstablished { connection_id, .. } =
            swarm.select_next_some().await
        {
            break swarm.behaviour_mut().streams(connection_id).unwrap();
        }
    };
    let ended = tokio::spawn(async move {
        while !matches!(
            swarm.select_next_some().await,
            SwarmEvent::ConnectionClosed { .. }
        ) {}
    });
    let (mut lanes, mut theirs) = (Vec::new(), Vec::new());
    while lanes.len() + theirs.len() < 8 {
        match streams.recv().await.unwrap() {
            Opened::Stream(lane, Direction::Outbound, stream) => lanes.push((lane, stream)),
            Opened::Stream(lane, Direction::Inbound, stream) => theirs.push((lane, stream)),
            Opened::Refused(lane) => panic!("{lane:?}"),
        }
    }
    Member {
        lanes,
        theirs,
        ended,
    }
}

impl Member {
    fn lane(&mut self, lane: Lane) -> &mut Stream {
        &mut self.lanes.iter_mut().find(|(l, _)| *l == lane).unwrap().1
    }

    async fn write(&mut self, lane: Lane, bytes: &[u8]) {
        let stream = self.lane(lane);
        stream.write_all(bytes).await.unwrap();
        stream.flush().await.unwrap();
    }

    async fn introduce(&mut self) {
        let hello = Greeting::Hello(Hello {
            name: "member".into(),
            version: "1".into(),
            addresses: Vec::new(),
            cluster: None,
        });
        let frame = request(0, Service::Hello, &hello.encode().unwrap());
        self.write(Lane::Heartbeat, &frame).await;
        let mut answer = [0; 8];
        self.lane(Lane::Heartbeat)
            .read_exact(&mut answer)
            .await
            .unwrap();
        assert_eq!(answer, [4, 0, 0, 0, 1, 1, 0, 0]);
        // The victim's own hello is its first call on its lane.
        let theirs = self.theirs.iter_mut();
        let (_, heartbeat) = theirs
            .into_iter()
            .find(|(lane, _)| *lane == Lane::Heartbeat)
            .unwrap();
        heartbeat.write_all(&answer).await.unwrap();
        heartbeat.flush().await.unwrap();
    }

    async fn until_cut(self) {
        timeout(LONG, self.ended).await.unwrap().unwrap();
    }
}

fn request(id: u64, service: Service, body: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    let head = Head::Request {
        id,
        service: service as u8,
        timeout_ms: 60_000,
    };
    encode_head(head, body.len(), &mut frame).unwrap();
    frame.extend_from_slice(body);
    frame
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_get_nothing() {
    let (a, b) = pair().await;
    b.mesh.serve(Service::Invoke, echo());
    let mut strangers = Vec::new();
    for bytes in [
        &b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..],
        &[0xff; 4096],
        // Half a handshake, then silence.
        b"\x13/multistream/1.0.0\n\x0f/orama/noise/1\n",
        b"",
    ] {
        let mut stream = TcpStream::connect(b.socket()).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        strangers.push(stream);
    }
    // Far more than may be pending: the rest is closed at once.
    for _ in 0..200 {
        strangers.push(TcpStream::connect(b.socket()).await.unwrap());
    }
    a.call(&b, Lane::Calls, "x").await.unwrap();
    for mut stream in strangers {
        let mut answer = Vec::new();
        let read = timeout(LONG, stream.read_to_end(&mut answer)).await;
        // Cut, with or without a reset; not a word beyond the negotiation.
        let _ = read.expect("the connection is cut");
        assert!(answer.len() < 200, "{} bytes", answer.len());
    }
    // There is room again.
    let c = start().await;
    b.keep(&c);
    c.linked(&b).await;
    a.call(&b, Lane::Calls, "x").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_breaks_the_rules_is_cut() {
    let (a, b) = pair().await;
    b.mesh.serve(Service::Invoke, echo());
    let twice = [
        request(7, Service::Invoke, b"x"),
        request(7, Service::Invoke, b"x"),
    ]
    .concat();
    let mut greeting = request(0, Service::Hello, &[1, 9, 9]);
    let attacks: [(&str, Lane, &[u8]); 8] = [
        ("frame_too_long", Lane::Calls, &[0xff; 4]),
        ("frame_too_long", Lane::Heartbeat, &[0, 0, 0xff, 0]),
        ("frame_malformed", Lane::Bulk, &[3, 0, 0, 0, 1, 9, 0]),
        ("frame_malformed", Lane::Consensus, &[3, 0, 0, 0, 2, 2, 0]),
        ("frame_malformed", Lane::Calls, &[0, 0, 0, 0]),
        ("frame_unexpected", Lane::Calls, &[4, 0, 0, 0, 1, 1, 0, 0]),
        ("frame_unexpected", Lane::Calls, &twice),
        ("greeting_malformed", Lane::Heartbeat, &mut greeting),
    ];
    // Its calls wait, so that the first with an id is still there when the second comes.
    let _gate = Gate::serve(&b.mesh);
    for (reason, lane, bytes) in attacks {
        let before = b.mesh.shared.metrics.cuts(reason);
        let mut member = join(&b).await;
        if reason != "greeting_malformed" {
            member.introduce().await;
        }
        member.write(lane, bytes).await;
        member.until_cut().await;
        b.counted(reason, |metrics| metrics.cuts(reason) == before + 1)
            .await;
    }
    b.mesh.serve(Service::Invoke, echo());
    a.call(&b, Lane::Calls, "x").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_not_said_who_it_is_is_not_served() {
    let b = start().await;
    b.mesh.serve(Service::Invoke, echo());
    let mut member = join(&b).await;
    member
        .write(Lane::Calls, &request(1, Service::Invoke, b"x"))
        .await;
    let mut answer = [0; 8];
    let read = member.lane(Lane::Calls).read_exact(&mut answer);
    timeout(LONG, read).await.unwrap().unwrap();
    assert_eq!(answer, [4, 0, 0, 0, 1, 1, 1, 2]);
    // And it goes when it does not say so in time.
    member.until_cut().await;
    b.counted("it", |metrics| metrics.cuts("not_introduced") == 1)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_does_not_read_is_bounded_and_cut() {
    let (a, b) = pair().await;
    let running = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let (now, peak) = (Arc::clone(&running), Arc::clone(&most));
    b.mesh.serve(
        Service::Invoke,
        Arc::new(Serve(move |_| {
            let (now, peak) = (Arc::clone(&now), Arc::clone(&peak));
            async move {
                peak.fetch_max(now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                tokio::task::yield_now().await;
                now.fetch_sub(1, Ordering::Relaxed);
                Ok(vec![7; 60 << 10].into())
            }
        })),
    );
    let mut member = join(&b).await;
    member.introduce().await;
    let from = b.mesh.shared.links.of(None);
    let link = from.iter().find(|link| link.node != a.id).unwrap();
    let write = async {
        for id in 0..10_000 {
            let frame = request(id, Service::Invoke, &[1; 100]);
            // Fails when the link is cut, stops when the victim reads no more.
            if member
                .lane(Lane::Heartbeat)
                .write_all(&frame)
                .await
                .is_err()
            {
                return;
            }
        }
        let _ = member.lane(Lane::Heartbeat).flush().await;
        std::future::pending().await
    };
    let end = tokio::select! {
        end = timeout(LONG, link.ended()) => end.unwrap(),
        () = write => timeout(LONG, link.ended()).await.unwrap(),
    };
    assert!(["stalled", "silent"].contains(&end.reason), "{end:?}");
    let places = Lane::Heartbeat.in_flight_max() * 2;
    assert!(most.load(Ordering::Relaxed) <= places, "{most:?}");
    a.call(&b, Lane::Heartbeat, "x").await.unwrap();
    assert!(a.mesh.linked(b.id));
}
