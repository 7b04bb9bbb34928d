//! The way from this machine to SLS: directly, through a proxy, or to a given address, and
//! whose certificates are believed on it.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use reqwest::{ClientBuilder, Url};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::endpoint::Endpoint;
use super::error::Error;

/// How connections to SLS are made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// The way there.
    pub route: Route,
    /// A file of certificates (PEM) that are believed in place of this machine's.
    pub ca_file: Option<PathBuf>,
}

/// The way to SLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Route {
    /// Wherever the endpoint's name leads, whatever the environment says.
    #[default]
    Direct,
    /// This address, such as that of a private link. Names in requests and certificates
    /// stay those of the endpoint; a port of the endpoint does not count.
    Address(SocketAddr),
    /// An HTTP proxy, which also resolves the endpoint's name.
    Proxy(Proxy),
    /// What `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` say.
    Environment,
}

/// The address of an HTTP proxy, with or without a user and password.
///
/// `Display` and `Debug` show neither of them.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    url: Url,
}

/// Why a text is no proxy. It never repeats the text, which may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProxyError {
    /// Something else than an HTTP proxy, or no scheme.
    #[error("a proxy begins with http:// or https://")]
    Scheme,
    /// Not a URL.
    #[error(
        "this is no address of a proxy: write http://HOST:PORT, with special characters of a password as %XX"
    )]
    Address,
    /// A path, a query or a fragment.
    #[error("a proxy ends after its host and port")]
    Trailing,
}

impl ProxyError {
    /// The stable code of this error.
    pub fn code(&self) -> &'static str {
        "sls.proxy_invalid"
    }
}

/// More than all certificates of the world are long; a wrong path may name anything.
const LONGEST_CA_FILE: u64 = 16 * 1024 * 1024;

impl FromStr for Proxy {
    type Err = ProxyError;

    fn from_str(text: &str) -> Result<Self, ProxyError> {
        let (scheme, _) = text.split_once("://").ok_or(ProxyError::Scheme)?;
        if !["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
            return Err(ProxyError::Scheme);
        }
        let url = Url::parse(text).map_err(|_| ProxyError::Address)?;
        if !url.has_host() || url.port() == Some(0) {
            return Err(ProxyError::Address);
        }
        if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
            return Err(ProxyError::Trailing);
        }
        reqwest::Proxy::all(url.clone()).map_err(|_| ProxyError::Address)?;
        Ok(Self { url })
    }
}

impl Proxy {
    /// Whether the connection to the proxy itself is encrypted.
    pub fn is_https(&self) -> bool {
        self.url.scheme() == "https"
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = !self.url.username().is_empty() || self.url.password().is_some();
        let user = if named { "***@" } else { "" };
        write!(out, "{}://{user}{}", self.url.scheme(), self.url.host_str().unwrap_or_default())?;
        match self.url.port() {
            Some(port) => write!(out, ":{port}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Proxy({self})")
    }
}

impl Route {
    /// Sets up the way for requests to one host.
    pub(super) fn apply(&self, http: ClientBuilder, host: &str) -> Result<ClientBuilder, Error> {
        let setup = |source: reqwest::Error| Error::Setup { source: source.without_url().into() };
        Ok(match self {
            Self::Direct => http.no_proxy(),
            Self::Address(address) => http.no_proxy().resolve(host, *address),
            Self::Proxy(proxy) => {
                http.no_proxy().proxy(reqwest::Proxy::all(proxy.url.clone()).map_err(setup)?)
            }
            Self::Environment => http,
        })
    }

    /// What to call a connection on which no answer came.
    pub(super) fn failure(&self) -> &'static str {
        match self {
            Self::Direct => "no answer",
            Self::Address(_) => "no answer from the address to connect to",
            Self::Proxy(_) => "no answer through the proxy",
            Self::Environment => "no answer (by the proxy that the environment names, if any)",
        }
    }
}

