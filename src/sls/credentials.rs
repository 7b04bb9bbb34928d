//! Access keys and where they come from.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use super::error::Error;

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
}

impl CredentialSource {
    /// The credentials as they are now. Reads files, so it may block.
    ///
    /// # Errors
    /// [`Error::CredentialFile`] when a file cannot be read, and
    /// [`Error::CredentialInvalid`] when what it holds cannot be a key.
    pub fn load(&self) -> Result<Credentials, Error> {
        match self {
            Self::Static(credentials) => {
                check(KEY_ID, &credentials.key_id, None)?;
                check(KEY_SECRET, &credentials.key_secret, None)?;
                if let Some(token) = &credentials.security_token {
                    check(SECURITY_TOKEN, token, None)?;
                }
                Ok(credentials.clone())
            }
            Self::Files { key_id, key_secret, security_token } => Ok(Credentials {
                key_id: read(KEY_ID, key_id)?,
                key_secret: read(KEY_SECRET, key_secret)?,
                security_token: security_token
                    .as_deref()
                    .map(|path| read(SECURITY_TOKEN, path))
                    .transpose()?,
            }),
        }
    }
}

/// The credentials in use, shared by all calls of a client.
pub(super) struct Keys {
    source: CredentialSource,
    current: Mutex<Current>,
}

struct Current {
    credentials: Arc<Credentials>,
    /// When it was last asked for others.
    asked: Option<Instant>,
}

/// A refused key is not looked up again sooner than this.
const RELOAD_INTERVAL: Duration = Duration::from_secs(3);

impl Keys {
    /// Loads the credentials for the first time; may block.
    pub(super) fn load(source: CredentialSource) -> Result<Self, Error> {
        let credentials = Arc::new(source.load()?);
        let current = Mutex::new(Current { credentials, asked: None });
        Ok(Self { source, current })
    }

    /// The credentials to sign with now.
    pub(super) async fn current(&self) -> Arc<Credentials> {
        Arc::clone(&self.current.lock().await.credentials)
    }

    /// SLS has refused these credentials: whether there are others `now`.
    ///
    /// Many calls may find out at the same time; the source is asked once.
    pub(super) async fn replace(&self, refused: &Arc<Credentials>, now: Instant) -> bool {
        let mut current = self.current.lock().await;
        if current.credentials != *refused {
            return true;
        }
        if current.asked.is_some_and(|last| now.duration_since(last) < RELOAD_INTERVAL) {
            return false;
        }
        current.asked = Some(now);
        let source = self.source.clone();
        match tokio::task::spawn_blocking(move || source.load()).await {
            Ok(Ok(credentials)) if credentials != **refused => {
                tracing::info!(key_id = %credentials.key_id, "took new credentials");
                current.credentials = Arc::new(credentials);
                true
            }
            Ok(Ok(_)) => false,
            Ok(Err(error)) => {
                tracing::warn!(code = error.code(), %error, "kept the refused credentials");
                false
            }
            Err(_) => false,
        }
    }
}

const KEY_ID: &str = "access key id";
const KEY_SECRET: &str = "access key secret";
const SECURITY_TOKEN: &str = "security token";

fn read(part: &'static str, path: &Path) -> Result<String, Error> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(LONGEST_FILE + 1).read_to_end(&mut bytes))
        .map_err(|source| Error::CredentialFile { part, path: path.to_owned(), source })?;
    let invalid = |problem| Error::CredentialInvalid { part, path: Some(path.to_owned()), problem };
    if bytes.len() as u64 > LONGEST_FILE {
        return Err(invalid("is too long"));
    }
    let text = String::from_utf8(bytes).map_err(|_| invalid("is not text"))?;
    let text = text.trim();
    check(part, text, Some(path))?;
    Ok(text.to_owned())
}

/// Anything but visible ASCII cannot travel in a header.
fn check(part: &'static str, text: &str, path: Option<&Path>) -> Result<(), Error> {
    let problem = if text.is_empty() {
        "is empty"
    } else if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        "contains a blank or a character that no key has"
    } else {
        return Ok(());
    };
    Err(Error::CredentialInvalid { part, path: path.map(Path::to_owned), problem })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(dir: &tempfile::TempDir, name: &str, content: &[u8]) -> PathBuf {
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

    #[tokio::test]
    async fn refused_credentials_are_looked_up_again_but_not_too_often() {
        let dir = tempfile::tempdir().expect("a directory");
        let keys = Keys::load(CredentialSource::Files {
            key_id: write(&dir, "id", b"LTAI"),
            key_secret: write(&dir, "secret", b"one"),
            security_token: None,
        })
        .expect("load");
        let first = keys.current().await;
        let now = Instant::now();
        assert!(!keys.replace(&first, now).await, "the same key again");
        write(&dir, "secret", b"two");
        assert!(!keys.replace(&first, now).await, "too soon");
        let now = now + RELOAD_INTERVAL;
        assert!(keys.replace(&first, now).await, "a new key");
        assert!(keys.replace(&first, now).await, "another call with the old key");
        let second = keys.current().await;
        assert_eq!(second.key_secret, "two");
        std::fs::remove_file(dir.path().join("secret")).expect("remove");
        assert!(!keys.replace(&second, now + RELOAD_INTERVAL).await, "no key at all");
        assert_eq!(keys.current().await, second);
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
