//! Real syslog daemons as receivers: rsyslog and syslog-ng from `target/tools`, on loopback.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

#[path = "left_out.rs"]
mod left_out;

pub(crate) use left_out::left_out;

/// How long anything may take here before the test fails.
const DEADLINE: Duration = Duration::from_secs(30);
const RUN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/receivers/run.sh");
const TOOLS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/tools");

/// Which daemon receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Rsyslog,
    SyslogNg,
    /// Over TLS. The folder must hold `ca.pem`, `server.pem` and `server.key`.
    Tls(Stack),
    /// The same, wanting a certificate of `ca.pem` from clients.
    TlsAuth(Stack),
}

/// A daemon with a TLS library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stack {
    RsyslogOpenssl,
    RsyslogGnutls,
    SyslogNg,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Rsyslog => "rsyslog",
            Kind::SyslogNg => "syslog-ng",
            Kind::Tls(Stack::RsyslogOpenssl) => "rsyslog-ossl",
            Kind::Tls(Stack::RsyslogGnutls) => "rsyslog-gtls",
            Kind::Tls(Stack::SyslogNg) => "syslog-ng-tls",
            Kind::TlsAuth(Stack::RsyslogOpenssl) => "rsyslog-ossl-auth",
            Kind::TlsAuth(Stack::RsyslogGnutls) => "rsyslog-gtls-auth",
            Kind::TlsAuth(Stack::SyslogNg) => "syslog-ng-tls-auth",
        }
    }

    fn daemon(self) -> &'static str {
        match self {
            Kind::SyslogNg | Kind::Tls(Stack::SyslogNg) | Kind::TlsAuth(Stack::SyslogNg) => {
                "syslog-ng"
            }
            _ => "rsyslogd",
        }
    }
}

/// A running daemon; dropping it kills it.
pub(crate) struct RealReceiver {
    kind: Kind,
    child: Child,
    dir: PathBuf,
    /// Takes datagrams.
    pub(crate) udp: SocketAddr,
    /// Takes octet-counted frames over TCP.
    pub(crate) octet: SocketAddr,
    /// Takes LF-delimited frames over TCP.
    pub(crate) lf: SocketAddr,
    /// Takes RELP; rsyslog only.
    pub(crate) relp: SocketAddr,
}

impl RealReceiver {
    /// Starts a receiver that writes to `dir`, on free ports, and waits until it listens.
    ///
    /// `None` when the daemons were never unpacked: the caller's test then ends, having
    /// proved nothing, which `./test` reports. With `CI` set that is a panic instead.
    pub(crate) fn start(kind: Kind, dir: &Path) -> Option<Self> {
        // Another process may take a port between choosing it and the daemon's bind.
        for _ in 0..5 {
            let (udp, octet) = (free_udp_port(), free_tcp_port());
            let lf = if kind == Kind::SyslogNg { free_tcp_port() } else { octet };
            let relp = if kind.daemon() == "rsyslogd" { free_tcp_port() } else { octet };
            if let Some(receiver) = Self::start_on(kind, dir, udp, octet, lf, relp)? {
                return Some(receiver);
            }
        }
        panic!("{} did not start five times; see {}", kind.name(), dir.display());
    }

    /// Starts a receiver on given ports, as after a restart; `Some(None)` when it gave up.
    pub(crate) fn start_on(
        kind: Kind,
        dir: &Path,
        udp: SocketAddr,
        octet: SocketAddr,
        lf: SocketAddr,
        relp: SocketAddr,
    ) -> Option<Option<Self>> {
        fs::create_dir_all(dir).unwrap();
        let log = fs::File::create(dir.join("stdout.log")).unwrap();
        let tools = PathBuf::from(env::var_os("SLS_RELAY_TOOLS").unwrap_or(TOOLS.into()));
        let tools = tools.join("receivers");
        if !tools.join("root/usr/sbin").join(kind.daemon()).exists() {
            left_out(&format!("{}: run ./test tools to fetch it", kind.name()));
            return None;
        }
        let mut child = Command::new(RUN)
            .arg(tools)
            .arg(kind.name())
            .arg(dir)
            .env("RX_UDP", udp.port().to_string())
            .env("RX_TCP", octet.port().to_string())
            .env("RX_LF", lf.port().to_string())
            .env("RX_RELP", relp.port().to_string())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let start = Instant::now();
        loop {
            if child.try_wait().unwrap().is_some() {
                return Some(None);
            }
            // A port that cannot be bound any more is the daemon's.
            if UdpSocket::bind(udp).is_err() && [octet, lf, relp].iter().all(accepts) {
                return Some(Some(Self { kind, child, dir: dir.into(), udp, octet, lf, relp }));
            }
            if start.elapsed() > DEADLINE {
                let _ = child.kill();
                let _ = child.wait();
                return Some(None);
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends the daemon as a service manager would, waits for that, and starts it again on the
    /// same ports; its files go on.
    pub(crate) fn restart(mut self) -> Self {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap();
        self.start_again()
    }

    /// The same with a daemon that had no time for a last word.
    pub(crate) fn crash(mut self) -> Self {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.start_again()
    }

    fn start_again(self) -> Self {
        // rsyslog does not start beside the pid file of one that was killed.
        let _ = fs::remove_file(self.dir.join("pid"));
        let (dir, udp, octet, lf, relp) =
            (self.dir.clone(), self.udp, self.octet, self.lf, self.relp);
        let again = Self::start_on(self.kind, &dir, udp, octet, lf, relp).flatten();
        again.expect("the daemon starts again on its ports")
    }

    /// The messages received so far, in order of arrival, as they came in. A message that
    /// contains LF shows as several.
    pub(crate) fn messages(&self) -> Vec<Vec<u8>> {
        lines(&self.dir.join("raw.log"))
    }

    /// What the daemon made of each message: a JSON object with `pri`, `time`, `host`,
    /// `app`, `procid`, `msgid`, `sd` and `msg`, all strings.
    pub(crate) fn parsed(&self) -> Vec<serde_json::Value> {
        lines(&self.dir.join("parsed.jsonl"))
            .iter()
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect()
    }

    /// Waits until at least `count` messages were received and parsed.
    pub(crate) fn wait_for(&self, count: usize, deadline: Duration) {
        let start = Instant::now();
        while self.messages().len() < count || self.parsed().len() < count {
            assert!(
                start.elapsed() < deadline,
                "{} of {count} messages arrived; the receiver says:\n{}",
                self.messages().len(),
                fs::read_to_string(self.dir.join("own.log")).unwrap_or_default(),
            );
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for RealReceiver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn accepts(address: &SocketAddr) -> bool {
    TcpStream::connect(address).is_ok()
}

fn free_tcp_port() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

fn free_udp_port() -> SocketAddr {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

/// The whole lines of a file; none when it does not exist yet.
fn lines(path: &Path) -> Vec<Vec<u8>> {
    let mut bytes = fs::read(path).unwrap_or_default();
    bytes.truncate(bytes.iter().rposition(|&byte| byte == b'\n').unwrap_or(0));
    if bytes.is_empty() {
        return Vec::new();
    }
    bytes.split(|&byte| byte == b'\n').map(<[u8]>::to_vec).collect()
}