impl Network {
    /// TLS that trusts the file's certificates, or what this machine trusts. Where nothing
    /// is encrypted nothing is looked up.
    pub(super) fn tls(&self, endpoint: &Endpoint) -> Result<rustls::ClientConfig, Error> {
        let proxy_needs = match &self.route {
            Route::Proxy(proxy) => proxy.is_https(),
            Route::Environment => true,
            Route::Direct | Route::Address(_) => false,
        };
        let needed = endpoint.is_https() || proxy_needs;
        let roots = match &self.ca_file {
            Some(path) if needed => read_roots(path)?,
            None if needed => system_roots(endpoint.is_https())?,
            _ => RootCertStore::empty(),
        };
        trusting(roots)
    }

    /// TLS towards the services that give access keys: their certificates are the usual ones,
    /// but a proxy on the way may show one of the file's.
    pub(super) fn tls_for_keys(&self) -> Result<rustls::ClientConfig, Error> {
        let mut roots = system_roots(false)?;
        if let Some(path) = &self.ca_file {
            roots.roots.extend(read_roots(path)?.roots);
        }
        trusting(roots)
    }

    /// The way to them: through the proxy, but never to the endpoint's own address.
    pub(super) fn apply_for_keys(&self, http: ClientBuilder) -> Result<ClientBuilder, Error> {
        match &self.route {
            Route::Direct | Route::Address(_) => Ok(http.no_proxy()),
            route => route.apply(http, ""),
        }
    }
}

fn trusting(roots: RootCertStore) -> Result<rustls::ClientConfig, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|source| Error::Setup { source: source.into() })?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}

fn system_roots(must_be: bool) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() && must_be { Err(Error::NoRoots) } else { Ok(roots) }
}

fn read_roots(path: &Path) -> Result<RootCertStore, Error> {
    let unreadable = |source: io::Error| Error::CaFile { path: path.to_owned(), source };
    let mut pem = Vec::new();
    File::open(path)
        .and_then(|file| file.take(LONGEST_CA_FILE).read_to_end(&mut pem))
        .map_err(unreadable)?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let problem = match certificate {
            Ok(certificate) => roots.add(certificate).err().map(|error| error.to_string()),
            Err(error) => Some(error.to_string()),
        };
        if let Some(problem) = problem {
            return Err(unreadable(io::Error::new(io::ErrorKind::InvalidData, problem)));
        }
    }
    if roots.is_empty() { Err(Error::CaFileEmpty { path: path.to_owned() }) } else { Ok(roots) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_never_shows_its_user_or_password() {
        for (text, shown) in [
            ("http://proxy.example:3128", "http://proxy.example:3128"),
            ("HTTP://proxy.example/", "http://proxy.example"),
            ("https://user:p%40ss@proxy.example:443", "https://***@proxy.example"),
            ("http://user@[2001:db8::1]:8080", "http://***@[2001:db8::1]:8080"),
            ("http://:secret@10.0.0.1:8080", "http://***@10.0.0.1:8080"),
        ] {
            let proxy: Proxy = text.parse().expect(text);
            assert_eq!(proxy.to_string(), shown);
            let route = Network { route: Route::Proxy(proxy), ca_file: None };
            assert!(
                !format!("{route:?}").contains("user") && !format!("{route:?}").contains("ss@")
            );
        }
    }

    #[test]
    fn what_is_no_proxy_is_refused_without_repeating_it() {
        use ProxyError::{Address, Scheme, Trailing};
        for (text, expected) in [
            ("", Scheme),
            ("proxy.example:3128", Scheme),
            ("secret:word@proxy.example", Scheme),
            ("socks5://secret@proxy.example", Scheme),
            ("http://", Address),
            ("http://secret:wo/rd@proxy.example", Address),
            ("http://secret@proxy.example:0", Address),
            ("http://secret@proxy.example:99999", Address),
            ("http://secret@proxy example", Address),
            ("http://secret@proxy.example/path", Trailing),
            ("http://secret@proxy.example?q", Trailing),
            ("http://secret@proxy.example#f", Trailing),
        ] {
            let error = text.parse::<Proxy>().expect_err(text);
            assert_eq!(error, expected, "{text}");
            assert!(!error.to_string().contains("secret"));
        }
    }
}
