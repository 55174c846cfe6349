//! What links are made of: loopback, or a network namespace for each node,
//! joined by bridges in a namespace of the test's own.
//!
//! Addresses come from 198.18.0.0/24, set aside for such purposes (RFC 2544):
//! the lower half for the mesh, the upper half for clients. Every namespace
//! belongs to a process that the kernel ends with the test, so nothing is left
//! behind, whatever happens.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::faults::Faults;

/// What links are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Net {
    /// Ports of 127.0.0.1. Processes can be hurt, links cannot.
    Loopback,
    /// A network namespace for each node. Only inside [`in_private_network`].
    Namespaces,
}

/// The port of the mesh inside a namespace.
const MESH_PORT: u16 = 4001;

/// Runs a test in a network namespace of its own, on a runtime of its own; in
/// the machine's network, with a notice, where namespaces are not permitted.
pub fn in_private_network<F: Future<Output = ()>>(test: impl FnOnce(Net) -> F + Send) {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let net = enter_private_network();
            // Its threads are made by this one, and so are in the same namespace.
            tokio::runtime::Builder::new_multi_thread()
                .enable_all()
                .build()
                .expect("a runtime")
                .block_on(test(net));
        });
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

fn enter_private_network() -> Net {
    let entered = (|| {
        for tool in ["ip", "nft", "tc", "nsenter", "unshare", "setpriv"] {
            if !runs(Command::new(tool).arg("--help")) {
                return Err(format!("{tool} is missing"));
            }
        }
        // The namespace lives as long as somebody is in it: soon this thread.
        let mut holder = hold_namespace()?;
        let link = File::open(format!("/proc/{}/ns/net", holder.id()));
        let moved = link.map_err(|e| e.to_string()).and_then(|link| {
            move_into_link_name_space(link.as_fd(), Some(LinkNameSpaceType::Network))
                .map_err(|e| e.to_string())
        });
        let _ = holder.kill();
        let _ = holder.wait();
        moved?;
        run("ip", &["link", "set", "lo", "up"])?;
        for bridge in ["mesh", "api"] {
            run("ip", &["link", "add", bridge, "type", "bridge"])?;
            run("ip", &["link", "set", bridge, "up"])?;
        }
        run("ip", &["address", "add", "198.18.0.1/25", "dev", "mesh"])?;
        run("ip", &["address", "add", "198.18.0.129/25", "dev", "api"])?;
        // The rule sets of a fault, tried once where they do no harm.
        nft_here(
            "add table inet probe\nadd chain inet probe c { type filter hook input priority 0; }\nadd rule inet probe c ip saddr 198.18.0.99 numgen random mod 100 < 20 drop\ndelete table inet probe\n",
        )
    })();
    match entered {
        Ok(()) => Net::Namespaces,
        Err(why) => {
            println!(
                "NOTICE: no network namespaces here ({why}): cut, slow and lossy links are not covered"
            );
            Net::Loopback
        }
    }
}

fn runs(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok()
}

fn run(program: &str, args: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(args).output();
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!(
            "{program} {}: {}",
            args.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        )),
        Err(e) => Err(format!("{program}: {e}")),
    }
}

fn must(program: &str, args: &[&str]) {
    if let Err(why) = run(program, args) {
        panic!("{why}");
    }
}

fn feed(mut command: Command, input: &str) -> Result<(), String> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| e.to_string())?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin
            .write_all(input.as_bytes())
            .map_err(|e| e.to_string())?;
    }
    let output = child.wait_with_output().map_err(|e| e.to_string())?;
    if output.status.success() {
        Ok(())
    } else {
        Err(format!(
            "{}\n{input}",
            String::from_utf8_lossy(&output.stderr)
        ))
    }
}

fn nft_here(rules: &str) -> Result<(), String> {
    let mut command = Command::new("nft");
    command.args(["-f", "-"]);
    feed(command, rules)
}

/// A process in a new network namespace, there before this answers.
fn hold_namespace() -> Result<Child, String> {
    let mut child = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "unshare", "--net"])
        .args(["sh", "-c", "echo in; exec sleep infinity"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| format!("setpriv: {e}"))?;
    let mut said = [0u8; 3];
    let read = child
        .stdout
        .take()
        .map(|mut out| std::io::Read::read_exact(&mut out, &mut said));
    match read {
        Some(Ok(())) => Ok(child),
        _ => {
            let _ = child.kill();
            let _ = child.wait();
            Err("unshare --net is refused".into())
        }
    }
}

/// Where one node is.
struct Place {
    /// Its namespace's holder.
    holder: Option<Child>,
    /// Its address on the mesh.
    mesh: SocketAddr,
}

/// The links of a cluster.
pub(super) struct Links {
    net: Net,
    places: Vec<Place>,
    /// Addresses given out; none is used twice.
    given: u8,
}

