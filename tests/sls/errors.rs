//! Error answers and what they mean.

use std::time::Duration;

use sls_relay::sls::error::Context;
use sls_relay::sls::refusal::Answer as Received;
use sls_relay::sls::{Advice, Client, CredentialSource, Credentials, CursorFrom, Error, Refusal};

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

/// The codes that SLS and its SDKs know, under every status they were seen with.
#[test]
fn each_known_code_has_its_meaning_under_its_status() {
    let retry = Advice::Retry { after: Duration::from_secs(1) };
    let throttled = Advice::Throttled { after: Duration::from_secs(2) };
    let (refresh, operator) = (Advice::RefreshCredentials, Advice::Operator);
    let denied = "denied by sts or ram, action: log:ConsumerGroupHeartBeat, resource: acs:log:x";
    for (status, error_code, message, code, advice) in [
        (400, "RequestTimeExpired", "", "sls.clock_skew", Advice::FixClock),
        (400, "RequestTimeTooSkewed", "", "sls.clock_skew", Advice::FixClock),
        (400, "InvalidCursor", "", "sls.invalid_cursor", Advice::InvalidCursor),
        (400, "SLSInvalidCursor", "", "sls.invalid_cursor", Advice::InvalidCursor),
        (400, "ParameterInvalid", "invalid cursor x", "sls.invalid_cursor", Advice::InvalidCursor),
        (400, "ParameterInvalid", "count", "sls.refused", operator),
        (400, "MissingParameter", "", "sls.refused", operator),
        (400, "InvalidParameter", "", "sls.refused", operator),
        (400, "InvalidDateFormat", "", "sls.refused", operator),
        (400, "JsonInfoInvalid", "", "sls.refused", operator),
        (400, "InvalidShardCheckPoint", "", "sls.refused", operator),
        (400, "NotExistConsumerWithBody", "", "sls.consumer_timed_out", Advice::Rejoin),
        (400, "ConsumerGroupAlreadyExist", "", "sls.group_exists", operator),
        (400, "ShardNotExist", "", "sls.shard_unknown", Advice::NotOwner),
        (400, "RequestTimeout", "", "sls.unavailable", retry),
        (401, "SignatureNotMatch", "", "sls.signature_mismatch", refresh),
        (401, "Unauthorized", "", "sls.unauthorized", refresh),
        (401, "Unauthorized", denied, "sls.forbidden", refresh),
        (401, "InvalidAccessKeyId", "", "sls.key_unknown", refresh),
        (401, "InvalidAccessKeyId.NotFound", "", "sls.key_unknown", refresh),
        (401, "SecurityToken.Expired", "", "sls.token_expired", refresh),
        (401, "SecurityTokenExpired", "", "sls.token_expired", refresh),
        (403, "ReadQuotaExceed", "", "sls.throttled", throttled),
        (403, "ShardReadQuotaExceed", "", "sls.throttled", throttled),
        (403, "ProjectQuotaExceed", "", "sls.throttled", throttled),
        (403, "ExceedQuota", "", "sls.throttled", throttled),
        (403, "Forbidden", "Read QPS Exceed", "sls.throttled", throttled),
        (403, "ConsumerGroupQuotaExceed", "", "sls.group_quota", operator),
        (403, "ProjectForbidden", "", "sls.project_locked", operator),
        (403, "Unauthorized", denied, "sls.forbidden", operator),
        (404, "ProjectNotExist", "", "sls.project_unknown", operator),
        (404, "ProjectNotExists", "", "sls.project_unknown", operator),
        (404, "LogStoreNotExist", "", "sls.logstore_unknown", operator),
        (404, "ConsumerGroupNotExist", "", "sls.group_unknown", Advice::Rejoin),
        (404, "ConsumerNotExist", "", "sls.not_owner", Advice::NotOwner),
        (404, "ConsumerNotExsit", "", "sls.not_owner", Advice::NotOwner),
        (404, "ConsumerNotMatch", "", "sls.not_owner", Advice::NotOwner),
        (404, "ShardNotExist", "", "sls.shard_unknown", Advice::NotOwner),
        (404, "ShardNotExsit", "", "sls.shard_unknown", Advice::NotOwner),
        (405, "InvalidMethod", "", "sls.refused", operator),
        (407, "", "", "sls.proxy_refused", operator),
        (408, "", "", "sls.unavailable", retry),
        (411, "MissingContentLength", "", "sls.refused", operator),
        (415, "InvalidContentType", "", "sls.refused", operator),
        (429, "", "", "sls.throttled", throttled),
        (429, "TooManyRequests", "", "sls.throttled", throttled),
        (500, "InternalServerError", "", "sls.unavailable", retry),
        (502, "", "<html>", "sls.unavailable", retry),
        (503, "ServerBusy", "", "sls.unavailable", retry),
        (504, "", "", "sls.unavailable", retry),
    ] {
        let body = serde_json::json!({ "errorCode": error_code, "errorMessage": message });
        let refusal = refuse("PullLogs", status, &body.to_string());
        assert_eq!((refusal.code(), refusal.advice()), (code, advice), "{status} {error_code}");
    }
}

