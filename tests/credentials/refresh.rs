//! Keys that are replaced while a client works. When an attempt is due is tested with a
//! clock of its own, beside the code.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sls_relay::sls::{Client, CredentialSource, Provider};
use tokio::sync::Semaphore;

use crate::stub::{Answer, Stub};
use crate::{HIDDEN, client, dated, link, project, settings};

/// A key that has a minute left, or six hours.
fn document(id: &str, is_due: bool) -> Answer {
    let end = if is_due { "2026-01-31T08:00:00Z" } else { "2026-01-31T14:00:00Z" };
    dated(&format!(
        r#"{{"AccessKeyId":"{id}","AccessKeySecret":"hidden-{id}","SecurityToken":"hidden","Expiration":"{end}"}}"#
    ))
}

fn from(stub: &Stub) -> CredentialSource {
    link(Provider::Uri, settings(&[("ALIBABA_CLOUD_CREDENTIALS_URI", &stub.endpoint)]))
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn call(client: &Client, times: usize) {
    for _ in 0..times {
        client.get_project().await.expect("an answer");
    }
}

#[tokio::test]
async fn nothing_is_asked_for_before_the_first_call_and_then_once() {
    let keys = Stub::start(vec![document("a", false)]).await;
    let sls = Stub::start(vec![project(); 8]).await;
    let client = client(&sls.endpoint, from(&keys)).expect("a client");
    let status = client.credentials_status();
    assert_eq!((status.kind, status.key_id), ("uri", None));
    assert!(keys.requests().is_empty(), "a relay starts while nobody answers");
    let calls = (0..8).map(|_| {
        let client = client.clone();
        tokio::spawn(async move { call(&client, 1).await })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.expect("a call");
    }
    assert_eq!(keys.requests().len(), 1, "eight calls, one attempt");
    assert!(sls.requests().iter().all(|request| request.is_signed_with("a", "hidden-a", None)));
}

#[tokio::test]
async fn a_failed_start_is_told_to_every_call_and_not_tried_by_each() {
    let keys = Stub::start(Vec::new()).await;
    let sls = Stub::start(Vec::new()).await;
    let client = client(&sls.endpoint, from(&keys)).expect("a client");
    for _ in 0..5 {
        let error = client.get_project().await.expect_err("no key");
        assert_eq!(error.code(), "sls.credentials_unusable");
    }
    assert_eq!(keys.requests().len(), 1);
    assert!(client.credentials_status().failure.is_some());
    assert!(sls.requests().is_empty());
}

/// An address that answers when it is let, with what is next.
struct Gate {
    url: String,
    open: Arc<Semaphore>,
    asked: Arc<std::sync::atomic::AtomicUsize>,
}

impl Gate {
    async fn start(answers: Vec<Answer>) -> Self {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("listen");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let (open, asked) = (Arc::new(Semaphore::new(0)), Arc::default());
        let gate = Self { url, open: Arc::clone(&open), asked: Arc::clone(&asked) };
        tokio::spawn(async move {
            for answer in answers {
                let Ok((mut stream, _)) = listener.accept().await else { return };
                let mut head = [0; 4096];
                let _ = stream.read(&mut head).await;
                asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                open.acquire().await.expect("never closed").forget();
                let _ = stream.write_all(&answer.0).await;
                let _ = stream.shutdown().await;
            }
        });
        gate
    }

    fn asked(&self) -> usize {
        self.asked.load(std::sync::atomic::Ordering::SeqCst)
    }

    fn source(&self) -> CredentialSource {
        link(Provider::Uri, settings(&[("ALIBABA_CLOUD_CREDENTIALS_URI", &self.url)]))
    }
}

#[tokio::test]
async fn the_first_attempt_outlives_the_call_that_began_it() {
    let keys = Gate::start(vec![document("a", false)]).await;
    let sls = Stub::start(vec![project()]).await;
    let client = client(&sls.endpoint, keys.source()).expect("a client");
    let impatient = tokio::spawn({
        let client = client.clone();
        async move { client.get_project().await }
    });
    until("the address is asked", || keys.asked() == 1).await;
    impatient.abort();
    assert!(impatient.await.is_err(), "given up");
    keys.open.add_permits(1);
    call(&client, 1).await;
    assert_eq!(keys.asked(), 1, "the second call has what the first one asked for");
}

#[tokio::test]
async fn a_refused_key_is_replaced_and_the_call_made_again() {
    let keys = Stub::start(vec![document("a", false), document("b", false)]).await;
    let expired = Answer::error(401, "SecurityTokenExpired", &[]);
    let sls = Stub::start(vec![project(), expired, project()]).await;
    let client = client(&sls.endpoint, from(&keys)).expect("a client");
    call(&client, 2).await;
    let requests = sls.requests();
    let signed = |at: usize, id| requests[at].is_signed_with(id, &format!("hidden-{id}"), None);
    assert!(signed(0, "a") && signed(1, "a") && signed(2, "b"));
    assert_eq!(client.credentials_status().key_id.as_deref(), Some("b"));
}

#[tokio::test]
async fn a_refused_key_stays_where_no_other_is_given() {
    let keys = Stub::start(vec![document("a", false)]).await;
    let expired = Answer::error(401, "SecurityTokenExpired", &[]);
    let sls = Stub::start(vec![expired, project()]).await;
    let client = client(&sls.endpoint, from(&keys)).expect("a client");
    let error = client.get_project().await.expect_err("refused");
    assert_eq!(error.code(), "sls.token_expired");
    assert_eq!(keys.requests().len(), 2);
    let failure = client.credentials_status().failure.expect("it failed");
    assert!(failure.to_string().contains("status 418") && !format!("{failure:?}").contains(HIDDEN));
    call(&client, 1).await;
    assert!(sls.requests()[1].is_signed_with("a", "hidden-a", None), "the old one");
}

#[tokio::test]
async fn a_key_over_when_it_comes_is_used_until_sls_refuses_it() {
    let keys = Stub::start(vec![document("a", true), document("b", false)]).await;
    let expired = Answer::error(401, "SecurityTokenExpired", &[]);
    let sls = Stub::start(vec![project(), expired, project()]).await;
    let client = client(&sls.endpoint, from(&keys)).expect("a client");
    call(&client, 2).await;
    assert_eq!(keys.requests().len(), 2, "once at first, once when it was refused");
    assert_eq!(client.credentials_status().key_id.as_deref(), Some("b"));
}
