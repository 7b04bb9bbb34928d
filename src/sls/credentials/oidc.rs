//! A token of an identity provider, changed for a key: AssumeRoleWithOIDC. In ACK this is
//! called RRSA; the variables and the token are put into the pod.

use std::path::Path;

use jiff::Timestamp;

use super::error::CredentialError;
use super::http::Http;
use super::provider::{Issued, Miss, Plan, Planned, read_text};
use super::settings::{ChainSettings, variable};
use super::sts::{Role, query};

const ACTION: &str = "AssumeRoleWithOIDC";

pub(super) struct Oidc {
    role: Role,
    provider_arn: String,
    token: String,
}

pub(super) fn plan(settings: &ChainSettings) -> Planned {
    let names = [variable::ROLE_ARN, variable::OIDC_PROVIDER_ARN, variable::OIDC_TOKEN_FILE];
    let [Some(arn), Some(provider_arn), Some(token_file)] = names.map(|name| settings.get(name))
    else {
        let absent: Vec<_> =
            names.into_iter().filter(|name| settings.get(name).is_none()).collect();
        let verb = if absent.len() == 1 { "is" } else { "are" };
        return Err(Miss::Absent(format!("{} {verb} not set", absent.join(", "))));
    };
    let role = Role::new(settings, arn, None, None, false)?;
    Oidc::plan(role, provider_arn, Path::new(token_file))
}

impl Oidc {
    /// Reads the token, which its owner replaces from time to time.
    pub(super) fn plan(role: Role, provider_arn: &str, token_file: &Path) -> Planned {
        let place = format!("the OIDC token in {}", token_file.display());
        let token = match read_text(token_file)? {
            Some(token) => token.trim().to_owned(),
            None => return Err(Miss::unusable(place, "missing, check the path")),
        };
        match super::flaw(&token) {
            Some(problem) => Err(Miss::unusable(place, problem)),
            None => Ok(Plan::Oidc(Self { role, provider_arn: provider_arn.to_owned(), token })),
        }
    }

    pub(super) async fn fetch(self, http: &Http) -> Result<Issued, CredentialError> {
        let mut form = self.role.form();
        form.push(("OIDCProviderArn", self.provider_arn));
        form.push(("OIDCToken", self.token));
        self.role.assume(http, ACTION, &query(ACTION, Timestamp::now()), &form).await
    }
}
