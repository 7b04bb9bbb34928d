//! How the client behaves: what it signs, what it repeats, and when it gives up.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sls_relay::sls::{Advice, Client, ClientConfig, CredentialSource, Credentials, SignVersion};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::stub::{Answer, Stub};
use crate::{PROJECT, client, config};

const OK: &str = r#"{"projectName":"p"}"#;

fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

fn http_date(unix: i64) -> String {
    let time = jiff::Timestamp::from_second(unix).expect("a time");
    time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

#[tokio::test]
async fn host_carries_the_project_without_a_port_under_every_direct_endpoint() {
    let stub = Stub::start(vec![Answer::json(OK), Answer::json(OK)]).await;
    let port = stub.endpoint.rsplit(':').next().expect("a port");
    for host in ["127.0.0.1", "localhost"] {
        client(&format!("http://{host}:{port}")).get_project().await.expect("answered");
    }
    let hosts: Vec<String> = stub
        .requests()
        .iter()
        .map(|request| request.header("host").expect("a host").to_owned())
        .collect();
    assert_eq!(hosts, [format!("{PROJECT}.127.0.0.1"), format!("{PROJECT}.localhost")]);
}

#[tokio::test]
async fn with_a_region_version_4_signs_what_goes_out_and_the_token_too() {
    let stub = Stub::start(vec![Answer::json("[3]")]).await;
    let credentials = Credentials {
        key_id: "STS.key".into(),
        key_secret: "sts-secret".into(),
        security_token: Some("CAIS+token/==".into()),
    };
    let client = Client::new(ClientConfig {
        region: Some("cn-hangzhou".into()),
        credentials: CredentialSource::Static(credentials),
        ..config(&stub.endpoint)
    })
    .expect("a client");
    let timeout = Duration::from_secs(10);
    client.heartbeat("l", "g", "host 1/é+", &[1, 2], timeout).await.expect("answered");
    let request = stub.request();
    assert_eq!(request.header("x-acs-security-token"), Some("CAIS+token/=="));
    assert_eq!(request.header("user-agent"), Some("sls-relay/test (group/consumer)"));
    assert!(request.target.contains("consumer=host%201%2F%C3%A9%2B"), "{}", request.target);
    assert!(request.is_signed_with("STS.key", "sts-secret", Some("cn-hangzhou")));
    assert!(!request.is_signed_with("STS.key", "other", Some("cn-hangzhou")));
    for absent in ["date", "content-md5", "x-log-signaturemethod"] {
        assert_eq!(request.header(absent), None, "{absent} belongs to version 1");
    }
}

#[tokio::test]
async fn a_refused_clock_is_corrected_by_the_servers_date_and_stays_so() {
    for sign in [SignVersion::V1, SignVersion::V4] {
        let ahead = http_date(now() + 7200);
        let refusal = Answer::error(400, "RequestTimeExpired", &[("Date", &ahead)]);
        let stub = Stub::start(vec![refusal, Answer::json(OK), Answer::json(OK)]).await;
        let region = Some("cn-hangzhou".into());
        let client = Client::new(ClientConfig { sign, region, ..config(&stub.endpoint) });
        let client = client.expect("a client");
        client.get_project().await.expect("the second attempt");
        let offset = client.clock_offset();
        assert!((7100..=7200).contains(&offset), "{offset}");
        client.get_project().await.expect("at the first attempt");

        let requests = stub.requests();
        assert_eq!(requests.len(), 3);
        let hour = |index: usize| -> String {
            let request: &crate::stub::Request = &requests[index];
            match sign {
                SignVersion::V4 => request.header("x-log-date").expect("a date")[..11].to_owned(),
                _ => request.header("date").expect("a date")[..19].to_owned(),
            }
        };
        assert_ne!(hour(0), hour(1), "signed anew with another time");
        let (id, secret) = ("LTAI0000EXAMPLEKEYID01", "EXAMPLEsecretEXAMPLEsecret0001");
        let region = (sign == SignVersion::V4).then_some("cn-hangzhou");
        assert!(requests.iter().all(|request| request.is_signed_with(id, secret, region)));
    }
}

#[tokio::test]
async fn a_clock_that_no_correction_helps_is_reported_after_one_try() {
    let ahead = http_date(now() + 7200);
    let refusal = Answer::error(400, "RequestTimeTooSkewed", &[("Date", &ahead)]);
    let stub = Stub::start(vec![refusal.clone(), refusal.clone(), refusal]).await;
    let error = client(&stub.endpoint).get_project().await.expect_err("refused");
    assert_eq!((error.code(), error.advice()), ("sls.clock_skew", Advice::FixClock));
    assert_eq!(stub.requests().len(), 2);

    let undated = Answer::error(400, "RequestTimeExpired", &[]);
    let stub = Stub::start(vec![undated]).await;
    assert!(client(&stub.endpoint).get_project().await.is_err());
    assert_eq!(stub.requests().len(), 1, "nothing to correct it by");
}

fn key_files(dir: &Path, secret: &str) -> CredentialSource {
    std::fs::write(dir.join("id"), "LTAI\n").expect("write");
    std::fs::write(dir.join("secret"), secret).expect("write");
    CredentialSource::Files {
        key_id: dir.join("id"),
        key_secret: dir.join("secret"),
        security_token: None,
    }
}

#[tokio::test]
async fn a_refused_key_is_read_anew_and_the_call_repeated_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let refusal = Answer::error(401, "SignatureNotMatch", &[]);
    let stub = Stub::start(vec![refusal.clone(), Answer::json(OK), refusal]).await;
    let credentials = key_files(dir.path(), "old\n");
    let client = Client::new(ClientConfig { credentials, ..config(&stub.endpoint) });
    let client = client.expect("a client");
    key_files(dir.path(), "new\n");
    client.get_project().await.expect("the second attempt");
    let error = client.get_project().await.expect_err("refused again");
    assert_eq!(error.advice(), Advice::RefreshCredentials);
    let requests = stub.requests();
    assert_eq!(requests.len(), 3, "not looked up again at once");
    assert!(requests[0].is_signed_with("LTAI", "old", None));
    assert!(requests[1].is_signed_with("LTAI", "new", None));
}

