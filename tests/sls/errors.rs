//! Error answers and what they mean.

use std::time::Duration;

use sls_relay::sls::error::Context;
use sls_relay::sls::refusal::Answer as Received;
use sls_relay::sls::{Advice, CursorFrom, Refusal};

use crate::stub::{Answer, Stub};
use crate::{client, fixture, list, text};

#[test]
fn every_error_of_the_vectors_has_its_meaning() {
    let retry = Advice::Retry { after: Duration::from_secs(1) };
    let throttled = Advice::Throttled { after: Duration::from_secs(2) };
    let expected = [
        ("NotExistConsumerWithBody", "sls.consumer_timed_out", Advice::Rejoin),
        ("RequestTimeExpired", "sls.clock_skew", Advice::FixClock),
        ("RequestTimeTooSkewed", "sls.clock_skew", Advice::FixClock),
        ("InvalidShardCheckPoint", "sls.refused", Advice::Operator),
        ("InvalidCursor", "sls.invalid_cursor", Advice::InvalidCursor),
        ("ParameterInvalid", "sls.invalid_cursor", Advice::InvalidCursor),
        ("ConsumerGroupAlreadyExist", "sls.group_exists", Advice::Operator),
        ("ShardNotExist", "sls.shard_unknown", Advice::NotOwner),
        ("SignatureNotMatch", "sls.signature_mismatch", Advice::RefreshCredentials),
        ("Unauthorized", "sls.unauthorized", Advice::RefreshCredentials),
        ("InvalidAccessKeyId", "sls.key_unknown", Advice::RefreshCredentials),
        ("ReadQuotaExceed", "sls.throttled", throttled),
        ("ShardReadQuotaExceed", "sls.throttled", throttled),
        ("ConsumerGroupQuotaExceed", "sls.group_quota", Advice::Operator),
        ("ProjectNotExist", "sls.project_unknown", Advice::Operator),
        ("LogStoreNotExist", "sls.logstore_unknown", Advice::Operator),
        ("ConsumerGroupNotExist", "sls.group_unknown", Advice::Rejoin),
        ("ConsumerNotExist", "sls.not_owner", Advice::NotOwner),
        ("ConsumerNotMatch", "sls.not_owner", Advice::NotOwner),
        ("TooManyRequests", "sls.throttled", throttled),
        ("InternalServerError", "sls.unavailable", retry),
        ("", "sls.unavailable", retry),
        ("ServerBusy", "sls.unavailable", retry),
        ("", "sls.forbidden", Advice::Operator),
    ];
    let vectors = fixture("errors.json");
    assert_eq!(list(&vectors).len(), expected.len());
    for (vector, (error_code, code, advice)) in list(&vectors).iter().zip(expected) {
        let status = vector["http_status"].as_u64().expect("a status") as u16;
        let received = Received {
            status,
            body: text(&vector["body_utf8"]).as_bytes(),
            request_id: text(&vector["response_headers"]["x-log-requestid"]),
            date: None,
            retry_after: None,
        };
        let call = Context { operation: "PullLogs", target: "p/l/0".into() };
        let refusal = Refusal::new(call, received);
        assert_eq!(refusal.error_code, error_code);
        assert_eq!((refusal.code(), refusal.advice()), (code, advice), "{error_code}");
        let shown = refusal.to_string();
        assert!(shown.starts_with(&format!("PullLogs p/l/0: refused with {status}")), "{shown}");
        assert!(shown.contains("6787A1B2C3D4E5F600000003"), "{shown}");
    }
}

#[tokio::test]
async fn an_error_answer_arrives_with_all_it_says() {
    let headers = [("x-log-requestid", "R42"), ("Retry-After", "7")];
    let stub = Stub::start(vec![
        Answer::error(403, "ReadQuotaExceed", &headers),
        Answer::status(502, &[], b"<html>bad gateway</html>"),
        Answer::status(404, &[("x-log-requestid", "R43")], b""),
    ])
    .await;
    let client = client(&stub.endpoint);
    let error = client.get_cursor("l", 3, CursorFrom::End).await.expect_err("throttled");
    assert_eq!(error.advice(), Advice::Throttled { after: Duration::from_secs(7) });
    assert_eq!(error.request_id(), Some("R42"));
    let shown = error.to_string();
    assert!(shown.starts_with("GetCursor waf-project-"), "{shown}");
    assert!(shown.contains("/l/3: refused with 403 ReadQuotaExceed because"), "{shown}");

    let error = client.get_logstore("l").await.expect_err("a proxy's answer");
    assert_eq!((error.code(), error.request_id()), ("sls.unavailable", None));
    let error = client.get_logstore("l").await.expect_err("no body");
    assert_eq!((error.code(), error.request_id()), ("sls.refused", Some("R43")));
}
