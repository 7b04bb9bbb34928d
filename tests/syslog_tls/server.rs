//! A receiver by rustls that a test drives step by step.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use sls_relay::syslog::{Scheme, Target};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::pki::{Authority, Issued};

/// Both versions, for tests that hold for each.
pub(crate) const VERSIONS: [&SupportedProtocolVersion; 2] =
    [&rustls::version::TLS12, &rustls::version::TLS13];

/// A listening receiver.
pub(crate) struct Server {
    pub(crate) listener: TcpListener,
    acceptor: TlsAcceptor,
    read: Arc<AtomicU64>,
}

impl Server {
    pub(crate) async fn new(shows: &Issued, version: &'static SupportedProtocolVersion) -> Self {
        Self::with(shows, version, None).await
    }

    /// Wants a certificate from clients that `authority` has signed.
    pub(crate) async fn asking(
        shows: &Issued,
        version: &'static SupportedProtocolVersion,
        authority: &Authority,
    ) -> Self {
        Self::with(shows, version, Some(authority)).await
    }

    async fn with(
        shows: &Issued,
        version: &'static SupportedProtocolVersion,
        clients_of: Option<&Authority>,
    ) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[version])
            .unwrap();
        let builder = match clients_of {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                for root in
                    sls_relay::syslog::transport::tls::read_certificates(&authority.file).unwrap()
                {
                    roots.add(root).unwrap();
                }
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        Self::listening(builder.with_cert_resolver(signing(&shows.der, &shows.key))).await
    }

    async fn listening(config: ServerConfig) -> Self {
        Self {
            listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
            acceptor: TlsAcceptor::from(Arc::new(config)),
            read: Arc::default(),
        }
    }

    /// Where it listens, by its address.
    pub(crate) fn target(&self) -> Target {
        let address = self.listener.local_addr().unwrap();
        Target { scheme: Scheme::Tls, host: address.ip().to_string(), port: address.port() }
    }

    /// Takes one connection; an error is that of the handshake.
    pub(crate) async fn accept(&self) -> io::Result<TlsStream<Counted>> {
        let (stream, _) = self.listener.accept().await?;
        self.acceptor.accept(Counted { stream, read: Arc::clone(&self.read) }).await
    }

    /// Bytes of ciphertext read from all connections.
    pub(crate) fn ciphertext(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }
}

/// Shows a certificate that is not its own, and signs with its own key.
pub(crate) async fn thief(
    shows: &Issued,
    owns: &Issued,
    version: &'static SupportedProtocolVersion,
) -> Server {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth();
    Server::listening(builder.with_cert_resolver(signing(&shows.der, &owns.key))).await
}

/// Always this certificate and key, whether they belong together or not.
fn signing(certificate: &[u8], key: &[u8]) -> Arc<dyn ResolvesServerCert> {
    let key = PrivateKeyDer::try_from(key.to_vec()).unwrap();
    let key = rustls::crypto::ring::sign::any_supported_type(&key).unwrap();
    let chain = vec![CertificateDer::from(certificate.to_vec())];
    Arc::new(SingleCertAndKey::from(CertifiedKey::new(chain, key)))
}

/// Counts what is read from the wire.
#[derive(Debug)]
pub(crate) struct Counted {
    pub(crate) stream: TcpStream,
    read: Arc<AtomicU64>,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        self.read.fetch_add((buf.filled().len() - before) as u64, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
