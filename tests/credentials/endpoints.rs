//! STS and a credentials URI: who is asked over the network, and how.

use std::path::Path;

use sls_relay::sls::{ChainSettings, CredentialSource, Provider};

use crate::stub::{Answer, Request, Stub, decode_query};
use crate::{assumed, at_home, document, link, refused, settings, signed_with_temporary};

const ROLE: &str = "acs:ram::1:role/waf";
const IDP: &str = "acs:ram::1:oidc-provider/ack";

fn write(dir: &Path, name: &str, content: &str) -> String {
    let path = dir.join(name);
    std::fs::create_dir_all(path.parent().expect("a directory")).expect("make a directory");
    std::fs::write(&path, content).expect("write a file");
    path.to_str().expect("a path in UTF-8").to_owned()
}

fn form(request: &Request) -> Vec<(String, String)> {
    decode_query(&format!("?{}", String::from_utf8(request.body.clone()).expect("a form")))
}

fn value(pairs: &[(String, String)], key: &str) -> Option<String> {
    pairs.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone())
}

fn oidc(stub: &Stub, token_file: &str) -> CredentialSource {
    let settings = settings(&[
        ("ALIBABA_CLOUD_ROLE_ARN", ROLE),
        ("ALIBABA_CLOUD_OIDC_PROVIDER_ARN", IDP),
        ("ALIBABA_CLOUD_OIDC_TOKEN_FILE", token_file),
        ("ALIBABA_CLOUD_ROLE_SESSION_NAME", "relay 1"),
    ]);
    link(Provider::Oidc, settings.with_sts_url(stub.endpoint.clone()))
}

#[tokio::test]
async fn a_token_is_changed_for_a_key_without_a_signature() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = write(dir.path(), "token", "hidden.jwt+/=\n");
    let stub = Stub::start(vec![assumed()]).await;
    let client = signed_with_temporary(oidc(&stub, &file)).await;
    assert_eq!(client.credentials_status().kind, "oidc");
    let request = stub.request();
    assert_eq!((request.method.as_str(), request.path()), ("POST", "/"));
    assert_eq!(request.header("content-type"), Some("application/x-www-form-urlencoded"));
    let (query, form) = (request.query(), form(&request));
    for (key, expected) in
        [("Action", "AssumeRoleWithOIDC"), ("Version", "2015-04-01"), ("Format", "JSON")]
    {
        assert_eq!(value(&query, key).as_deref(), Some(expected));
    }
    for (key, expected) in [
        ("RoleArn", ROLE),
        ("OIDCProviderArn", IDP),
        ("OIDCToken", "hidden.jwt+/="),
        ("RoleSessionName", "relay 1"),
        ("DurationSeconds", "3600"),
    ] {
        assert_eq!(value(&form, key).as_deref(), Some(expected));
    }
    assert!(value(&query, "Signature").is_none());
    assert!(!request.target.contains("hidden"), "a token has no place in a URL");
}

#[tokio::test]
async fn a_refusal_of_sts_is_told_without_what_it_repeats() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = write(dir.path(), "token", "hidden.jwt");
    let body = r#"{"Code":"AuthenticationFail.OIDCToken.Expired","RequestId":"ABC-1","Message":"hidden.jwt is over"}"#;
    let stub = Stub::start(vec![Answer::status(400, &[], body.as_bytes())]).await;
    let error = refused(oidc(&stub, &file)).await;
    let text = error.to_string();
    assert_eq!(error.code(), "sls.credentials_unusable");
    for part in ["AssumeRoleWithOIDC", ROLE, "OIDCToken.Expired", "ABC-1", "status 400"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let stub = Stub::start(vec![Answer::status(503, &[], b"")]).await;
    assert_eq!(refused(oidc(&stub, &file)).await.code(), "sls.credentials_unavailable");
}

#[tokio::test]
async fn half_of_what_oidc_needs_is_named() {
    let half = settings(&[("ALIBABA_CLOUD_ROLE_ARN", ROLE)]);
    let error = refused(link(Provider::Oidc, half)).await.to_string();
    for name in ["ALIBABA_CLOUD_OIDC_PROVIDER_ARN", "ALIBABA_CLOUD_OIDC_TOKEN_FILE are not set"] {
        assert!(error.contains(name), "{error}");
    }
    let dir = tempfile::tempdir().expect("a directory");
    let stub = Stub::start(Vec::new()).await;
    for (name, content, says) in [
        ("empty", Some(" \n"), "is empty"),
        ("two", Some("hid den"), "blank"),
        ("no", None, "missing"),
    ] {
        let path = dir.path().join(name);
        if let Some(content) = content {
            write(dir.path(), name, content);
        }
        let error = refused(oidc(&stub, path.to_str().expect("UTF-8"))).await.to_string();
        assert!(error.contains(says) && error.contains(name), "{error}");
    }
    assert!(stub.requests().is_empty());
}

