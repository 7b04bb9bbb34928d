//! Whom a destination believes, by which name, and who it says that we are; read from files,
//! and read again when these have changed.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustls::client::danger::ServerCertVerifier;
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, SignatureScheme};

use zeroize::Zeroizing;

use super::certificate::Certificate;
use super::error::{TlsError, TlsFileError};
use super::fingerprint::Fingerprint;
use super::verifier::{ByAuthority, ByFingerprint};

/// More than all authorities of the world are long; a wrong path may name anything.
const LONGEST_FILE: u64 = 16 * 1024 * 1024;
/// The system's authorities come from many files: they are read again after this time.
const SYSTEM_ROOTS_FOR: Duration = Duration::from_secs(3600);
/// Sessions kept to shorten later handshakes; a destination has one receiver, or a few.
const SESSIONS: usize = 8;

/// What the configuration says about TLS.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsSettings {
    /// PEM file of the authorities to believe, in place of the system's.
    pub ca_file: Option<PathBuf>,
    /// The name that the receiver's certificate must be for; the host of the target if not
    /// set. A DNS name or an address.
    pub server_name: Option<String>,
    /// If there are any, the receiver's certificate must have one of them, and then neither
    /// its authority, nor its names, nor its end count.
    pub fingerprints: Vec<Fingerprint>,
    /// Our own certificate, for receivers that ask for one.
    pub client: Option<ClientFiles>,
}

/// PEM files of our certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientFiles {
    /// The certificate, followed by those that lead to its authority.
    pub certificate: PathBuf,
    /// Its private key: PKCS#8, PKCS#1 or SEC1, not encrypted.
    pub key: PathBuf,
}

/// The state behind [`TlsSettings`], for all connections of a destination.
///
/// Cheap to ask: files are read again only when they have changed. A change that cannot be
/// used, such as a new certificate whose key is still missing, is told in the log, and
/// what was read before is used until it can.
#[derive(Debug)]
pub struct TlsProfile {
    settings: TlsSettings,
    loaded: Mutex<Option<Loaded>>,
    last_warning: Mutex<Option<Instant>>,
}

/// What one connection needs.
#[derive(Debug, Clone)]
pub(super) struct Loaded {
    pub(super) config: Arc<ClientConfig>,
    pub(super) client: Arc<Client>,
    stamps: Vec<Stamp>,
    /// When the authorities of the system were read, if they count.
    system_since: Option<Instant>,
}

/// Our own certificate, and whether a receiver wanted to see it.
#[derive(Debug)]
pub(super) struct Client {
    key: Option<Arc<CertifiedKey>>,
    asked: AtomicBool,
}

/// By what a changed file is told: number, time of change in s and ns, and size.
type Stamp = Option<(u64, i64, i64, u64)>;

impl TlsProfile {
    /// A profile that has read nothing yet.
    pub fn new(settings: TlsSettings) -> Self {
        Self { settings, loaded: Mutex::new(None), last_warning: Mutex::new(None) }
    }

    /// What it was made of.
    pub fn settings(&self) -> &TlsSettings {
        &self.settings
    }

    /// Reads the files now, so that a mistake in them shows before a connection is made.
    ///
    /// # Errors
    /// [`TlsFileError`].
    pub fn load(&self) -> Result<(), TlsFileError> {
        self.current().map(drop)
    }

    /// The name to check for a target on `host`.
    pub(super) fn server_name(&self, host: &str) -> Result<ServerName<'static>, TlsError> {
        let name = self.settings.server_name.as_deref().unwrap_or(host);
        // A zone belongs to this machine, not to the certificate.
        let name = name.split_once('%').map_or(name, |(address, _)| address);
        parse_name(name)
    }

    /// What holds for a connection made now.
    pub(super) fn current(&self) -> Result<Loaded, TlsFileError> {
        let stamps: Vec<Stamp> = self.files().map(stamp).collect();
        let mut loaded = lock(&self.loaded);
        if let Some(before) = loaded.as_ref()
            && before.stamps == stamps
            && before.system_since.is_none_or(|since| since.elapsed() < SYSTEM_ROOTS_FOR)
        {
            return Ok(before.clone());
        }
        match (self.read(stamps), loaded.as_ref()) {
            (Ok(new), _) => {
                if loaded.is_some() {
                    tracing::info!(
                        "the certificate files of a destination have changed and were read again"
                    );
                }
                *loaded = Some(new.clone());
                Ok(new)
            }
            (Err(error), Some(before)) => {
                if self.is_warning_due() {
                    tracing::warn!(
                        code = error.code(),
                        "{error}; what was read before is still used"
                    );
                }
                Ok(before.clone())
            }
            (Err(error), None) => Err(error),
        }
    }

    /// Whether a warning may be written: one a day is enough for what changes in weeks.
    pub(super) fn is_warning_due(&self) -> bool {
        let mut last = lock(&self.last_warning);
        let due = last.is_none_or(|last| last.elapsed() >= Duration::from_secs(24 * 3600));
        if due {
            *last = Some(Instant::now());
        }
        due
    }

    fn files(&self) -> impl Iterator<Item = &Path> {
        let client = self.settings.client.iter().flat_map(|files| [&files.certificate, &files.key]);
        self.settings.ca_file.iter().chain(client).map(PathBuf::as_path)
    }

    fn read(&self, stamps: Vec<Stamp>) -> Result<Loaded, TlsFileError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let pinned = !self.settings.fingerprints.is_empty();
        let verifier: Arc<dyn ServerCertVerifier> = if pinned {
            Arc::new(ByFingerprint::new(self.settings.fingerprints.clone(), &provider))
        } else {
            let roots = match &self.settings.ca_file {
                Some(path) => read_roots(path)?,
                None => system_roots()?,
            };
            Arc::new(ByAuthority::new(roots, &provider)?)
        };
        let key = match &self.settings.client {
            Some(files) => Some(Arc::new(read_client(files, &provider)?)),
            None => None,
        };
        let client = Arc::new(Client { key, asked: AtomicBool::new(false) });
        let resolver = Arc::clone(&client) as Arc<dyn ResolvesClientCert>;
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|_| TlsFileError::NoRoots)?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_cert_resolver(resolver);
        config.resumption = Resumption::in_memory_sessions(SESSIONS);
        let system_since = (!pinned && self.settings.ca_file.is_none()).then(Instant::now);
        Ok(Loaded { config: Arc::new(config), client, stamps, system_since })
    }
}

