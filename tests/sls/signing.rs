//! Signatures against those of the official SDKs.

use sls_relay::sls::sign;

use crate::{fixture, list, pairs, text, unhex};

#[test]
fn version_1_signs_as_the_official_sdk() {
    let vectors = fixture("signing.json");
    for vector in list(&vectors["signing_v1"]) {
        let parts = sign::Parts {
            method: text(&vector["method"]),
            path: text(&vector["path"]),
            query: &pairs(&vector["query_decoded"]),
            headers: &pairs(&vector["headers"]),
            body: &unhex(&vector["body_hex"]),
        };
        let signature =
            sign::v1(text(&vector["access_key_id"]), text(&vector["access_key_secret"]), &parts);
        assert_eq!(signature, text(&vector["expected_authorization"]), "{}", vector["name"]);
    }
    assert_eq!(list(&vectors["signing_v1"]).len(), 29);
}

#[test]
fn version_4_signs_as_the_official_sdk() {
    let vectors = fixture("signing.json");
    for vector in list(&vectors["signing_v4"]) {
        let parts = sign::Parts {
            method: text(&vector["method"]),
            path: text(&vector["path"]),
            query: &pairs(&vector["query_decoded"]),
            headers: &pairs(&vector["headers"]),
            body: &unhex(&vector["body_hex"]),
        };
        let signature = sign::v4(
            text(&vector["access_key_id"]),
            text(&vector["access_key_secret"]),
            text(&vector["region"]),
            text(&vector["datetime"]),
            &parts,
        );
        assert_eq!(signature, text(&vector["expected_authorization"]), "{}", vector["name"]);
    }
    assert_eq!(list(&vectors["signing_v4"]).len(), 29);
}

#[test]
fn inputs_published_by_four_sdks_give_their_signatures() {
    let vectors = fixture("signing.json");
    for vector in list(&vectors["signing_cross_checks"]) {
        let mut headers = pairs(&vector["headers"]);
        let id = text(&vector["access_key_id"]);
        let secret = text(&vector["access_key_secret"]);
        let body = match vector["body_utf8"].as_str() {
            Some(body) => body.as_bytes().to_vec(),
            None => unhex(&vector["body_hex"]),
        };
        let v4 = vector["version"] == "v4";
        if v4 {
            // The SDKs add these themselves before they sign.
            headers.push(("x-log-date".into(), text(&vector["datetime"]).into()));
            headers.push(("x-log-content-sha256".into(), sign::sha256_hex(&body)));
        } else {
            headers.push(("Date".into(), text(&vector["date_gmt"]).into()));
            headers.push(("x-log-signaturemethod".into(), "hmac-sha1".into()));
            if let Some(token) = vector["security_token"].as_str() {
                headers.push(("x-acs-security-token".into(), token.into()));
            }
            if !body.is_empty() {
                headers.push(("Content-MD5".into(), sign::content_md5(&body)));
            }
        }
        let parts = sign::Parts {
            method: text(&vector["method"]),
            path: text(&vector["path"]),
            query: &pairs(&vector["query"]),
            headers: &headers,
            body: &body,
        };
        let signature = if v4 {
            sign::v4(id, secret, text(&vector["region"]), text(&vector["datetime"]), &parts)
        } else {
            sign::v1(id, secret, &parts)
        };
        assert_eq!(signature, text(&vector["expected_authorization"]), "{}", vector["name"]);
    }
    assert_eq!(list(&vectors["signing_cross_checks"]).len(), 10);
}

#[test]
fn query_values_are_encoded_as_version_4_wants_them() {
    for vector in list(&fixture("signing.json")["v4_query_value_encoding"]) {
        assert_eq!(sign::percent_encode(text(&vector["input"])), text(&vector["expected"]));
    }
}
