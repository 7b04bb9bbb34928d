//! The way to SLS: proxies, addresses in place of names, and a certificate authority of one's own.

use std::error::Error as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use sls_relay::emulator::sls::{SlsConfig, SlsEmulator};
use sls_relay::sls::{
    Client, ClientConfig, CredentialSource, Credentials, Endpoint, Error, Network, Route,
};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::stub::{Answer, Stub};
use crate::tls::{acceptor_with, der};
use crate::{PROJECT, config};

/// A host that no resolver knows (RFC 2606), with a certificate of our authority.
const REGION: &str = "https://region.example";
const PASSWORD: &str = "hidden-word";

fn ca_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/sls/tls/ca.pem")
}

fn client(endpoint: &str, network: Network) -> Client {
    Client::new(ClientConfig { network, ..config(endpoint) }).expect("a client")
}

fn proxy(text: &str) -> Route {
    Route::Proxy(text.parse().expect("a proxy"))
}

/// The error and all its causes, as they are logged.
fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    String::from_utf8(head).ok()
}

/// SLS in its region: names the project after the server name of the handshake, and its
/// status after the host of the request.
async fn region() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("listen");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        let acceptor = acceptor_with("region.der", "region-key.der");
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let name = stream.get_ref().1.server_name().unwrap_or_default().to_owned();
            let Some(head) = read_head(&mut stream).await else { continue };
            let host = head
                .lines()
                .find_map(|line| line.to_lowercase().strip_prefix("host: ").map(str::to_owned));
            let body = serde_json::json!({ "projectName": name, "status": host }).to_string();
            stream.write_all(&Answer::json(&body).0).await.ok();
            stream.shutdown().await.ok();
        }
    });
    address
}

/// A proxy that connects every tunnel to one address, and keeps what it was asked.
struct Tunnels {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Tunnels {
    async fn start(to: SocketAddr, encrypted: bool, credentials: Option<&str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listen");
        let address = listener.local_addr().expect("an address");
        let heads = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&heads);
        let wanted = credentials.map(|text| format!("Basic {}", BASE64_STANDARD.encode(text)));
        tokio::spawn(async move {
            let acceptor = acceptor_with("cert.der", "key.der");
            while let Ok((stream, _)) = listener.accept().await {
                let (seen, wanted, acceptor) =
                    (Arc::clone(&seen), wanted.clone(), acceptor.clone());
                tokio::spawn(async move {
                    if encrypted {
                        let stream = acceptor.accept(stream).await.expect("a handshake");
                        tunnel(stream, to, &seen, wanted).await;
                    } else {
                        tunnel(stream, to, &seen, wanted).await;
                    }
                });
            }
        });
        Self { address, heads }
    }

    fn first(&self) -> String {
        let heads = self.heads.lock().expect("no panic");
        heads[0].lines().next().expect("a line").to_owned()
    }
}

async fn tunnel(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    to: SocketAddr,
    seen: &Mutex<Vec<String>>,
    wanted: Option<String>,
) {
    let Some(head) = read_head(&mut stream).await else { return };
    seen.lock().expect("no panic").push(head.clone());
    if wanted.is_some_and(|wanted| !head.contains(&wanted)) {
        stream.write_all(&Answer::status(407, &[], b"").0).await.ok();
        stream.shutdown().await.ok();
        return;
    }
    let mut upstream = TcpStream::connect(to).await.expect("the region");
    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.expect("written");
    tokio::io::copy_bidirectional(&mut stream, &mut upstream).await.ok();
}

#[tokio::test]
async fn https_goes_through_a_tunnel_and_tls_ends_at_sls() {
    let tunnels = Tunnels::start(region().await, false, Some("relay:pa$$")).await;
    let route = proxy(&format!("http://relay:pa%24%24@{}", tunnels.address));
    let network = Network { route, ca_file: Some(ca_file()) };
    let project = client(REGION, network).get_project().await.expect("answered");
    let host = format!("{PROJECT}.region.example");
    assert_eq!((project.name, project.status), (host.clone(), host.clone()));
    assert_eq!(tunnels.first(), format!("CONNECT {host}:443 HTTP/1.1"));
}

#[tokio::test]
async fn the_connection_to_the_proxy_can_be_encrypted_as_well() {
    let tunnels = Tunnels::start(region().await, true, None).await;
    let dir = tempfile::tempdir().expect("a directory");
    let both = dir.path().join("both.pem");
    let encoded = BASE64_STANDARD.encode(der("cert.der"));
    let own = std::fs::read_to_string(ca_file()).expect("the authority");
    let proxys = format!("-----BEGIN CERTIFICATE-----\n{encoded}\n-----END CERTIFICATE-----\n");
    std::fs::write(&both, format!("{own}\n{proxys}")).expect("written");
    let network = |ca_file| Network {
        route: proxy(&format!("https://{}", tunnels.address)),
        ca_file: Some(ca_file),
    };
    client(REGION, network(both)).get_project().await.expect("answered");
    assert!(tunnels.first().starts_with("CONNECT "));
    let before = tunnels.heads.lock().expect("no panic").len();
    let error = client(REGION, network(ca_file())).get_project().await.expect_err("not trusted");
    assert_eq!(error.code(), "sls.transport");
    assert_eq!(tunnels.heads.lock().expect("no panic").len(), before, "nothing was asked of it");
}

