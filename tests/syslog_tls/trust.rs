//! Which receivers are believed.

use std::fs;

use sls_relay::syslog::transport::tls::{Certificate, Fingerprint, TlsError, read_certificates};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;

use super::*;
use crate::pki::self_signed;
use crate::server::{Server, VERSIONS};

/// Serves handshakes until the test ends, and lets go of what comes of them.
fn serve(server: Server) {
    tokio::spawn(async move {
        loop {
            let _ = server.accept().await;
        }
    });
}

async fn showing(issued: &Issued) -> Target {
    let server = Server::new(issued, &rustls::version::TLS13).await;
    let target = server.target();
    serve(server);
    target
}

fn pinned(pins: &[Fingerprint]) -> TlsSettings {
    TlsSettings { fingerprints: pins.to_vec(), ..TlsSettings::default() }
}

#[tokio::test]
async fn a_certificate_by_a_trusted_authority_for_the_name_is_believed() {
    let scene = Scene::new();
    let target = showing(&scene.server).await;
    let connection = connect(&target, scene.trusting()).await.unwrap();
    let session = connection.session();
    assert_eq!(session.version, "TLS 1.3");
    assert_eq!(session.peer[0].names, ["127.0.0.1", "siem.test"]);
    assert_eq!(session.peer[0].sha256, Fingerprint::sha256(&scene.server.der));
}

#[tokio::test]
async fn the_name_to_check_may_differ_from_the_address() {
    let scene = Scene::new();
    let named = |name: &str| TlsSettings { server_name: Some(name.to_owned()), ..scene.trusting() };
    let target = showing(&scene.server).await;
    connect(&target, named("siem.test")).await.unwrap();
    let error = connect(&target, named("other.test")).await.unwrap_err();
    assert_eq!(error.code(), "syslog.tls_untrusted");
    let sha256 = Fingerprint::sha256(&scene.server.der).to_string();
    let sha1 = Fingerprint::sha1(&scene.server.der).to_string();
    let names = "127.0.0.1, siem.test";
    says(&error, &["not for other.test", &sha256, &sha1, names, "server_name"]);
}

#[tokio::test]
async fn what_no_trusted_authority_signed_is_refused_with_what_was_presented() {
    let scene = Scene::new();
    let other = Authority::new(scene.dir.path(), "other");
    let target = showing(&other.server("foreign", &["127.0.0.1"], Until::Later)).await;
    let error = connect(&target, scene.trusting()).await.unwrap_err();
    says(&error, &["no authority", "127.0.0.1", "sha-256:", "ca_file", "fingerprints = "]);

    // The system's authorities did not sign it either, if there are any.
    let error = connect(&target, TlsSettings::default()).await.unwrap_err();
    assert!(matches!(error.code(), "syslog.tls_untrusted" | "syslog.tls_no_roots"), "{error}");
}

#[tokio::test]
async fn a_certificate_out_of_date_is_refused() {
    let scene = Scene::new();
    let target = showing(&scene.authority.server("old", &["127.0.0.1"], Until::Past)).await;
    let error = connect(&target, scene.trusting()).await.unwrap_err();
    says(&error, &["out of date", "2001-01-01", "renew"]);
}

#[tokio::test]
async fn a_certificate_that_ends_soon_is_believed_and_warned_of() {
    let scene = Scene::new();
    for (days, warns) in [(10, true), (40, false)] {
        let issued = scene.authority.server("soon", &["127.0.0.1"], Until::Days(days));
        let connection = connect(&showing(&issued).await, scene.trusting()).await.unwrap();
        let warnings = connection.session().expiry_warnings(jiff::Timestamp::now());
        assert_eq!(!warnings.is_empty(), warns, "{days} days: {warnings:?}");
        assert!(warnings.iter().all(|text| text.contains("the receiver's certificate")));
    }
}

#[tokio::test]
async fn a_certificate_that_signs_itself_is_refused_unless_it_is_pinned() {
    let scene = Scene::new();
    let issued = self_signed(scene.dir.path(), "self", &["127.0.0.1"]);
    let trusting = TlsSettings { ca_file: Some(issued.file.clone()), ..TlsSettings::default() };
    for version in VERSIONS {
        let server = Server::new(&issued, version).await;
        let target = server.target();
        serve(server);
        let error = connect(&target, trusting.clone()).await.unwrap_err();
        says(&error, &["CA:TRUE", "fingerprints = "]);
        for pin in [Fingerprint::sha256(&issued.der), Fingerprint::sha1(&issued.der)] {
            connect(&target, pinned(&[pin])).await.unwrap();
        }
    }
}

