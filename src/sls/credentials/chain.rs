//! Alibaba Cloud's default chain: the ways to a key, one after the other.
//!
//! A way of which nothing is here is passed over. One that is here and fails ends the
//! search: going on would run the relay under another identity without a word. The RAM
//! role of the instance is the exception, since whether this is an instance is only known
//! by asking: where the question fails, a credentials URI is still tried, unless the role
//! has given keys before.

use super::error::{CredentialError, Tried};
use super::http::Http;
use super::provider::{Issued, Miss, Plan, Provider};
use super::settings::ChainSettings;

/// What is left to do, in order, after looking at variables and files.
pub(super) struct Steps {
    /// At least one.
    steps: Vec<(Provider, Plan)>,
    tried: Vec<Tried>,
}

/// Looks at variables and files. May block.
pub(super) fn steps(settings: &ChainSettings) -> Result<Steps, CredentialError> {
    let (mut steps, mut tried) = (Vec::new(), Vec::new());
    for provider in Provider::ALL {
        let why = match provider.plan(settings) {
            Ok(plan) => {
                steps.push((provider, plan));
                if provider != Provider::EcsRamRole {
                    break;
                }
                continue;
            }
            Err(Miss::Absent(why)) => why,
            Err(Miss::Unusable(error)) if steps.is_empty() => return Err(error),
            Err(Miss::Unusable(error)) => error.to_string(),
        };
        tried.push(Tried { provider, why });
    }
    if steps.is_empty() {
        return Err(CredentialError::Absent { tried, asked: false });
    }
    Ok(Steps { steps, tried })
}

impl Steps {
    /// The key, where nobody must be asked for it.
    pub(super) fn ready(&self) -> Result<(Provider, &super::Credentials), CredentialError> {
        match self.steps.first() {
            Some((provider, Plan::Ready(credentials))) => Ok((*provider, credentials)),
            Some((provider, _)) => Err(CredentialError::NotYet(*provider)),
            None => Err(CredentialError::Absent { tried: self.tried.clone(), asked: false }),
        }
    }

    /// Asks whoever must be asked; `last` is who gave the keys so far.
    pub(super) async fn fetch(
        self,
        http: &Http,
        last: Option<Provider>,
    ) -> Result<(Provider, Issued), CredentialError> {
        let Self { steps, mut tried } = self;
        for (provider, plan) in steps {
            match plan.fetch(http).await {
                Ok(issued) => return Ok((provider, issued)),
                Err(error) if last == Some(provider) => return Err(error),
                Err(error) if matches!(provider, Provider::EcsRamRole | Provider::Uri) => {
                    let position = tried.iter().position(|tried| is_after(tried, provider));
                    let why = error.in_full();
                    tried.insert(position.unwrap_or(tried.len()), Tried { provider, why });
                }
                Err(error) => return Err(error),
            }
        }
        Err(CredentialError::Absent { tried, asked: true })
    }
}

fn is_after(tried: &Tried, provider: Provider) -> bool {
    let place = |provider| Provider::ALL.iter().position(|one| *one == provider);
    place(tried.provider) > place(provider)
}