#[tokio::test]
async fn a_proxy_that_refuses_is_named_and_its_password_is_not() {
    let tunnels = Tunnels::start(region().await, false, Some("relay:other")).await;
    let nobody = TcpListener::bind("127.0.0.1:0").await.expect("listen");
    let closed = nobody.local_addr().expect("an address");
    drop(nobody);
    for (address, part) in [(tunnels.address, "proxy auth"), (closed, "refused")] {
        let route = proxy(&format!("http://relay:{PASSWORD}@{address}"));
        let network = Network { route, ca_file: Some(ca_file()) };
        let error = client(REGION, network).get_project().await.expect_err("no way");
        let text = chain(&error);
        assert!(text.contains("no answer through the proxy") && text.contains(part), "{text}");
        assert!(!text.contains(PASSWORD) && !format!("{error:?}").contains(PASSWORD), "{error:?}");
    }
}

#[tokio::test]
async fn http_is_asked_of_the_proxy_in_full() {
    let answer = Answer::json(r#"{"projectName":"p"}"#);
    let refusal = Answer::status(407, &[], b"<html>who are you</html>");
    let stub = Stub::start(vec![answer, refusal]).await;
    let address = stub.endpoint.strip_prefix("http://").expect("http");
    let network =
        Network { route: proxy(&format!("http://relay:{PASSWORD}@{address}")), ca_file: None };
    let client = client("http://region.example", network);
    assert_eq!(client.get_project().await.expect("answered").name, "p");
    let request = stub.request();
    assert_eq!(request.target, format!("http://{PROJECT}.region.example/"));
    assert_eq!(request.header("host"), Some(format!("{PROJECT}.region.example").as_str()));
    let basic = format!("Basic {}", BASE64_STANDARD.encode(format!("relay:{PASSWORD}")));
    assert_eq!(request.header("proxy-authorization"), Some(basic.as_str()));
    let error = client.get_project().await.expect_err("refused");
    assert_eq!(error.code(), "sls.proxy_refused");
    assert!(error.to_string().contains("user and password of the proxy"), "{error}");
}

#[tokio::test]
async fn an_address_in_place_of_the_name_leaves_host_and_server_name() {
    let host = format!("{PROJECT}.region.example");
    for endpoint in [REGION, "https://region.example:8443"] {
        let network = Network { route: Route::Address(region().await), ca_file: Some(ca_file()) };
        let project = client(endpoint, network).get_project().await.expect("answered");
        assert_eq!((project.name, project.status), (host.clone(), host.clone()));
    }
    let error = client(REGION, Network::default()).get_project().await.expect_err("no such name");
    assert_eq!(error.code(), "sls.transport");
}

#[tokio::test]
async fn a_whole_service_is_reached_by_an_address_under_a_name_that_does_not_resolve() {
    let emulator = SlsEmulator::start(SlsConfig::default()).await.expect("an emulator");
    let SlsConfig { project, logstore, key_id, key_secret, .. } = SlsConfig::default();
    let key = Credentials { key_id, key_secret, security_token: None };
    let client = Client::new(ClientConfig {
        endpoint: Endpoint::parse("http://cn-region.log.example").expect("an endpoint"),
        project,
        credentials: CredentialSource::Static(key),
        network: Network { route: Route::Address(emulator.address()), ca_file: None },
        ..config("http://unused.example")
    })
    .expect("a client");
    assert_eq!(client.signing_region(), Some("cn-region"));
    assert_eq!(client.list_shards(&logstore).await.expect("answered").len(), 1);
    assert_eq!(emulator.stats().refused_signatures, 0);
}

#[tokio::test]
async fn an_authority_of_ones_own_takes_the_place_of_all_others() {
    let to = Route::Address(region().await);
    let cert = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/sls/tls");
    let dir = tempfile::tempdir().expect("a directory");
    let file = |name: &str, content: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, content).expect("written");
        path
    };
    let network = |ca_file: PathBuf| Network { route: to.clone(), ca_file: Some(ca_file) };
    let own = std::fs::read_to_string(ca_file()).expect("the authority");
    for path in [
        file("with-words.pem", format!("Our authority.\n{own}").as_bytes()),
        file(
            "with-key.pem",
            format!("{own}-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
                .as_bytes(),
        ),
    ] {
        client(REGION, network(path)).get_project().await.expect("answered");
    }
    for (path, code) in [
        (dir.path().join("absent.pem"), "sls.ca_file"),
        (dir.path().to_owned(), "sls.ca_file"),
        (cert.join("region.der"), "sls.ca_file_empty"),
        (file("empty.pem", b""), "sls.ca_file_empty"),
        (file("broken.pem", own.replace("MII", "MIJ").as_bytes()), "sls.ca_file"),
        (file("cut.pem", own.split("-----END").next().expect("a part").as_bytes()), "sls.ca_file"),
    ] {
        let error = Client::new(ClientConfig { network: network(path.clone()), ..config(REGION) });
        let error = error.err().expect("no authority");
        assert_eq!(error.code(), code, "{error}: {}", path.display());
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    }
}
