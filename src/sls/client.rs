//! Sending calls to SLS: one HTTP client, signatures made anew for every attempt, and
//! the two corrections that an answer can ask for.
//!
//! A call is repeated once when the clock was corrected and once when the credentials
//! were replaced. Everything else is the caller's to repeat, who knows what a delay
//! costs; see [`Error::advice`].

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header};
use tokio::sync::Semaphore;

use super::clock::{Clock, local_now, parse_http_date, parse_retry_after};
use super::credentials::{CredentialSource, Credentials, CredentialsStatus, Keys};
use super::endpoint::Endpoint;
use super::error::{Advice, Context, Error};
use super::network::{Network, Route};
use super::refusal::{Answer, Refusal};
use super::request::{self, Call, Origin};

/// How to reach one project.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// The endpoint of the project's region.
    pub endpoint: Endpoint,
    /// The project.
    pub project: String,
    /// Where the access key comes from.
    pub credentials: CredentialSource,
    /// The version of signatures.
    pub sign: SignVersion,
    /// The region to sign for; taken from the endpoint when it is none.
    pub region: Option<String>,
    /// `User-Agent`; shows up in the logstore's operation log.
    pub user_agent: String,
    /// The time for one call including its answer.
    pub timeout: Duration,
    /// The largest PullLogs answer accepted, bytes after decompression.
    pub max_raw_bytes: u64,
    /// The way to SLS.
    pub network: Network,
    /// TLS settings in place of all that [`Network`] says of certificates.
    pub tls: Option<Arc<rustls::ClientConfig>>,
}

/// The version of request signatures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SignVersion {
    /// Version 4 where a region is known, else version 1.
    #[default]
    Auto,
    /// Version 1, HMAC-SHA1.
    V1,
    /// Version 4, HMAC-SHA256 bound to a region.
    V4,
}

/// The default of [`ClientConfig::max_raw_bytes`]: 64 MiB.
pub const DEFAULT_MAX_RAW_BYTES: u64 = 64 * 1024 * 1024;

/// A client for one project. Clones share connections, credentials and clock.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    http: reqwest::Client,
    /// For large answers: a connection keeps a buffer of some hundred KB that grew with them,
    /// so they go over few and always the same.
    http_large: reqwest::Client,
    /// Turns of the calls over `http`, or a thousand shards open a thousand connections.
    turns: Semaphore,
    origin: Origin,
    keys: Keys,
    clock: Clock,
    timeout: Duration,
    max_raw_bytes: u64,
    /// What a connection without an answer is called.
    failure: &'static str,
}

/// Answers other than log groups are small: checkpoints of some thousand shards fit.
const MAX_JSON_BYTES: u64 = 4 * 1024 * 1024;
const MAX_ERROR_BYTES: u64 = 64 * 1024;
/// Calls at the same time, but for pulls and heartbeats.
const SMALL_CALLS: usize = 64;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

