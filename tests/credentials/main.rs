//! Every way to an access key, against a small server that stands in for whom it asks, and
//! down to the signature of a call that was made with the key.

#![expect(clippy::expect_used, reason = "a test that cannot go on has failed")]

mod chain;
mod ecs;
mod endpoints;
mod profiles;
mod refresh;
#[path = "../sls/stub.rs"]
mod stub;

use std::path::Path;
use std::time::Duration;

use sls_relay::sls::{
    ChainSettings, Client, ClientConfig, CredentialSource, DEFAULT_MAX_RAW_BYTES, Endpoint, Error,
    Provider, SignVersion,
};
use stub::{Answer, Stub};

/// The mark in every secret of these tests.
const HIDDEN: &str = "hidden";
const ID: &str = "STS.temporary";
const SECRET: &str = "hidden-secret";
const TOKEN: &str = "hidden-token";
/// Answers with this `Date` are given six hours before [`END`].
const DATE: &str = "Sat, 31 Jan 2026 08:00:00 GMT";
const END: &str = "2026-01-31T14:00:00Z";

/// The members of a key's document.
fn key() -> String {
    format!(
        r#""AccessKeyId":"{ID}","AccessKeySecret":"{SECRET}","SecurityToken":"{TOKEN}","Expiration":"{END}""#
    )
}

fn dated(body: &str) -> Answer {
    Answer::status(200, &[("Date", DATE)], body.as_bytes())
}

/// A key as the metadata service and a credentials URI give it.
fn document() -> Answer {
    dated(&format!(r#"{{{},"Code":"Success"}}"#, key()))
}

/// A key as STS gives it.
fn assumed() -> Answer {
    dated(&format!(r#"{{"RequestId":"R","Credentials":{{{}}}}}"#, key()))
}

fn settings(variables: &[(&str, &str)]) -> ChainSettings {
    ChainSettings::new(&|name| {
        let mut found = variables.iter().filter(|(key, _)| *key == name);
        found.next().map(|(_, value)| (*value).to_owned())
    })
}

/// As [`settings`], with a home directory.
fn at_home(home: &Path, variables: &[(&str, &str)]) -> ChainSettings {
    let home = home.to_str().expect("a path in UTF-8");
    settings(&[&[("HOME", home)], variables].concat())
}

fn client(endpoint: &str, source: CredentialSource) -> Result<Client, Error> {
    assert!(!format!("{source:?}").contains(HIDDEN), "{source:?}");
    Client::new(ClientConfig {
        endpoint: Endpoint::parse(endpoint).expect("an endpoint"),
        project: "waf".into(),
        credentials: source,
        sign: SignVersion::V1,
        region: None,
        user_agent: "sls-relay/test".into(),
        timeout: Duration::from_secs(20),
        max_raw_bytes: DEFAULT_MAX_RAW_BYTES,
        network: Default::default(),
        tls: None,
    })
}

/// Any answer of SLS that a call accepts.
fn project() -> Answer {
    Answer::json(r#"{"projectName":"waf","status":"Normal","region":"cn-hangzhou"}"#)
}

/// Makes a call with what the source gives: the client, and the request that SLS got.
async fn signed(source: CredentialSource) -> (Client, stub::Request) {
    let sls = Stub::start(vec![project()]).await;
    let client = client(&sls.endpoint, source).expect("a client");
    client.get_project().await.expect("an answer");
    (client, sls.request())
}

/// Makes a call, signed with the key of the stand-ins.
async fn signed_with_temporary(source: CredentialSource) -> Client {
    let (client, request) = signed(source).await;
    assert!(request.is_signed_with(ID, SECRET, None));
    assert_eq!(request.header("x-acs-security-token"), Some(TOKEN));
    let status = client.credentials_status();
    assert_eq!(status.key_id.as_deref(), Some(ID));
    assert_eq!(status.expires_at.map(|end| end.to_string()).as_deref(), Some(END));
    assert!(status.failure.is_none());
    assert!(!format!("{status:?}").contains(HIDDEN));
    client
}

/// The error of a source that gives nothing, at start or at the first call. SLS is never
/// asked, and no secret is shown.
async fn refused(source: CredentialSource) -> Error {
    let sls = Stub::start(Vec::new()).await;
    let error = match client(&sls.endpoint, source) {
        Ok(client) => client.get_project().await.expect_err("no key"),
        Err(error) => error,
    };
    assert_eq!(sls.requests().len(), 0, "nothing is sent without a key");
    let mut shown = format!("{error} {error:?}");
    let mut source = std::error::Error::source(&error);
    while let Some(error) = source {
        shown.push_str(&format!(" {error} {error:?}"));
        source = error.source();
    }
    assert!(!shown.contains(HIDDEN), "{shown}");
    error
}

fn link(provider: Provider, settings: ChainSettings) -> CredentialSource {
    CredentialSource::Link(provider, settings)
}
