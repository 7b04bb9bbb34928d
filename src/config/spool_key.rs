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

/// The file that the table names, else systemd's credential. It is read when the spool is
/// opened; with `try_it` a warning tells what will be wrong then.
pub(super) fn file(reader: &mut Reader<'_>, env: Env<'_>, try_it: bool) -> Read<Option<PathBuf>> {
    let path = |text: &str| Ok::<_, String>(PathBuf::from(text));
    let (path, place) = match reader.optional("encrypt_key_file", path)? {
        Some(path) => (path, reader.table.place_of("encrypt_key_file")),
        None => {
            let dir = env("CREDENTIALS_DIRECTORY").filter(|dir| !dir.is_empty());
            match dir.map(|dir| Path::new(&dir).join(SYSTEMD)).filter(|path| path.exists()) {
                Some(path) => (path, Place::Named("systemd")),
                None => return Ok(None),
            }
        }
    };
    if try_it && let Err(error) = of_file(&path) {
        let title = "the keys of the spool cannot be used as they are now";
        reader.reports.push(
            Report::warning("config.key_file", title)
                .at(&place, format!("{}: {}", path.display(), error.why))
                .help("the relay does not start before this is put right"),
        );
    }
    Ok(Some(path))
}
