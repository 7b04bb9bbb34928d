//! The rights that the relay needs: which the access key has, and a RAM policy with all of
//! them and no more.

use serde_json::{Value, json};

use super::findings::{Findings, Level, explain};
use crate::config::Source;
use crate::sls::Error;

/// What a right is granted on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum On {
    Project,
    Logstore,
    /// Any group of the logstore, as SLS checks making and listing them.
    Groups,
    Group,
}

/// What is lost without a right.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Need {
    /// The relay does not run.
    Relay,
    /// `check` sees less.
    Check,
    /// The group is not made; where it is there, nothing.
    NewGroup,
    /// `manage_group` changes nothing.
    Managing,
}

struct Right {
    action: &'static str,
    /// The calls that need it, by their names in the SLS API.
    calls: &'static [&'static str],
    on: On,
    need: Need,
}

const fn right(action: &'static str, calls: &'static [&'static str], on: On, need: Need) -> Right {
    Right { action, calls, on, need }
}

static RIGHTS: [Right; 10] = [
    right("log:GetProject", &["GetProject"], On::Project, Need::Check),
    right("log:GetLogStore", &["GetLogStore"], On::Logstore, Need::Check),
    right("log:ListShards", &["ListShards"], On::Logstore, Need::Check),
    right(
        "log:GetCursorOrData",
        &["PullLogs", "GetCursor", "GetCursorTime"],
        On::Logstore,
        Need::Relay,
    ),
    right("log:ListConsumerGroup", &["ListConsumerGroup"], On::Groups, Need::Relay),
    right("log:CreateConsumerGroup", &["CreateConsumerGroup"], On::Groups, Need::NewGroup),
    right("log:UpdateConsumerGroup", &["UpdateConsumerGroup"], On::Group, Need::Managing),
    right("log:GetConsumerGroupCheckPoint", &["GetCheckPoint"], On::Group, Need::Relay),
    right("log:ConsumerGroupHeartBeat", &["HeartBeat"], On::Group, Need::Relay),
    right("log:ConsumerGroupUpdateCheckPoint", &["UpdateCheckPoint"], On::Group, Need::Relay),
];

/// What is known of one right.
#[derive(Clone, Debug, Default)]
enum Known {
    #[default]
    Nothing,
    Granted,
    /// Why, in words.
    Missing(String),
}

/// What is known of all rights.
pub(super) struct Rights {
    known: [Known; RIGHTS.len()],
    group_exists: bool,
    manages: bool,
}

/// The least that a source needs.
pub(super) struct Policy {
    project: String,
    logstore: String,
    group: String,
    manages: bool,
}

impl Rights {
    pub(super) fn new(source: &Source) -> Self {
        Self { known: Default::default(), group_exists: false, manages: source.manage_group }
    }

    /// The group is there: the right to make one is of no use any more.
    pub(super) fn group_exists(&mut self) {
        self.group_exists = true;
    }

    pub(super) fn granted(&mut self, call: &str) {
        self.learn(call, Known::Granted);
    }

    /// Whether the error says that a right is missing, which is then known.
    pub(super) fn is_missing(&mut self, error: &Error) -> bool {
        let Error::Refused(refusal) = error else { return false };
        // A refusal without a code is not from SLS.
        let denied = error.code() == "sls.forbidden" && !refusal.error_code.is_empty();
        if denied {
            self.learn(refusal.call.operation, Known::Missing(explain(error)));
        }
        denied
    }

    fn learn(&mut self, call: &str, now: Known) {
        for (right, known) in RIGHTS.iter().zip(&mut self.known) {
            // One call that is refused is enough, whatever others of the same right said.
            if right.calls.contains(&call) && !matches!(known, Known::Missing(_)) {
                known.clone_from(&now);
            }
        }
    }

    /// Writes down what is known of each; tells whether one that matters is missing.
    pub(super) fn report(&self, findings: &mut Findings) -> bool {
        if self.known.iter().all(|known| matches!(known, Known::Nothing)) {
            return false;
        }
        let mut lacks = false;
        for (right, known) in RIGHTS.iter().zip(&self.known) {
            let wanted = match right.need {
                Need::Managing => self.manages,
                Need::NewGroup => !self.group_exists,
                Need::Relay | Need::Check => true,
            };
            if !wanted {
                continue;
            }
            let calls = right.calls.join(", ");
            let what = right.action;
            match known {
                Known::Granted => findings.ok(what, &format!("granted: {calls}")),
                Known::Missing(why) => {
                    lacks = true;
                    let (level, without) = match right.need {
                        Need::Check => (Level::Warn, "check sees less without it, the relay runs"),
                        _ => (Level::Fail, "the relay cannot run without it"),
                    };
                    let detail = format!("missing, {without}: {why}");
                    findings.add(level, what, &detail, Some("check.right_missing"));
                }
                Known::Nothing => {
                    let why = match right.calls {
                        ["HeartBeat" | "UpdateCheckPoint" | "CreateConsumerGroup"]
                        | ["UpdateConsumerGroup"] => "it would change something",
                        ["GetCheckPoint"] if !self.group_exists => "there is no group yet",
                        _ => "nothing came so far",
                    };
                    findings.note(what, &format!("not tried, {why}: {calls}"));
                }
            }
        }
        findings.note(
            "rights",
            "check --policy prints a RAM policy that grants all of these and no more",
        );
        lacks
    }
}

impl Policy {
    pub(super) fn new(source: &Source) -> Self {
        Self {
            project: source.project.clone(),
            logstore: source.logstore.clone(),
            group: source.consumer_group.clone(),
            manages: source.manage_group,
        }
    }

    /// As the RAM console takes it.
    pub(super) fn json(&self) -> Value {
        let project = format!("acs:log:*:*:project/{}", self.project);
        let logstore = format!("{project}/logstore/{}", self.logstore);
        let places = [
            (On::Project, project),
            (On::Groups, format!("{logstore}/consumergroup/*")),
            (On::Group, format!("{logstore}/consumergroup/{}", self.group)),
            (On::Logstore, logstore),
        ];
        let statement = |(on, place): &(On, String)| {
            let wanted =
                |right: &&Right| right.on == *on && (right.need != Need::Managing || self.manages);
            let actions: Vec<_> = RIGHTS.iter().filter(wanted).map(|right| right.action).collect();
            json!({ "Effect": "Allow", "Action": actions, "Resource": [place] })
        };
        json!({ "Version": "1", "Statement": places.iter().map(statement).collect::<Vec<_>>() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sls::error::Context;
    use crate::sls::refusal::{Answer, Refusal};
    use crate::sls::{CredentialSource, Credentials, Endpoint};

    fn source() -> Source {
        let credentials = CredentialSource::Static(Credentials {
            key_id: "id".into(),
            key_secret: "secret".into(),
            security_token: None,
        });
        let endpoint = Endpoint::parse("https://cn-x.log.aliyuncs.com").expect("an endpoint");
        Source::new(endpoint, "p", "l", "g", credentials)
    }

    fn refused(operation: &'static str, status: u16, code: &str, message: &str) -> Error {
        let body = json!({ "errorCode": code, "errorMessage": message }).to_string();
        let call = Context { operation, target: "p/l".into() };
        let (request_id, date, retry_after) = ("5F", None, None);
        let body = body.as_bytes();
        let answer = Answer { status, body, request_id, date, retry_after };
        Error::Refused(Box::new(Refusal::new(call, answer)))
    }

    #[test]
    fn a_policy_has_each_right_once_and_on_the_least() {
        let mut source = source();
        let policy = Policy::new(&source).json();
        let text = policy.to_string();
        for right in &RIGHTS {
            let times = text.matches(&format!("\"{}\"", right.action)).count();
            assert_eq!(times, usize::from(right.need != Need::Managing), "{}", right.action);
        }
        let statements = policy["Statement"].as_array().expect("statements");
        let of_group = statements
            .iter()
            .find(|one| one["Resource"][0] == "acs:log:*:*:project/p/logstore/l/consumergroup/g");
        assert_eq!(of_group.expect("one")["Action"].as_array().expect("actions").len(), 3);
        assert!(!text.contains("log:*\""), "{text}");
        source.manage_group = true;
        assert!(Policy::new(&source).json().to_string().contains("log:UpdateConsumerGroup"));
    }

    #[test]
    fn every_call_is_under_the_right_that_its_errors_name() {
        for right in &RIGHTS {
            for operation in right.calls {
                let call = Context { operation, target: "p/l".into() };
                assert_eq!(call.ram_action(), right.action, "{operation}");
            }
        }
    }

    #[test]
    fn a_right_is_missing_when_ram_says_so_and_not_for_a_wrong_key() {
        let mut rights = Rights::new(&source());
        let ram = "denied by sts or ram, action: log:GetCursorOrData";
        assert!(!rights.is_missing(&refused("PullLogs", 401, "SignatureNotMatch", "")));
        assert!(!rights.is_missing(&refused("PullLogs", 401, "Unauthorized", "token")));
        assert!(!rights.is_missing(&refused("PullLogs", 403, "ReadQuotaExceed", "")));
        assert!(!rights.is_missing(&refused("PullLogs", 404, "LogStoreNotExist", "")));
        rights.granted("GetCursor");
        assert!(rights.is_missing(&refused("PullLogs", 401, "Unauthorized", ram)));
        assert!(rights.is_missing(&refused("GetProject", 403, "Unauthorized", "")));
        rights.granted("GetCursor");
        let mut findings = Findings::new(true);
        assert!(rights.report(&mut findings));
        assert_eq!((findings.failed(), findings.warned()), (1, 1));
    }
}
