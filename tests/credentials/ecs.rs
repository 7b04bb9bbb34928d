//! The RAM role of an ECS instance, from a stand-in of its metadata service.

use sls_relay::sls::{ChainSettings, CredentialSource, Provider};

use crate::stub::{Answer, Request, Stub};
use crate::{HIDDEN, document, link, refused, settings, signed_with_temporary};

const ROLES: &str = "/latest/meta-data/ram/security-credentials/";
const TOKEN_ONLY: (&str, &str) = ("ALIBABA_CLOUD_IMDSV1_DISABLED", "true");

fn text(text: &str) -> Answer {
    Answer::status(200, &[], text.as_bytes())
}

fn status(status: u16) -> Answer {
    Answer::status(status, &[], b"<html>hidden</html>")
}

fn instance(stub: &Stub, variables: &[(&str, &str)], role: Option<&str>) -> CredentialSource {
    let settings: ChainSettings = settings(variables)
        .with_metadata_url(stub.endpoint.clone())
        .with_ram_role(role.map(str::to_owned));
    link(Provider::EcsRamRole, settings)
}

/// Method, path and metadata token of each request.
fn asked(stub: &Stub) -> Vec<(String, String, Option<String>)> {
    let parts = |request: Request| {
        let token = request.header("X-aliyun-ecs-metadata-token").map(str::to_owned);
        (request.method.clone(), request.target.clone(), token)
    };
    stub.requests().into_iter().map(parts).collect()
}

fn get(role: &str, token: Option<&str>) -> (String, String, Option<String>) {
    ("GET".to_owned(), format!("{ROLES}{role}"), token.map(str::to_owned))
}

fn put() -> (String, String, Option<String>) {
    ("PUT".to_owned(), "/latest/api/token".to_owned(), None)
}

#[tokio::test]
async fn the_role_is_discovered_and_its_key_fetched_with_a_token() {
    let stub = Stub::start(vec![text("hidden-metadata"), text("waf-reader\n"), document()]).await;
    let client = signed_with_temporary(instance(&stub, &[], None)).await;
    let token = Some("hidden-metadata");
    assert_eq!(asked(&stub), [put(), get("", token), get("waf-reader", token)]);
    let ttl =
        stub.requests()[0].header("X-aliyun-ecs-metadata-token-ttl-seconds").map(str::to_owned);
    assert_eq!(ttl.as_deref(), Some("21600"));
    assert_eq!(client.credentials_status().kind, "ecs-ram-role");
}

#[tokio::test]
async fn a_role_that_is_named_is_not_asked_for() {
    let answers = || vec![text("hidden-metadata"), document()];
    let stub = Stub::start(answers()).await;
    signed_with_temporary(instance(&stub, &[], Some("waf-reader"))).await;
    assert_eq!(asked(&stub), [put(), get("waf-reader", Some("hidden-metadata"))]);
    let stub = Stub::start(answers()).await;
    let named = [("ALIBABA_CLOUD_ECS_METADATA", "other")];
    signed_with_temporary(instance(&stub, &named, None)).await;
    assert_eq!(asked(&stub)[1], get("other", Some("hidden-metadata")));
}

#[tokio::test]
async fn an_instance_without_token_mode_is_asked_without_a_token() {
    for refusal in [status(404), status(405), text("no token at all")] {
        let stub = Stub::start(vec![refusal, document()]).await;
        signed_with_temporary(instance(&stub, &[], Some("r"))).await;
        assert_eq!(asked(&stub), [put(), get("r", None)]);
    }
}

#[tokio::test]
async fn a_token_that_is_not_taken_is_left_away() {
    let stub = Stub::start(vec![text("hidden-metadata"), status(403), document()]).await;
    signed_with_temporary(instance(&stub, &[], Some("r"))).await;
    assert_eq!(asked(&stub), [put(), get("r", Some("hidden-metadata")), get("r", None)]);
}

