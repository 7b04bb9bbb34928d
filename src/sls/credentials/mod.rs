//! Access keys and where they come from.
//!
//! A source is looked at in two steps. Variables and files are read at once
//! ([`CredentialSource::load`]); what remains, if anything, is one or more requests that a
//! client makes at its first call, so that a relay starts while nobody answers.

mod assume_role;
mod chain;
mod cli_profile;
mod document;
mod ecs;
mod environment;
mod error;
pub(super) mod fuzz;
mod held;
mod http;
mod ini_profile;
mod keys;
mod oidc;
mod provider;
mod settings;
mod sts;
mod uri;

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use error::{CredentialError, Tried};
pub use keys::CredentialsStatus;
pub(super) use keys::Keys;
pub use provider::Provider;
pub use settings::ChainSettings;

use super::error::Error;
use provider::Plan;

/// More than any key or token is long; a wrong path may name anything.
const LONGEST_FILE: u64 = 64 * 1024;

/// An access key, with the security token when it is a temporary one (STS).
///
/// `Debug` shows the key's id only.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The access key id; not a secret, it travels in every request.
    pub key_id: String,
    /// The access key secret.
    pub key_secret: String,
    /// The security token of temporary credentials.
    pub security_token: Option<String>,
}

impl Credentials {
    /// A text from outside that may repeat what was sent, without secret and token.
    pub(super) fn hidden_in(&self, text: &str) -> String {
        let secrets = [Some(&self.key_secret), self.security_token.as_ref()];
        secrets.into_iter().flatten().filter(|secret| !secret.is_empty()).fold(
            text.to_owned(),
            // JSON may be written with a \ in front of every slash.
            |text, secret| text.replace(secret, "***").replace(&secret.replace('/', "\\/"), "***"),
        )
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Credentials").field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

/// Where credentials are taken from, at start and again after SLS refused them.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum CredentialSource {
    /// Given once.
    Static(Credentials),
    /// One file for each part, read anew at every load, so that a rotated key is picked
    /// up. Blanks and newlines around the content do not count.
    Files {
        /// Holds the access key id.
        key_id: PathBuf,
        /// Holds the access key secret.
        key_secret: PathBuf,
        /// Holds the security token of temporary credentials.
        security_token: Option<PathBuf>,
    },
    /// Alibaba Cloud's default chain: every [`Provider`] in turn.
    Chain(ChainSettings),
    /// One way of the chain and no other.
    Link(Provider, ChainSettings),
}

impl CredentialSource {
    /// The credentials as they are now. Reads files, so it may block; sends nothing.
    ///
    /// # Errors
    /// [`Error::CredentialFile`] when a file cannot be read, and
    /// [`Error::CredentialInvalid`] when what it holds cannot be a key;
    /// [`Error::Credentials`] when the chain has none, with [`CredentialError::NotYet`]
    /// where only a request can tell.
    pub fn load(&self) -> Result<Credentials, Error> {
        self.look().map(|(_, credentials)| credentials)
    }

    /// `static`, `files`, `chain`, or the provider's name.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Static(_) => "static",
            Self::Files { .. } => "files",
            Self::Chain(_) => "chain",
            Self::Link(provider, _) => provider.name(),
        }
    }

    fn look(&self) -> Result<(Option<Provider>, Credentials), Error> {
        let from = |error| Error::Credentials(Arc::new(error));
        match self {
            Self::Static(credentials) => {
                check(KEY_ID, &credentials.key_id, None)?;
                check(KEY_SECRET, &credentials.key_secret, None)?;
                if let Some(token) = &credentials.security_token {
                    check(SECURITY_TOKEN, token, None)?;
                }
                Ok((None, credentials.clone()))
            }
            Self::Files { key_id, key_secret, security_token } => {
                let token = security_token.as_deref();
                let credentials = Credentials {
                    key_id: read(KEY_ID, key_id)?,
                    key_secret: read(KEY_SECRET, key_secret)?,
                    security_token: token.map(|path| read(SECURITY_TOKEN, path)).transpose()?,
                };
                Ok((None, credentials))
            }
            Self::Chain(settings) => {
                let steps = chain::steps(settings).map_err(from)?;
                let (provider, credentials) = steps.ready().map_err(from)?;
                Ok((Some(provider), credentials.clone()))
            }
            Self::Link(provider, settings) => match provider.plan(settings) {
                Ok(Plan::Ready(credentials)) => Ok((Some(*provider), credentials)),
                Ok(_) => Err(from(CredentialError::NotYet(*provider))),
                Err(miss) => Err(from(miss.into_error(*provider))),
            },
        }
    }
}

