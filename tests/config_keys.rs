//! Where access keys come from, and that a secret is never shown.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use sls_relay::config::{self, Loaded, Problems};
use sls_relay::sls::CredentialSource;

const SECRET: &str = "wJalrXUtnFEMIhidden";

fn text(source: &str) -> String {
    format!(
        "[spool]\ndir = \"/spool\"\n[[source]]\nendpoint = \"cn-hangzhou.log.aliyuncs.com\"\n\
         project = \"waf\"\nlogstore = \"logs\"\nconsumer_group = \"siem\"\n{source}\n\
         [[destination]]\nto = \"tcp://siem.example\"\n"
    )
}

fn parse(source: &str, env: &[(&str, &str)]) -> Result<Loaded, Problems> {
    let env = |name: &str| {
        env.iter().find(|(variable, _)| *variable == name).map(|(_, value)| (*value).to_owned())
    };
    config::parse(&text(source), "sls-relay.toml", &env, "this-host")
}

fn credentials(source: &str, env: &[(&str, &str)]) -> CredentialSource {
    let loaded = parse(source, env).unwrap_or_else(|problems| panic!("{problems}"));
    loaded.settings.sources[0].credentials.clone()
}

fn codes(result: Result<Loaded, Problems>) -> Vec<&'static str> {
    result.unwrap_err().codes().collect()
}

fn write(dir: &Path, name: &str, content: &str) -> String {
    let path = dir.join(name);
    std::fs::write(&path, content).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_key_in_the_file_comes_before_all_others() {
    let env = [("SLS_AK_ID", "other"), ("SLS_AK_KEY", "other")];
    let source = format!("access_key_id = \"LTAI\"\naccess_key_secret = \"{SECRET}\"");
    let key = credentials(&source, &env).load().unwrap();
    assert_eq!((key.key_id.as_str(), key.key_secret.as_str()), ("LTAI", SECRET));
}

#[test]
fn a_secret_in_a_file_goes_with_an_id_in_the_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let path = write(dir.path(), "secret", &format!("{SECRET}\n"));
    let source = format!("access_key_id = \"LTAI\"\naccess_key_secret_file = \"{path}\"");
    assert_eq!(credentials(&source, &[]).load().unwrap().key_secret, SECRET);
    write(dir.path(), "secret", "");
    assert_eq!(codes(parse(&source, &[])), ["config.invalid_value"]);
    write(dir.path(), "secret", &"x".repeat(70_000));
    assert_eq!(codes(parse(&source, &[])), ["config.invalid_value"]);
}

#[test]
fn systemd_credentials_come_before_the_environment() {
    let dir = tempfile::tempdir().unwrap();
    let directory = dir.path().to_str().unwrap();
    let env =
        [("CREDENTIALS_DIRECTORY", directory), ("SLS_AK_ID", "LTAI-env"), ("SLS_AK_KEY", "env")];
    assert_eq!(credentials("", &env).load().unwrap().key_id, "LTAI-env", "an empty directory");
    write(dir.path(), "sls_access-key-id", "LTAI-systemd");
    assert_eq!(codes(parse("", &env)), ["config.half_key"]);
    write(dir.path(), "sls_access-key-secret", SECRET);
    let key = credentials("", &env).load().unwrap();
    assert_eq!((key.key_id.as_str(), key.security_token), ("LTAI-systemd", None));
    write(dir.path(), "sls_security-token", "token");
    assert_eq!(credentials("", &env).load().unwrap().security_token.as_deref(), Some("token"));
}

#[test]
fn half_a_key_in_the_environment_is_named() {
    for (there, absent) in [("SLS_AK_ID", "SLS_AK_KEY"), ("SLS_AK_KEY", "SLS_AK_ID")] {
        let problems = parse("", &[(there, SECRET), (absent, "")]).unwrap_err();
        assert_eq!(problems.codes().collect::<Vec<_>>(), ["config.half_key"]);
        let text = problems.to_string();
        assert!(text.contains(&format!("set `{absent}`")) && !text.contains(SECRET), "{text}");
    }
    let problems = parse("", &[("SLS_AK_ID", "LTAI"), ("SLS_AK_KEY", "hid den")]).unwrap_err();
    assert!(!problems.to_string().contains("hid den"), "{problems}");
}

