//! Why there is no access key.

use std::fmt;

use super::provider::Provider;
use crate::sls::error::{Advice, RETRY_AFTER};

/// A failure to get an access key from one of Alibaba Cloud's ways to give one.
///
/// It never contains a secret, a token, or text that came from outside as it came.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialError {
    /// None of the ways gave a key.
    #[error("no access key was found: {}", Listed(tried))]
    Absent {
        /// What each of them looked for, in the order of the chain.
        tried: Vec<Tried>,
        /// Whether someone was asked over the network, and may answer another time.
        asked: bool,
    },
    /// What is there cannot be used, or was refused.
    #[error("{place}: {problem}")]
    Unusable {
        /// The variable, file or address.
        place: String,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// No answer, or none that makes sense.
    #[error("{place}: {problem}, it is tried again")]
    Fetch {
        /// The address.
        place: String,
        /// How far it came.
        problem: String,
        /// Why.
        source: Option<reqwest::Error>,
    },
    /// Only a request can tell, and none may be made here.
    #[error("the access key of {0} is only known once it was asked for over the network")]
    NotYet(Provider),
}

/// One way that gave no key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tried {
    /// The way.
    pub provider: Provider,
    /// Why it gave none.
    pub why: String,
}

impl CredentialError {
    /// The stable code used in logs, metrics and documents.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Absent { .. } => "sls.credentials_absent",
            Self::Unusable { .. } => "sls.credentials_unusable",
            Self::Fetch { .. } => "sls.credentials_unavailable",
            Self::NotYet(_) => "sls.credentials_not_yet",
        }
    }

    /// What to do about it.
    pub fn advice(&self) -> Advice {
        match self {
            Self::Fetch { .. } | Self::NotYet(_) | Self::Absent { asked: true, .. } => {
                Advice::Retry { after: RETRY_AFTER }
            }
            Self::Absent { asked: false, .. } | Self::Unusable { .. } => Advice::Operator,
        }
    }

    /// The same, after something else had failed that may be the cause.
    pub(super) fn after(mut self, before: &Self) -> Self {
        if let Self::Unusable { problem, .. } | Self::Fetch { problem, .. } = &mut self {
            problem.push_str(&format!(" (before that, {before})"));
        }
        self
    }

    /// With what caused it, in one line.
    pub(super) fn in_full(&self) -> String {
        in_full(self)
    }
}

/// An error with what caused it, in one line.
pub(super) fn in_full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text.push_str(&format!(": {error}"));
        next = error.source();
    }
    text
}

struct Listed<'a>(&'a [Tried]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, Tried { provider, why }) in self.0.iter().enumerate() {
            let between = if position == 0 { "" } else { "; " };
            write!(out, "{between}{provider}: {why}")?;
        }
        Ok(())
    }
}
