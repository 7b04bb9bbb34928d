//! Which access key a source uses, of the many ways to give one.
//!
//! With `credentials = "auto"`, the default, it is the first of: what the source's table
//! says; systemd's credential directory; `SLS_AK_ID` and `SLS_AK_KEY`; Alibaba Cloud's
//! default chain. The chain ends by asking whether this is an ECS instance with a RAM role,
//! and a machine that is none would only learn at the first call that its configuration
//! lacks a key. So the chain counts only where something asks for it: one of its variables
//! or a profile file ([`ChainSettings::is_asked_for`]), or `credentials` itself. Without
//! any of that there is no access key, and the problem names all ways to give one.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::given::GivenTable;
use super::read::{Read, Reader, Reported};
use super::report::{Place, Report};
use super::value::choice;
use crate::sls::{ChainSettings, CredentialError, CredentialSource, Credentials, Error, Provider};

/// A lookup of environment variables.
pub(super) type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Values of `credentials`.
#[derive(Clone, Copy, PartialEq)]
enum From {
    Auto,
    Chain,
    Only(Provider),
}

const FROM: [(&str, From); 8] = [
    ("auto", From::Auto),
    ("chain", From::Chain),
    ("env", From::Only(Provider::Env)),
    ("oidc", From::Only(Provider::Oidc)),
    ("cli-profile", From::Only(Provider::CliProfile)),
    ("ini-profile", From::Only(Provider::IniProfile)),
    ("ecs-ram-role", From::Only(Provider::EcsRamRole)),
    ("uri", From::Only(Provider::Uri)),
];

/// Keys that hold an access key or name its files.
const WRITTEN: [&str; 5] = [
    "access_key_id",
    "access_key_id_file",
    "access_key_secret",
    "access_key_secret_file",
    "security_token_file",
];

/// More than any secret is long; a wrong path may name anything.
const LONGEST_FILE: u64 = 64 * 1024;

/// Names of the systemd credentials: id, secret, security token.
const SYSTEMD: [&str; 3] = ["sls_access-key-id", "sls_access-key-secret", "sls_security-token"];

/// Whether a source's table says anything about its access key.
pub(super) fn has_own(table: &GivenTable) -> bool {
    let from = table.text("credentials").unwrap_or("auto");
    table.unusable || from != "auto" || WRITTEN.iter().any(|key| table.has(key))
}

/// The access key written in a source's table; none when nothing of one is.
pub(super) fn written(reader: &mut Reader<'_>, env: Env<'_>) -> Read<Option<CredentialSource>> {
    if reader.table.unusable {
        return Err(Reported);
    }
    let from = reader.text("credentials", |text| choice(text, &FROM));
    let role = reader.optional("ram_role", role);
    let (from, role) = (from?, role?);
    one_way_only(reader, from)?;
    let source = |settings: ChainSettings| match from {
        From::Auto => None,
        From::Chain => Some(CredentialSource::Chain(settings)),
        From::Only(provider) => Some(CredentialSource::Link(provider, settings)),
    };
    let Some(source) = source(ChainSettings::new(env).with_ram_role(role)) else {
        return in_table(reader, env);
    };
    match seen(&source) {
        Seen::Fine => {}
        Seen::Unusable(problem) => {
            return Err(reader.report("config.invalid_value", "credentials", &problem));
        }
        Seen::FileUnusable(problem) => {
            let place = reader.table.place_of("credentials");
            reader.reports.push(file_unusable(&place, problem));
        }
    }
    Ok(Some(source))
}

