//! The SLS leaf against vectors made with the official Python SDK, and against a small
//! server on loopback that answers as told.

#![expect(clippy::expect_used, reason = "a test that cannot go on has failed")]

mod answers;
mod bodies;
mod client;
mod errors;
mod network;
mod operations;
mod signing;
mod stub;
mod tls;

use serde_json::Value;
use sls_relay::sls::{
    Client, ClientConfig, CredentialSource, Credentials, DEFAULT_MAX_RAW_BYTES, Endpoint, Network,
    SignVersion,
};
use std::time::Duration;

/// A file of vectors.
fn fixture(name: &str) -> Value {
    let path = format!("{}/tests/fixtures/sls/{name}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).expect("read the fixture");
    serde_json::from_str(&text).expect("the fixture is JSON")
}

fn list(value: &Value) -> &Vec<Value> {
    value.as_array().expect("an array")
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a string")
}

fn unhex(value: &Value) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).expect("a hex digit") as u8;
    text(value).as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

/// The members of an object as pairs of strings.
fn pairs(value: &Value) -> Vec<(String, String)> {
    let object = value.as_object().expect("an object");
    object.iter().map(|(key, value)| (key.clone(), text(value).to_owned())).collect()
}

const PROJECT: &str = "waf-project-1000000000000001-cn-hangzhou";

fn config(endpoint: &str) -> ClientConfig {
    ClientConfig {
        endpoint: Endpoint::parse(endpoint).expect("an endpoint"),
        project: PROJECT.into(),
        credentials: CredentialSource::Static(Credentials {
            key_id: "LTAI0000EXAMPLEKEYID01".into(),
            key_secret: "EXAMPLEsecretEXAMPLEsecret0001".into(),
            security_token: None,
        }),
        sign: SignVersion::Auto,
        region: None,
        user_agent: "sls-relay/test (group/consumer)".into(),
        timeout: Duration::from_secs(20),
        max_raw_bytes: DEFAULT_MAX_RAW_BYTES,
        network: Network::default(),
        tls: None,
    }
}

fn client(endpoint: &str) -> Client {
    Client::new(config(endpoint)).expect("a client")
}
