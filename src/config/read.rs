//! Takes values out of one table, with the schema's defaults, and reports what is wrong.

use std::fmt::Display;
use std::time::Duration;

use super::given::{Given, GivenTable, Value};
use super::report::{Place, Report};
use super::schema::{Fallback, Key, Kind};
use super::value::{outside, show_size, show_span, size, span};

/// A value, unless what is wrong with it was reported.
pub(super) type Read<T> = Result<T, Reported>;

/// A problem was reported; there is nothing more to say.
#[derive(Debug)]
pub(super) struct Reported;

/// Reads one table.
pub(super) struct Reader<'a> {
    pub(super) table: &'a GivenTable,
    pub(super) reports: &'a mut Vec<Report>,
    missing: Vec<&'static Key>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(table: &'a GivenTable, reports: &'a mut Vec<Report>) -> Self {
        Self { table, reports, missing: Vec::new() }
    }

    /// A string that `parse` understands, written or default; none when it was left out.
    pub(super) fn optional<T, E: Display>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Read<Option<T>> {
        let key = self.key(name);
        let text = match (self.table.values.get(name).map(|given| &given.value), &key.default) {
            (Some(Value::Text(text)), _) if text.is_empty() => {
                return Err(self.empty(key));
            }
            (Some(Value::Text(text)), _) => text.as_str(),
            (Some(_), _) => return Err(Reported),
            (None, Fallback::Text(text)) => text,
            (None, _) => return Ok(None),
        };
        parse(text).map(Some).map_err(|error| self.invalid(key, error.to_string()))
    }

    /// A string that `parse` understands, written or default; must be there.
    pub(super) fn text<T, E: Display>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Read<T> {
        match self.optional(name, parse)? {
            Some(value) => Ok(value),
            None => Err(self.missing(name)),
        }
    }

    /// Notes that a key must be written and was not.
    pub(super) fn missing(&mut self, name: &'static str) -> Reported {
        self.missing.push(self.key(name));
        Reported
    }

    /// A number of bytes.
    pub(super) fn size(&mut self, name: &'static str) -> Read<u64> {
        let key = self.key(name);
        let bytes = match self.scalar(key)? {
            Scalar::Text(text) => size(text),
            Scalar::Number(number) => {
                u64::try_from(number).map_err(|_| "a size is not negative".to_owned())
            }
        };
        let checked = bytes.and_then(|bytes| match &key.kind {
            Kind::Size(limits) => outside(bytes, limits, show_size),
            _ => Ok(bytes),
        });
        checked.map_err(|error| self.invalid(key, error))
    }

    /// A time span.
    pub(super) fn span(&mut self, name: &'static str) -> Read<Duration> {
        let key = self.key(name);
        let time = match self.scalar(key)? {
            Scalar::Text(text) => span(text),
            Scalar::Number(number) => span(&number.to_string()),
        };
        let checked = time.and_then(|time| match &key.kind {
            Kind::Span(limits) => outside(time, limits, show_span),
            _ => Ok(time),
        });
        checked.map_err(|error| self.invalid(key, error))
    }

    /// A whole number.
    pub(super) fn number(&mut self, name: &'static str) -> Read<u32> {
        let key = self.key(name);
        let number = match self.scalar(key)? {
            Scalar::Text(text) => text.parse().map_err(|_| format!("{text:?} is no number")),
            Scalar::Number(number) => Ok(number),
        };
        let checked = number.and_then(|number: i128| match &key.kind {
            Kind::Number(limits) => {
                let limits = i128::from(*limits.start())..=i128::from(*limits.end());
                outside(number, &limits, |limit| limit.to_string())
            }
            _ => Ok(number),
        });
        let number = checked.and_then(|number| u32::try_from(number).map_err(|e| e.to_string()));
        number.map_err(|error| self.invalid(key, error))
    }

    /// A number of bytes, where one is written.
    pub(super) fn optional_size(&mut self, name: &'static str) -> Read<Option<u64>> {
        if self.table.has(name) { self.size(name).map(Some) } else { Ok(None) }
    }

    /// A whole number, where one is written.
    pub(super) fn optional_number(&mut self, name: &'static str) -> Read<Option<u32>> {
        if self.table.has(name) { self.number(name).map(Some) } else { Ok(None) }
    }

    /// A list of strings that `parse` understands, each; none where nothing is written.
    pub(super) fn list<T, E: Display>(
        &mut self,
        name: &'static str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Read<Vec<T>> {
        let key = self.key(name);
        match self.table.values.get(name).map(|given| &given.value) {
            None => Ok(Vec::new()),
            Some(Value::Texts(texts)) => {
                let parsed = texts.iter().map(|text| parse(text)).collect::<Result<_, _>>();
                parsed.map_err(|error| self.invalid(key, error.to_string()))
            }
            Some(_) => Err(Reported),
        }
    }

    /// `true` or `false`.
    pub(super) fn flag(&mut self, name: &'static str) -> Read<bool> {
        let key = self.key(name);
        match self.table.values.get(name).map(|given| &given.value) {
            Some(Value::Flag(flag)) => Ok(*flag),
            Some(_) => Err(Reported),
            None => Ok(matches!(key.default, Fallback::Text("true"))),
        }
    }

    /// Reports a value as it stands at its key.
    pub(super) fn report(
        &mut self,
        code: &'static str,
        name: &'static str,
        label: &str,
    ) -> Reported {
        let key = self.key(name);
        let shown = self.table.shown(name);
        let title = match code {
            "config.empty" => format!("`{shown}` is empty"),
            "config.not_available" => {
                format!("what `{shown}` asks for is not available in this version")
            }
            _ => format!("invalid value for `{shown}`"),
        };
        let mut help = key.doc.to_owned();
        if let Some(example) = key.example() {
            help.push_str(&format!(" Default: {example}"));
        }
        let report = Report::problem(code, title).at(&self.table.place_of(name), label).help(help);
        self.reports.push(report);
        Reported
    }

    /// Reports what is missing, all of it in one.
    pub(super) fn finish(self) {
        if self.missing.is_empty() || self.table.unusable {
            return;
        }
        let shown = |key: &Key| format!("`{}`", self.table.shown(key.name));
        let names: Vec<_> = self.missing.iter().map(|key| shown(key)).collect();
        let verb = if names.len() == 1 { "is" } else { "are" };
        let names = names.join(", ");
        let mut report = match &self.table.place {
            Place::Span(_) => Report::problem(
                "config.missing_key",
                format!("{names} {verb} missing in {}", self.table.schema.header()),
            )
            .at(&self.table.place, "in this table"),
            Place::Named(_) | Place::Nowhere => {
                Report::problem("config.missing_key", format!("{names} {verb} missing"))
            }
        };
        for key in &self.missing {
            report = report.help(format!("{}: {}", shown(key), key.doc));
        }
        self.reports.push(report);
    }

    #[expect(clippy::expect_used, reason = "a name in this program, met by every test that loads")]
    fn key(&self, name: &'static str) -> &'static Key {
        self.table.schema.key(name).expect("the schema has every key that is read")
    }

    fn scalar(&mut self, key: &'static Key) -> Read<Scalar<'a>> {
        let table = self.table;
        match (table.values.get(key.name), &key.default) {
            (Some(Given { value: Value::Text(text), .. }), _) if text.is_empty() => {
                Err(self.empty(key))
            }
            (Some(Given { value: Value::Text(text), .. }), _) => Ok(Scalar::Text(text)),
            (Some(Given { value: Value::Number(number), .. }), _) => Ok(Scalar::Number(*number)),
            (Some(_), _) => Err(Reported),
            (None, Fallback::Text(text)) => Ok(Scalar::Text(text)),
            (None, _) => Err(self.missing(key.name)),
        }
    }

    fn empty(&mut self, key: &'static Key) -> Reported {
        self.report("config.empty", key.name, "nothing is written here")
    }

    fn invalid(&mut self, key: &'static Key, label: String) -> Reported {
        self.report("config.invalid_value", key.name, &label)
    }
}

enum Scalar<'a> {
    Text(&'a str),
    Number(i128),
}