impl Client {
    /// Loads credentials and root certificates; may block. Nothing is sent yet: a key that
    /// must be asked for is fetched at the first call, and again ahead of its end.
    ///
    /// # Errors
    /// A project or user agent that cannot be sent, credentials that cannot be loaded, no
    /// root certificates, or version 4 without a region.
    pub fn new(config: ClientConfig) -> Result<Self, Error> {
        request::check_project(&config.project)?;
        if http::HeaderValue::from_str(&config.user_agent).is_err() {
            let problem = "contains a character that no header can carry";
            return Err(Error::Name { what: "user agent", name: config.user_agent, problem });
        }
        let region = config.region.or_else(|| config.endpoint.region());
        let region = match config.sign {
            SignVersion::Auto => region,
            SignVersion::V1 => None,
            SignVersion::V4 => Some(region.ok_or(Error::NoRegion)?),
        };
        let keys = Keys::load(config.credentials, config.tls.as_deref(), &config.network)?;
        let tls = match config.tls {
            Some(tls) => Arc::unwrap_or_clone(tls),
            None => config.network.tls(&config.endpoint)?,
        };
        let route = &config.network.route;
        let host = config.endpoint.host_header(&config.project);
        let connections = || {
            let http = reqwest::Client::builder()
                .tls_backend_preconfigured(tls.clone())
                .https_only(config.endpoint.is_https())
                .redirect(reqwest::redirect::Policy::none())
                .connect_timeout(CONNECT_TIMEOUT.min(config.timeout));
            let http = route.apply(http, &host)?.build();
            http.map_err(|source| Error::Setup { source: source.into() })
        };
        let (http, http_large) = (connections()?, connections()?);
        let endpoint = match route {
            Route::Address(_) => config.endpoint.clone().without_port(),
            _ => config.endpoint.clone(),
        };
        let origin = Origin {
            connect_to: endpoint.url_base(&config.project),
            endpoint: config.endpoint,
            project: config.project,
            user_agent: config.user_agent,
            region,
        };
        let shared = Shared {
            http,
            http_large,
            turns: Semaphore::new(SMALL_CALLS),
            origin,
            keys,
            clock: Clock::default(),
            timeout: config.timeout,
            max_raw_bytes: config.max_raw_bytes,
            failure: config.network.route.failure(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The project.
    pub fn project(&self) -> &str {
        &self.shared.origin.project
    }

    /// The endpoint.
    pub fn endpoint(&self) -> &Endpoint {
        &self.shared.origin.endpoint
    }

    /// The region that version 4 signatures are made for; none when version 1 signs.
    pub fn signing_region(&self) -> Option<&str> {
        self.shared.origin.region.as_deref()
    }

    /// Seconds that SLS's clock is ahead of this machine's, by the last answer.
    pub fn clock_offset(&self) -> i64 {
        self.shared.clock.offset()
    }

    /// The credentials in use.
    pub fn credentials_status(&self) -> CredentialsStatus {
        self.shared.keys.status(Instant::now())
    }

    pub(super) fn max_raw_bytes(&self) -> u64 {
        self.shared.max_raw_bytes
    }

    /// Makes a call and reads its JSON answer. One with a timeout of its own has no time to
    /// wait for its turn.
    pub(super) async fn json<T: serde::de::DeserializeOwned>(
        &self,
        call: &Call,
        timeout: Option<Duration>,
    ) -> Result<T, Error> {
        let all = async {
            let _turn = match timeout {
                None => self.shared.turns.acquire().await.ok(),
                Some(_) => None,
            };
            self.send(call).await?.read(MAX_JSON_BYTES).await
        };
        let (request_id, body) = self.within(call, timeout, all).await?;
        serde_json::from_slice(&body).map_err(|_| Error::Malformed {
            call: call.context.clone(),
            problem: "the answer is not the JSON it should be",
            request_id,
        })
    }

    /// Makes a call whose answer says nothing but yes.
    pub(super) async fn accepted(&self, call: &Call) -> Result<(), Error> {
        let all = async {
            let _turn = self.shared.turns.acquire().await;
            self.send(call).await?.read(MAX_JSON_BYTES).await
        };
        self.within(call, None, all).await.map(drop)
    }

    /// Gives a call and the reading of its answer the time it may take.
    pub(super) async fn within<T>(
        &self,
        call: &Call,
        timeout: Option<Duration>,
        all: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let after = timeout.unwrap_or(self.shared.timeout);
        match tokio::time::timeout(after, all).await {
            Ok(result) => result,
            Err(_) => Err(Error::Timeout { call: call.context.clone(), after }),
        }
    }

    /// Sends a call until it is answered with success, or with an error that no
    /// correction of ours can change.
    pub(super) async fn send<'a>(&self, call: &'a Call) -> Result<Received<'a>, Error> {
        let (mut clock_tried, mut keys_tried) = (false, false);
        loop {
            let credentials = self.shared.keys.current(Instant::now()).await?;
            let refusal = match self.attempt(call, &credentials).await {
                Err(Error::Refused(refusal)) => refusal,
                other => return other,
            };
            match refusal.advice() {
                Advice::FixClock if !clock_tried => {
                    clock_tried = true;
                    if !refusal.date.is_some_and(|date| self.shared.clock.adopt(date)) {
                        return Err(Error::Refused(refusal));
                    }
                    tracing::warn!(
                        offset_seconds = self.clock_offset(),
                        "the clock of this machine is off, signing with the time of SLS"
                    );
                }
                Advice::RefreshCredentials if !keys_tried => {
                    keys_tried = true;
                    if !self.shared.keys.replace(&credentials, Instant::now()).await {
                        return Err(Error::Refused(refusal));
                    }
                }
                _ => return Err(Error::Refused(refusal)),
            }
        }
    }

    async fn attempt<'a>(
        &self,
        call: &'a Call,
        credentials: &Credentials,
    ) -> Result<Received<'a>, Error> {
        let Shared { origin, clock, http, http_large, .. } = &*self.shared;
        let http = if call.large { http_large } else { http };
        let signed = request::sign(call, origin, credentials, clock.now());
        let mut request = http.request(call.method.clone(), signed.url);
        for (name, value) in &signed.headers {
            request = request.header(name, value);
        }
        if let Some(body) = &call.body {
            request = request.body(body.clone());
        }
        let response = request.send().await.map_err(|source| Error::Transport {
            call: call.context.clone(),
            failure: self.shared.failure,
            source: source.without_url(),
        })?;
        let received = Received { call: &call.context, response };
        if let Some(date) = received.date() {
            clock.observe(date);
        }
        if received.response.status().is_success() {
            Ok(received)
        } else {
            Err(received.refuse(credentials).await)
        }
    }
}

/// An answer whose headers have arrived.
pub(super) struct Received<'a> {
    call: &'a Context,
    response: reqwest::Response,
}

