//! The way to SLS below HTTP: the name, the connection, the certificate.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::timeout;

use super::findings::Findings;
use crate::config::Source;
use crate::sls::{Error, Route};

/// Resolves the endpoint's name and connects, where no proxy does. False where that fails.
pub(super) async fn reach(source: &Source, wait: Duration, findings: &mut Findings) -> bool {
    let addresses = match &source.network.route {
        Route::Proxy(_) | Route::Environment => {
            findings
                .note("resolve, connect", "left to the proxy, if there is one for this endpoint");
            return true;
        }
        Route::Address(address) => vec![*address],
        Route::Direct => match resolve(source, wait).await {
            Ok(addresses) => {
                let list: Vec<_> = addresses.iter().map(|to| to.ip().to_string()).collect();
                findings.ok("resolve", &list.join(", "));
                addresses
            }
            Err(error) => {
                let host = source.endpoint.host_header(&source.project);
                let detail = format!(
                    "{host}: {error}: check the endpoint's name, the project's and this machine's DNS; for a private link set connect_to"
                );
                findings.fail("resolve", "check.resolve", &detail);
                return false;
            }
        },
    };
    let connect = tokio::net::TcpStream::connect(&*addresses);
    match timeout(wait, connect).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
        Ok(stream) => {
            let peer = stream.peer_addr().map_or_else(|_| String::new(), |peer| peer.to_string());
            findings.ok("connect", &peer);
            true
        }
        Err(error) => {
            let tried: Vec<_> = addresses.iter().map(ToString::to_string).collect();
            let detail = format!(
                "{}: {error}: check the endpoint, firewalls and the route; where only a proxy leads out set proxy",
                tried.join(", ")
            );
            findings.fail("connect", "check.connect", &detail);
            false
        }
    }
}

async fn resolve(source: &Source, wait: Duration) -> io::Result<Vec<SocketAddr>> {
    let invalid = |error| io::Error::new(io::ErrorKind::InvalidInput, error);
    let uri: http::Uri = source.endpoint.url_base(&source.project).parse().map_err(invalid)?;
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let port = uri.port_u16().unwrap_or(if source.endpoint.is_https() { 443 } else { 80 });
    let found = timeout(wait, tokio::net::lookup_host((host, port))).await;
    let found: Vec<_> = found.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?.collect();
    match found.is_empty() {
        true => Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address")),
        false => Ok(found),
    }
}

/// Says that the certificate was good: an answer came.
pub(super) fn verified(source: &Source, findings: &mut Findings) {
    if source.endpoint.is_https() {
        let host = source.endpoint.host_header(&source.project);
        findings.ok("TLS", &format!("the certificate is good for {host}"));
    } else {
        findings.note("TLS", "none, as the endpoint says http://");
    }
}

/// What is wrong with the certificate, or with TLS at all, where that is why no answer came.
pub(super) fn failed(source: &Source, error: &Error) -> Option<String> {
    let Error::Transport { source: cause, .. } = error else { return None };
    let tls = tls_error(cause)?;
    let fix = match &source.network.ca_file {
        Some(path) => format!(
            "check that {} holds the certificate that signed the one of the endpoint",
            path.display()
        ),
        None => "check the endpoint and install ca-certificates; where something on the way signs with an own authority, name its certificate in ca_file".to_owned(),
    };
    Some(format!("{tls}: {fix}"))
}

fn tls_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    if let Some(tls) = error.downcast_ref::<rustls::Error>() {
        return Some(tls);
    }
    // The cause of an I/O error is that of what it wraps: what it wraps would be passed over.
    if let Some(inner) = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        return tls_error(inner);
    }
    tls_error(error.source()?)
}
