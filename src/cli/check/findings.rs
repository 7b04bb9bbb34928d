//! What `check` found, printed as it comes or as one JSON document at the end.

use serde_json::{Value, json};

use super::policy;
use crate::cli::output;
use crate::relay;
use crate::sls::Error;

/// How good or bad a finding is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Level {
    Ok,
    Note,
    Warn,
    Fail,
}

/// Everything found so far.
#[derive(Default)]
pub(super) struct Findings {
    as_json: bool,
    section: String,
    found: Vec<Value>,
    policies: Vec<Value>,
    failed: u32,
    warned: u32,
}

impl Findings {
    pub(super) fn new(as_json: bool) -> Self {
        Self { as_json, ..Self::default() }
    }

    /// A warning of the configuration, which does not count among the checks.
    pub(super) fn of_configuration(&mut self, warning: &str) {
        if !self.as_json {
            return output::error(&format!("warning: {warning}"));
        }
        self.found.push(json!({
            "section": "configuration", "what": "warning", "level": "warn", "detail": warning,
        }));
    }

    /// What follows is about this.
    pub(super) fn section(&mut self, name: impl Into<String>) {
        self.section = name.into();
        if !self.as_json {
            output::line(&self.section);
        }
    }

    pub(super) fn ok(&mut self, what: &str, detail: &str) {
        self.add(Level::Ok, what, detail, None);
    }

    pub(super) fn note(&mut self, what: &str, detail: &str) {
        self.add(Level::Note, what, detail, None);
    }

    pub(super) fn warn(&mut self, what: &str, code: &'static str, detail: &str) {
        self.add(Level::Warn, what, detail, Some(code));
    }

    pub(super) fn fail(&mut self, what: &str, code: &'static str, detail: &str) {
        self.add(Level::Fail, what, detail, Some(code));
    }

    /// An error of SLS with its code, its request and what to do.
    pub(super) fn error(&mut self, what: &str, error: &Error) {
        self.fail(what, error.code(), &explain(error));
    }

    pub(super) fn add(
        &mut self,
        level: Level,
        what: &str,
        detail: &str,
        code: Option<&'static str>,
    ) {
        let word = match level {
            Level::Ok => "ok",
            Level::Note => "note",
            Level::Warn => "warn",
            Level::Fail => "fail",
        };
        self.failed += u32::from(level == Level::Fail);
        self.warned += u32::from(level == Level::Warn);
        if !self.as_json {
            let mark = match level {
                Level::Ok => "  ok    ",
                Level::Note => "        ",
                Level::Warn => "  warn  ",
                Level::Fail => "  FAIL  ",
            };
            let code = code.map(|code| format!(" [{code}]")).unwrap_or_default();
            output::line(&format!("{mark}{what:24} {detail}{code}"));
            return;
        }
        let mut finding =
            json!({ "section": self.section, "what": what, "level": word, "detail": detail });
        if let (Some(code), Some(fields)) = (code, finding.as_object_mut()) {
            fields.insert("code".to_owned(), code.into());
        }
        self.found.push(finding);
    }

    /// A RAM policy that grants what a source needs, to be pasted.
    pub(super) fn policy(&mut self, source: &str, policy: &policy::Policy) {
        let policy = policy.json();
        if self.as_json {
            self.policies.push(json!({ "source": source, "policy": policy }));
            return;
        }
        output::line("        RAM policy with the least rights for the user or role of this key:");
        let text = serde_json::to_string_pretty(&policy).unwrap_or_default();
        text.lines().for_each(|line| output::line(&format!("        {line}")));
    }

    pub(super) fn failed(&self) -> u32 {
        self.failed
    }

    pub(super) fn warned(&self) -> u32 {
        self.warned
    }

    /// The closing words, or the whole document.
    pub(super) fn finish(&self, words: &str) {
        if !self.as_json {
            return output::line(words);
        }
        let document = json!({
            "works": self.failed == 0, "failed": self.failed, "warned": self.warned,
            "summary": words, "findings": self.found, "policies": self.policies,
        });
        output::line(&document.to_string());
    }
}

/// An error with its causes and what to do; here nothing is tried again.
pub(super) fn explain(error: &Error) -> String {
    match error {
        Error::Timeout { call, after } => format!(
            "{call}: no complete answer within {} s, see what is in the way of the network, or wait longer with --wait",
            after.as_secs()
        ),
        other => relay::chain(other),
    }
}
