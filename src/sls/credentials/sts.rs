//! Calls of the Security Token Service: one POST, a form, a JSON answer.

use jiff::Timestamp;

use super::document::read_assumed;
use super::error::CredentialError;
use super::http::{Http, send};
use super::provider::{Issued, Miss};
use super::settings::{ChainSettings, variable};
use crate::sls::sign::percent_encode;

/// Seconds that an assumed role is asked for, unless a profile says otherwise.
pub(super) const DURATION: u32 = 3600;
/// Bytes; an account has sixteen digits and a role at most 64 characters.
const LONGEST_ARN: usize = 256;

/// A role that STS is asked for.
pub(super) struct Role {
    /// Scheme and host of STS.
    pub(super) base: String,
    pub(super) arn: String,
    pub(super) session: String,
    /// Seconds.
    pub(super) duration: u32,
    /// Narrows what the role may do.
    pub(super) policy: Option<String>,
}

impl Role {
    /// `region` and `vpc` as a profile has them; the environment fills in.
    pub(super) fn new(
        settings: &ChainSettings,
        arn: &str,
        session: Option<&str>,
        region: Option<&str>,
        vpc: bool,
    ) -> Result<Self, Miss> {
        if arn.len() > LONGEST_ARN || super::flaw(arn).is_some() {
            return Err(Miss::unusable("the ARN of the role", "none: acs:ram::ACCOUNT:role/NAME"));
        }
        let session = session.or_else(|| settings.get(variable::ROLE_SESSION_NAME));
        Ok(Self {
            base: base(settings, region, vpc)?,
            arn: arn.to_owned(),
            session: session.unwrap_or("sls-relay").to_owned(),
            duration: DURATION,
            policy: None,
        })
    }

    /// The parameters that every way to assume it has.
    pub(super) fn form(&self) -> Vec<(&'static str, String)> {
        let mut form = vec![
            ("RoleArn", self.arn.clone()),
            ("RoleSessionName", self.session.clone()),
            ("DurationSeconds", self.duration.to_string()),
        ];
        form.extend(self.policy.clone().map(|policy| ("Policy", policy)));
        form
    }

    /// Makes the call; what is secret belongs into the form.
    pub(super) async fn assume(
        &self,
        http: &Http,
        action: &str,
        query: &[(&'static str, String)],
        form: &[(&'static str, String)],
    ) -> Result<Issued, CredentialError> {
        let place = format!("{} asked to {action} {}", self.base, self.arn);
        let request = http
            .far
            .post(format!("{}/?{}", self.base, encoded(query)))
            .header(http::header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(encoded(form));
        read_assumed(&send(request, &place).await?, &place)
    }
}

/// What every call says of itself.
pub(super) fn query(action: &str, now: Timestamp) -> Vec<(&'static str, String)> {
    vec![
        ("Action", action.to_owned()),
        ("Format", "JSON".to_owned()),
        ("Version", "2015-04-01".to_owned()),
        ("Timestamp", now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()),
    ]
}

pub(super) fn encoded(pairs: &[(&'static str, String)]) -> String {
    let pairs: Vec<_> =
        pairs.iter().map(|(key, value)| format!("{key}={}", percent_encode(value))).collect();
    pairs.join("&")
}

fn base(settings: &ChainSettings, region: Option<&str>, vpc: bool) -> Result<String, Miss> {
    if let Some(url) = settings.sts_url() {
        return Ok(url.to_owned());
    }
    let Some(region) = region.or_else(|| settings.get(variable::STS_REGION)) else {
        return Ok("https://sts.aliyuncs.com".to_owned());
    };
    if !region.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        let problem = "no region: letters, digits and hyphens, such as cn-hangzhou";
        return Err(Miss::unusable("the region of STS", problem));
    }
    let vpc = vpc || settings.is_true(variable::VPC_ENDPOINT);
    let service = if vpc { "sts-vpc" } else { "sts" };
    Ok(format!("https://{service}.{region}.aliyuncs.com"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sts_is_the_one_of_the_region_where_one_is_named() {
        let settings = |set: &'static [(&str, &str)]| {
            ChainSettings::new(&|name| {
                set.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
            })
        };
        let base = |settings: &ChainSettings, region, vpc| base(settings, region, vpc).ok();
        let (none, here) = (settings(&[]), settings(&[("ALIBABA_CLOUD_STS_REGION", "cn-a")]));
        let within = settings(&[
            ("ALIBABA_CLOUD_STS_REGION", "cn-a"),
            ("ALIBABA_CLOUD_VPC_ENDPOINT_ENABLED", "True"),
        ]);
        for (settings, region, vpc, url) in [
            (&none, None, true, Some("https://sts.aliyuncs.com")),
            (&here, None, false, Some("https://sts.cn-a.aliyuncs.com")),
            (&here, Some("cn-b"), true, Some("https://sts-vpc.cn-b.aliyuncs.com")),
            (&within, None, false, Some("https://sts-vpc.cn-a.aliyuncs.com")),
            (&none, Some("evil.example/"), false, None),
        ] {
            assert_eq!(base(settings, region, vpc).as_deref(), url);
        }
    }
}
