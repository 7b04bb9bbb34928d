//! The credentials in use, shared by all calls of a client: fetched at first use, replaced
//! ahead of their end, and once more when SLS refuses them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::error::{CredentialError, in_full};
use super::held::{Held, Look};
use super::http::Http;
use super::provider::{Issued, Miss, Provider};
use super::{CredentialSource, Credentials, chain};
use crate::sls::error::Error;
use crate::sls::network::Network;

/// The credentials of a client at one moment; contains no secret.
#[derive(Clone, Debug)]
pub struct CredentialsStatus {
    /// `static`, `files`, or the name of the [`Provider`] that gave the key. Without a key,
    /// what is looked for: the provider's name, or `chain`.
    pub kind: &'static str,
    /// The access key id; none until the first call has fetched one.
    pub key_id: Option<String>,
    /// When it ends; none for a key that lasts, or whose end is not known.
    pub expires_at: Option<Timestamp>,
    /// How long it has been in use.
    pub age: Option<Duration>,
    /// Why the last attempt to get another one failed, if it did.
    pub failure: Option<Arc<CredentialError>>,
}

/// The credentials in use.
pub(in crate::sls) struct Keys {
    shared: Arc<Shared>,
}

struct Shared {
    source: CredentialSource,
    /// Where the source may have to ask someone.
    http: Option<Http>,
    held: Mutex<Held>,
    /// Held while an attempt is made.
    asking: Arc<tokio::sync::Mutex<()>>,
}

impl Keys {
    /// Loads what can be loaded without the network; may block.
    pub(in crate::sls) fn load(
        source: CredentialSource,
        tls: Option<&rustls::ClientConfig>,
        network: &Network,
    ) -> Result<Self, Error> {
        let http = match source {
            CredentialSource::Static(_) | CredentialSource::Files { .. } => None,
            CredentialSource::Chain(_) | CredentialSource::Link(..) => {
                let tls = match tls {
                    Some(tls) => tls.clone(),
                    // The metadata service needs no certificates.
                    None => network.tls_for_keys()?,
                };
                Some(Http::new(tls, network)?)
            }
        };
        let mut held = Held::default();
        match source.look() {
            Ok((provider, credentials)) => {
                held.take(provider, Issued { credentials, expiry: None }, Instant::now());
            }
            Err(Error::Credentials(error)) if matches!(*error, CredentialError::NotYet(_)) => {}
            Err(error) => return Err(error),
        }
        let held = Mutex::new(held);
        Ok(Self { shared: Arc::new(Shared { source, http, held, asking: Arc::default() }) })
    }

    /// The credentials to sign with now. Waits for them only where there are none.
    pub(in crate::sls) async fn current(&self, now: Instant) -> Result<Arc<Credentials>, Error> {
        let look = self.shared.held().look(now);
        match look {
            Look::Use(credentials) => Ok(credentials),
            Look::Replace(credentials) => {
                self.ask(Some(Arc::clone(&credentials)), now);
                Ok(credentials)
            }
            Look::Fail(error) => Err(Error::Credentials(error)),
            Look::Fetch => {
                let old = self.shared.held().credentials();
                self.ask(old, now);
                self.answered().await;
                let outcome = self.shared.held().outcome(now);
                outcome.unwrap_or_else(|| Err(Arc::new(defect()))).map_err(Error::Credentials)
            }
        }
    }

    /// SLS has refused these credentials: whether there are others `now`.
    ///
    /// Many calls may find out at the same time; the source is asked once.
    pub(in crate::sls) async fn replace(&self, refused: &Arc<Credentials>, now: Instant) -> bool {
        {
            let mut held = self.shared.held();
            if !held.is(Some(refused)) {
                return true;
            }
            if !held.may_ask(now) {
                return false;
            }
        }
        self.ask(Some(Arc::clone(refused)), now);
        self.answered().await;
        !self.shared.held().is(Some(refused))
    }

    pub(in crate::sls) fn status(&self, now: Instant) -> CredentialsStatus {
        let held = self.shared.held();
        let source = &self.shared.source;
        CredentialsStatus {
            kind: held.provider().map_or(source.kind(), Provider::name),
            key_id: held.credentials().map(|credentials| credentials.key_id.clone()),
            expires_at: held.expires_at(),
            age: held.age(now),
            failure: held.failure(),
        }
    }

    /// Begins an attempt to replace `old`, unless one is under way. It does not end with
    /// the call that began it.
    fn ask(&self, old: Option<Arc<Credentials>>, now: Instant) {
        let Ok(guard) = Arc::clone(&self.shared.asking).try_lock_owned() else { return };
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move {
            let last = {
                let held = shared.held();
                if !held.is(old.as_ref()) {
                    return;
                }
                held.provider()
            };
            let outcome = shared.fetch(last).await;
            shared.conclude(outcome, now);
            drop(guard);
        });
    }

    /// Waits for the end of the attempt under way.
    async fn answered(&self) {
        drop(self.shared.asking.lock().await);
    }
}

impl Shared {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn fetch(
        &self,
        last: Option<Provider>,
    ) -> Result<(Option<Provider>, Issued), CredentialError> {
        let source = self.source.clone();
        let http = self.http.as_ref();
        match (source, http) {
            (CredentialSource::Chain(settings), Some(http)) => {
                let steps = blocking(move || chain::steps(&settings)).await?;
                let (provider, issued) = steps.fetch(http, last).await?;
                Ok((Some(provider), issued))
            }
            (CredentialSource::Link(provider, settings), Some(http)) => {
                let plan = blocking(move || {
                    provider.plan(&settings).map_err(|miss| miss.into_error(provider))
                });
                Ok((Some(provider), plan.await?.fetch(http).await?))
            }
            (source, _) => {
                let (provider, credentials) = blocking(move || {
                    source.look().map_err(|error| CredentialError::Unusable {
                        place: "the access key".to_owned(),
                        problem: in_full(&error),
                    })
                })
                .await?;
                Ok((provider, Issued { credentials, expiry: None }))
            }
        }
    }