impl Client {
    /// Whether a receiver has asked for our certificate.
    pub(super) fn was_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    /// Our certificate.
    pub(super) fn certificate(&self) -> Option<Certificate> {
        let key = self.key.as_ref()?;
        key.cert.first().map(|certificate| Certificate::from_der(certificate))
    }
}

impl ResolvesClientCert for Client {
    fn resolve(
        &self,
        _root_hint_subjects: &[&[u8]],
        _sigschemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        self.asked.store(true, Ordering::Relaxed);
        self.key.clone()
    }

    fn has_certs(&self) -> bool {
        self.key.is_some()
    }
}

/// Checks a name that a certificate may be for: a DNS name or an address.
///
/// # Errors
/// [`TlsError::ServerName`].
pub fn server_name(text: &str) -> Result<String, TlsError> {
    parse_name(text).map(|_| text.to_owned())
}

/// All certificates of a PEM file, in their order; at least one.
///
/// # Errors
/// [`TlsFileError`]: the file cannot be read, or holds none.
pub fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsFileError> {
    let pem = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let found = found.map_err(|error| unusable(path, &error))?;
    if found.is_empty() {
        let (what, label) = ("certificate", "CERTIFICATE");
        return Err(TlsFileError::Empty { path: path.to_owned(), what, label });
    }
    Ok(found)
}

fn parse_name(name: &str) -> Result<ServerName<'static>, TlsError> {
    ServerName::try_from(name.to_owned())
        .map_err(|_| TlsError::ServerName { name: name.to_owned() })
}

fn read_roots(path: &Path) -> Result<RootCertStore, TlsFileError> {
    let mut roots = RootCertStore::empty();
    for certificate in read_certificates(path)? {
        roots.add(certificate).map_err(|error| unusable(path, &error))?;
    }
    Ok(roots)
}

fn system_roots() -> Result<RootCertStore, TlsFileError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() { Err(TlsFileError::NoRoots) } else { Ok(roots) }
}

fn read_client(
    files: &ClientFiles,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, TlsFileError> {
    use rustls::pki_types::pem;
    let chain = read_certificates(&files.certificate)?;
    let path = &files.key;
    let key =
        PrivateKeyDer::from_pem_slice(&Zeroizing::new(read(path)?)).map_err(
            |error| match error {
                pem::Error::NoItemsFound => {
                    let (what, label) = ("private key that is not encrypted", "PRIVATE KEY");
                    TlsFileError::Empty { path: path.clone(), what, label }
                }
                error => unusable(path, &error),
            },
        )?;
    CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            TlsFileError::Mismatch { certificate: files.certificate.clone(), key: path.clone() }
        }
        error => unusable(path, &error),
    })
}

fn read(path: &Path) -> Result<Vec<u8>, TlsFileError> {
    let mut bytes = Vec::new();
    let done =
        File::open(path).and_then(|file| file.take(LONGEST_FILE + 1).read_to_end(&mut bytes));
    match done {
        Ok(_) if bytes.len() as u64 > LONGEST_FILE => {
            Err(unusable(path, &"it is longer than 16 MiB"))
        }
        Ok(_) => Ok(bytes),
        Err(source) => Err(TlsFileError::Read { path: path.to_owned(), source }),
    }
}

fn unusable(path: &Path, reason: &dyn std::fmt::Display) -> TlsFileError {
    TlsFileError::Unusable { path: path.to_owned(), reason: reason.to_string() }
}

fn stamp(path: &Path) -> Stamp {
    let found = fs::metadata(path).ok()?;
    Some((found.ino(), found.ctime(), found.ctime_nsec(), found.size()))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