/// The key that stands in the table itself, or in the files it names.
fn in_table(reader: &mut Reader<'_>, env: Env<'_>) -> Read<Option<CredentialSource>> {
    let text = |text: &str| Ok::<_, String>(text.to_owned());
    let path = |text: &str| Ok::<_, String>(PathBuf::from(text));
    if reader.table.is_environment() {
        let none = !reader.table.has("access_key_id") && !reader.table.has("access_key_secret");
        if none && ChainSettings::new(env).is_asked_for() {
            return Ok(None);
        }
        let id = reader.text("access_key_id", text);
        let secret = reader.text("access_key_secret", text);
        let credentials = Credentials { key_id: id?, key_secret: secret?, security_token: None };
        return given_once(reader, credentials, "access_key_secret").map(Some);
    }
    let id = reader.optional("access_key_id", text);
    let id_file = reader.optional("access_key_id_file", path);
    let secret = reader.optional("access_key_secret", text);
    let secret_file = reader.optional("access_key_secret_file", path);
    let token_file = reader.optional("security_token_file", path);
    contradictions(reader)?;
    warn_of_plain_secret(reader);
    match (id?, id_file?, secret?, secret_file?, token_file?) {
        (None, None, None, None, None) => Ok(None),
        (Some(key_id), None, Some(key_secret), None, None) => {
            let credentials = Credentials { key_id, key_secret, security_token: None };
            given_once(reader, credentials, "access_key_secret").map(Some)
        }
        (Some(key_id), None, None, Some(path), None) => {
            let key_secret = read(&path).map_err(|problem| {
                let label = format!("cannot be read: {problem}");
                reader.report("config.invalid_value", "access_key_secret_file", &label)
            })?;
            let credentials = Credentials { key_id, key_secret, security_token: None };
            given_once(reader, credentials, "access_key_secret_file").map(Some)
        }
        (None, Some(key_id), None, Some(key_secret), security_token) => {
            Ok(Some(CredentialSource::Files { key_id, key_secret, security_token }))
        }
        _ => Err(Reported),
    }
}

/// Reports keys that do not go together. Every combination that passes is one of those
/// that [`written`] knows.
fn contradictions(reader: &mut Reader<'_>) -> Read<()> {
    let table = reader.table;
    let has = |key| table.has(key);
    let mut reports = Vec::new();
    let mut conflict = |one: &'static str, other: &'static str, why: &str, help: String| {
        let title = format!("`{}` and `{}` {why}", table.shown(one), table.shown(other));
        reports.push(
            Report::problem("config.conflict", title)
                .at(&table.place_of(one), "")
                .at(&table.place_of(other), "")
                .help(help),
        );
    };
    let twice = "say the same thing twice";
    for (plain, file) in
        [("access_key_id", "access_key_id_file"), ("access_key_secret", "access_key_secret_file")]
    {
        if has(plain) && has(file) {
            conflict(plain, file, twice, format!("keep `{file}` and remove `{plain}`"));
        }
    }
    let plain_id = has("access_key_id") && !has("access_key_id_file");
    let file_id = has("access_key_id_file") && !has("access_key_id");
    if file_id && has("access_key_secret") && !has("access_key_secret_file") {
        let help = "put the secret into a file too: `access_key_secret_file`".to_owned();
        conflict("access_key_id_file", "access_key_secret", "do not go together", help);
    }
    if has("security_token_file") && plain_id {
        let help = "a temporary key changes as a whole: put its id and its secret into files, too";
        conflict("access_key_id", "security_token_file", "do not go together", help.to_owned());
    }
    let id = ["access_key_id", "access_key_id_file"].into_iter().find(|key| has(key));
    let secret = ["access_key_secret_file", "access_key_secret"].into_iter().find(|key| has(key));
    let mut half = |there: &'static str, absent: &'static str| {
        let (there_shown, absent) = (table.shown(there), table.shown(absent));
        reports.push(
            Report::problem("config.half_key", format!("`{there_shown}` is half an access key"))
                .at(&table.place_of(there), format!("`{absent}` is missing"))
                .help(format!("write both, or none of them: {WAYS}")),
        );
    };
    match (id, secret) {
        (Some(id), None) => half(id, "access_key_secret_file"),
        (None, Some("access_key_secret")) => half("access_key_secret", "access_key_id"),
        (None, Some(secret)) => half(secret, "access_key_id_file"),
        (None, None) if has("security_token_file") => {
            half("security_token_file", "access_key_id_file");
        }
        _ => {}
    }
    let found = !reports.is_empty();
    reader.reports.append(&mut reports);
    if found { Err(Reported) } else { Ok(()) }
}

