//! From the text of the file to tables of values, checked against the schema for names
//! and types.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::given::{Given, GivenTable, Value};
use super::mask::masked;
use super::nearest::nearest;
use super::report::{File, Place, Report};
use super::schema::{Key, Kind, TABLES, Table};

/// What a file says.
pub(super) struct Parsed {
    /// In the order of the schema, those of one kind in the order of the file.
    pub(super) tables: Vec<GivenTable>,
    pub(super) reports: Vec<Report>,
    pub(super) file: File,
    /// The lines on which the syntax is wrong, as bytes of the file.
    pub(super) broken_lines: Vec<Range<usize>>,
}

/// Reads TOML. Names, types and syntax that are wrong become reports; what can be used
/// goes into the tables.
pub(super) fn parse(text: &str, name: &str) -> Parsed {
    let (root, errors) = DeTable::parse_recoverable(text);
    let mut reports = Vec::new();
    let mut broken_lines = Vec::new();
    for error in &errors {
        let span = error.span().unwrap_or(text.len()..text.len());
        broken_lines.push(lines_around(text, &span));
        reports.push(
            Report::problem("config.syntax", "this is not TOML")
                .at(&Place::Span(span), error.message()),
        );
    }
    let mut walk = Walk { tables: Vec::new(), reports };
    for (key, value) in root.get_ref() {
        match TABLES.iter().find(|table| table.name == key.get_ref()) {
            Some(schema) => walk.known(schema, key, value),
            None => walk.unknown(key, value),
        }
    }
    let order = |table: &GivenTable| {
        let position = TABLES.iter().position(|schema| schema.name == table.schema.name);
        let start = match &table.place {
            Place::Span(span) => span.start,
            Place::Named(_) | Place::Nowhere => 0,
        };
        (position, start)
    };
    walk.tables.sort_by_key(order);
    let broken = !errors.is_empty();
    let masked = masked(text, root.get_ref(), broken);
    let file = File { name: name.to_owned(), masked, broken };
    Parsed { tables: walk.tables, reports: walk.reports, file, broken_lines }
}

struct Walk {
    tables: Vec<GivenTable>,
    reports: Vec<Report>,
}

type SpannedKey<'a> = Spanned<std::borrow::Cow<'a, str>>;

impl Walk {
    fn known(
        &mut self,
        schema: &'static Table,
        key: &SpannedKey<'_>,
        value: &Spanned<DeValue<'_>>,
    ) {
        let header = schema.header();
        let wrong = |place: Range<usize>, label: String| {
            Report::problem("config.wrong_type", format!("`{}` is a table", schema.name))
                .at(&Place::Span(place), label)
                .help(format!("write {header}, and its keys on the lines below"))
        };
        match value.get_ref() {
            DeValue::Table(table) => {
                if schema.many {
                    self.reports.push(
                        Report::problem(
                            "config.wrong_type",
                            format!("`{}` may come several times", schema.name),
                        )
                        .at(&Place::Span(value.span()), format!("write {header}")),
                    );
                }
                self.table(schema, value.span(), table);
            }
            DeValue::Array(array) => {
                let tables =
                    || array.iter().filter_map(|one| Some((one.span(), one.get_ref().as_table()?)));
                if !schema.many && tables().next().is_some() {
                    let mut report = Report::problem(
                        "config.wrong_type",
                        format!("there is only one `{}`", schema.name),
                    );
                    for (span, _) in tables() {
                        report = report.at(&Place::Span(span), format!("write {header}, once"));
                    }
                    self.reports.push(report);
                }
                for one in array {
                    match one.get_ref().as_table() {
                        Some(table) => self.table(schema, one.span(), table),
                        None => self.reports.push(wrong(one.span(), found(one.get_ref()))),
                    }
                }
            }
            other => self.reports.push(wrong(key.span(), found(other))),
        }
    }

