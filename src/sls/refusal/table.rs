//! The one table from status and code of an error answer to what it means.
//!
//! SDKs and servers disagree on spellings (`NotExsit`) and on some statuses, so both are
//! listed, and a code that is unmistakable counts under any status.

use std::time::Duration;

use super::super::error::{Advice, RETRY_AFTER};

/// Quotas are counted by the second or the minute.
const THROTTLED: Advice = Advice::Throttled { after: Duration::from_secs(2) };
const RETRY: Advice = Advice::Retry { after: RETRY_AFTER };

/// What an answer means to us.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Meaning {
    pub(super) code: &'static str,
    pub(super) advice: Advice,
    /// What to do; `{action}` stands for the RAM action of the call.
    pub(super) hint: &'static str,
}

/// When a row of the table applies. Texts are compared in lower case.
enum When {
    /// The errorCode is one of these.
    Code(&'static [&'static str]),
    /// The status is this and the errorCode begins with one of these.
    StatusCode(u16, &'static [&'static str]),
    /// The status is this and the errorCode is the first and the message contains the second.
    Message(u16, &'static str, &'static str),
    /// The status is this and errorCode or message contain this.
    Contains(u16, &'static str),
    /// The status lies between these, both included.
    Status(u16, u16),
}

use When::{Code, Contains, Message, Status, StatusCode};

const fn meaning(code: &'static str, advice: Advice, hint: &'static str) -> Meaning {
    Meaning { code, advice, hint }
}

const fn denied(advice: Advice) -> Meaning {
    meaning("sls.forbidden", advice, "grant the RAM user or role the action {action}")
}

/// From the particular to the general.
static TABLE: &[(When, Meaning)] = &[
    (
        Code(&["requesttimeexpired", "requesttimetooskewed"]),
        meaning("sls.clock_skew", Advice::FixClock, "set the clock of this machine"),
    ),
    (Contains(400, "invalidcursor"), INVALID_CURSOR),
    (Message(400, "parameterinvalid", "invalid cursor"), INVALID_CURSOR),
    (
        Code(&["notexistconsumerwithbody"]),
        meaning(
            "sls.consumer_timed_out",
            Advice::Rejoin,
            "the lease on all shards has ended and they are taken anew",
        ),
    ),
    (
        Code(&["consumergroupalreadyexist", "consumergroupalreadyexists"]),
        meaning("sls.group_exists", Advice::Operator, "the existing consumer group can be used"),
    ),
    (
        Code(&["consumergroupnotexist", "consumergroupnotexsit"]),
        meaning(
            "sls.group_unknown",
            Advice::Rejoin,
            "the consumer group was deleted or never made",
        ),
    ),
    (
        Code(&["consumernotexist", "consumernotexsit", "consumernotmatch"]),
        meaning("sls.not_owner", Advice::NotOwner, "another consumer holds the shard by now"),
    ),
    (
        Code(&["shardnotexist", "shardnotexsit"]),
        meaning("sls.shard_unknown", Advice::NotOwner, "the shard is gone, or never was"),
    ),
    (
        Code(&["projectnotexist", "projectnotexists"]),
        meaning(
            "sls.project_unknown",
            Advice::Operator,
            "check the project's name and that the endpoint is the one of its region",
        ),
    ),
    (
        Code(&["logstorenotexist", "logstorenotexists"]),
        meaning("sls.logstore_unknown", Advice::Operator, "check the logstore's name"),
    ),
    // SLS says this under 401 as well as under 403. The key may be replaced by one that has
    // the right, so it is read again as after any other 401.
    (Contains(401, "denied by sts or ram"), denied(Advice::RefreshCredentials)),
    (
        StatusCode(401, &["signaturenotmatch"]),
        meaning(
            "sls.signature_mismatch",
            Advice::RefreshCredentials,
            "check the access key secret, and that region (or the endpoint) is the one of the project",
        ),
    ),
    (
        StatusCode(401, &["invalidaccesskeyid"]),
        meaning(
            "sls.key_unknown",
            Advice::RefreshCredentials,
            "check the access key id and that the key is enabled",
        ),
    ),
    (
        StatusCode(401, &["securitytoken"]),
        meaning("sls.token_expired", Advice::RefreshCredentials, "renew the temporary credentials"),
    ),
    (
        Status(401, 401),
        meaning(
            "sls.unauthorized",
            Advice::RefreshCredentials,
            "check the access key and, for temporary credentials, their age",
        ),
    ),
    (
        Code(&["consumergroupquotaexceed"]),
        meaning(
            "sls.group_quota",
            Advice::Operator,
            "the logstore has no room for another consumer group, delete one that is not used",
        ),
    ),
    (Contains(403, "quotaexceed"), QUOTA),
    (Contains(403, "exceedquota"), QUOTA),
    (Contains(403, "qps exceed"), QUOTA),
    (Status(429, 429), QUOTA),
    (
        Code(&["projectforbidden"]),
        meaning(
            "sls.project_locked",
            Advice::Operator,
            "look in the console why the project is locked, and at the account's bills",
        ),
    ),
    (Status(403, 403), denied(Advice::Operator)),
    (
        Status(407, 407),
        meaning("sls.proxy_refused", Advice::Operator, "check the user and password of the proxy"),
    ),
    (Code(&["requesttimeout"]), UNAVAILABLE),
    (Status(408, 408), UNAVAILABLE),
    (Status(500, 599), UNAVAILABLE),
    (
        Status(300, 399),
        meaning(
            "sls.redirected",
            Advice::Operator,
            "redirects are not followed, check that the endpoint is the one of SLS",
        ),
    ),
    (
        Status(0, u16::MAX),
        meaning(
            "sls.refused",
            Advice::Operator,
            "check the names in the configuration, and report this if they are right",
        ),
    ),
];

const INVALID_CURSOR: Meaning = meaning(
    "sls.invalid_cursor",
    Advice::InvalidCursor,
    "the position is no longer kept, or is one of another shard",
);
const QUOTA: Meaning = meaning(
    "sls.throttled",
    THROTTLED,
    "the quota is used up for the moment, ask for more if this goes on",
);
const UNAVAILABLE: Meaning = meaning("sls.unavailable", RETRY, "it is tried again");

/// The first row that applies.
pub(super) fn look_up(status: u16, error_code: &str, message: &str) -> &'static Meaning {
    let code = error_code.to_ascii_lowercase();
    let message = message.to_ascii_lowercase();
    let applies = |when: &When| match *when {
        Code(codes) => codes.contains(&code.as_str()),
        StatusCode(of, codes) => status == of && codes.iter().any(|start| code.starts_with(start)),
        Message(of, name, part) => status == of && code == name && message.contains(part),
        Contains(of, part) => status == of && (code.contains(part) || message.contains(part)),
        Status(from, to) => (from..=to).contains(&status),
    };
    let fallback = TABLE.len() - 1;
    let row = TABLE.iter().position(|(when, _)| applies(when)).unwrap_or(fallback);
    &TABLE[row].1
}
