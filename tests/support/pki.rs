//! Authorities and certificates for tests, made on the spot.

#![allow(dead_code, reason = "each test uses a part")]

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

/// An authority; its certificate is `FILE.pem` in a folder.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    dir: PathBuf,
    /// The PEM file.
    pub(crate) file: PathBuf,
}

/// A certificate with its key, in PEM files and in memory.
pub(crate) struct Issued {
    /// The certificate alone.
    pub(crate) file: PathBuf,
    /// Its key, PKCS#8.
    pub(crate) key_file: PathBuf,
    /// The certificate in DER.
    pub(crate) der: Vec<u8>,
    /// The key in DER.
    pub(crate) key: Vec<u8>,
}

/// What a certificate is for, and until when.
#[derive(Clone, Copy)]
pub(crate) enum Until {
    /// For longer than any test lives.
    Later,
    /// It ended in 2001.
    Past,
    /// It ends in so many days from now.
    Days(i64),
}

impl Authority {
    pub(crate) fn new(dir: &Path, name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, format!("{name} authority"));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let file = dir.join(format!("{name}.pem"));
        fs::write(&file, certificate.pem()).unwrap();
        Self { issuer: Issuer::new(params, key), dir: dir.to_owned(), file }
    }

    /// A certificate for a server.
    pub(crate) fn server(&self, file: &str, names: &[&str], until: Until) -> Issued {
        self.issue(file, names, ExtendedKeyUsagePurpose::ServerAuth, until)
    }

    /// A certificate for a client.
    pub(crate) fn client(&self, file: &str, names: &[&str], until: Until) -> Issued {
        self.issue(file, names, ExtendedKeyUsagePurpose::ClientAuth, until)
    }

    fn issue(
        &self,
        file: &str,
        names: &[&str],
        usage: ExtendedKeyUsagePurpose,
        until: Until,
    ) -> Issued {
        let mut params = params(names, until);
        params.extended_key_usages = vec![usage];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Issued::write(&self.dir, file, &certificate, &key)
    }
}

/// A certificate that signs itself, as `openssl req -x509` makes it.
pub(crate) fn self_signed(dir: &Path, file: &str, names: &[&str]) -> Issued {
    let mut params = params(names, Until::Later);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    Issued::write(dir, file, &certificate, &key)
}

fn params(names: &[&str], until: Until) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names.clone()).unwrap();
    params.distinguished_name.push(DnType::CommonName, names.first().cloned().unwrap_or_default());
    let end = match until {
        Until::Later => return params,
        Until::Past => jiff::civil::date(2001, 1, 1),
        Until::Days(days) => {
            let now = jiff::tz::TimeZone::UTC.to_datetime(jiff::Timestamp::now()).date();
            now.checked_add(jiff::Span::new().days(days)).unwrap()
        }
    };
    let month = u8::try_from(end.month()).unwrap();
    let day = u8::try_from(end.day()).unwrap();
    params.not_after = rcgen::date_time_ymd(i32::from(end.year()), month, day);
    params
}

impl Issued {
    fn write(dir: &Path, name: &str, certificate: &rcgen::Certificate, key: &KeyPair) -> Self {
        let file = dir.join(format!("{name}.pem"));
        let key_file = dir.join(format!("{name}.key"));
        fs::write(&file, certificate.pem()).unwrap();
        fs::write(&key_file, key.serialize_pem()).unwrap();
        Self { file, key_file, der: certificate.der().to_vec(), key: key.serialize_der() }
    }
}
