//! The profile that the SDKs share: `~/.alibabacloud/credentials`, or the file that
//! `ALIBABA_CLOUD_CREDENTIALS_FILE` names.

use std::collections::BTreeMap;
use std::path::Path;

use super::Credentials;
use super::assume_role::AssumeRole;
use super::document::word;
use super::ecs::Ecs;
use super::oidc::Oidc;
use super::provider::{Miss, Plan, Planned, read_text};
use super::settings::{ChainSettings, variable};
use super::sts::Role;

pub(super) fn plan(settings: &ChainSettings) -> Planned {
    let Some(path) = settings.ini_file() else {
        let names = format!("{} and HOME are not set", variable::CREDENTIALS_FILE);
        return Err(Miss::Absent(names));
    };
    match read_text(&path)? {
        Some(text) => read(&text, &path, settings),
        // Whoever names a file means it.
        None if settings.get(variable::CREDENTIALS_FILE).is_some() => {
            let problem = format!("named in {}, does not exist", variable::CREDENTIALS_FILE);
            Err(Miss::unusable(path.display(), problem))
        }
        None => Err(Miss::Absent(format!("{} does not exist", path.display()))),
    }
}

/// Reads the text of the file; `path` is what errors name.
pub(super) fn read(text: &str, path: &Path, settings: &ChainSettings) -> Planned {
    let wanted = settings.get(variable::PROFILE).unwrap_or("default");
    let place = format!("profile {wanted:?} in {}", path.display());
    match section(text, wanted) {
        Ok(Some(values)) => Profile { values, place: &place }.plan(settings),
        Ok(None) => Err(Miss::Absent(format!("there is no {place}"))),
        Err(line) => {
            let at = format!("{}:{line}", path.display());
            Err(Miss::unusable(at, "neither [profile] nor key = value"))
        }
    }
}

type Values<'a> = BTreeMap<&'a str, &'a str>;

/// The values of one section; none when there is no such section.
///
/// # Errors
/// The number of the line that is none of an INI file.
fn section<'a>(text: &'a str, wanted: &str) -> Result<Option<Values<'a>>, usize> {
    let mut found: Option<Values<'a>> = None;
    let mut inside = false;
    for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = line.strip_prefix('[') {
            let name = name.strip_suffix(']').ok_or(number + 1)?;
            inside = name.trim() == wanted;
            if inside {
                found.get_or_insert_default();
            }
            continue;
        }
        let (key, value) = line.split_once('=').ok_or(number + 1)?;
        if let (true, Some(values)) = (inside, &mut found) {
            values.insert(key.trim(), unquoted(value.trim()));
        }
    }
    Ok(found)
}

fn unquoted(value: &str) -> &str {
    let within = |quote: char| value.strip_prefix(quote)?.strip_suffix(quote);
    within('"').or_else(|| within('\'')).unwrap_or(value)
}

struct Profile<'a> {
    values: Values<'a>,
    place: &'a str,
}

impl Profile<'_> {
    fn plan(&self, settings: &ChainSettings) -> Planned {
        if self.given("enable") == Some("false") {
            return Err(Miss::Absent(format!("{} is not enabled", self.place)));
        }
        match self.need("type")? {
            "access_key" => Plan::ready(self.key()?, self.place),
            "sts" => {
                let token = self.need("security_token")?.to_owned();
                let key = Credentials { security_token: Some(token), ..self.key()? };
                Plan::ready(key, self.place)
            }
            "ecs_ram_role" => {
                let role = self.given("role_name").or_else(|| settings.ram_role());
                Ecs::new(settings, role.map(str::to_owned)).map(Plan::Ecs)
            }
            "ram_role_arn" => {
                let with = match Plan::ready(self.key()?, self.place)? {
                    Plan::Ready(with) => with,
                    _ => return Err(self.unusable("has no access key")),
                };
                let role = self.role(settings)?;
                Ok(Plan::AssumeRole(Box::new(AssumeRole { role, with, external_id: None })))
            }
            "oidc_role_arn" => {
                let file = self.need("oidc_token_file_path")?;
                let role = self.role(settings)?;
                Oidc::plan(role, self.need("oidc_provider_arn")?, Path::new(file))
            }
            other => Err(self.unusable(&format!(
                "has type {:?}, which is none of access_key, sts, ecs_ram_role, ram_role_arn and oidc_role_arn",
                word(other)
            ))),
        }
    }

    fn key(&self) -> Result<Credentials, Miss> {
        Ok(Credentials {
            key_id: self.need("access_key_id")?.to_owned(),
            key_secret: self.need("access_key_secret")?.to_owned(),
            security_token: None,
        })
    }

    fn role(&self, settings: &ChainSettings) -> Result<Role, Miss> {
        let (arn, session) = (self.need("role_arn")?, self.given("role_session_name"));
        let role = Role::new(settings, arn, session, self.given("sts_region"), false)?;
        Ok(Role { policy: self.given("policy").map(str::to_owned), ..role })
    }

    fn given(&self, key: &str) -> Option<&str> {
        self.values.get(key).copied().filter(|value| !value.is_empty())
    }

    fn need(&self, key: &'static str) -> Result<&str, Miss> {
        self.given(key).ok_or_else(|| self.unusable(&format!("has no {key}")))
    }

    fn unusable(&self, problem: &str) -> Miss {
        Miss::unusable(self.place, problem)
    }
}
