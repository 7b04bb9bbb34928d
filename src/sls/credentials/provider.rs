//! The ways of Alibaba Cloud's default chain, and what each of them comes down to.

use std::fmt;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;

use super::assume_role::AssumeRole;
use super::ecs::Ecs;
use super::error::CredentialError;
use super::http::Http;
use super::oidc::Oidc;
use super::settings::ChainSettings;
use super::uri::Uri;
use super::{Credentials, cli_profile, ecs, environment, flaw, ini_profile, oidc, uri};

/// One way to get an access key, by the name that the configuration has for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Provider {
    /// `ALIBABA_CLOUD_ACCESS_KEY_ID` and its like in the environment.
    Env,
    /// A token of Kubernetes or another identity provider, changed for a key at STS
    /// (AssumeRoleWithOIDC; "RRSA" in ACK).
    Oidc,
    /// The profile of the `aliyun` command line tool, `~/.aliyun/config.json`.
    CliProfile,
    /// The profile shared by the SDKs, `~/.alibabacloud/credentials`.
    IniProfile,
    /// The RAM role of this ECS instance, asked for at its metadata service.
    EcsRamRole,
    /// `ALIBABA_CLOUD_CREDENTIALS_URI`.
    Uri,
}

impl Provider {
    /// All of them in the order of the default chain.
    pub const ALL: [Self; 6] =
        [Self::Env, Self::Oidc, Self::CliProfile, Self::IniProfile, Self::EcsRamRole, Self::Uri];

    /// The name in the configuration and in status.
    pub fn name(self) -> &'static str {
        match self {
            Self::Env => "env",
            Self::Oidc => "oidc",
            Self::CliProfile => "cli-profile",
            Self::IniProfile => "ini-profile",
            Self::EcsRamRole => "ecs-ram-role",
            Self::Uri => "uri",
        }
    }

    /// Looks at variables and files, sends nothing. May block.
    pub(super) fn plan(self, settings: &ChainSettings) -> Planned {
        match self {
            Self::Env => environment::plan(settings),
            Self::Oidc => oidc::plan(settings),
            Self::CliProfile => cli_profile::plan(settings),
            Self::IniProfile => ini_profile::plan(settings),
            Self::EcsRamRole => ecs::plan(settings),
            Self::Uri => uri::plan(settings),
        }
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

/// What remains to be done for a key.
pub(super) enum Plan {
    /// Nothing.
    Ready(Credentials),
    Oidc(Oidc),
    AssumeRole(Box<AssumeRole>),
    Ecs(Ecs),
    Uri(Uri),
}

pub(super) type Planned = Result<Plan, Miss>;

/// Why a way leads nowhere.
pub(super) enum Miss {
    /// Nothing of it is here.
    Absent(String),
    /// It is here, and cannot be used.
    Unusable(CredentialError),
}

impl Miss {
    pub(super) fn unusable(place: impl fmt::Display, problem: impl Into<String>) -> Self {
        let (place, problem) = (place.to_string(), problem.into());
        Self::Unusable(CredentialError::Unusable { place, problem })
    }
}

/// An access key as it was given.
pub(super) struct Issued {
    pub(super) credentials: Credentials,
    /// None for a key that lasts.
    pub(super) expiry: Option<Expiry>,
}

/// When a temporary key ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expiry {
    pub(super) at: Timestamp,
    /// The time left when it was given, by the clock of who gave it.
    pub(super) left: Duration,
}

impl Plan {
    /// A key that is there, once its parts are checked.
    pub(super) fn ready(credentials: Credentials, place: impl fmt::Display) -> Planned {
        match flaw_of(&credentials) {
            Some(problem) => Err(Miss::unusable(place, problem)),
            None => Ok(Self::Ready(credentials)),
        }
    }

    /// Asks whoever must be asked.
    pub(super) async fn fetch(self, http: &Http) -> Result<Issued, CredentialError> {
        match self {
            Self::Ready(credentials) => Ok(Issued { credentials, expiry: None }),
            Self::Oidc(oidc) => oidc.fetch(http).await,
            Self::AssumeRole(role) => role.fetch(http).await,
            Self::Ecs(ecs) => ecs.fetch(http).await,
            Self::Uri(uri) => uri.fetch(http).await,
        }
    }
}

/// Which part of a key cannot be what it should be, and why.
pub(super) fn flaw_of(credentials: &Credentials) -> Option<String> {
    let Credentials { key_id, key_secret, security_token } = credentials;
    let token = security_token.as_deref().map(|token| (super::SECURITY_TOKEN, token));
    let parts = [(super::KEY_ID, key_id.as_str()), (super::KEY_SECRET, key_secret.as_str())];
    let mut parts = parts.into_iter().chain(token);
    parts.find_map(|(part, text)| Some(format!("the {part} {}", flaw(text)?)))
}

/// A small file of text; none where there is no file.
pub(super) fn read_text(path: &Path) -> Result<Option<String>, Miss> {
    match super::read_capped(path) {
        Ok(bytes) if bytes.len() as u64 > super::LONGEST_FILE => {
            Err(Miss::unusable(path.display(), "longer than 64 KiB"))
        }
        Ok(bytes) => match String::from_utf8(bytes) {
            Ok(text) => Ok(Some(text)),
            Err(_) => Err(Miss::unusable(path.display(), "not text")),
        },
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(Miss::unusable(path.display(), format!("cannot be read: {error}"))),
    }
}
