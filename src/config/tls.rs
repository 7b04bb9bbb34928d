//! The keys of a destination that say how it is reached over TLS.

use std::path::PathBuf;

use super::read::{Read, Reader, Reported};
use super::report::Report;
use crate::syslog::Scheme;
use crate::syslog::transport::tls::{
    ClientFiles, Fingerprint, FingerprintError, TlsSettings, server_name,
};

/// The keys, in the order of the schema.
const KEYS: [&str; 5] =
    ["ca_file", "server_name", "fingerprints", "client_cert_file", "client_key_file"];

/// Reads them; `scheme` is the transport, where that could be read.
pub(super) fn tls(reader: &mut Reader<'_>, scheme: Option<Scheme>) -> Read<TlsSettings> {
    let path = |text: &str| Ok::<_, String>(PathBuf::from(text));
    let ca_file = reader.optional("ca_file", path);
    let name = reader.optional("server_name", server_name);
    let fingerprints = reader.optional("fingerprints", fingerprints);
    let certificate = reader.optional("client_cert_file", path);
    let key = reader.optional("client_key_file", path);
    let encrypted = scheme.is_none_or(Scheme::is_encrypted);
    let conflicts = if encrypted { conflicts(reader) } else { meaningless(reader) };
    if !conflicts.is_empty() {
        reader.reports.extend(conflicts);
        return Err(Reported);
    }
    let client = match (certificate?, key?) {
        (Some(certificate), Some(key)) => Some(ClientFiles { certificate, key }),
        _ => None,
    };
    Ok(TlsSettings {
        ca_file: ca_file?,
        server_name: name?,
        fingerprints: fingerprints?.unwrap_or_default(),
        client,
    })
}

fn meaningless(reader: &Reader<'_>) -> Vec<Report> {
    let table = reader.table;
    let written = KEYS.iter().filter(|key| table.has(key));
    let report = |key: &&'static str| {
        let shown = table.shown(key);
        Report::problem("config.conflict", format!("`{shown}` has no meaning without TLS"))
            .at(&table.place_of(key), "this is about certificates")
            .at(&table.place_of("to"), "nothing is encrypted on this transport")
            .help(format!("send to tls://, or remove `{shown}`"))
    };
    written.map(report).collect()
}

fn conflicts(reader: &Reader<'_>) -> Vec<Report> {
    let table = reader.table;
    let mut found = Vec::new();
    if table.has("ca_file") && table.has("fingerprints") {
        found.push(
            Report::problem("config.conflict", "`ca_file` has no meaning beside `fingerprints`")
                .at(&table.place_of("ca_file"), "no authority is asked")
                .at(&table.place_of("fingerprints"), "the certificate is known by this alone")
                .help("keep one of them"),
        );
    }
    for (one, other) in
        [("client_cert_file", "client_key_file"), ("client_key_file", "client_cert_file")]
    {
        if table.has(one) && !table.has(other) {
            let title = format!("`{one}` needs `{other}`");
            found.push(
                Report::problem("config.conflict", title)
                    .at(&table.place_of(one), "half of what shows who we are")
                    .help("name the file of the certificate and that of its private key"),
            );
        }
    }
    found
}

fn fingerprints(text: &str) -> Result<Vec<Fingerprint>, FingerprintError> {
    text.split(',').map(str::parse).collect()
}
