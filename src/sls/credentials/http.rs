//! Small requests for keys: short timeouts, small answers, no redirects.

use std::time::Duration;

use jiff::Timestamp;

use super::error::CredentialError;
use crate::sls::clock::parse_http_date;
use crate::sls::error::Error;
use crate::sls::network::Network;

/// Bytes of the largest answer; a key with its token is about 2 KiB.
pub(super) const LARGEST_ANSWER: usize = 64 * 1024;

const NEAR: Duration = Duration::from_secs(1);
const FAR_CONNECT: Duration = Duration::from_secs(5);
const FAR: Duration = Duration::from_secs(10);

/// Two HTTP clients: for the metadata service, which is on this very host or nowhere, and
/// for everything else.
pub(super) struct Http {
    pub(super) near: reqwest::Client,
    pub(super) far: reqwest::Client,
}

/// A complete answer.
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
    /// The server's clock, or else ours.
    pub(super) now: Timestamp,
}

impl Http {
    pub(super) fn new(tls: rustls::ClientConfig, network: &Network) -> Result<Self, Error> {
        let client = |tls, connect| {
            reqwest::Client::builder()
                .tls_backend_preconfigured(tls)
                .redirect(reqwest::redirect::Policy::none())
                // Minutes to hours lie between two requests.
                .pool_max_idle_per_host(0)
                .connect_timeout(connect)
        };
        let setup = |source: reqwest::Error| Error::Setup { source: source.into() };
        let near = client(tls.clone(), NEAR).no_proxy().read_timeout(NEAR).timeout(2 * NEAR);
        let far = network.apply_for_keys(client(tls, FAR_CONNECT).timeout(FAR))?;
        Ok(Self { near: near.build().map_err(setup)?, far: far.build().map_err(setup)? })
    }
}

/// Sends a request and reads all of its answer; `place` is what errors name.
pub(super) async fn send(
    request: reqwest::RequestBuilder,
    place: &str,
) -> Result<Reply, CredentialError> {
    let failed = |problem: &str| {
        let (place, problem) = (place.to_owned(), problem.to_owned());
        move |source: reqwest::Error| CredentialError::Fetch {
            place,
            problem,
            // The address of a request may itself be a secret.
            source: Some(source.without_url()),
        }
    };
    let mut response = request.send().await.map_err(failed("no answer"))?;
    let date = response.headers().get(http::header::DATE);
    let date = date.and_then(|date| parse_http_date(date.to_str().ok()?));
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failed("the answer broke off"))? {
        if body.len() + chunk.len() > LARGEST_ANSWER {
            let problem = "the answer is larger than 64 KiB, and is no access key".to_owned();
            return Err(CredentialError::Unusable { place: place.to_owned(), problem });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Reply {
        status: response.status().as_u16(),
        body,
        now: date
            .and_then(|second| Timestamp::from_second(second).ok())
            .unwrap_or_else(Timestamp::now),
    })
}

/// Whether nobody was there to answer, not even to begin with.
pub(super) fn is_unreachable(error: &CredentialError) -> bool {
    matches!(error, CredentialError::Fetch { source: Some(source), .. } if source.is_connect())
}
