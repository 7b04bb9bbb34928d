//! The emulated SLS in a process of its own, and the handle of it.

use std::cell::RefCell;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;

use prost::Message as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sls_relay::emulator::sls::{Generator, SlsConfig, SlsEmulator, cursor_number};
use sls_relay::emulator::waf::Waf;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::daemon;

pub(crate) const GROUP: &str = "bench";

/// What the service holds.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Content {
    pub(crate) shards: u32,
    /// Log groups of each shard.
    pub(crate) groups: u64,
    /// Logs of each log group.
    pub(crate) logs: usize,
    /// Log groups after which they repeat.
    pub(crate) repeat: u64,
    /// Served over https.
    pub(crate) tls: bool,
}

/// Where the service is and how to be let in.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Access {
    pub(crate) address: SocketAddr,
    pub(crate) project: String,
    pub(crate) logstore: String,
    pub(crate) key_id: String,
    pub(crate) key_secret: String,
    pub(crate) tls: bool,
}

/// A running service. It ends when dropped.
pub(crate) struct Service {
    child: Child,
    pub(crate) access: Access,
    pipes: RefCell<(Option<ChildStdin>, BufReader<ChildStdout>)>,
}

impl Content {
    fn sizes(&self) -> Vec<u64> {
        let sizes = (0..self.repeat).map(|n| {
            let size = group(n, self.logs).encoded_len() as u64;
            1 + prost::encoding::encoded_len_varint(size) as u64 + size
        });
        sizes.collect()
    }

    /// Raw bytes of a log group, on average.
    pub(crate) fn group_bytes(&self) -> u64 {
        self.sizes().iter().sum::<u64>() / self.repeat
    }

    /// Raw bytes of everything.
    pub(crate) fn raw_bytes(&self) -> u64 {
        let sizes = self.sizes();
        let rest = usize::try_from(self.groups % self.repeat).unwrap();
        let shard = sizes.iter().sum::<u64>() * (self.groups / self.repeat)
            + sizes.iter().take(rest).sum::<u64>();
        shard * u64::from(self.shards)
    }
}

fn group(number: u64, logs: usize) -> sls_relay::sls::wire::LogGroup {
    Waf::new(1).group(0, number * logs as u64, logs)
}

impl Service {
    pub(crate) fn start(content: &Content) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["serve", &serde_json::to_string(content).unwrap()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let access = serde_json::from_str(&line).unwrap();
        Self { child, access, pipes: RefCell::new((stdin, stdout)) }
    }

    /// CPU seconds it took so far.
    pub(crate) fn cpu(&self) -> f64 {
        daemon::cpu(self.child.id())
    }

    /// PullLogs calls answered so far.
    pub(crate) fn pulls(&self) -> u64 {
        self.ask("pulls")
    }

    /// Shards whose checkpoint is not at their end.
    pub(crate) fn uncommitted(&self) -> u64 {
        self.ask("uncommitted")
    }

    fn ask(&self, question: &str) -> u64 {
        let (stdin, stdout) = &mut *self.pipes.borrow_mut();
        writeln!(stdin.as_mut().unwrap(), "{question}").unwrap();
        let mut answer = String::new();
        stdout.read_line(&mut answer).unwrap();
        answer.trim().parse().unwrap()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.pipes.borrow_mut().0 = None;
        let _ = self.child.wait();
    }
}

/// The other process: serves until its input ends, and answers questions meanwhile.
pub(crate) fn serve(content: &Content) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (logs, shards) = (content.logs, content.shards);
    let generator = Generator {
        groups_per_shard: vec![content.groups; shards as usize],
        make: Arc::new(move |_, number| group(number, logs)),
    };
    let config = SlsConfig {
        shards,
        generator: Some(generator),
        repeat: Some(content.repeat),
        ..SlsConfig::default()
    };
    let emulator = runtime.block_on(SlsEmulator::start(config.clone())).unwrap();
    let address = match content.tls {
        true => runtime.block_on(encrypted(emulator.address())),
        false => emulator.address(),
    };
    let access = json!(Access {
        address,
        project: config.project,
        logstore: config.logstore,
        key_id: config.key_id,
        key_secret: config.key_secret,
        tls: content.tls,
    });
    println!("{access}");
    for question in std::io::stdin().lines().map_while(Result::ok) {
        let uncommitted = |shard: &u32| {
            let end = emulator.end_cursor(*shard).unwrap();
            emulator.checkpoint_number(GROUP, *shard) != cursor_number(&end)
        };
        let answer = match question.as_str() {
            "pulls" => emulator.stats().pulls,
            _ => (0..shards).filter(uncommitted).count() as u64,
        };
        println!("{answer}");
    }
    std::process::exit(0);
}

/// A TLS server in front of `to`; gives its address.
async fn encrypted(to: SocketAddr) -> SocketAddr {
    let der = |name: &str| {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/sls/tls");
        std::fs::read(dir.join(name)).unwrap()
    };
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(der("region-key.der")));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![CertificateDer::from(der("region.der"))], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                stream.set_nodelay(true).unwrap();
                let (Ok(mut outer), Ok(mut inner)) =
                    (acceptor.accept(stream).await, TcpStream::connect(to).await)
                else {
                    return;
                };
                let size = 64 << 10;
                let copied =
                    tokio::io::copy_bidirectional_with_sizes(&mut outer, &mut inner, size, size);
                let _ = copied.await;
            });
        }
    });
    address
}