    fn unknown(&mut self, key: &SpannedKey<'_>, value: &Spanned<DeValue<'_>>) {
        let name = &**key.get_ref();
        let place = Place::Span(key.span());
        let is_table = match value.get_ref() {
            DeValue::Table(_) => true,
            DeValue::Array(array) => array.iter().any(|one| one.get_ref().is_table()),
            _ => false,
        };
        let headers = || TABLES.iter().map(Table::header).collect::<Vec<_>>().join(", ");
        let report = if is_table {
            let report = Report::problem("config.unknown_table", format!("unknown table `{name}`"));
            match nearest(name, TABLES.iter().map(|table| table.name)) {
                Some(near) => report.at(&place, format!("did you mean `{near}`?")),
                None => report.at(&place, "not a table of this file"),
            }
            .help(format!("the tables are {}", headers()))
        } else {
            let title = format!("`{name}` stands outside of a table");
            let report = Report::problem("config.unknown_key", title);
            match TABLES.iter().find(|table| table.key(name).is_some()) {
                Some(table) => report
                    .at(&place, "above the first table")
                    .help(format!("put it under {}", table.header())),
                None => report
                    .at(&place, "above the first table, and no key of any")
                    .help(format!("keys stand under one of {}", headers())),
            }
        };
        self.reports.push(report);
    }

    fn table(&mut self, schema: &'static Table, header: Range<usize>, table: &DeTable<'_>) {
        let mut given = GivenTable::new(schema, Place::Span(header));
        for (key, value) in table {
            match schema.key(key.get_ref()) {
                Some(known) => {
                    let value = Given {
                        place: Place::Span(value.span()),
                        value: self.value(schema, known, value),
                    };
                    given.values.insert(known.name, value);
                }
                None => self.reports.push(unknown_key(schema, key)),
            }
        }
        self.tables.push(given);
    }

    fn value(&mut self, schema: &Table, key: &Key, value: &Spanned<DeValue<'_>>) -> Value {
        match scalar(&key.kind, value.get_ref()) {
            Some(value) => value,
            None => {
                let mut report = Report::problem(
                    "config.wrong_type",
                    format!("`{}` in {} takes {}", key.name, schema.header(), key.kind.expected()),
                )
                .at(&Place::Span(value.span()), found(value.get_ref()))
                .help(key.doc);
                if let Some(example) = key.example() {
                    report = report.help(format!("for instance: {} = {example}", key.name));
                }
                self.reports.push(report);
                Value::Unusable
            }
        }
    }
}

/// The value if it is of the kind.
fn scalar(kind: &Kind, value: &DeValue<'_>) -> Option<Value> {
    let number = |digits: &toml::de::DeInteger<'_>| {
        i128::from_str_radix(digits.as_str(), digits.radix()).ok()
    };
    match (kind, value) {
        (Kind::Flag, DeValue::Boolean(flag)) => Some(Value::Flag(*flag)),
        (Kind::Number(_) | Kind::Size(_), DeValue::Integer(digits)) => {
            number(digits).map(Value::Number)
        }
        (Kind::TextOrNumber, DeValue::Integer(digits)) => {
            number(digits).map(|number| Value::Text(number.to_string()))
        }
        (Kind::TextOrTime, DeValue::Datetime(time)) => Some(Value::Text(time.to_string())),
        (Kind::Flag | Kind::Number(_), _) => None,
        (_, DeValue::String(text)) => Some(Value::Text(text.clone().into_owned())),
        _ => None,
    }
}

fn found(value: &DeValue<'_>) -> String {
    let article = if matches!(value, DeValue::Integer(_) | DeValue::Array(_)) { "an" } else { "a" };
    format!("this is {article} {}", value.type_str())
}

fn unknown_key(schema: &Table, key: &SpannedKey<'_>) -> Report {
    let name = &**key.get_ref();
    let header = schema.header();
    let report = Report::problem("config.unknown_key", format!("unknown key `{name}` in {header}"));
    let place = Place::Span(key.span());
    if let Some(near) = nearest(name, schema.keys.iter().map(|key| key.name)) {
        return report.at(&place, format!("did you mean `{near}`?")).help(
            schema.key(near).map_or_else(String::new, |key| format!("`{near}`: {}", key.doc)),
        );
    }
    let elsewhere = TABLES.iter().find(|table| table.key(name).is_some());
    let report = match elsewhere {
        Some(table) => report.at(&place, format!("this belongs into {}", table.header())),
        None => report.at(&place, "not a key of this table"),
    };
    let keys: Vec<_> = schema.keys.iter().map(|key| key.name).collect();
    report.help(format!("{header} takes {}", keys.join(", ")))
}

/// The whole lines that a span touches.
fn lines_around(text: &str, span: &Range<usize>) -> Range<usize> {
    let start = text[..span.start].rfind('\n').map_or(0, |newline| newline + 1);
    let end = text[span.end..].find('\n').map_or(text.len(), |newline| span.end + newline);
    start..end
}
