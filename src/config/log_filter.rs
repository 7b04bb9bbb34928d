//! Which logs a destination gets, and how grave each is.

use crate::syslog::Severity;

/// Which logs a destination gets; all of it must hold. [`Self::default`] takes every log.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct LogFilter {
    /// What must hold of the fields.
    pub tests: Vec<LogTest>,
    /// How the severity follows from a field; without it all logs have the destination's.
    pub severity: Option<SeverityField>,
    /// Logs less grave than this are left out.
    pub at_least: Option<Severity>,
}

/// One test of a log's fields: tags count under `__tag__:NAME`, the topic as `__topic__`, the
/// source as `__source__`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LogTest {
    /// Whether it must fail.
    pub negated: bool,
    /// Name of the field, not empty.
    pub name: Vec<u8>,
    /// What must hold of its value.
    pub of: Value,
}

/// What must hold of a value; of several with the same name one is enough.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Value {
    /// It is there.
    Exists,
    /// It is this.
    Is(Vec<u8>),
    /// It holds this, in this case.
    Contains(Vec<u8>),
}

/// A field that says how grave a log is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SeverityField {
    /// Its name.
    pub name: Vec<u8>,
    /// What its values mean; any other value means the destination's severity.
    pub map: Vec<(Vec<u8>, Severity)>,
}

impl LogTest {
    /// Reads `NAME=VALUE`, `NAME~TEXT` or `NAME`, each with `!` before it for the contrary, as
    /// `spool … --where` does. The first of the two signs counts.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (negated, test) = match text.strip_prefix('!') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let sign = test.find(['=', '~']);
        let (name, rest) = test.split_at(sign.unwrap_or(test.len()));
        if name.is_empty() {
            return Err(format!(
                "{text:?} has no name of a field: write NAME=VALUE, NAME~TEXT or NAME, or ! before one"
            ));
        }
        let value = || rest.as_bytes()[1..].to_vec();
        let of = match rest.as_bytes().first() {
            None => Value::Exists,
            Some(b'=') => Value::Is(value()),
            Some(_) if rest.len() == 1 => {
                return Err(format!("{text:?} holds for every value: write a text after the ~"));
            }
            Some(_) => Value::Contains(value()),
        };
        Ok(Self { negated, name: name.as_bytes().to_vec(), of })
    }
}

/// Reads `VALUE=SEVERITY`; the last sign counts.
pub(super) fn meaning(text: &str) -> Result<(Vec<u8>, Severity), String> {
    let Some((value, severity)) = text.rsplit_once('=') else {
        return Err(format!("{text:?} has no severity: write one like \"block=warning\""));
    };
    let severity =
        severity.parse().map_err(|error: crate::syslog::message::UnknownName| error.to_string())?;
    Ok((value.as_bytes().to_vec(), severity))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_read_as_on_the_command_line_and_may_be_negated() {
        let is = |text: &str| Value::Is(text.as_bytes().to_vec());
        let contains = |text: &str| Value::Contains(text.as_bytes().to_vec());
        for (text, negated, name, of) in [
            ("status=403", false, "status", is("403")),
            ("status=", false, "status", is("")),
            ("!host=a=b~c", true, "host", is("a=b~c")),
            ("host~a=b", false, "host", contains("a=b")),
            ("!host~!", true, "host", contains("!")),
            ("__tag__:x", false, "__tag__:x", Value::Exists),
            ("!x", true, "x", Value::Exists),
        ] {
            let name = name.as_bytes().to_vec();
            assert_eq!(LogTest::parse(text), Ok(LogTest { negated, name, of }), "{text}");
        }
        for text in ["", "!", "=a", "!=a", "~a", "name~"] {
            assert!(LogTest::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_value_means_a_severity() {
        assert_eq!(meaning("a=b=warn"), Ok((b"a=b".to_vec(), "4".parse().unwrap())));
        assert_eq!(meaning("=err"), Ok((Vec::new(), Severity::ERR)));
        assert!(meaning("block").unwrap_err().contains("block=warning"));
        assert!(meaning("block=bad").unwrap_err().contains("warning"));
    }
}