const CHAIN: [(&str, &str); 2] =
    [("ALIBABA_CLOUD_ACCESS_KEY_ID", "LTAI-chain"), ("ALIBABA_CLOUD_ACCESS_KEY_SECRET", SECRET)];

#[test]
fn the_default_chain_comes_last_and_only_where_something_asks_for_it() {
    let key = credentials("", &CHAIN).load().unwrap();
    assert_eq!((key.key_id.as_str(), key.key_secret.as_str()), ("LTAI-chain", SECRET));
    let sample = [("SLS_AK_ID", "LTAI"), ("SLS_AK_KEY", "other")];
    let both = [sample, CHAIN].concat();
    assert_eq!(credentials("", &both).load().unwrap().key_id, "LTAI");
    assert_eq!(credentials("credentials = \"chain\"", &both).load().unwrap().key_id, "LTAI-chain");
    assert_eq!(credentials("credentials = \"auto\"", &both).load().unwrap().key_id, "LTAI");

    let home = tempfile::tempdir().unwrap();
    let at_home = [("HOME", home.path().to_str().unwrap())];
    assert_eq!(codes(parse("", &at_home)), ["config.no_access_key"], "no file there");
    std::fs::create_dir(home.path().join(".aliyun")).unwrap();
    write(
        home.path(),
        ".aliyun/config.json",
        r#"{"profiles":[{"name":"default","mode":"AK","access_key_id":"LTAI-cli","access_key_secret":"s"}]}"#,
    );
    assert_eq!(credentials("", &at_home).load().unwrap().key_id, "LTAI-cli");
    write(home.path(), ".aliyun/config.json", SECRET);
    assert!(
        parse("", &[at_home.as_slice(), &CHAIN[..1]].concat()).is_err(),
        "half a key before it"
    );
}

/// A configuration that is refused is not tried again by systemd.
#[test]
fn a_profile_or_token_file_that_may_be_put_right_is_a_warning() {
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join(".aliyun")).unwrap();
    write(home.path(), ".aliyun/config.json", SECRET);
    let at_home = [("HOME", home.path().to_str().unwrap())];
    let oidc = [
        ("ALIBABA_CLOUD_ROLE_ARN", "acs:ram::1:role/waf"),
        ("ALIBABA_CLOUD_OIDC_PROVIDER_ARN", "acs:ram::1:oidc-provider/ack"),
        ("ALIBABA_CLOUD_OIDC_TOKEN_FILE", "/absent/token"),
    ];
    for (source, env, says) in [
        ("", &at_home[..], "config.json:1:1"),
        ("credentials = \"cli-profile\"", &at_home, "config.json:1:1"),
        ("credentials = \"chain\"", &oidc, "/absent/token: missing"),
        ("credentials = \"oidc\"", &oidc, "/absent/token: missing"),
    ] {
        let warnings = parse(source, env).unwrap().warnings.join("\n");
        assert!(warnings.contains(says) && !warnings.contains(SECRET), "{warnings}");
        assert!(credentials(source, env).load().is_err());
    }
    let uri = [("ALIBABA_CLOUD_CREDENTIALS_URI", SECRET)];
    for (source, env) in [
        ("", &CHAIN[..1]),
        ("credentials = \"chain\"", &CHAIN[1..]),
        ("credentials = \"env\"", &CHAIN[..1]),
        ("credentials = \"uri\"", &uri),
    ] {
        let problems = parse(source, env).unwrap_err();
        assert_eq!(problems.codes().collect::<Vec<_>>(), ["config.invalid_value"], "{source}");
        assert!(!problems.to_string().contains(SECRET), "{problems}");
    }
}

#[test]
fn no_key_at_all_names_every_way_to_give_one() {
    let text = parse("", &[("ALIBABA_CLOUD_STS_REGION", "cn-hangzhou")]).unwrap_err().to_string();
    for way in ["access_key_id_file", "sls_access-key-id", "SLS_AK_ID", "ecs-ram-role", ".aliyun"] {
        assert!(text.contains(way), "{way} in {text}");
    }
}

