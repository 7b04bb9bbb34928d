//! The keys that logs in the spool are encrypted with.

use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::credentials::{self, Env};
use super::read::{Read, Reader};
use super::report::{Place, Report};
use super::settings::SpoolSettings;
use crate::spool::Keys;

/// Name of the systemd credential.
const SYSTEMD: &str = "sls_spool-key";

/// The file of keys cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot use the keys of the spool in {path}: {why}")]
pub struct KeyFileError {
    path: PathBuf,
    why: String,
}

impl SpoolSettings {
    /// Reads the keys; none where no file is configured.
    ///
    /// # Errors
    /// When the file cannot be read or a line is no key.
    pub fn keys(&self) -> Result<Keys, KeyFileError> {
        self.key_file.as_deref().map_or_else(|| Ok(Keys::default()), of_file)
    }
}

fn of_file(path: &Path) -> Result<Keys, KeyFileError> {
    let fail = |why| KeyFileError { path: path.to_owned(), why };
    let text = Zeroizing::new(credentials::read(path).map_err(fail)?);
    Keys::parse(&text).map_err(|error| fail(error.to_string()))
}

/// The file that the table names, else systemd's credential. `try_it` reports what is wrong
/// with its content; it is read again when the spool is opened.
pub(super) fn file(reader: &mut Reader<'_>, env: Env<'_>, try_it: bool) -> Read<Option<PathBuf>> {
    let path = |text: &str| Ok::<_, String>(PathBuf::from(text));
    if let Some(path) = reader.optional("encrypt_key_file", path)? {
        return match of_file(&path) {
            Err(error) if try_it => {
                let label = format!("cannot be used: {}", error.why);
                Err(reader.report("config.invalid_value", "encrypt_key_file", &label))
            }
            _ => Ok(Some(path)),
        };
    }
    let dir = env("CREDENTIALS_DIRECTORY").filter(|dir| !dir.is_empty());
    let Some(path) = dir.map(|dir| Path::new(&dir).join(SYSTEMD)).filter(|path| path.exists())
    else {
        return Ok(None);
    };
    match of_file(&path) {
        Err(error) if try_it => {
            reader.reports.push(
                Report::problem(
                    "config.invalid_value",
                    "the systemd credential with the spool's keys cannot be used",
                )
                .at(&Place::Named("systemd"), error.to_string())
                .help("`sls-relay spool key` makes a key; one a line, the newest first"),
            );
            Err(super::read::Reported)
        }
        _ => Ok(Some(path)),
    }
}
