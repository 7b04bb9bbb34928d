//! Who we say that we are.

use std::fs;

use sls_relay::syslog::transport::tls::ClientFiles;
use tokio::io::AsyncReadExt as _;

use super::*;
use crate::server::{Server, VERSIONS};

fn showing(scene: &Scene, client: &Issued) -> TlsSettings {
    let files = ClientFiles { certificate: client.file.clone(), key: client.key_file.clone() };
    TlsSettings { client: Some(files), ..scene.trusting() }
}

/// Takes connections, reads them to their end and hands out the client's certificate of each.
fn serve(server: Server) -> tokio::sync::mpsc::UnboundedReceiver<Option<Vec<u8>>> {
    let (sender, seen) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let Ok(mut stream) = server.accept().await else { continue };
            let shown = stream.get_ref().1.peer_certificates();
            sender.send(shown.map(|chain| chain[0].to_vec())).unwrap();
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
    });
    seen
}

/// Connects and does what a sender does, until the receiver's refusal shows.
async fn refusal(target: &Target, settings: TlsSettings) -> SendError {
    match connect(target, settings).await {
        Err(error) => error,
        Ok(mut connection) => {
            in_time(async {
                loop {
                    if let Err(error) = connection.write(b"1 x").await {
                        break error;
                    }
                    tokio::task::yield_now().await;
                }
            })
            .await
        }
    }
}

#[tokio::test]
async fn a_receiver_that_asks_is_shown_the_certificate() {
    let scene = Scene::new();
    let client = scene.authority.client("client", &["relay.test"], Until::Later);
    for version in VERSIONS {
        let server = Server::asking(&scene.server, version, &scene.authority).await;
        let target = server.target();
        let mut seen = serve(server);
        let connection = connect(&target, showing(&scene, &client)).await.unwrap();
        assert!(connection.session().asked);
        let ours = connection.session().ours.clone().unwrap();
        assert_eq!(ours.names, ["relay.test"]);
        in_time(connection.drain(DEADLINE)).await.unwrap();
        assert_eq!(in_time(seen.recv()).await.unwrap(), Some(client.der.clone()));
    }
}

#[tokio::test]
async fn without_a_certificate_the_refusal_says_which_keys_to_set() {
    let scene = Scene::new();
    for version in VERSIONS {
        let server = Server::asking(&scene.server, version, &scene.authority).await;
        let target = server.target();
        let _seen = serve(server);
        let error = refusal(&target, scene.trusting()).await;
        assert_eq!(error.code(), "syslog.tls_client_refused", "{error}");
        says(&error, &["asks for a client certificate", "client_cert_file", "client_key_file"]);
    }
}

#[tokio::test]
async fn a_refused_certificate_is_named_with_the_reason() {
    let scene = Scene::new();
    let other = Authority::new(scene.dir.path(), "other");
    let foreign = other.client("foreign", &["relay.test"], Until::Later);
    let expired = scene.authority.client("expired", &["relay.test"], Until::Past);
    for version in VERSIONS {
        for (client, reason) in
            [(&foreign, "does not know the authority"), (&expired, "out of date")]
        {
            let server = Server::asking(&scene.server, version, &scene.authority).await;
            let target = server.target();
            let _seen = serve(server);
            let error = refusal(&target, showing(&scene, client)).await;
            assert_eq!(error.code(), "syslog.tls_client_refused", "{error}");
            let sha256 = sls_relay::syslog::transport::tls::Fingerprint::sha256(&client.der);
            says(&error, &["our client certificate", reason, "relay.test", &sha256.to_string()]);
        }
    }
}

#[tokio::test]
async fn a_refusal_shows_in_a_drain_and_proves_nothing() {
    let scene = Scene::new();
    let version = &rustls::version::TLS13;
    let server = Server::asking(&scene.server, version, &scene.authority).await;
    let target = server.target();
    let _seen = serve(server);
    let connection = connect(&target, scene.trusting()).await.unwrap();
    let error = in_time(connection.drain(DEADLINE)).await.unwrap_err();
    assert_eq!(error.code(), "syslog.tls_client_refused", "{error}");
}

#[tokio::test]
async fn changed_files_are_read_again_and_half_a_change_waits() {
    let scene = Scene::new();
    let client = scene.authority.client("client", &["first.test"], Until::Later);
    let next = scene.authority.client("next", &["second.test"], Until::Later);
    let server = Server::asking(&scene.server, &rustls::version::TLS13, &scene.authority).await;
    let target = server.target();
    let mut seen = serve(server);
    let profile = TlsProfile::new(showing(&scene, &client));
    let mut shown = async || {
        let limits = TcpSettings::default();
        let connection = TlsConnection::connect(&target, &limits, &profile).await.unwrap();
        connection.drain(DEADLINE).await.unwrap();
        seen.recv().await.unwrap().unwrap()
    };
    assert_eq!(in_time(shown()).await, client.der);
    // The certificate is new, the key is still that of the old one.
    fs::copy(&next.file, &client.file).unwrap();
    assert_eq!(in_time(shown()).await, client.der);
    fs::copy(&next.key_file, &client.key_file).unwrap();
    assert_eq!(in_time(shown()).await, next.der);
}

#[tokio::test]
async fn a_key_of_another_certificate_is_told_without_showing_it() {
    let scene = Scene::new();
    let client = scene.authority.client("client", &["relay.test"], Until::Later);
    let other = scene.authority.client("other", &["relay.test"], Until::Later);
    let load = |key: &PathBuf| {
        let files = ClientFiles { certificate: client.file.clone(), key: key.clone() };
        let profile = TlsProfile::new(TlsSettings { client: Some(files), ..scene.trusting() });
        profile.load().unwrap_err()
    };
    let error = load(&other.key_file);
    assert_eq!(error.code(), "syslog.tls_key_mismatch");
    says(&error, &["client.pem", "other.key"]);
    let error = load(&client.file);
    says(&error, &["client.pem", "no private key"]);

    let profile = TlsProfile::new(showing(&scene, &client));
    profile.load().unwrap();
    let shown = format!("{profile:?}");
    let key = fs::read_to_string(&client.key_file).unwrap();
    let secret = key.lines().nth(1).unwrap();
    assert!(!shown.contains(secret) && !shown.contains(&format!("{:?}", &client.key[..8])));
}