/// Reports what does not go together with the value of `credentials`.
fn one_way_only(reader: &mut Reader<'_>, from: From) -> Read<()> {
    let table = reader.table;
    let mut reports = Vec::new();
    if from != From::Auto {
        let keys = WRITTEN.iter().filter(|key| table.has(key));
        reports.extend(keys.map(|key| {
            Report::problem(
                "config.conflict",
                format!("`credentials` and `{key}` do not go together"),
            )
            .at(&table.place_of("credentials"), "the key is to come from there")
            .at(&table.place_of(key), "and from here")
            .help("keep one of them")
        }));
    }
    if table.has("ram_role") && !matches!(from, From::Chain | From::Only(Provider::EcsRamRole)) {
        let title = "`ram_role` has no meaning here";
        reports.push(
            Report::problem("config.conflict", title)
                .at(&table.place_of("ram_role"), "no instance is asked for its role")
                .at(&table.place_of("credentials"), "by this")
                .help("write credentials = \"ecs-ram-role\", or remove `ram_role`"),
        );
    }
    let found = !reports.is_empty();
    reader.reports.append(&mut reports);
    if found { Err(Reported) } else { Ok(()) }
}

/// The name of a RAM role.
fn role(text: &str) -> Result<String, &'static str> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let is_name = text.len() <= 64 && text.bytes().all(fits);
    is_name.then(|| text.to_owned()).ok_or("a role's name is letters, digits, . _ and -, up to 64")
}

/// What can be said of a source without the network.
enum Seen {
    Fine,
    /// The configuration or the environment must be changed.
    Unusable(String),
    /// A file is not as it should be, and may be put right without a new configuration. It
    /// is read again when the relay starts.
    FileUnusable(String),
}

fn seen(source: &CredentialSource) -> Seen {
    let Some(error) = fault(source) else { return Seen::Fine };
    let of_file = match (&*error, source) {
        (CredentialError::Unusable { .. }, CredentialSource::Link(provider, _)) => {
            reads_files(*provider)
        }
        // Unless one of those that read no files would fail alone, it is one that does.
        (CredentialError::Unusable { .. }, CredentialSource::Chain(settings)) => {
            Provider::ALL.into_iter().filter(|provider| !reads_files(*provider)).all(|provider| {
                let alone = fault(&CredentialSource::Link(provider, settings.clone()));
                !matches!(alone.as_deref(), Some(CredentialError::Unusable { .. }))
            })
        }
        _ => false,
    };
    let problem = error.to_string();
    if of_file { Seen::FileUnusable(problem) } else { Seen::Unusable(problem) }
}

/// Why the chain or a link of it gives no key, where that is known without the network.
fn fault(source: &CredentialSource) -> Option<Arc<CredentialError>> {
    match source.load() {
        Err(Error::Credentials(error)) if !matches!(*error, CredentialError::NotYet(_)) => {
            Some(error)
        }
        _ => None,
    }
}

fn reads_files(provider: Provider) -> bool {
    matches!(provider, Provider::Oidc | Provider::CliProfile | Provider::IniProfile)
}

fn file_unusable(place: &Place, problem: String) -> Report {
    Report::warning("config.credentials_file", "the access key cannot be used as it is now")
        .at(place, problem)
        .help("the relay does not start before this is put right")
}

const WAYS: &str = "without any, the relay takes the systemd credentials sls_access-key-id and sls_access-key-secret, else SLS_AK_ID and SLS_AK_KEY from the environment, else what Alibaba Cloud's default chain has";

fn warn_of_plain_secret(reader: &mut Reader<'_>) {
    let place = reader.table.place_of("access_key_secret");
    if reader.table.text("access_key_secret").is_some_and(|secret| !secret.is_empty()) {
        reader.reports.push(
            Report::warning("config.plain_secret", "an access key secret stands in the file")
                .at(&place, "whoever can read this file can read the logs")
                .help("move it to `access_key_secret_file` or a systemd credential"),
        );
    }
}

/// Checks a key that is not read again later.
fn given_once(
    reader: &mut Reader<'_>,
    credentials: Credentials,
    secret: &'static str,
) -> Read<CredentialSource> {
    let source = CredentialSource::Static(credentials);
    match source.load() {
        Ok(_) => Ok(source),
        Err(error) => {
            let about_id =
                matches!(&error, Error::CredentialInvalid { part, .. } if part.ends_with("id"));
            let key = if about_id { "access_key_id" } else { secret };
            Err(reader.report("config.invalid_value", key, &error.to_string()))
        }
    }
}

