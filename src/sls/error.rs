//! What can go wrong between the relay and SLS, and what to do about it.

use std::io;
use std::path::PathBuf;

/// A failure of the SLS leaf.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file with a part of the credentials cannot be read.
    #[error("cannot read the {part} from {}: check the path and its permissions", path.display())]
    CredentialFile {
        /// Which part of the credentials.
        part: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A part of the credentials cannot be what it should be.
    #[error("the {part}{} {problem}: put the value from the RAM console there", from(path))]
    CredentialInvalid {
        /// Which part of the credentials.
        part: &'static str,
        /// The file it came from, if any.
        path: Option<PathBuf>,
        /// What is wrong with it.
        problem: &'static str,
    },
}

impl Error {
    /// The stable code used in logs, metrics and documents.
    pub fn code(&self) -> &'static str {
        match self {
            Self::CredentialFile { .. } => "sls.credential_file",
            Self::CredentialInvalid { .. } => "sls.credential_invalid",
        }
    }
}

fn from(path: &Option<PathBuf>) -> String {
    path.as_ref().map(|path| format!(" in {}", path.display())).unwrap_or_default()
}
