//! Certificates of one run: made when it begins, gone with its directory.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

use super::receiver::ADDRESS;
use crate::syslog::transport::tls::{ClientFiles, TlsSettings};

/// An authority, the receiver's certificate by it, and a client's certificate by another one.
pub(super) struct Pki {
    dir: PathBuf,
    server: CertificateDer<'static>,
    server_key: PrivatePkcs8KeyDer<'static>,
    own: CertificateDer<'static>,
    foreign: CertificateDer<'static>,
}

impl Pki {
    /// Makes all of it: `ca.pem`, `server.pem` and `client.pem` in `dir`, with `server.key` and
    /// `client.key`.
    pub(super) fn new(dir: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let (own, issuer) = authority("own")?;
        std::fs::write(dir.join("ca.pem"), own.pem())?;
        let (foreign, foreign_issuer) = authority("foreign")?;
        let of = ExtendedKeyUsagePurpose::ServerAuth;
        let (server, key) = issue(dir, "server", &ADDRESS.to_string(), of, &issuer)?;
        let of = ExtendedKeyUsagePurpose::ClientAuth;
        issue(dir, "client", "relay.test", of, &foreign_issuer)?;
        Ok(Self {
            dir: dir.to_owned(),
            server,
            server_key: key.serialize_der().into(),
            own: own.der().clone(),
            foreign: foreign.der().clone(),
        })
    }

    /// The folder with the files.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whom the relay believes, and what it shows, if anything.
    pub(super) fn trusting(&self, shows: bool) -> TlsSettings {
        let file = |name| self.dir.join(name);
        let files = || ClientFiles { certificate: file("client.pem"), key: file("client.key") };
        TlsSettings {
            ca_file: Some(file("ca.pem")),
            client: shows.then(files),
            ..TlsSettings::default()
        }
    }

    /// A receiver that wants no certificate from clients.
    pub(super) fn open(&self) -> anyhow::Result<Arc<ServerConfig>> {
        self.receiver(None)
    }

    /// A receiver that wants a certificate by its own authority, which our client does not have.
    pub(super) fn refusing(&self) -> anyhow::Result<Arc<ServerConfig>> {
        self.receiver(Some(&self.own))
    }

    /// A receiver that wants a certificate by the authority of our client.
    pub(super) fn taking(&self) -> anyhow::Result<Arc<ServerConfig>> {
        self.receiver(Some(&self.foreign))
    }

    fn receiver(
        &self,
        clients: Option<&CertificateDer<'static>>,
    ) -> anyhow::Result<Arc<ServerConfig>> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?;
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add(authority.clone())?;
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build()?)
            }
        };
        let key = self.server_key.clone_key().into();
        Ok(Arc::new(builder.with_single_cert(vec![self.server.clone()], key)?))
    }
}

fn authority(name: &str) -> anyhow::Result<(rcgen::Certificate, Issuer<'static, KeyPair>)> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, format!("{name} authority"));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    Ok((certificate, Issuer::new(params, key)))
}

fn issue(
    dir: &Path,
    file: &str,
    name: &str,
    usage: ExtendedKeyUsagePurpose,
    issuer: &Issuer<'static, KeyPair>,
) -> anyhow::Result<(CertificateDer<'static>, KeyPair)> {
    let mut params = CertificateParams::new(vec![name.to_owned()])?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages = vec![usage];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, issuer)?;
    std::fs::write(dir.join(format!("{file}.pem")), certificate.pem())?;
    std::fs::write(dir.join(format!("{file}.key")), key.serialize_pem())?;
    Ok((certificate.der().clone(), key))
}
