//! The profile of the `aliyun` command line tool: `~/.aliyun/config.json`.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::Credentials;
use super::assume_role::AssumeRole;
use super::document::word;
use super::ecs::Ecs;
use super::oidc::Oidc;
use super::provider::{Miss, Plan, Planned, read_text};
use super::settings::{ChainSettings, variable};
use super::sts::{DURATION, Role};

#[derive(Deserialize)]
struct Config {
    current: Option<String>,
    #[serde(default)]
    profiles: Vec<Profile>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Profile {
    name: String,
    mode: String,
    access_key_id: Option<String>,
    access_key_secret: Option<String>,
    sts_token: Option<String>,
    ram_role_name: Option<String>,
    ram_role_arn: Option<String>,
    ram_session_name: Option<String>,
    expired_seconds: Option<u32>,
    policy: Option<String>,
    external_id: Option<String>,
    sts_region: Option<String>,
    enable_vpc: Option<bool>,
    oidc_provider_arn: Option<String>,
    oidc_token_file: Option<PathBuf>,
}

pub(super) fn plan(settings: &ChainSettings) -> Planned {
    if settings.is_true(variable::CLI_DISABLED) {
        return Err(Miss::Absent(format!("{} is true", variable::CLI_DISABLED)));
    }
    let Some(path) = settings.cli_file() else {
        return Err(Miss::Absent("HOME is not set".to_owned()));
    };
    match read_text(&path)? {
        Some(text) => read(&text, &path, settings),
        None => Err(Miss::Absent(format!("{} does not exist", path.display()))),
    }
}

/// Reads the text of the file; `path` is what errors name.
pub(super) fn read(text: &str, path: &Path, settings: &ChainSettings) -> Planned {
    let config: Config = serde_json::from_str(text).map_err(|error| {
        // What serde says may quote a value.
        let at = format!("{}:{}:{}", path.display(), error.line(), error.column());
        Miss::unusable(at, "not the JSON that `aliyun configure` writes")
    })?;
    let wanted = settings.get(variable::PROFILE).or(config.current.as_deref()).unwrap_or("default");
    let place = format!("profile {wanted:?} in {}", path.display());
    let Some(profile) = config.profiles.iter().find(|profile| profile.name == wanted) else {
        return Err(Miss::Absent(format!("there is no {place}")));
    };
    profile.plan(&place, settings)
}

impl Profile {
    fn plan(&self, place: &str, settings: &ChainSettings) -> Planned {
        let Self { mode, ram_role_name, oidc_provider_arn, oidc_token_file, .. } = self;
        match mode.as_str() {
            // A profile that was begun and never filled in.
            "AK" | "StsToken" if given(&self.access_key_id).is_none() => {
                Err(Miss::Absent(format!("{place} has no access_key_id")))
            }
            "AK" => Plan::ready(Credentials { security_token: None, ..self.key() }, place),
            "StsToken" => Plan::ready(self.key(), place),
            "EcsRamRole" => {
                let role = given(ram_role_name).or_else(|| settings.ram_role());
                Ecs::new(settings, role.map(str::to_owned)).map(Plan::Ecs)
            }
            "RamRoleArn" => {
                let role = self.role(place, settings)?;
                let Plan::Ready(with) = Plan::ready(self.key(), place)? else {
                    return Err(Miss::unusable(place, "has no access key"));
                };
                let external_id = given(&self.external_id).map(str::to_owned);
                Ok(Plan::AssumeRole(Box::new(AssumeRole { role, with, external_id })))
            }
            "OIDC" => match (given(oidc_provider_arn), oidc_token_file) {
                (Some(arn), Some(file)) => Oidc::plan(self.role(place, settings)?, arn, file),
                _ => Err(Miss::unusable(place, "needs oidc_provider_arn and oidc_token_file")),
            },
            other => Err(Miss::unusable(
                place,
                format!(
                    "has mode {:?}, which only the command line tool can use: make a profile of mode AK, StsToken, RamRoleArn, EcsRamRole or OIDC and name it in {}, or set {}=true",
                    word(other),
                    variable::PROFILE,
                    variable::CLI_DISABLED
                ),
            )),
        }
    }

    fn key(&self) -> Credentials {
        Credentials {
            key_id: self.access_key_id.clone().unwrap_or_default(),
            key_secret: self.access_key_secret.clone().unwrap_or_default(),
            security_token: given(&self.sts_token).map(str::to_owned),
        }
    }

    fn role(&self, place: &str, settings: &ChainSettings) -> Result<Role, Miss> {
        let Some(arn) = given(&self.ram_role_arn) else {
            return Err(Miss::unusable(place, "needs ram_role_arn"));
        };
        let (session, region) = (given(&self.ram_session_name), given(&self.sts_region));
        let vpc = self.enable_vpc.unwrap_or(false);
        Ok(Role {
            duration: self.expired_seconds.filter(|seconds| *seconds > 0).unwrap_or(DURATION),
            policy: given(&self.policy).map(str::to_owned),
            ..Role::new(settings, arn, session, region, vpc)?
        })
    }
}

/// The tool writes an empty string for what was not given.
fn given(value: &Option<String>) -> Option<&str> {
    value.as_deref().filter(|value| !value.is_empty())
}
