//! Networks that swallow packets: the peer neither answers nor closes.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// A wire between a dialler and a listener. What is swallowed is lost for the
/// connections of that time, like on a firewall that forgot them.
struct Wire {
    address: String,
    swallow: Arc<[AtomicBool; 2]>,
}

impl Wire {
    async fn before(listen_on: TcpListener, target: SocketAddr) -> Self {
        let socket = listen_on.local_addr().unwrap();
        let swallow: Arc<[AtomicBool; 2]> = Arc::default();
        let switches = Arc::clone(&swallow);
        tokio::spawn(async move {
            while let Ok((near, _)) = listen_on.accept().await {
                let switches = Arc::clone(&switches);
                tokio::spawn(async move {
                    let Ok(far) = TcpStream::connect(target).await else {
                        return;
                    };
                    let (near_read, near_write) = near.into_split();
                    let (far_read, far_write) = far.into_split();
                    tokio::join!(
                        forward(near_read, far_write, &switches[0]),
                        forward(far_read, near_write, &switches[1]),
                    );
                });
            }
        });
        Self {
            address: addresses::of_socket(socket).to_string(),
            swallow,
        }
    }

    fn swallow(&self, there: bool, back: bool) {
        self.swallow[0].store(there, Ordering::SeqCst);
        self.swallow[1].store(back, Ordering::SeqCst);
    }
}

async fn forward(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    swallow: &AtomicBool,
) {
    let mut buffer = vec![0; 64 << 10];
    let mut lost = false;
    loop {
        let read = from.read(&mut buffer).await;
        lost |= swallow.load(Ordering::SeqCst);
        match read {
            // The end is swallowed too.
            _ if lost && !matches!(read, Ok(1..)) => std::future::pending().await,
            _ if lost => {}
            Ok(n @ 1..) if to.write_all(&buffer[..n]).await.is_ok() => {}
            _ => {
                let _ = to.shutdown().await;
                return;
            }
        }
    }
}

/// A node, and one behind a wire that the first keeps a link to.
async fn wired() -> (Node, Node, Wire) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let told = addresses::of_socket(listener.local_addr().unwrap()).to_string();
    let key = NodeKey::generate().unwrap();
    let b = start_behind(key, SECRET, "/ip4/127.0.0.1/tcp/0", vec![told]).await;
    let listening = b.mesh.shared.listening_on();
    let target = socket_of(&listening[0]);
    let wire = Wire::before(listener, target).await;
    let a = start().await;
    a.mesh.keep(b.id, std::slice::from_ref(&wire.address));
    a.linked(&b).await;
    b.linked(&a).await;
    (a, b, wire)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_falls_silent_is_noticed_and_comes_back() {
    let (a, b, wire) = wired().await;
    let gate = Gate::serve(&b.mesh);
    let start = Instant::now();
    let call = a.call(&b, Lane::Calls, "x");
    let cut = async {
        assert_eq!(gate.next().await, "began");
        wire.swallow(true, true);
    };
    let (lost, ()) = tokio::join!(call, cut);
    assert_eq!(lost, Err(CallError::Lost(b.id)));
    assert!(start.elapsed() < LONG / 2);
    a.unlinked(&b).await;
    b.unlinked(&a).await;
    assert_eq!(gate.next().await, "dropped");
    a.counted("the silence", |metrics| metrics.cuts("silent") == 1)
        .await;
    // It is dialled all the while; once packets pass, the link is there again.
    wire.swallow(false, false);
    a.linked(&b).await;
    b.linked(&a).await;
    b.mesh.serve(Service::Invoke, echo());
    a.call(&b, Lane::Calls, "x").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_of_one_direction_ends_the_link_on_both_sides() {
    for (there, back) in [(true, false), (false, true)] {
        let (a, b, wire) = wired().await;
        wire.swallow(there, back);
        a.unlinked(&b).await;
        b.unlinked(&a).await;
        wire.swallow(false, false);
        a.linked(&b).await;
        b.linked(&a).await;
    }
}