#[tokio::test]
async fn the_way_without_a_token_can_be_forbidden() {
    let stub = Stub::start(vec![status(404), document()]).await;
    let error = refused(instance(&stub, &[TOKEN_ONLY], Some("r"))).await;
    assert_eq!(error.code(), "sls.credentials_unusable");
    assert!(error.to_string().contains("its token: status 404"), "{error}");
    assert_eq!(asked(&stub), [put()]);
    let stub = Stub::start(vec![text("hidden-metadata"), status(403), document()]).await;
    refused(instance(&stub, &[TOKEN_ONLY], Some("r"))).await;
    assert_eq!(asked(&stub), [put(), get("r", Some("hidden-metadata"))]);
}

#[tokio::test]
async fn both_failures_are_told_where_both_ways_failed() {
    let stub = Stub::start(vec![status(404), status(403)]).await;
    let error = refused(instance(&stub, &[], Some("r"))).await.to_string();
    assert!(error.contains("role r: status 403") && error.contains("token: status 404"), "{error}");
}

#[tokio::test]
async fn an_instance_without_a_role_says_what_to_do() {
    let stub = Stub::start(vec![text("hidden-metadata"), status(404), status(404)]).await;
    let error = refused(instance(&stub, &[], None)).await.to_string();
    assert!(error.contains("attach one"), "{error}");
}

#[tokio::test]
async fn what_is_no_key_is_refused() {
    let large = format!("{{\"AccessKeyId\":\"{}\"}}", HIDDEN.repeat(20_000));
    let chunks = format!("8000\r\n{}\r\n", "x".repeat(0x8000)).repeat(4);
    let chunked = Answer::head(200, &[("Transfer-Encoding", "chunked")], chunks.as_bytes());
    for (answer, says) in [
        (text("hidden"), "not the JSON"),
        (text(""), "not the JSON"),
        (text("{}"), "the access key id is empty"),
        (text(r#"{"AccessKeyId":"id","AccessKeySecret":"hid den"}"#), "contains a blank"),
        (text(&large), "larger than 64 KiB"),
        (chunked, "larger than 64 KiB"),
        (Answer::head(200, &[("Content-Length", "900")], b"{\"Acc"), "broke off"),
        (status(302), "status 302"),
    ] {
        let stub = Stub::start(vec![text("hidden-metadata"), answer]).await;
        let source = instance(&stub, &[TOKEN_ONLY], Some("r"));
        let error = refused(source).await.to_string();
        assert!(error.contains(says), "{says}: {error}");
    }
}

#[tokio::test]
async fn a_failure_the_service_reports_is_an_error() {
    let failed =
        text(r#"{"Code":"AssumeRoleUnauthorized","AccessKeyId":"x","AccessKeySecret":"hidden"}"#);
    let stub = Stub::start(vec![text("hidden-metadata"), failed]).await;
    let error = refused(instance(&stub, &[TOKEN_ONLY], Some("r"))).await;
    assert!(error.to_string().contains("AssumeRoleUnauthorized"), "{error}");
}

#[tokio::test]
async fn a_role_that_is_no_name_is_never_asked_for() {
    for role in ["../x", "a b", "", "a\r\nHost: x"] {
        let stub = Stub::start(vec![text("hidden-metadata"), text(role)]).await;
        let error = refused(instance(&stub, &[TOKEN_ONLY], None)).await.to_string();
        assert!(error.contains("no name of a role"), "{error}");
        assert_eq!(asked(&stub).len(), 2);
    }
    let stub = Stub::start(Vec::new()).await;
    let error = refused(instance(&stub, &[], Some("../x"))).await;
    assert_eq!(error.code(), "sls.credentials_unusable");
    assert!(asked(&stub).is_empty());
}

/// One second is the cap; how long it takes is not looked at.
#[tokio::test]
async fn a_host_that_accepts_and_says_nothing_does_not_hold_the_relay() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("listen");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let settings = settings(&[TOKEN_ONLY]).with_metadata_url(url);
    let error = refused(link(Provider::EcsRamRole, settings)).await;
    assert_eq!(error.code(), "sls.credentials_unavailable");
}
