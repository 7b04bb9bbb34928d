//! From a call to the signed HTTP request that goes out, without sending it.

use http::Method;

use super::clock::{compact_date, http_date};
use super::credentials::Credentials;
use super::endpoint::Endpoint;
use super::error::{Context, Error};
use super::sign;

/// One call of the SLS API, not signed yet.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) context: Context,
    pub(super) method: Method,
    /// Not encoded.
    pub(super) path: String,
    /// Not encoded, in the order of the wire.
    pub(super) query: Vec<(String, String)>,
    /// Headers that no signature covers.
    pub(super) accept: &'static [(&'static str, &'static str)],
    /// JSON.
    pub(super) body: Option<Vec<u8>>,
    /// Whether the answer may be large.
    pub(super) large: bool,
}

/// Where requests go and how they are signed.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    pub(super) endpoint: Endpoint,
    /// What requests begin with: scheme, host and port.
    pub(super) connect_to: String,
    pub(super) project: String,
    pub(super) user_agent: String,
    /// The region to sign for with version 4; without it version 1 signs.
    pub(super) region: Option<String>,
}

/// A request ready to be sent.
#[derive(Debug)]
pub(super) struct Signed {
    pub(super) url: String,
    /// All headers but `Content-Length`, `Host` and `Authorization` among them.
    pub(super) headers: Vec<(String, String)>,
}

impl Call {
    /// A call on the project itself or on one of its logstores; `rest` follows the
    /// logstore in the path.
    ///
    /// # Errors
    /// [`Error::Name`] when a part cannot stand in a path.
    pub(super) fn new(
        operation: &'static str,
        method: Method,
        project: &str,
        logstore: Option<&str>,
        rest: &[&str],
    ) -> Result<Self, Error> {
        let mut target = project.to_owned();
        let mut path = String::from("/");
        if let Some(logstore) = logstore {
            check_name("logstore", logstore)?;
            target = format!("{project}/{logstore}");
            path = format!("/logstores/{logstore}");
            for part in rest {
                path.push('/');
                path.push_str(part);
            }
        }
        let context = Context { operation, target };
        Ok(Self { context, method, path, query: Vec::new(), accept: &[], body: None, large: false })
    }

    pub(super) fn query(mut self, key: &str, value: impl ToString) -> Self {
        self.query.push((key.to_owned(), value.to_string()));
        self
    }

    pub(super) fn json(mut self, body: &serde_json::Value) -> Self {
        self.body = Some(body.to_string().into_bytes());
        self
    }

    /// Adds the shard to what errors name.
    pub(super) fn about(mut self, shard: u32) -> Self {
        self.context.target.push_str(&format!("/{shard}"));
        self
    }
}

/// Signs the call for this very moment, `now` in seconds since the epoch.
pub(super) fn sign(call: &Call, origin: &Origin, credentials: &Credentials, now: i64) -> Signed {
    let body = call.body.as_deref().unwrap_or_default();
    let mut headers: Vec<(String, String)> = Vec::with_capacity(12);
    let mut add = |name: &str, value: String| headers.push((name.to_owned(), value));
    // A version 4 signature covers Host: what is signed is what goes out.
    add("Host", origin.endpoint.host_header(&origin.project));
    add("User-Agent", origin.user_agent.clone());
    add("x-log-apiversion", "0.6.0".to_owned());
    add("x-log-bodyrawsize", body.len().to_string());
    if call.body.is_some() {
        add("Content-Type", "application/json".to_owned());
    }
    if let Some(token) = &credentials.security_token {
        add("x-acs-security-token", token.clone());
    }
    for (name, value) in call.accept {
        add(name, (*value).to_owned());
    }
    let datetime = compact_date(now);
    if origin.region.is_some() {
        add("x-log-date", datetime.clone());
        add("x-log-content-sha256", sign::sha256_hex(body));
    } else {
        add("Date", http_date(now));
        add("x-log-signaturemethod", "hmac-sha1".to_owned());
        if call.body.is_some() {
            add("Content-MD5", sign::content_md5(body));
        }
    }
    let parts = sign::Parts {
        method: call.method.as_str(),
        path: &call.path,
        query: &call.query,
        headers: &headers,
        body,
    };
    let (id, secret) = (&credentials.key_id, &credentials.key_secret);
    let authorization = match &origin.region {
        Some(region) => sign::v4(id, secret, region, &datetime, &parts),
        None => sign::v1(id, secret, &parts),
    };
    headers.push(("Authorization".to_owned(), authorization));
    Signed { url: url(call, origin), headers }
}

/// A name that stands in a path: SLS judges the rest, but this could not even be sent
/// as it is meant.
pub(super) fn check_name(what: &'static str, name: &str) -> Result<(), Error> {
    let problem = if name.is_empty() {
        "is empty"
    } else if matches!(name, "." | "..") {
        "cannot stand in a path"
    } else if name.chars().any(|c| "/?#%\\".contains(c) || c.is_whitespace() || c.is_control()) {
        "contains a blank or one of / ? # % \\"
    } else {
        return Ok(());
    };
    Err(Error::Name { what, name: name.to_owned(), problem })
}

/// A project stands in front of a host name.
pub(super) fn check_project(name: &str) -> Result<(), Error> {
    let fits = (1..=63).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-');
    if fits {
        return Ok(());
    }
    let problem = "is no project name: letters, digits and hyphens, up to 63";
    Err(Error::Name { what: "project", name: name.to_owned(), problem })
}

fn url(call: &Call, origin: &Origin) -> String {
    let mut url = origin.connect_to.clone();
    url.push_str(&sign::encode_path(&call.path));
    for (position, (key, value)) in call.query.iter().enumerate() {
        url.push(if position == 0 { '?' } else { '&' });
        url.push_str(&format!("{key}={}", sign::percent_encode(value)));
    }
    url
}
