//! The configuration of the SLS SDK's syslog sample: six variables, and flags for the
//! receiver.

use std::collections::BTreeMap;

use super::given::{Given, GivenTable, Value};
use super::report::{Place, Problems};
use super::resolve::resolve;
use super::schema::TABLES;
use super::{Loaded, settings_or_problems};

/// The flags of `run` that stand in place of a configuration file.
#[derive(Clone, Debug, Default)]
pub struct SampleFlags {
    /// `--to`: the receiver, `udp://host:514` or `tcp://host:1468`; must be given.
    pub to: Option<String>,
    /// `--spool`: the spool's directory; `./sls-relay-spool` if not given.
    pub spool: Option<String>,
    /// `--framing`: octet-counting or lf.
    pub framing: Option<String>,
    /// `--format`: rfc5424 or sample.
    pub format: Option<String>,
    /// `--sep`: between two pairs.
    pub sep: Option<String>,
    /// `--facility`: name or number.
    pub facility: Option<String>,
    /// `--severity`: name or number.
    pub severity: Option<String>,
    /// `--hostname`: HOSTNAME of every message.
    pub hostname: Option<String>,
    /// `--tag`: APP-NAME of every message.
    pub tag: Option<String>,
    /// `--timeout`: a time span such as `10 s`, or a number of seconds as in the sample.
    pub timeout: Option<String>,
}

const VARIABLES: [(&str, &str); 6] = [
    ("endpoint", "SLS_ENDPOINT"),
    ("access_key_id", "SLS_AK_ID"),
    ("access_key_secret", "SLS_AK_KEY"),
    ("project", "SLS_PROJECT"),
    ("logstore", "SLS_LOGSTORE"),
    ("consumer_group", "SLS_CG"),
];

const FLAGS: [(&str, &str); 9] = [
    ("to", "--to"),
    ("framing", "--framing"),
    ("format", "--format"),
    ("separator", "--sep"),
    ("facility", "--facility"),
    ("severity", "--severity"),
    ("hostname", "--hostname"),
    ("tag", "--tag"),
    ("timeout", "--timeout"),
];

/// Settings from the sample's six variables and the flags; all else has its default.
///
/// The source is named `sls`, the destination `syslog`. `env` looks up an environment
/// variable; `hostname` is this machine's.
///
/// # Errors
/// Every variable and flag that is missing or cannot be used.
pub fn from_environment(
    env: &dyn Fn(&str) -> Option<String>,
    flags: &SampleFlags,
    hostname: &str,
) -> Result<Loaded, Problems> {
    let spool = table("spool", &[("dir", "--spool")], |_| {
        Some(flags.spool.clone().unwrap_or_else(|| "./sls-relay-spool".to_owned()))
    });
    let mut source = table("source", &VARIABLES, env);
    let name = Given { place: Place::Nowhere, value: Value::Text("sls".to_owned()) };
    source.values.insert("name", name);
    let destination = table("destination", &FLAGS, |flag| {
        let value = flags.get(flag).cloned()?;
        // The sample's timeout is a plain number of seconds.
        let seconds = flag == "--timeout" && value.bytes().all(|byte| byte.is_ascii_digit());
        Some(if seconds { format!("{value} s") } else { value })
    });
    let mut reports = Vec::new();
    let settings = resolve(&[spool, source, destination], env, hostname, &mut reports);
    settings_or_problems(settings, reports, None)
}

impl SampleFlags {
    fn get(&self, flag: &str) -> Option<&String> {
        let value = match flag {
            "--to" => &self.to,
            "--framing" => &self.framing,
            "--format" => &self.format,
            "--sep" => &self.sep,
            "--facility" => &self.facility,
            "--severity" => &self.severity,
            "--hostname" => &self.hostname,
            "--tag" => &self.tag,
            "--timeout" => &self.timeout,
            _ => return None,
        };
        value.as_ref()
    }
}

/// A table whose keys are called by the names of variables or flags.
fn table(
    name: &str,
    aliases: &'static [(&'static str, &'static str)],
    value: impl Fn(&str) -> Option<String>,
) -> GivenTable {
    let values: BTreeMap<_, _> = aliases
        .iter()
        .filter_map(|(key, alias)| {
            let given = Given { place: Place::Named(alias), value: Value::Text(value(alias)?) };
            Some((*key, given))
        })
        .collect();
    #[expect(clippy::expect_used, reason = "names of this file, met by every call")]
    let schema = TABLES.iter().find(|table| table.name == name).expect("a table of the schema");
    GivenTable { values, aliases, ..GivenTable::new(schema, Place::Nowhere) }
}