/// The content of a small file, without the blanks around it.
pub(super) fn read(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(LONGEST_FILE + 1).read_to_string(&mut text))
        .map_err(|error| error.to_string())?;
    if text.len() as u64 > LONGEST_FILE {
        return Err("it is too long for a secret".to_owned());
    }
    Ok(text.trim().to_owned())
}

/// The access key that is there without being written in the file: systemd's credentials,
/// else the environment's, else Alibaba Cloud's default chain where something asks for it;
/// none when there is none of them.
pub(super) fn around(env: Env<'_>, reports: &mut Vec<Report>) -> Read<Option<CredentialSource>> {
    if let Some(dir) = env("CREDENTIALS_DIRECTORY").filter(|dir| !dir.is_empty()) {
        let file = |name: &str| Some(Path::new(&dir).join(name)).filter(|path| path.exists());
        match SYSTEMD.map(file) {
            [Some(key_id), Some(key_secret), security_token] => {
                return Ok(Some(CredentialSource::Files { key_id, key_secret, security_token }));
            }
            [None, None, None] => {}
            _ => {
                let [id, secret, _] = SYSTEMD;
                reports.push(
                    Report::problem("config.half_key", "systemd passed half an access key")
                        .at(&Place::Named("systemd"), format!("{dir} needs {id} and {secret}"))
                        .help("add the other LoadCredential= to the unit"),
                );
                return Err(Reported);
            }
        }
    }
    let variable = |name: &'static str| env(name).filter(|value| !value.is_empty());
    let (key_id, key_secret) = match (variable("SLS_AK_ID"), variable("SLS_AK_KEY")) {
        (None, None) => return chain(env, reports),
        (Some(key_id), Some(key_secret)) => (key_id, key_secret),
        (id, _) => {
            let (there, absent) = if id.is_some() {
                ("SLS_AK_ID", "SLS_AK_KEY")
            } else {
                ("SLS_AK_KEY", "SLS_AK_ID")
            };
            reports.push(
                Report::problem("config.half_key", format!("`{there}` is half an access key"))
                    .help(format!("set `{absent}`, too")),
            );
            return Err(Reported);
        }
    };
    let source = CredentialSource::Static(Credentials { key_id, key_secret, security_token: None });
    match source.load() {
        Ok(_) => Ok(Some(source)),
        Err(error) => {
            let title = "the access key in SLS_AK_ID and SLS_AK_KEY cannot be one";
            reports.push(
                Report::problem("config.invalid_value", title)
                    .at(&Place::Named("environment"), error.to_string())
                    .help("check both variables for blanks and quotes"),
            );
            Err(Reported)
        }
    }
}

/// Alibaba Cloud's default chain, where something asks for it.
fn chain(env: Env<'_>, reports: &mut Vec<Report>) -> Read<Option<CredentialSource>> {
    let settings = ChainSettings::new(env);
    if !settings.is_asked_for() {
        return Ok(None);
    }
    let source = CredentialSource::Chain(settings);
    match seen(&source) {
        Seen::Fine => {}
        Seen::FileUnusable(problem) => {
            reports.push(file_unusable(&Place::Named("default chain"), problem));
        }
        Seen::Unusable(problem) => {
            let title = "Alibaba Cloud's default chain gives no usable access key";
            reports.push(
                Report::problem("config.invalid_value", title)
                    .at(&Place::Named("environment"), problem)
                    .help("put it right, or give the source a key of its own"),
            );
            return Err(Reported);
        }
    }
    Ok(Some(source))
}

/// The problem of sources that have no key at all.
pub(super) fn no_key(headers: &[Place]) -> Report {
    let report = Report::problem("config.no_access_key", "there is no access key");
    headers
        .iter()
        .fold(report, |report, place| report.at(place, "for this source"))
        .help("write access_key_id_file and access_key_secret_file in the source,")
        .help("or pass systemd credentials sls_access-key-id and sls_access-key-secret,")
        .help("or set SLS_AK_ID and SLS_AK_KEY in the environment,")
        .help("or write credentials = \"ecs-ram-role\" for the RAM role of this ECS instance,")
        .help("or give one to Alibaba Cloud's default chain: ALIBABA_CLOUD_ACCESS_KEY_ID, ~/.aliyun/config.json and so on")
}
