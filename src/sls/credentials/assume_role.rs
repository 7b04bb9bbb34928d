//! A role assumed with another key: AssumeRole, signed as Alibaba Cloud's RPC APIs are
//! ("RPC request syntax and signature", version 1.0).

use base64::prelude::{BASE64_STANDARD, Engine as _};
use hmac::{Hmac, Mac as _};
use jiff::Timestamp;

use super::Credentials;
use super::error::CredentialError;
use super::http::Http;
use super::provider::Issued;
use super::sts::{Role, encoded, query};
use crate::sls::sign::{new_mac, percent_encode};

const ACTION: &str = "AssumeRole";

pub(super) struct AssumeRole {
    pub(super) role: Role,
    /// The key that may assume it.
    pub(super) with: Credentials,
    /// Asked for by the role's trust policy.
    pub(super) external_id: Option<String>,
}

impl AssumeRole {
    pub(super) async fn fetch(self, http: &Http) -> Result<Issued, CredentialError> {
        let mut form = self.role.form();
        form.extend(self.external_id.map(|id| ("ExternalId", id)));
        let mut query = query(ACTION, Timestamp::now());
        query.push(("AccessKeyId", self.with.key_id));
        query.push(("SignatureMethod", "HMAC-SHA1".to_owned()));
        query.push(("SignatureVersion", "1.0".to_owned()));
        query.push(("SignatureNonce", format!("{:032x}", fastrand::u128(..))));
        form.extend(self.with.security_token.map(|token| ("SecurityToken", token)));
        let all: Vec<_> = query.iter().chain(&form).cloned().collect();
        query.push(("Signature", signature("POST", &all, &self.with.key_secret)));
        self.role.assume(http, ACTION, &query, &form).await
    }
}

/// The `Signature` of a request with these parameters, in query and form.
fn signature(method: &str, parameters: &[(&'static str, String)], key_secret: &str) -> String {
    let mut sorted = parameters.to_vec();
    sorted.sort();
    let text = format!("{method}&%2F&{}", percent_encode(&encoded(&sorted)));
    let mut mac = new_mac::<Hmac<sha1::Sha1>>(format!("{key_secret}&").as_bytes());
    mac.update(text.as_bytes());
    BASE64_STANDARD.encode(mac.finalize().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the ECS API reference, "Request signatures".
    #[test]
    fn a_request_is_signed_as_in_the_example_of_the_reference() {
        let parameters = [
            ("Timestamp", "2016-02-23T12:46:24Z"),
            ("Format", "XML"),
            ("AccessKeyId", "testid"),
            ("Action", "DescribeRegions"),
            ("SignatureMethod", "HMAC-SHA1"),
            ("SignatureNonce", "3ee8c1b8-83d3-44af-a94f-4e0ad82fd6cf"),
            ("Version", "2014-05-26"),
            ("SignatureVersion", "1.0"),
        ]
        .map(|(key, value)| (key, value.to_owned()));
        assert_eq!(signature("GET", &parameters, "testsecret"), "OLeaidS1JvxuMvnyHOwuJ+uX5qY=");
    }
}