fn role_profile(stub: &Stub, home: &Path) -> ChainSettings {
    at_home(home, &[]).with_sts_url(stub.endpoint.clone())
}

#[tokio::test]
async fn a_role_is_assumed_with_the_key_of_a_profile() {
    let home = tempfile::tempdir().expect("a directory");
    let profile = format!(
        r#"{{"current":"p","profiles":[{{"name":"p","mode":"RamRoleArn","access_key_id":"LTAI","access_key_secret":"hidden-long","ram_role_arn":"{ROLE}","ram_session_name":"s","expired_seconds":900,"external_id":"x","sts_region":"cn-hangzhou"}}]}}"#
    );
    write(home.path(), ".aliyun/config.json", &profile);
    let ini = format!(
        "[default]\ntype=ram_role_arn\naccess_key_id=LTAI\naccess_key_secret=hidden-long\nrole_arn={ROLE}\nrole_session_name=s\n"
    );
    write(home.path(), ".alibabacloud/credentials", &ini);
    for (provider, duration, external) in
        [(Provider::CliProfile, "900", Some("x")), (Provider::IniProfile, "3600", None)]
    {
        let stub = Stub::start(vec![assumed()]).await;
        let client = signed_with_temporary(link(provider, role_profile(&stub, home.path()))).await;
        assert_eq!(client.credentials_status().kind, provider.name());
        let request = stub.request();
        let (query, form) = (request.query(), form(&request));
        for (key, expected) in [
            ("Action", "AssumeRole"),
            ("AccessKeyId", "LTAI"),
            ("SignatureMethod", "HMAC-SHA1"),
            ("SignatureVersion", "1.0"),
        ] {
            assert_eq!(value(&query, key).as_deref(), Some(expected));
        }
        assert!(value(&query, "Signature").is_some_and(|signature| signature.len() == 28));
        assert!(value(&query, "SignatureNonce").is_some_and(|nonce| nonce.len() == 32));
        assert_eq!(value(&form, "RoleArn").as_deref(), Some(ROLE));
        assert_eq!(value(&form, "DurationSeconds").as_deref(), Some(duration));
        assert_eq!(value(&form, "ExternalId").as_deref(), external);
    }
}

#[tokio::test]
async fn a_credentials_uri_is_asked_as_it_is_and_never_shown() {
    let stub = Stub::start(vec![document()]).await;
    let url = format!("{}/keys?secret=hidden-path", stub.endpoint);
    let source = link(Provider::Uri, settings(&[("ALIBABA_CLOUD_CREDENTIALS_URI", &url)]));
    let client = signed_with_temporary(source).await;
    assert_eq!(client.credentials_status().kind, "uri");
    assert_eq!(stub.request().target, "/keys?secret=hidden-path");
    for answer in [Answer::status(404, &[], b""), Answer::status(200, &[], b"hidden")] {
        let stub = Stub::start(vec![answer]).await;
        let url = format!("{}/keys?secret=hidden-path", stub.endpoint);
        let source = link(Provider::Uri, settings(&[("ALIBABA_CLOUD_CREDENTIALS_URI", &url)]));
        assert!(refused(source).await.to_string().contains("127.0.0.1"));
    }
    for url in ["hidden", "ftp://hidden/", "file:///etc/hidden", "http://"] {
        let source = link(Provider::Uri, settings(&[("ALIBABA_CLOUD_CREDENTIALS_URI", url)]));
        let error = refused(source).await.to_string();
        assert!(error.contains("ALIBABA_CLOUD_CREDENTIALS_URI"), "{error}");
    }
}

#[tokio::test]
async fn nobody_there_is_told_with_the_address_and_the_cause() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("listen");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let url = format!("http://{address}/hidden-path");
    let source = link(Provider::Uri, settings(&[("ALIBABA_CLOUD_CREDENTIALS_URI", &url)]));
    let error = refused(source).await;
    assert_eq!(error.code(), "sls.credentials_unavailable");
    assert!(error.to_string().contains(&address.to_string()), "{error}");
    assert!(std::error::Error::source(&error).is_some(), "the cause is kept");
}
