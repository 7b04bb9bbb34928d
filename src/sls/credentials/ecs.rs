//! The RAM role of this ECS instance, from its metadata service.
//!
//! The service is first asked for a token ("security hardening mode"); where there is
//! none, because it is an old instance or because the answer is lost on the way into a
//! container, it is asked without one, unless that is forbidden.

use super::document::{is_success, read_document};
use super::error::CredentialError;
use super::http::{Http, Reply, is_unreachable, send};
use super::provider::{Issued, Miss, Plan, Planned};
use super::settings::{ChainSettings, variable};

const ROLES: &str = "/latest/meta-data/ram/security-credentials/";
/// Seconds; the longest that the service gives.
const TOKEN_TTL: &str = "21600";

pub(super) struct Ecs {
    base: String,
    role: Option<String>,
    /// Never ask without a token.
    hardened: bool,
}

pub(super) fn plan(settings: &ChainSettings) -> Planned {
    if settings.is_true(variable::ECS_DISABLED) {
        return Err(Miss::Absent(format!("{} is true", variable::ECS_DISABLED)));
    }
    Ecs::new(settings, settings.ram_role().map(str::to_owned)).map(Plan::Ecs)
}

impl Ecs {
    /// The role of that name, or the one that the instance has.
    pub(super) fn new(settings: &ChainSettings, role: Option<String>) -> Result<Self, Miss> {
        if role.as_deref().is_some_and(|role| !is_role(role)) {
            let problem = "no name: letters, digits, dots, underscores and hyphens";
            return Err(Miss::unusable("the RAM role of the instance", problem));
        }
        let base = settings.metadata_url().to_owned();
        Ok(Self { base, role, hardened: settings.is_true(variable::IMDSV1_DISABLED) })
    }

    pub(super) async fn fetch(self, http: &Http) -> Result<Issued, CredentialError> {
        let failed = match self.token(http).await {
            Ok(token) => match self.key(http, Some(&token)).await {
                Ok(issued) => return Ok(issued),
                Err(error) => error,
            },
            Err(error) => error,
        };
        if self.hardened || is_unreachable(&failed) {
            return Err(failed);
        }
        tracing::debug!(error = failed.in_full(), "asking the metadata service without a token");
        self.key(http, None).await.map_err(|error| error.after(&failed))
    }

    async fn token(&self, http: &Http) -> Result<String, CredentialError> {
        let place = self.place("its token");
        let request = http
            .near
            .put(format!("{}/latest/api/token", self.base))
            .header("X-aliyun-ecs-metadata-token-ttl-seconds", TOKEN_TTL);
        let reply = send(request, &place).await?;
        is_success(&reply, &place)?;
        let token = String::from_utf8(reply.body).unwrap_or_default();
        let token = token.trim();
        if super::flaw(token).is_some() {
            let problem = "the answer is no token".to_owned();
            return Err(CredentialError::Fetch { place, problem, source: None });
        }
        Ok(token.to_owned())
    }

    async fn key(&self, http: &Http, token: Option<&str>) -> Result<Issued, CredentialError> {
        let role = match &self.role {
            Some(role) => role.clone(),
            None => self.discover(http, token).await?,
        };
        let place = self.place(&format!("role {role}"));
        let reply = self.get(http, &role, token, &place).await?;
        read_document(&reply, &place)
    }

    /// The name of the role that the instance has.
    async fn discover(&self, http: &Http, token: Option<&str>) -> Result<String, CredentialError> {
        let place = self.place("its RAM role");
        let reply = self.get(http, "", token, &place).await?;
        if reply.status == 404 {
            let problem = "the instance has no RAM role, attach one".to_owned();
            return Err(CredentialError::Unusable { place, problem });
        }
        is_success(&reply, &place)?;
        let text = String::from_utf8(reply.body).unwrap_or_default();
        match text.trim() {
            role if is_role(role) => Ok(role.to_owned()),
            _ => {
                let problem = "the answer is no name of a role".to_owned();
                Err(CredentialError::Fetch { place, problem, source: None })
            }
        }
    }

    async fn get(
        &self,
        http: &Http,
        role: &str,
        token: Option<&str>,
        place: &str,
    ) -> Result<Reply, CredentialError> {
        let mut request = http.near.get(format!("{}{ROLES}{role}", self.base));
        if let Some(token) = token {
            request = request.header("X-aliyun-ecs-metadata-token", token);
        }
        send(request, place).await
    }

    fn place(&self, what: &str) -> String {
        format!("the metadata service {} asked for {what}", self.base)
    }
}

/// What RAM allows in the name of a role.
fn is_role(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=64).contains(&name.len()) && name.bytes().all(fits)
}
