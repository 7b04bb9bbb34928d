//! Documents and profiles of any bytes, for [`crate::sls::fuzz`].

use std::path::Path;

use jiff::Timestamp;

use super::document::{read_assumed, read_document};
use super::error::CredentialError;
use super::http::Reply;
use super::provider::{Issued, Miss, Plan, Planned, flaw_of};
use super::settings::ChainSettings;
use super::{cli_profile, ini_profile};

/// No message about an answer comes near it, in bytes.
const LONGEST_MESSAGE: usize = 400;

/// Reads the bytes as one of the four documents.
pub(in crate::sls) fn read(kind: u8, body: &[u8]) {
    match kind % 4 {
        0 => answer(kind, body, read_document),
        1 => answer(kind, body, read_assumed),
        2 => profile(body, cli_profile::read),
        _ => profile(body, ini_profile::read),
    }
}

fn answer(kind: u8, body: &[u8], read: fn(&Reply, &str) -> Result<Issued, CredentialError>) {
    let status = if kind & 4 == 0 { 200 } else { 403 };
    let reply = Reply { status, body: body.to_vec(), now: Timestamp::UNIX_EPOCH };
    match read(&reply, "there") {
        Ok(issued) => {
            assert_eq!(status, 200, "a refusal gives no key");
            assert!(flaw_of(&issued.credentials).is_none(), "a key can be sent");
        }
        Err(error) => {
            let text = error.in_full();
            assert!(text.len() <= LONGEST_MESSAGE, "a message is short");
            assert!(!text.contains(char::is_control), "a message is one line");
        }
    }
}

fn profile(body: &[u8], read: fn(&str, &Path, &ChainSettings) -> Planned) {
    let Ok(text) = std::str::from_utf8(body) else { return };
    match read(text, Path::new("file"), &ChainSettings::new(&|_| None)) {
        Ok(Plan::Ready(credentials)) => {
            assert!(flaw_of(&credentials).is_none(), "a key can be sent");
        }
        Ok(_) => {}
        Err(Miss::Absent(why)) => assert!(why.len() <= LONGEST_MESSAGE, "a reason is short"),
        Err(Miss::Unusable(error)) => assert!(!error.code().is_empty(), "it has a code"),
    }
}