#[tokio::test]
async fn any_pin_will_do_and_without_one_what_is_presented_is_told() {
    let scene = Scene::new();
    let target = showing(&scene.server).await;
    let (right, wrong) = (Fingerprint::sha256(&scene.server.der), Fingerprint::sha256(b"other"));
    connect(&target, pinned(&[wrong, right])).await.unwrap();
    let error = connect(&target, pinned(&[wrong])).await.unwrap_err();
    says(&error, &["none of those configured", &format!("fingerprints = \"{right}\"")]);
}

#[tokio::test]
async fn a_pinned_certificate_of_the_first_version_is_believed() {
    let file = |name| format!("{}/tests/fixtures/syslog/tls/{name}", env!("CARGO_MANIFEST_DIR"));
    let der = read_certificates(file("v1.pem").as_ref()).unwrap()[0].to_vec();
    let key = fs::read(file("v1.key")).unwrap();
    let key = {
        use rustls::pki_types::pem::PemObject as _;
        rustls::pki_types::PrivateKeyDer::from_pem_slice(&key).unwrap().secret_der().to_vec()
    };
    let none = PathBuf::new();
    let issued = Issued { file: none.clone(), key_file: none, der, key };
    for version in VERSIONS {
        let server = Server::new(&issued, version).await;
        let target = server.target();
        serve(server);
        let pins = [Fingerprint::sha256(&issued.der)];
        connect(&target, pinned(&pins)).await.unwrap();
    }
    let read = Certificate::from_der(&issued.der);
    assert_eq!(read.shown_names(), "no names but the common name siem.test");
}

#[tokio::test]
async fn a_pinned_certificate_without_its_key_is_refused() {
    let scene = Scene::new();
    // A thief shows the certificate, which is public, and signs with a key of its own.
    let thief = self_signed(scene.dir.path(), "thief", &["127.0.0.1"]);
    for version in VERSIONS {
        let server = server::thief(&scene.server, &thief, version).await;
        let target = server.target();
        serve(server);
        let pins = [Fingerprint::sha256(&scene.server.der)];
        let error = connect(&target, pinned(&pins)).await.unwrap_err();
        says(&error, &["BadSignature"]);
    }
}

#[tokio::test]
async fn a_receiver_that_does_not_speak_tls_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let target: Target = format!("tls://{address}").parse().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"220 mail.test ESMTP\r\n").await.unwrap();
        let (mut second, _) = listener.accept().await.unwrap();
        second.shutdown().await.unwrap();
        // Holds both open, so that nothing is reset.
        std::future::pending::<()>().await;
    });
    let scene = Scene::new();
    let error = connect(&target, scene.trusting()).await.unwrap_err();
    assert_eq!(error.code(), "syslog.tls_protocol", "{error}");
    let error = connect(&target, scene.trusting()).await.unwrap_err();
    assert!(matches!(tls(&error), TlsError::HandshakeClosed { .. }), "{error}");
}

#[tokio::test]
async fn a_handshake_that_stalls_ends_in_a_timeout() {
    let scene = Scene::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target: Target = format!("tls://{}", listener.local_addr().unwrap()).parse().unwrap();
    let limits =
        TcpSettings { connect_timeout: Duration::from_millis(300), ..TcpSettings::default() };
    let profile = TlsProfile::new(scene.trusting());
    let error = in_time(TlsConnection::connect(&target, &limits, &profile)).await.unwrap_err();
    assert_eq!(error.code(), "syslog.tls_timeout");
    says(&error, &["0.3 s", "speaks TLS"]);
    drop(listener);
}

#[tokio::test]
async fn files_that_cannot_be_used_are_named() {
    let scene = Scene::new();
    let ca = |name: &str, content: Option<&str>| {
        let path = scene.file(name);
        if let Some(content) = content {
            fs::write(&path, content).unwrap();
        }
        let settings = TlsSettings { ca_file: Some(path), ..TlsSettings::default() };
        TlsProfile::new(settings).load().unwrap_err()
    };
    let absent = ca("absent.pem", None);
    assert_eq!(absent.code(), "syslog.tls_file_unreadable");
    says(&absent, &["absent.pem"]);
    let empty = ca("empty.pem", Some("# nothing\n"));
    says(&empty, &["empty.pem", "no certificate", "BEGIN CERTIFICATE"]);
    let torn = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert_eq!(ca("torn.pem", Some(torn)).code(), "syslog.tls_file_invalid");
}
