//! The TLS transport against a receiver by rustls: whom it believes, who it says it is, and
//! what its ends prove.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "in a test a panic is the report")]

mod client_certificates;
mod command;
mod ends;
#[path = "../support/pki.rs"]
mod pki;
mod server;
mod trust;

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use sls_relay::syslog::transport::tls::{TlsError, TlsSettings};
use sls_relay::syslog::transport::{TcpSettings, TlsConnection, TlsProfile};
use sls_relay::syslog::{SendError, Target};
use tempfile::TempDir;
use tokio::time::timeout;

use pki::{Authority, Issued, Until};

/// Far more than anything here takes; reaching it is a failure.
const DEADLINE: Duration = Duration::from_secs(60);

async fn in_time<T>(what: impl Future<Output = T>) -> T {
    timeout(DEADLINE, what).await.expect("the deadline of the test has passed")
}

/// An authority, and a certificate of it for the address that servers here listen on.
struct Scene {
    dir: TempDir,
    authority: Authority,
    server: Issued,
}

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new(dir.path(), "ca");
        let server = authority.server("server", &["127.0.0.1", "siem.test"], Until::Later);
        Self { dir, authority, server }
    }

    /// Settings that believe the authority.
    fn trusting(&self) -> TlsSettings {
        TlsSettings { ca_file: Some(self.authority.file.clone()), ..TlsSettings::default() }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

async fn connect(target: &Target, settings: TlsSettings) -> Result<TlsConnection, SendError> {
    let profile = TlsProfile::new(settings);
    in_time(TlsConnection::connect(target, &TcpSettings::default(), &profile)).await
}

/// The error of TLS in an error.
fn tls(error: &SendError) -> &TlsError {
    match error {
        SendError::Tls(error) => error,
        error => panic!("{error:?}"),
    }
}

/// Checks that a text says all of these.
fn says(error: &dyn std::error::Error, parts: &[&str]) {
    let text = error.to_string();
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
}