fn refuse(operation: &'static str, status: u16, body: &str) -> Refusal {
    let call = Context { operation, target: "p/l/0".into() };
    let request_id = "R44";
    let received =
        Received { status, body: body.as_bytes(), request_id, date: None, retry_after: None };
    Refusal::new(call, received)
}

#[test]
fn a_missing_right_a_wrong_region_and_a_wrong_key_are_named_with_their_remedy() {
    for (operation, action) in [
        ("GetProject", "log:GetProject"),
        ("GetLogStore", "log:GetLogStore"),
        ("ListShards", "log:ListShards"),
        ("GetCursor", "log:GetCursorOrData"),
        ("GetCursorTime", "log:GetCursorOrData"),
        ("PullLogs", "log:GetCursorOrData"),
        ("CreateConsumerGroup", "log:CreateConsumerGroup"),
        ("ListConsumerGroup", "log:ListConsumerGroup"),
        ("UpdateConsumerGroup", "log:UpdateConsumerGroup"),
        ("HeartBeat", "log:ConsumerGroupHeartBeat"),
        ("GetCheckPoint", "log:GetConsumerGroupCheckPoint"),
        ("UpdateCheckPoint", "log:ConsumerGroupUpdateCheckPoint"),
    ] {
        let error = Error::Refused(Box::new(refuse(operation, 403, "")));
        assert_eq!(error.ram_action(), Some(action));
        let remedy = format!("(request R44), grant the RAM user or role the action {action}");
        assert!(error.to_string().ends_with(&remedy), "{error}");
    }
    for (status, code, remedy) in [
        (401, "SignatureNotMatch", "check the access key secret, and that region"),
        (401, "InvalidAccessKeyId", "check the access key id and that the key is enabled"),
        (401, "SecurityTokenExpired", "renew the temporary credentials"),
        (404, "ProjectNotExist", "that the endpoint is the one of its region"),
    ] {
        let shown = refuse("PullLogs", status, &format!(r#"{{"errorCode":"{code}"}}"#)).to_string();
        assert!(shown.contains("(request R44), ") && shown.contains(remedy), "{shown}");
    }
}

#[tokio::test]
async fn retry_after_is_read_as_seconds_and_as_a_date_and_has_a_limit() {
    let date = ("Date", "Thu, 15 Jan 2026 08:30:00 GMT");
    let answers = [
        ("429", "17", 17),
        ("503", "Thu, 15 Jan 2026 08:31:30 GMT", 90),
        ("403", "86400", 300),
        ("429", "soon", 2),
    ];
    let stub = Stub::start(
        answers
            .iter()
            .map(|(status, after, _)| {
                let headers = [date, ("Retry-After", *after)];
                Answer::error(status.parse().expect("a status"), "ReadQuotaExceed", &headers)
            })
            .collect(),
    )
    .await;
    for (status, after, seconds) in answers {
        let error = client(&stub.endpoint).get_project().await.expect_err("refused");
        let (Advice::Throttled { after: wait } | Advice::Retry { after: wait }) = error.advice()
        else {
            panic!("{status}: {error}")
        };
        assert_eq!(wait, Duration::from_secs(seconds), "{status} {after}");
        let asked = (after != "soon").then(|| Duration::from_secs(seconds));
        assert_eq!(error.retry_after(), asked);
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

/// The answer to a signature that does not match may repeat what was signed, and with it the
/// token; a proxy's page may repeat the whole request.
#[tokio::test]
async fn an_answer_that_repeats_the_token_does_not_bring_it_into_the_error() {
    let (secret, token) = ("SECRETsecret0001", "TOKEN/token+".repeat(60));
    let echo = format!("not match, string to sign: GET x-acs-security-token:{token} by {secret}");
    let json = serde_json::json!({ "errorCode": "SignatureNotMatch", "errorMessage": echo });
    for body in [json.to_string(), echo] {
        let stub = Stub::start(vec![Answer::status(401, &[], body.as_bytes())]).await;
        let mut config = crate::config(&stub.endpoint);
        config.credentials = CredentialSource::Static(Credentials {
            key_id: "LTAI0000EXAMPLEKEYID01".into(),
            key_secret: secret.into(),
            security_token: Some(token.clone()),
        });
        let client = Client::new(config).expect("a client");
        let error = client.get_project().await.expect_err("refused");
        let shown = format!("{error} {error:?}");
        assert!(shown.contains("not match, string to sign"), "{shown}");
        assert!(!shown.contains("TOKEN") && !shown.contains("SECRET"), "{shown}");
    }
}
