//! https: assumed without a scheme, and never without checking the certificate.

use std::sync::Arc;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use sls_relay::sls::{Client, ClientConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::config;

pub(crate) fn der(name: &str) -> Vec<u8> {
    let path = format!("{}/tests/fixtures/sls/tls/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(path).expect("read the fixture")
}

/// A server for 127.0.0.1 with a certificate nobody has signed.
fn acceptor() -> TlsAcceptor {
    acceptor_with("cert.der", "key.der")
}

pub(crate) fn acceptor_with(certificate: &str, key: &str) -> TlsAcceptor {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(der(key)));
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![CertificateDer::from(der(certificate))], key)
        .expect("certificate and key");
    TlsAcceptor::from(Arc::new(config))
}

fn trusting(certificates: &[&str]) -> Arc<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    for name in certificates {
        roots.add(CertificateDer::from(der(name))).expect("a certificate");
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

#[tokio::test]
async fn without_a_scheme_the_client_speaks_tls_from_the_first_byte() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("listen");
    let endpoint = listener.local_addr().expect("an address").to_string();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a client");
        let mut first = [0; 3];
        stream.read_exact(&mut first).await.expect("the first bytes");
        first
    });
    let tls = Some(trusting(&[]));
    let client = Client::new(ClientConfig { tls, ..config(&endpoint) }).expect("a client");
    let error = client.get_project().await.expect_err("hung up");
    assert_eq!(error.code(), "sls.transport");
    let first = server.await.expect("the server ends");
    assert_eq!(first, [0x16, 0x03, 0x01], "a handshake of TLS");
}

#[tokio::test]
async fn a_certificate_counts_only_when_it_is_trusted_and_names_the_address() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("listen");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor().accept(stream).await else { continue };
            let mut request = [0; 4096];
            if stream.read(&mut request).await.is_ok() {
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 19\r\nConnection: close\r\n\r\n\
                               {\"projectName\":\"p\"}";
                stream.write_all(answer).await.ok();
                stream.shutdown().await.ok();
            }
        }
    });
    let ask = async |endpoint: String, trusted: &[&str]| {
        let tls = Some(trusting(trusted));
        let client = Client::new(ClientConfig { tls, ..config(&endpoint) }).expect("a client");
        client.get_project().await.map(|project| project.name).map_err(|error| error.code())
    };
    let trusted = ask(format!("127.0.0.1:{port}"), &["cert.der"]).await;
    assert_eq!(trusted, Ok("p".to_owned()));
    let unknown = ask(format!("127.0.0.1:{port}"), &[]).await;
    assert_eq!(unknown, Err("sls.transport"), "signed by nobody we trust");
    let misnamed = ask(format!("localhost:{port}"), &["cert.der"]).await;
    assert_eq!(misnamed, Err("sls.transport"), "the certificate is for the address");
}