#[test]
fn the_role_of_the_instance_is_only_asked_for_at_the_first_call() {
    for source in ["credentials = \"ecs-ram-role\"", "credentials = \"chain\""] {
        let source = format!("{source}\nram_role = \"waf-reader\"");
        let error = credentials(&source, &[]).load().unwrap_err();
        assert_eq!(error.code(), "sls.credentials_not_yet");
    }
    let disabled = [("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "true")];
    let problems = parse("credentials = \"chain\"", &disabled).unwrap_err().to_string();
    assert!(problems.contains("ALIBABA_CLOUD_ECS_METADATA_DISABLED is true"), "{problems}");
}

#[test]
fn keys_of_the_spool_come_from_their_file_or_from_systemd_and_are_never_shown() {
    const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    let dir = tempfile::tempdir().unwrap();
    let access = [("SLS_AK_ID", "LTAI"), ("SLS_AK_KEY", "secret")];
    let env = [&access[..], &[("CREDENTIALS_DIRECTORY", dir.path().to_str().unwrap())]].concat();
    let load = |spool: &str, env: &[(&str, &str)]| {
        let env = |name: &str| {
            env.iter().find(|(variable, _)| *variable == name).map(|(_, value)| (*value).to_owned())
        };
        let text = text("").replace("[[source]]", &format!("{spool}[[source]]"));
        config::parse(&text, "sls-relay.toml", &env, "this-host").unwrap()
    };
    let count = |loaded: &Loaded| loaded.settings.spool.keys().unwrap().ids().count();
    assert_eq!(count(&load("", &env)), 0, "an empty directory");
    let own = write(dir.path(), "own", &format!("{KEY}\n\n{KEY}\n"));
    write(dir.path(), "sls_spool-key", KEY);
    assert_eq!(count(&load("", &env)), 1);
    let own = format!("encrypt_key_file = \"{own}\"\n");
    let loaded = load(&own, &env);
    assert_eq!((count(&loaded), loaded.warnings.len()), (2, 0));
    assert!(!format!("{loaded:?} {:?}", loaded.settings.spool.keys()).contains("AAEC"));
    for (content, said) in [("", "holds no key"), ("AAECAwQ\n", "line 1 is no key")] {
        write(dir.path(), "own", content);
        let loaded = load(&own, &env);
        assert!(loaded.warnings.join("\n").contains(said), "{:?}", loaded.warnings);
        let error = loaded.settings.spool.keys().unwrap_err().to_string();
        assert!(error.contains(said) && !error.contains("AAEC"), "{error}");
    }
    write(dir.path(), "sls_spool-key", "no key");
    let warnings = load("", &env).warnings.join("\n");
    assert!(
        warnings.contains("sls_spool-key") && warnings.contains("does not start"),
        "{warnings}"
    );
}

#[test]
fn settings_and_problems_never_show_a_secret() {
    let source = format!(
        "access_key_id = \"LTAI\"\naccess_key_secret = \"{SECRET}\"\n\
         proxy = \"http://{SECRET}:{SECRET}@proxy.example:3128\""
    );
    let loaded = parse(&source, &[]).unwrap();
    assert_eq!(loaded.settings.sources[0].credentials.load().unwrap().key_secret, SECRET);
    assert!(!format!("{loaded:?}").contains(SECRET));
    assert!(!loaded.warnings.join("\n").contains(SECRET));
    for line in [
        "access_key_secret = \"SECRET",
        "access_key_secret = 'SECRET",
        "access_key_secret = \"\"\"\nSECRET",
        "access_key_secret = \"\"\"\nSECRET\"\"\"\nregion = 5",
        "access_key_secret = \"\"\"a\nSECRET==\n",
        "access_key_secret = SECRET",
        "access_key_secret = SECRET==",
        "access_key_secret \"SECRET\"",
        "access_key_secret: SECRET",
        "access_key_secret == \"SECRET\"",
        "access_key_secret = \"\\SECRET\"",
        "access_key_secret = [\"SECRET\"]",
        "access_key_secret = [\n\"SECRET\"\n",
        "access_key_secret = { value = \"SECRET\" }",
        "access_key_secret.value = \"SECRET\"",
        "access_key_secret = \"SECRET\"\naccess_key_secret = \"SECRET\"",
        "access_key_secret = \"SECRET\" region = 5",
        "region = 5 access_key_secret = \"SECRET\"",
        "\"access_key_secret\" = \"SECRET\" x",
        "access_key_secrets = \"SECRET\"",
        "sk = \"SECRET\"\nregion = 5",
        "# access_key_secret = \"SECRET\"\u{1}",
        "region = 5\naccess_key_secret = \"SECRET\"\nidle_poll = 5",
        "project = https://id:SECRET@host",
        "endpoint = https://id:SECRET@host",
        "endpoint = [\"https://id:SECRET@host\"]",
    ] {
        let problems = match parse(&line.replace("SECRET", SECRET), &[]) {
            Err(problems) => problems,
            Ok(_) => panic!("{line} loads"),
        };
        for shown in [problems.to_string(), format!("{problems:?}"), problems.render(true)] {
            assert!(!shown.contains(SECRET), "{line}\n{shown}");
            assert!(shown.contains("sls-relay.toml:"), "the line is named: {shown}");
        }
    }
}

#[test]
fn a_readable_file_with_a_secret_is_warned_of_and_one_without_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let keys = [("SLS_AK_ID", "LTAI"), ("SLS_AK_KEY", "secret")];
    let env = |name: &str| {
        keys.iter().find(|(variable, _)| *variable == name).map(|(_, value)| (*value).to_owned())
    };
    let with = format!("access_key_id = \"LTAI\"\naccess_key_secret = \"{SECRET}\"");
    for (source, mode, warnings) in [(with.as_str(), 0o644, 2), (&with, 0o640, 1), ("", 0o644, 0)] {
        let path = write(dir.path(), "sls-relay.toml", &text(source));
        std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let loaded = config::load(Path::new(&path), &env, "this-host").unwrap();
        assert_eq!(loaded.warnings.len(), warnings, "{mode:o}: {:?}", loaded.warnings);
    }
    let path = write(dir.path(), "sls-relay.toml", &text(&with));
    let warnings = config::load(Path::new(&path), &env, "this-host").unwrap().warnings.join("\n");
    assert!(warnings.contains("sls-relay.toml:9: "), "{warnings}");
    assert!(warnings.contains("chmod o-r "), "{warnings}");
}

#[test]
fn a_file_that_cannot_be_read_is_a_problem_and_no_default() {
    let dir = tempfile::tempdir().unwrap();
    let absent = dir.path().join("absent.toml");
    let load = |path: &Path| config::load(path, &|_| None, "this-host").unwrap_err();
    let problems = load(&absent);
    assert_eq!(problems.codes().collect::<Vec<_>>(), ["config.unreadable"]);
    assert!(
        problems.to_string().contains("absent.toml") && problems.to_string().contains("--config")
    );
    assert_eq!(load(dir.path()).codes().collect::<Vec<_>>(), ["config.unreadable"], "a directory");
    let path = dir.path().join("latin1.toml");
    std::fs::write(&path, b"[spool]\ndir = \"/sp\xf6ol\"\n").unwrap();
    let problems = load(&path);
    assert_eq!(problems.codes().collect::<Vec<_>>(), ["config.not_utf8"]);
    assert!(problems.to_string().contains("latin1.toml:2 "), "{problems}");
    std::fs::write(&path, " ".repeat((1 << 20) + 1)).unwrap();
    assert_eq!(load(&path).codes().collect::<Vec<_>>(), ["config.unreadable"], "too long");
}

#[test]
fn colour_is_only_there_when_asked_for() {
    let problems = parse("region = 5", &[]).unwrap_err();
    assert!(!problems.to_string().contains('\u{1b}'));
    assert!(problems.render(true).contains('\u{1b}'));
}

#[test]
fn a_region_endpoint_over_http_is_warned_of_and_loopback_is_not() {
    let env = [("SLS_AK_ID", "LTAI"), ("SLS_AK_KEY", "secret")];
    let env = |name: &str| {
        env.iter().find(|(variable, _)| *variable == name).map(|(_, value)| (*value).to_owned())
    };
    for (endpoint, warnings) in [
        ("http://cn-hangzhou.log.aliyuncs.com", 1),
        ("https://cn-hangzhou.log.aliyuncs.com", 0),
        ("http://127.0.0.1:8080", 0),
        ("http://localhost", 0),
    ] {
        let text = text("").replace("cn-hangzhou.log.aliyuncs.com", endpoint);
        let loaded = config::parse(&text, "sls-relay.toml", &env, "this-host").unwrap();
        assert_eq!(loaded.warnings.len(), warnings, "{:?}", loaded.warnings);
    }
}