impl Received<'_> {
    pub(super) fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// `Content-Length`.
    pub(super) fn announced(&self) -> Option<u64> {
        self.response.content_length()
    }

    pub(super) fn request_id(&self) -> String {
        text(self.headers(), "x-log-requestid").unwrap_or_default().to_owned()
    }

    /// `Date`, seconds since the epoch.
    pub(super) fn date(&self) -> Option<i64> {
        parse_http_date(text(self.headers(), header::DATE.as_str())?)
    }

    pub(super) fn malformed(&self, problem: &'static str) -> Error {
        Error::Malformed { call: self.call.clone(), problem, request_id: self.request_id() }
    }

    pub(super) fn too_large(&self, size: u64, cap: u64) -> Error {
        Error::TooLarge { call: self.call.clone(), size, cap, request_id: self.request_id() }
    }

    /// Request id and body, of which at most `cap` bytes are taken in.
    pub(super) async fn read(mut self, cap: u64) -> Result<(String, Bytes), Error> {
        let announced = self.announced().unwrap_or(0);
        if announced > cap {
            return Err(self.too_large(announced, cap));
        }
        let mut body = BytesMut::with_capacity(usize::try_from(announced).unwrap_or(0));
        while let Some(chunk) = self.chunk().await? {
            let size = body.len() as u64 + chunk.len() as u64;
            if size > cap {
                return Err(self.too_large(size, cap));
            }
            body.extend_from_slice(&chunk);
        }
        Ok((self.request_id(), body.freeze()))
    }

    async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        self.response.chunk().await.map_err(|source| Error::Transport {
            call: self.call.clone(),
            failure: "the answer broke off",
            source: source.without_url(),
        })
    }

    /// Reads an error answer, of whose body the beginning is enough.
    async fn refuse(mut self, credentials: &Credentials) -> Error {
        let mut body = Vec::new();
        while let Ok(Some(chunk)) = self.chunk().await {
            body.extend_from_slice(&chunk);
            if body.len() as u64 > MAX_ERROR_BYTES {
                break;
            }
        }
        let body = credentials.hidden_in(&String::from_utf8_lossy(&body));
        let retry_after = text(self.headers(), header::RETRY_AFTER.as_str());
        let answer = Answer {
            status: self.response.status().as_u16(),
            body: body.as_bytes(),
            request_id: &self.request_id(),
            date: self.date(),
            retry_after: retry_after
                .and_then(|text| parse_retry_after(text, self.date().unwrap_or_else(local_now))),
        };
        Error::Refused(Box::new(Refusal::new(self.call.clone(), answer)))
    }
}

/// A header as text, where it is there and is text.
pub(super) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(endpoint: &str, sign: SignVersion, region: Option<&str>) -> Result<Client, Error> {
        Client::new(ClientConfig {
            endpoint: Endpoint::parse(endpoint).expect("an endpoint"),
            project: "waf".into(),
            credentials: CredentialSource::Static(Credentials {
                key_id: "LTAI".into(),
                key_secret: "secret".into(),
                security_token: None,
            }),
            sign,
            region: region.map(str::to_owned),
            user_agent: "test".into(),
            timeout: Duration::from_secs(5),
            max_raw_bytes: DEFAULT_MAX_RAW_BYTES,
            network: Network::default(),
            tls: None,
        })
    }

    #[test]
    fn version_4_signs_where_a_region_is_known() {
        use SignVersion::{Auto, V1, V4};
        let (hangzhou, local) = ("http://cn-hangzhou.log.aliyuncs.com", "http://127.0.0.1");
        for (endpoint, sign, region, signs_for) in [
            (hangzhou, Auto, None, Some("cn-hangzhou")),
            (hangzhou, Auto, Some("cn-x"), Some("cn-x")),
            (hangzhou, V1, None, None),
            (hangzhou, V4, None, Some("cn-hangzhou")),
            (local, Auto, None, None),
            (local, V4, Some("cn-x"), Some("cn-x")),
        ] {
            let client = client(endpoint, sign, region).expect("a client");
            assert_eq!(client.signing_region(), signs_for, "{endpoint} {sign:?}");
        }
        let error = client(local, V4, None).err().expect("no region");
        assert_eq!((error.code(), error.advice()), ("sls.no_region", Advice::Operator));
    }

    #[test]
    fn calls_can_run_in_tasks_of_their_own() {
        fn sendable(_: &impl Send) {}
        let client = client("http://127.0.0.1", SignVersion::V1, None).expect("a client");
        let cursor = crate::sls::Cursor::from_number(1);
        sendable(&client.pull_logs("l", 0, crate::sls::PullRequest::new(&cursor, 1)));
        sendable(&client.get_project());
        sendable(&client.update_checkpoint("l", "g", "c", 0, &cursor));
    }
}
