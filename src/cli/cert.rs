//! `sls-relay cert`: what is to be known of certificates before they are trusted.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::{exit, output};
use crate::syslog::transport::TcpSettings;
use crate::syslog::transport::tls::{self, Certificate};
use crate::syslog::{SendError, Target};

#[derive(Args, Debug)]
pub(crate) struct CertArgs {
    #[command(subcommand)]
    command: CertCommand,
}

#[derive(Debug, Subcommand)]
enum CertCommand {
    /// Print the fingerprints, names and end of certificates in a file or of a receiver
    Fingerprint(FingerprintArgs),
}

#[derive(Args, Debug)]
struct FingerprintArgs {
    /// PEM file, or HOST[:PORT] of a receiver that speaks TLS (port 6514)
    #[arg(value_name = "FILE|HOST:PORT")]
    of: String,
    /// Longest wait for the receiver
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    wait: u64,
}

pub(crate) fn run(args: &CertArgs) -> ExitCode {
    let CertCommand::Fingerprint(args) = &args.command;
    let path = Path::new(&args.of);
    if path.exists() {
        return of_file(path);
    }
    let address = args.of.strip_prefix("tls://").unwrap_or(&args.of);
    match format!("tls://{address}").parse::<Target>() {
        Ok(target) => of_receiver(&target, Duration::from_secs(args.wait)),
        Err(_) => {
            output::error(&format!(
                "error: {} is neither a file nor HOST:PORT of a receiver",
                args.of
            ));
            ExitCode::from(exit::USAGE)
        }
    }
}

fn of_file(path: &Path) -> ExitCode {
    match tls::read_certificates(path) {
        Ok(found) => {
            for (place, certificate) in found.iter().enumerate() {
                if place > 0 {
                    output::line("");
                }
                print(&Certificate::from_der(certificate));
            }
            ExitCode::SUCCESS
        }
        Err(error) => output::fail(&error, exit::CONFIG),
    }
}

fn of_receiver(target: &Target, wait: Duration) -> ExitCode {
    let runtime = match super::runtime() {
        Ok(runtime) => runtime,
        Err(code) => return code,
    };
    let limits = TcpSettings { connect_timeout: wait, ..TcpSettings::default() };
    let presented: Result<Certificate, SendError> =
        runtime.block_on(tls::presented(target, &limits));
    // A name that is still being resolved must not hold up the end.
    runtime.shutdown_background();
    match presented {
        Ok(certificate) => {
            print(&certificate);
            output::error(&format!(
                "{target} presented this over the network: before it is pinned, compare it with the file on the receiver"
            ));
            ExitCode::SUCCESS
        }
        Err(error) => output::fail(&error, exit::UNAVAILABLE),
    }
}

fn print(certificate: &Certificate) {
    output::line(&certificate.sha256.to_string());
    output::line(&certificate.sha1.to_string());
    output::line(&format!("names: {}", certificate.shown_names()));
    if let (Some(from), Some(to)) = (certificate.not_before, certificate.not_after) {
        output::line(&format!("valid from {from} to {to}"));
    }
}
