//! A key in Alibaba Cloud's own environment variables.

use super::Credentials;
use super::provider::{Miss, Plan, Planned};
use super::settings::{ChainSettings, variable};

pub(super) fn plan(settings: &ChainSettings) -> Planned {
    let (key_id, key_secret) =
        match (settings.get(variable::KEY_ID), settings.get(variable::KEY_SECRET)) {
            (Some(key_id), Some(key_secret)) => (key_id, key_secret),
            (None, None) => {
                let names = format!("{} and {}", variable::KEY_ID, variable::KEY_SECRET);
                return Err(Miss::Absent(format!("{names} are not set")));
            }
            (Some(_), None) => return Err(half(variable::KEY_ID, variable::KEY_SECRET)),
            (None, Some(_)) => return Err(half(variable::KEY_SECRET, variable::KEY_ID)),
        };
    let credentials = Credentials {
        key_id: key_id.to_owned(),
        key_secret: key_secret.to_owned(),
        security_token: settings.get(variable::SECURITY_TOKEN).map(str::to_owned),
    };
    Plan::ready(credentials, variable::KEY_ID)
}

fn half(there: &str, absent: &str) -> Miss {
    Miss::unusable(there, format!("half an access key, set {absent}, too"))
}
