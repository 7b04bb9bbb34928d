//! A key from an address: `ALIBABA_CLOUD_CREDENTIALS_URI`.

use super::document::read_document;
use super::error::CredentialError;
use super::http::{Http, send};
use super::provider::{Issued, Miss, Plan, Planned};
use super::settings::{ChainSettings, variable};

/// An address that answers with a key. It may contain a secret itself, so only its host is
/// shown.
pub(super) struct Uri {
    url: reqwest::Url,
    place: String,
}

pub(super) fn plan(settings: &ChainSettings) -> Planned {
    let Some(text) = settings.get(variable::CREDENTIALS_URI) else {
        return Err(Miss::Absent(format!("{} is not set", variable::CREDENTIALS_URI)));
    };
    let unusable = || Miss::unusable(variable::CREDENTIALS_URI, "no http:// or https:// URL");
    let url: reqwest::Url = text.parse().map_err(|_| unusable())?;
    let host = url.host_str().filter(|_| matches!(url.scheme(), "http" | "https"));
    let host = host.ok_or_else(unusable)?;
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let place = format!("the credentials URI on {host}{port}");
    Ok(Plan::Uri(Uri { url, place }))
}

impl Uri {
    pub(super) async fn fetch(self, http: &Http) -> Result<Issued, CredentialError> {
        let reply = send(http.far.get(self.url), &self.place).await?;
        read_document(&reply, &self.place)
    }
}