#[tokio::test]
async fn a_refused_key_that_has_not_changed_is_not_sent_again() {
    let stub = Stub::start(vec![Answer::error(401, "Unauthorized", &[])]).await;
    let error = client(&stub.endpoint).get_project().await.expect_err("refused");
    assert_eq!(error.code(), "sls.unauthorized");
    assert_eq!(stub.requests().len(), 1);
    assert!(!format!("{error} {error:?}").contains("EXAMPLEsecret"));
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let stub = Stub::start(vec![Answer::status(302, &[("Location", "/elsewhere")], b"")]).await;
    let error = client(&stub.endpoint).get_project().await.expect_err("redirected");
    assert_eq!(error.code(), "sls.redirected");
    assert_eq!(stub.requests().len(), 1);
}

#[tokio::test]
async fn names_that_cannot_be_sent_are_refused_before_sending() {
    let stub = Stub::start(vec![]).await;
    let client = client(&stub.endpoint);
    for name in ["", "..", "a/b", "a?b", "a#b", "a b", "a%2F", "a\nb", "a\\b"] {
        let error = client.get_logstore(name).await.expect_err(name);
        assert_eq!(error.code(), "sls.name_invalid", "{name:?}");
        let error = client.get_checkpoints("l", name, None).await.expect_err(name);
        assert_eq!(error.code(), "sls.name_invalid", "{name:?}");
    }
    assert!(stub.requests().is_empty());
    for project in ["", "a.b", "a/b", "-a", "x@y"] {
        let made = Client::new(ClientConfig { project: project.into(), ..config(&stub.endpoint) });
        assert_eq!(made.err().map(|error| error.code()), Some("sls.name_invalid"), "{project:?}");
    }
}

#[tokio::test]
async fn nobody_there_is_an_error_to_try_again() {
    // Bound and let go: nothing listens there any more.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("listen");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    drop(listener);
    let error = client(&endpoint).get_project().await.expect_err("refused");
    assert_eq!(error.code(), "sls.transport");
    assert!(matches!(error.advice(), Advice::Retry { .. }));
    let source = std::error::Error::source(&error).expect("a source").to_string();
    assert!(!source.contains("127.0.0.1"), "the address is said once: {source}");
}

/// However many shards commit at once, they share a limited number of connections, and a
/// heartbeat, on which the lease hangs, waits for none of them.
#[tokio::test]
async fn many_calls_wait_for_their_turn_but_a_heartbeat_does_not() {
    const CALLS: usize = 100;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("listen");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    let held = Arc::new(Mutex::new(Vec::new()));
    let most = Arc::new(AtomicUsize::new(0));
    let (keep, seen) = (Arc::clone(&held), Arc::clone(&most));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (keep, seen) = (Arc::clone(&keep), Arc::clone(&seen));
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let Ok(byte) = stream.read_u8().await else { return };
                    head.push(byte);
                }
                if String::from_utf8_lossy(&head).contains("type=heartbeat") {
                    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n[3]";
                    stream.write_all(answer).await.expect("a client");
                } else {
                    let mut held = keep.lock().expect("no panic");
                    held.push(stream);
                    seen.fetch_max(held.len(), Ordering::Relaxed);
                }
            });
        }
    });
    let client = client(&endpoint);
    let mut calls = tokio::task::JoinSet::new();
    for shard in 0..CALLS as u32 {
        let client = client.clone();
        calls.spawn(async move {
            let cursor = sls_relay::sls::Cursor::from_number(1);
            client.update_checkpoint("l", "g", "c", shard, &cursor).await
        });
    }
    let full = async {
        while most.load(Ordering::Relaxed) < 64 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), full).await.expect("64 calls are made");
    let timeout = Duration::from_secs(10);
    let beat = client.heartbeat("l", "g", "c", &[], timeout).await;
    assert_eq!(beat.expect("a heartbeat among them"), [3]);
    assert_eq!(held.lock().expect("no panic").len(), 64);
    while !calls.is_empty() {
        held.lock().expect("no panic").clear();
        tokio::select! {
            Some(ended) = calls.join_next() => {
                assert_eq!(ended.expect("no panic").expect_err("hung up").code(), "sls.transport");
            }
            () = tokio::time::sleep(Duration::from_millis(1)) => {}
        }
    }
    assert_eq!(most.load(Ordering::Relaxed), 64);
}