const KEY_ID: &str = "access key id";
const KEY_SECRET: &str = "access key secret";
const SECURITY_TOKEN: &str = "security token";

fn read(part: &'static str, path: &Path) -> Result<String, Error> {
    let bytes = read_capped(path).map_err(|source| Error::CredentialFile {
        part,
        path: path.to_owned(),
        source,
    })?;
    let invalid = |problem| Error::CredentialInvalid { part, path: Some(path.to_owned()), problem };
    if bytes.len() as u64 > LONGEST_FILE {
        return Err(invalid("is too long"));
    }
    let text = String::from_utf8(bytes).map_err(|_| invalid("is not text"))?;
    let text = text.trim();
    check(part, text, Some(path))?;
    Ok(text.to_owned())
}

/// A file, or one byte more than the longest that is taken.
fn read_capped(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(LONGEST_FILE + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn check(part: &'static str, text: &str, path: Option<&Path>) -> Result<(), Error> {
    let invalid = |problem| {
        let path = path.map(Path::to_owned);
        Err(Error::CredentialInvalid { part, path, problem })
    };
    flaw(text).map_or(Ok(()), invalid)
}

/// Anything but visible ASCII cannot travel in a header.
fn flaw(text: &str) -> Option<&'static str> {
    if text.is_empty() {
        Some("is empty")
    } else if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        Some("contains a blank or a character that no key has")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn write(dir: &tempfile::TempDir, name: &str, content: &[u8]) -> PathBuf {
        let path = dir.path().join(name);
        std::fs::write(&path, content).expect("write a file");
        path
    }

    #[test]
    fn files_are_read_anew_and_trimmed() {
        let dir = tempfile::tempdir().expect("a directory");
        let source = CredentialSource::Files {
            key_id: write(&dir, "id", b"LTAI1\n"),
            key_secret: write(&dir, "secret", b"one\r\n"),
            security_token: Some(write(&dir, "token", b" tok ")),
        };
        let first = source.load().expect("load");
        assert_eq!((first.key_id.as_str(), first.key_secret.as_str()), ("LTAI1", "one"));
        assert_eq!(first.security_token.as_deref(), Some("tok"));
        write(&dir, "secret", b"two");
        assert_eq!(source.load().expect("load again").key_secret, "two");
    }

    #[test]
    fn a_file_that_holds_no_key_is_named_with_its_problem() {
        let dir = tempfile::tempdir().expect("a directory");
        let good = write(&dir, "good", b"x");
        for (name, content, problem) in [
            ("empty", b" \n".as_slice(), "is empty"),
            ("two", b"a b", "blank"),
            ("bytes", b"\xff", "is not text"),
            ("long", &[b'a'; 70_000], "is too long"),
        ] {
            let source = CredentialSource::Files {
                key_id: good.clone(),
                key_secret: write(&dir, name, content),
                security_token: None,
            };
            let text = source.load().expect_err(name).to_string();
            assert!(text.contains(problem) && text.contains(name), "{text}");
        }
        let source = CredentialSource::Files {
            key_id: dir.path().join("absent"),
            key_secret: good,
            security_token: None,
        };
        assert_eq!(source.load().expect_err("absent").code(), "sls.credential_file");
    }

    #[test]
    fn debug_shows_neither_secret_nor_token() {
        let source = CredentialSource::Static(Credentials {
            key_id: "LTAI".into(),
            key_secret: "hidden".into(),
            security_token: Some("hidden".into()),
        });
        assert!(!format!("{source:?}").contains("hidden"));
        assert!(source.load().is_ok());
    }
}
