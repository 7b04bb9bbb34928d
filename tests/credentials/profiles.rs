//! Keys in the environment and in profile files.

use std::path::Path;

use sls_relay::sls::{CredentialSource, Provider};

use crate::stub::Stub;
use crate::{HIDDEN, at_home, document, link, refused, settings, signed, signed_with_temporary};

fn home(file: &str, content: &[u8]) -> tempfile::TempDir {
    let home = tempfile::tempdir().expect("a directory");
    let path = home.path().join(file);
    std::fs::create_dir_all(path.parent().expect("a directory")).expect("make a directory");
    std::fs::write(path, content).expect("write a file");
    home
}

fn cli(home: &Path, variables: &[(&str, &str)]) -> CredentialSource {
    link(Provider::CliProfile, at_home(home, variables))
}

fn ini(home: &Path, variables: &[(&str, &str)]) -> CredentialSource {
    link(Provider::IniProfile, at_home(home, variables))
}

#[tokio::test]
async fn the_environment_gives_a_key_with_or_without_a_token() {
    let key = [
        ("ALIBABA_CLOUD_ACCESS_KEY_ID", "LTAI"),
        ("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "hidden"),
        ("ALIBABA_CLOUD_SECURITY_TOKEN", "hidden-token"),
    ];
    let (client, request) = signed(link(Provider::Env, settings(&key[..2]))).await;
    assert!(request.is_signed_with("LTAI", HIDDEN, None));
    assert_eq!(request.header("x-acs-security-token"), None);
    let status = client.credentials_status();
    assert_eq!((status.kind, status.expires_at), ("env", None));
    let (_, request) = signed(link(Provider::Env, settings(&key))).await;
    assert_eq!(request.header("x-acs-security-token"), Some("hidden-token"));
}

#[tokio::test]
async fn what_is_wrong_with_the_environment_is_named() {
    for (set, says) in [
        (&[][..], "ALIBABA_CLOUD_ACCESS_KEY_ID and ALIBABA_CLOUD_ACCESS_KEY_SECRET are not set"),
        (&[("ALIBABA_CLOUD_ACCESS_KEY_ID", "LTAI")], "set ALIBABA_CLOUD_ACCESS_KEY_SECRET"),
        (&[("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "hidden")], "set ALIBABA_CLOUD_ACCESS_KEY_ID"),
        (
            &[
                ("ALIBABA_CLOUD_ACCESS_KEY_ID", "LTAI"),
                ("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "hidden "),
            ],
            "the access key secret contains a blank",
        ),
    ] {
        let error = refused(link(Provider::Env, settings(set))).await.to_string();
        assert!(error.contains(says), "{error}");
    }
}

const CLI: &str = r#"{
  "current": "prod",
  "profiles": [
    {"name": "default", "mode": "AK", "access_key_id": "", "access_key_secret": "", "sts_token": ""},
    {"name": "prod", "mode": "AK", "access_key_id": "LTAI-prod", "access_key_secret": "hidden-prod",
     "sts_token": "hidden-left-over", "region_id": "cn-hangzhou", "output_format": "json"},
    {"name": "tmp", "mode": "StsToken", "access_key_id": "STS.tmp", "access_key_secret": "hidden-tmp",
     "sts_token": "hidden-token"},
    {"name": "web", "mode": "OAuth", "access_key_secret": "hidden"},
    {"name": "blank", "mode": "AK", "access_key_id": "LTAI", "access_key_secret": "hid den"},
    {"name": "arnless", "mode": "RamRoleArn", "access_key_id": "a", "access_key_secret": "hidden"}
  ]
}"#;

#[tokio::test]
async fn the_command_line_tools_current_profile_is_used_or_the_one_that_is_named() {
    let home = home(".aliyun/config.json", CLI.as_bytes());
    let (client, request) = signed(cli(home.path(), &[])).await;
    assert!(request.is_signed_with("LTAI-prod", "hidden-prod", None));
    assert_eq!(request.header("x-acs-security-token"), None, "mode AK has no token");
    assert_eq!(client.credentials_status().kind, "cli-profile");
    let (_, request) = signed(cli(home.path(), &[("ALIBABA_CLOUD_PROFILE", "tmp")])).await;
    assert!(request.is_signed_with("STS.tmp", "hidden-tmp", None));
    assert_eq!(request.header("x-acs-security-token"), Some("hidden-token"));
}

#[tokio::test]
async fn a_profile_that_cannot_be_used_is_named_with_its_reason() {
    let home = home(".aliyun/config.json", CLI.as_bytes());
    for (profile, says) in [
        ("web", "has mode \"OAuth\""),
        ("web", "ALIBABA_CLOUD_CLI_PROFILE_DISABLED=true"),
        ("blank", "the access key secret contains a blank"),
        ("arnless", "needs ram_role_arn"),
        ("default", "has no access_key_id"),
        ("nobody", "there is no profile \"nobody\""),
    ] {
        let error = refused(cli(home.path(), &[("ALIBABA_CLOUD_PROFILE", profile)])).await;
        assert!(error.to_string().contains(says), "{profile}: {error}");
    }
    let disabled = [("ALIBABA_CLOUD_CLI_PROFILE_DISABLED", "true")];
    let error = refused(cli(home.path(), &disabled)).await.to_string();
    assert!(error.contains("ALIBABA_CLOUD_CLI_PROFILE_DISABLED is true"), "{error}");
}

#[tokio::test]
async fn a_profile_file_that_is_none_is_named_without_its_content() {
    let long = HIDDEN.repeat(20_000);
    for (content, says) in [
        (b"hidden".as_slice(), "config.json:1:"),
        (b"{\n\"current\": {\"hidden\": 1}}", "config.json:2:"),
        (b"{\"profiles\": \"hidden\"}", "not the JSON"),
        (b"\xffhidden", "not text"),
        (long.as_bytes(), "longer than 64 KiB"),
        (b"{}", "there is no profile \"default\""),
    ] {
        let home = home(".aliyun/config.json", content);
        let error = refused(cli(home.path(), &[])).await.to_string();
        assert!(error.contains(says), "{error}");
    }
    let empty = tempfile::tempdir().expect("a directory");
    let error = refused(cli(empty.path(), &[])).await.to_string();
    assert!(error.contains("config.json does not exist"), "{error}");
    let error = refused(link(Provider::CliProfile, settings(&[]))).await.to_string();
    assert!(error.contains("HOME is not set"), "{error}");
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::create_dir_all(directory.path().join(".aliyun/config.json")).expect("a directory");
    assert!(refused(cli(directory.path(), &[])).await.to_string().contains("cannot be read"));
}

const INI: &str = "\u{feff}# shared
[ default ]
type = access_key
access_key_id = LTAI-first
access_key_id=LTAI-ini
access_key_secret = \"hidden==\"
; another
[tmp]
type = sts
access_key_id = STS.tmp
access_key_secret = hidden-tmp
security_token = hidden-token
[off]
enable = false
type = access_key
[half]
type = access_key
access_key_id = LTAI
[rsa]
type = rsa_key_pair
private_key_file = /hidden
[typeless]
access_key_id = LTAI
[oidc]
type = oidc_role_arn
role_arn = a
oidc_token_file_path = /absent
oidc_provider_arn = p
";

#[tokio::test]
async fn the_shared_profile_is_read_as_ini() {
    let home = home(".alibabacloud/credentials", INI.as_bytes());
    let (client, request) = signed(ini(home.path(), &[])).await;
    assert!(request.is_signed_with("LTAI-ini", "hidden==", None), "the last one counts");
    assert_eq!(client.credentials_status().kind, "ini-profile");
    let (_, request) = signed(ini(home.path(), &[("ALIBABA_CLOUD_PROFILE", "tmp")])).await;
    assert_eq!(request.header("x-acs-security-token"), Some("hidden-token"));
    let path = home.path().join(".alibabacloud/credentials");
    let named = [("ALIBABA_CLOUD_CREDENTIALS_FILE", path.to_str().expect("UTF-8"))];
    let (_, request) = signed(link(Provider::IniProfile, settings(&named))).await;
    assert!(request.is_signed_with("LTAI-ini", "hidden==", None));
}

#[tokio::test]
async fn a_section_that_cannot_be_used_is_named_with_its_reason() {
    let home = home(".alibabacloud/credentials", INI.as_bytes());
    for (profile, says) in [
        ("off", "is not enabled"),
        ("half", "has no access_key_secret"),
        ("rsa", "has type \"rsa_key_pair\", which is none of access_key"),
        ("typeless", "has no type"),
        ("nobody", "there is no profile \"nobody\""),
        ("oidc", "the OIDC token in /absent: missing"),
    ] {
        let error = refused(ini(home.path(), &[("ALIBABA_CLOUD_PROFILE", profile)])).await;
        assert!(error.to_string().contains(says), "{profile}: {error}");
    }
    let named = [("ALIBABA_CLOUD_CREDENTIALS_FILE", "/absent")];
    let error = refused(ini(home.path(), &named)).await;
    assert_eq!(error.code(), "sls.credentials_unusable");
    for (content, line) in [("[default\n", 1), ("# x\n\nhidden\n", 3), ("[a]\nhidden", 2)] {
        let home = self::home(".alibabacloud/credentials", content.as_bytes());
        let error = refused(ini(home.path(), &[])).await.to_string();
        assert!(error.contains(&format!("credentials:{line}: ")), "{error}");
    }
}

#[tokio::test]
async fn both_kinds_of_profile_can_name_the_role_of_the_instance() {
    let cli_home = home(
        ".aliyun/config.json",
        br#"{"profiles":[{"name":"default","mode":"EcsRamRole","ram_role_name":"waf"}]}"#,
    );
    let ini_home =
        home(".alibabacloud/credentials", b"[default]\ntype = ecs_ram_role\nrole_name = waf\n");
    for (provider, home) in [(Provider::CliProfile, &cli_home), (Provider::IniProfile, &ini_home)] {
        let token = crate::stub::Answer::status(200, &[], b"hidden-metadata");
        let stub = Stub::start(vec![token, document()]).await;
        let settings = at_home(home.path(), &[]).with_metadata_url(stub.endpoint.clone());
        let client = signed_with_temporary(link(provider, settings)).await;
        assert_eq!(client.credentials_status().kind, provider.name());
        assert!(stub.requests()[1].target.ends_with("/waf"));
    }
}