    fn conclude(&self, outcome: Result<(Option<Provider>, Issued), CredentialError>, now: Instant) {
        let mut held = self.held();
        match outcome {
            Ok((provider, issued)) => {
                let key_id = issued.credentials.key_id.clone();
                let expires_at = issued.expiry.map(|expiry| expiry.at.to_string());
                if held.take(provider, issued, now) {
                    let from = provider.map_or(self.source.kind(), Provider::name);
                    tracing::info!(from, key_id, expires_at, "took new credentials");
                }
            }
            Err(error) => {
                let (code, text) = (error.code(), error.in_full());
                // Without a key that works, the calls that fail say so.
                if held.fail(error, now) {
                    tracing::warn!(code, error = text, "kept the old credentials");
                }
            }
        }
    }
}

async fn blocking<T: Send + 'static>(
    look: impl FnOnce() -> Result<T, CredentialError> + Send + 'static,
) -> Result<T, CredentialError> {
    tokio::task::spawn_blocking(look).await.unwrap_or_else(|_| Err(defect()))
}

fn defect() -> CredentialError {
    CredentialError::Unusable {
        place: "the search for an access key".to_owned(),
        problem: "ended unexpectedly: this is a defect, please report it".to_owned(),
    }
}

impl Miss {
    /// For a way that is the only one.
    pub(super) fn into_error(self, provider: Provider) -> CredentialError {
        match self {
            Self::Absent(why) => CredentialError::Absent {
                tried: vec![super::Tried { provider, why }],
                asked: false,
            },
            Self::Unusable(error) => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::held::RELOAD;
    use super::super::tests::write;
    use super::*;

    #[tokio::test]
    async fn refused_credentials_are_looked_up_again_but_not_too_often() {
        let dir = tempfile::tempdir().expect("a directory");
        let source = CredentialSource::Files {
            key_id: write(&dir, "id", b"LTAI"),
            key_secret: write(&dir, "secret", b"one"),
            security_token: None,
        };
        let keys = Keys::load(source, None, &Network::default()).expect("load");
        let now = Instant::now();
        let first = keys.current(now).await.expect("a key");
        assert!(!keys.replace(&first, now).await, "the same key again");
        write(&dir, "secret", b"two");
        assert!(!keys.replace(&first, now).await, "too soon");
        let now = now + RELOAD;
        assert!(keys.replace(&first, now).await, "a new key");
        assert!(keys.replace(&first, now).await, "another call with the old key");
        let second = keys.current(now).await.expect("a key");
        assert_eq!(second.key_secret, "two");
        std::fs::remove_file(dir.path().join("secret")).expect("remove");
        assert!(!keys.replace(&second, now + RELOAD).await, "no key at all");
        assert_eq!(keys.current(now + RELOAD).await.expect("the old key"), second);
        let status = keys.status(now);
        assert_eq!((status.kind, status.key_id.as_deref()), ("files", Some("LTAI")));
        assert!(status.failure.is_some());
    }

    /// An address whose answers come from the test, one for each request.
    async fn address() -> (CredentialSource, tokio::sync::mpsc::Sender<String>) {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("listen");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let (answers, mut next) = tokio::sync::mpsc::channel::<String>(1);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.read(&mut [0; 4096]).await;
                let Some(body) = next.recv().await else { return };
                let head = "HTTP/1.1 200 OK\r\nDate: Sat, 31 Jan 2026 08:00:00 GMT";
                let length = body.len();
                let answer = format!("{head}\r\nContent-Length: {length}\r\n\r\n{body}");
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        let settings = super::super::ChainSettings::new(&|name| {
            (name == "ALIBABA_CLOUD_CREDENTIALS_URI").then(|| url.clone())
        });
        (CredentialSource::Link(Provider::Uri, settings), answers)
    }

    fn key(id: &str) -> String {
        format!(
            r#"{{"AccessKeyId":"{id}","AccessKeySecret":"s","Expiration":"2026-01-31T14:00:00Z"}}"#
        )
    }

    #[tokio::test]
    async fn no_call_waits_for_a_replacement_while_the_old_key_is_good() {
        let (source, answers) = address().await;
        let keys =
            Keys::load(source, None, &Network::default()).expect("no key is needed to start");
        let start = Instant::now();
        answers.send(key("a")).await.expect("a server");
        assert_eq!(keys.current(start).await.expect("a key").key_id, "a");

        let due = start + Duration::from_secs(6 * 3600 - 180);
        for _ in 0..3 {
            // The server has no answer yet: whoever waited for it would not come back.
            assert_eq!(keys.current(due).await.expect("the old key").key_id, "a");
        }
        answers.send("no key".to_owned()).await.expect("a server");
        keys.answered().await;
        assert!(keys.status(due).failure.is_some());
        assert_eq!(keys.current(due).await.expect("the old key").key_id, "a");

        let later = due + Duration::from_secs(10);
        assert_eq!(keys.current(later).await.expect("the old key").key_id, "a");
        answers.send(key("b")).await.expect("a server");
        keys.answered().await;
        assert_eq!(keys.current(later).await.expect("the new key").key_id, "b");
        assert!(keys.status(later).failure.is_none());
    }
}