impl Links {
    pub(super) fn new(net: Net) -> Self {
        Self {
            net,
            places: Vec::new(),
            given: 0,
        }
    }
    pub(super) fn can_cut(&self) -> bool {
        self.net == Net::Namespaces
    }
    pub(super) fn multiaddr(&self, i: usize) -> String {
        let mesh = self.places[i].mesh;
        format!("/ip4/{}/tcp/{}", mesh.ip(), mesh.port())
    }
    pub(super) fn socket(&self, i: usize) -> SocketAddr {
        self.places[i].mesh
    }
    /// The address clients reach a node's gateway at.
    pub(super) fn host(&self, i: usize) -> String {
        match self.net {
            Net::Loopback => "127.0.0.1".into(),
            Net::Namespaces => format!("198.18.0.{}", 130 + i),
        }
    }
    /// What a node is started with: it ends with the test, and is in its namespace.
    pub(super) fn wrapper(&self, i: usize) -> Vec<String> {
        let mut words: Vec<String> = ["setpriv", "--pdeathsig", "KILL"].map(String::from).into();
        if let Some(holder) = &self.places[i].holder {
            words.push("nsenter".into());
            words.push(format!("--net=/proc/{}/ns/net", holder.id()));
        }
        words
    }

    fn next_mesh(&mut self) -> SocketAddr {
        match self.net {
            Net::Loopback => free_port(),
            Net::Namespaces => {
                self.given += 1;
                assert!(self.given < 120, "no more addresses for this test");
                (Ipv4Addr::new(198, 18, 0, 2 + self.given), MESH_PORT).into()
            }
        }
    }

    /// A place for the next node.
    pub(super) fn add(&mut self) {
        let (i, mesh) = (self.places.len(), self.next_mesh());
        let holder = (self.net == Net::Namespaces).then(|| {
            let holder = hold_namespace().unwrap_or_else(|e| panic!("{e}"));
            let pid = holder.id().to_string();
            let links = [
                ("mesh", "mesh0", format!("{}/25", mesh.ip())),
                ("api", "api0", format!("{}/25", self.host(i))),
            ];
            within(&pid, "ip", &["link", "set", "lo", "up"]);
            for (bridge, inside, address) in links {
                let outside = format!("{bridge}{i}");
                must(
                    "ip",
                    &[
                        "link", "add", &outside, "type", "veth", "peer", "name", inside, "netns",
                        &pid,
                    ],
                );
                must("ip", &["link", "set", &outside, "master", bridge, "up"]);
                within(&pid, "ip", &["address", "add", &address, "dev", inside]);
                within(&pid, "ip", &["link", "set", inside, "up"]);
            }
            holder
        });
        self.places.push(Place { holder, mesh });
    }

    /// Another mesh address for a node.
    pub(super) fn move_away(&mut self, i: usize) {
        let mesh = self.next_mesh();
        if let Some(holder) = &self.places[i].holder {
            let pid = holder.id().to_string();
            within(&pid, "ip", &["address", "flush", "dev", "mesh0"]);
            let address = format!("{}/25", mesh.ip());
            within(&pid, "ip", &["address", "add", &address, "dev", "mesh0"]);
        }
        self.places[i].mesh = mesh;
    }

    /// Makes the links as faulty as this.
    pub(super) fn apply(&self, faults: &Faults) {
        for (i, place) in self.places.iter().enumerate() {
            let Some(holder) = &place.holder else {
                continue;
            };
            let mut rules = String::from(
                "add table inet faults\ndelete table inet faults\nadd table inet faults\n\
                 add chain inet faults arriving { type filter hook input priority 0; }\n",
            );
            let mut rule = |text: String| {
                let _ = writeln!(
                    rules,
                    "add rule inet faults arriving iifname \"mesh0\" {text} drop"
                );
            };
            for (from, _) in faults.cut.iter().filter(|(_, to)| *to == i) {
                rule(format!("ip saddr {}", self.places[*from].mesh.ip()));
            }
            if faults.loss > 0 {
                rule(format!("numgen random mod 100 < {}", faults.loss));
            }
            let pid = holder.id().to_string();
            let mut command = entering(&pid, "nft");
            command.args(["-f", "-"]);
            feed(command, &rules).unwrap_or_else(|e| panic!("nft: {e}"));
            let _ = entering(&pid, "tc")
                .args(["qdisc", "del", "dev", "mesh0", "root"])
                .stderr(Stdio::null())
                .status();
            for (_, kbit) in faults.slow.iter().filter(|(node, _)| *node == i) {
                let rate = format!("{kbit}kbit");
                within(
                    &pid,
                    "tc",
                    &[
                        "qdisc", "add", "dev", "mesh0", "root", "tbf", "rate", &rate, "burst",
                        "16kb", "latency", "400ms",
                    ],
                );
            }
        }
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        for (i, place) in self.places.iter_mut().enumerate() {
            if let Some(holder) = &mut place.holder {
                let _ = holder.kill();
                let _ = holder.wait();
                // Another cluster of this test may want the names.
                let _ = run("ip", &["link", "del", &format!("mesh{i}")]);
                let _ = run("ip", &["link", "del", &format!("api{i}")]);
            }
        }
    }
}

fn entering(pid: &str, program: &str) -> Command {
    let mut command = Command::new("nsenter");
    command.args([&format!("--net=/proc/{pid}/ns/net"), program]);
    command
}

fn within(pid: &str, program: &str, args: &[&str]) {
    let link = format!("--net=/proc/{pid}/ns/net");
    let words: Vec<&str> = [link.as_str(), program]
        .into_iter()
        .chain(args.iter().copied())
        .collect();
    must("nsenter", &words);
}

/// A port of loopback that nobody listens on, below those the system gives to
/// outgoing connections.
fn free_port() -> SocketAddr {
    for _ in 0..1_000 {
        let port = 10_000 + (getrandom::u32().expect("the system's random source") % 22_000) as u16;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
    panic!("no free port");
}
