//! The order of the default chain, and what it says when it comes to its end.

use sls_relay::sls::{Advice, ChainSettings, CredentialSource, Provider};

use crate::stub::{Answer, Stub};
use crate::{at_home, document, refused, settings, signed, signed_with_temporary};

const KEY: [(&str, &str); 2] = [
    ("ALIBABA_CLOUD_ACCESS_KEY_ID", "LTAI-env"),
    ("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "hidden-env"),
];
const NO_ECS: (&str, &str) = ("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "true");

fn chain(settings: ChainSettings) -> CredentialSource {
    CredentialSource::Chain(settings)
}

/// A home directory with both profile files.
fn home() -> tempfile::TempDir {
    let home = tempfile::tempdir().expect("a directory");
    for (directory, file, content) in [
        (
            ".aliyun",
            "config.json",
            r#"{"profiles":[{"name":"default","mode":"AK","access_key_id":"LTAI-cli","access_key_secret":"hidden-cli"}]}"#,
        ),
        (
            ".alibabacloud",
            "credentials",
            "[default]\ntype=access_key\naccess_key_id=LTAI-ini\naccess_key_secret=hidden-ini\n",
        ),
    ] {
        let directory = home.path().join(directory);
        std::fs::create_dir(&directory).expect("make a directory");
        std::fs::write(directory.join(file), content).expect("write a file");
    }
    home
}

#[tokio::test]
async fn the_first_way_that_is_there_is_taken() {
    let home = home();
    let off = ("ALIBABA_CLOUD_CLI_PROFILE_DISABLED", "true");
    for (variables, kind, id, secret) in [
        (&KEY[..], "env", "LTAI-env", "hidden-env"),
        (&[], "cli-profile", "LTAI-cli", "hidden-cli"),
        (&[off], "ini-profile", "LTAI-ini", "hidden-ini"),
    ] {
        let (client, request) = signed(chain(at_home(home.path(), variables))).await;
        assert!(request.is_signed_with(id, secret, None), "{kind}");
        assert_eq!(client.credentials_status().kind, kind);
    }
}

#[tokio::test]
async fn a_way_that_is_there_and_fails_ends_the_search() {
    let home = home();
    let half = at_home(home.path(), &KEY[..1]);
    let error = refused(chain(half)).await;
    assert!(error.to_string().starts_with("ALIBABA_CLOUD_ACCESS_KEY_ID: half"), "{error}");
    let token = home.path().join("token");
    std::fs::write(&token, "hidden").expect("write a file");
    let stub = Stub::start(vec![Answer::status(503, &[], b"")]).await;
    let variables = [
        ("ALIBABA_CLOUD_ROLE_ARN", "acs:ram::1:role/waf"),
        ("ALIBABA_CLOUD_OIDC_PROVIDER_ARN", "acs:ram::1:oidc-provider/ack"),
        ("ALIBABA_CLOUD_OIDC_TOKEN_FILE", token.to_str().expect("UTF-8")),
    ];
    let settings = at_home(home.path(), &variables).with_sts_url(stub.endpoint.clone());
    let error = refused(chain(settings)).await;
    assert_eq!(error.code(), "sls.credentials_unavailable", "no other identity in its place");
}

#[tokio::test]
async fn the_instance_is_asked_last_and_an_address_after_it() {
    let token = || Answer::status(200, &[], b"hidden-metadata");
    let instance = Stub::start(vec![token(), Answer::status(200, &[], b"waf"), document()]).await;
    let address = Stub::start(vec![document()]).await;
    let url = [("ALIBABA_CLOUD_CREDENTIALS_URI", address.endpoint.as_str())];
    let settings = settings(&url);
    let with = settings.clone().with_metadata_url(instance.endpoint.clone());
    let client = signed_with_temporary(chain(with)).await;
    assert_eq!(client.credentials_status().kind, "ecs-ram-role");
    assert!(address.requests().is_empty());
    let no_instance = Stub::start(vec![Answer::status(404, &[], b"")]).await;
    let without = settings.with_metadata_url(no_instance.endpoint.clone());
    let client = signed_with_temporary(chain(without)).await;
    assert_eq!(client.credentials_status().kind, "uri");
    assert!(!no_instance.requests().is_empty());
}

#[tokio::test]
async fn the_end_of_the_chain_is_one_error_that_names_every_way() {
    let home = tempfile::tempdir().expect("a directory");
    let error = refused(chain(at_home(home.path(), &[NO_ECS]))).await;
    assert_eq!((error.code(), error.advice()), ("sls.credentials_absent", Advice::Operator));
    let text = error.to_string();
    let mut last = 0;
    for (provider, why) in Provider::ALL.into_iter().zip([
        "ALIBABA_CLOUD_ACCESS_KEY_SECRET are not set",
        "ALIBABA_CLOUD_OIDC_TOKEN_FILE are not set",
        ".aliyun/config.json does not exist",
        ".alibabacloud/credentials does not exist",
        "ALIBABA_CLOUD_ECS_METADATA_DISABLED is true",
        "ALIBABA_CLOUD_CREDENTIALS_URI is not set",
    ]) {
        let at = text.find(&format!("{provider}: ")).expect(&text);
        assert!(at > last && text[at..].contains(why), "{provider} in {text}");
        last = at;
    }
}

#[tokio::test]
async fn an_instance_that_does_not_answer_is_one_reason_among_them_and_asked_again() {
    let stub = Stub::start(Vec::new()).await;
    let error = refused(chain(settings(&[]).with_metadata_url(stub.endpoint.clone()))).await;
    assert_eq!(error.code(), "sls.credentials_absent");
    assert!(matches!(error.advice(), Advice::Retry { .. }), "it may answer later");
    let text = error.to_string();
    let at = |part: &str| text.find(part).expect(&text);
    assert!(at("ini-profile: ") < at("ecs-ram-role: ") && at("ecs-ram-role: ") < at("uri: "));
    assert!(text.contains("status 418"), "{text}");
}

#[test]
fn that_this_may_be_an_instance_is_no_sign_of_the_chain() {
    let home = home();
    for (settings, asked_for) in [
        (settings(&[]), false),
        (settings(&[NO_ECS]), false),
        (settings(&[("ALIBABA_CLOUD_STS_REGION", "cn-hangzhou")]), false),
        (settings(&[("ALIBABA_CLOUD_ACCESS_KEY_ID", "")]), false),
        (settings(&KEY[..1]), true),
        (settings(&[("ALIBABA_CLOUD_ECS_METADATA", "waf")]), true),
        (settings(&[("ALIBABA_CLOUD_CREDENTIALS_URI", "http://127.0.0.1")]), true),
        (at_home(home.path(), &[]), true),
    ] {
        assert_eq!(settings.is_asked_for(), asked_for, "{settings:?}");
    }
}
