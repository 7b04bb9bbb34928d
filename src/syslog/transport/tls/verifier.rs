//! Whether the receiver's certificate is one to believe in: by authority and name, or by a
//! pinned fingerprint in place of both.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key,
};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme};

use super::certificate::{self, Certificate};
use super::error::{Fix, Refusal, TlsFileError};
use super::fingerprint::Fingerprint;

/// Judges by authorities and the name.
#[derive(Debug)]
pub(super) struct ByAuthority(Arc<WebPkiServerVerifier>);

/// Judges by pinned fingerprints, and by nothing else: neither authority nor name nor time.
#[derive(Debug)]
pub(super) struct ByFingerprint {
    pins: Vec<Fingerprint>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ByAuthority {
    pub(super) fn new(
        roots: RootCertStore,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, TlsFileError> {
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
            .build()
            .map(Self)
            .map_err(|_| TlsFileError::NoRoots)
    }
}

impl ServerCertVerifier for ByAuthority {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.0
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
            .map_err(|error| {
                let (why, fix) = reason(&error, server_name);
                refuse(end_entity, why, fix)
            })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

impl ByFingerprint {
    pub(super) fn new(pins: Vec<Fingerprint>, provider: &CryptoProvider) -> Self {
        Self { pins, algorithms: provider.signature_verification_algorithms }
    }
}

/// The peer must prove to own the key of the pinned certificate, of which nothing but the key
/// is read: certificates of version 1 and other oddities can be pinned, too.
impl ServerCertVerifier for ByFingerprint {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.pins.iter().any(|pin| pin.is_of(end_entity)) {
            return Ok(ServerCertVerified::assertion());
        }
        let why = "its fingerprint is none of those configured".to_owned();
        Err(refuse(end_entity, why, Fix::Pin))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let (algorithm, key) =
            certificate::public_key(cert).ok_or(CertificateError::BadEncoding)?;
        let candidates = self.algorithms.mapping.iter().find(|(scheme, _)| *scheme == dss.scheme);
        // Under TLS 1.2 a scheme does not fix the curve: the key does.
        let good = candidates.is_some_and(|(_, candidates)| {
            candidates.iter().any(|candidate| {
                candidate.public_key_alg_id().as_ref() == algorithm
                    && candidate.verify_signature(key, message, dss.signature()).is_ok()
            })
        });
        match good {
            true => Ok(HandshakeSignatureValid::assertion()),
            false => Err(CertificateError::BadSignature.into()),
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let key = certificate::public_key_info(cert).ok_or(CertificateError::BadEncoding)?;
        let key = SubjectPublicKeyInfoDer::from(key);
        verify_tls13_signature_with_raw_key(message, &key, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn refuse(end_entity: &CertificateDer<'_>, why: String, fix: Fix) -> rustls::Error {
    let presented = Box::new(Certificate::from_der(end_entity));
    let refusal = Refusal { why, presented, fix };
    CertificateError::Other(OtherError(Arc::new(refusal))).into()
}

/// Plain words for what the verifier found, and what would help.
fn reason(error: &rustls::Error, server_name: &ServerName<'_>) -> (String, Fix) {
    use CertificateError as C;
    let rustls::Error::InvalidCertificate(error) = error else {
        return (error.to_string(), Fix::Kind);
    };
    match error {
        C::Expired | C::ExpiredContext { .. } => ("it is out of date".to_owned(), Fix::Renewal),
        C::NotValidYet | C::NotValidYetContext { .. } => {
            ("it is not valid yet".to_owned(), Fix::Renewal)
        }
        C::UnknownIssuer => {
            ("no authority that is trusted here has signed it".to_owned(), Fix::Authority)
        }
        C::NotValidForName | C::NotValidForNameContext { .. } => {
            (format!("it is not for {}", server_name.to_str()), Fix::Name)
        }
        C::InvalidPurpose | C::InvalidPurposeContext { .. } => {
            ("it is not for use by a server".to_owned(), Fix::Kind)
        }
        C::Other(other) if format!("{other:?}").contains("CaUsedAsEndEntity") => (
            "it is the certificate of an authority (CA:TRUE), which no server should show"
                .to_owned(),
            Fix::Kind,
        ),
        C::Other(other) if format!("{other:?}").contains("UnsupportedCertVersion") => {
            ("it is of an old version (X.509 v1)".to_owned(), Fix::Kind)
        }
        error => (error.to_string(), Fix::Kind),
    }
}
