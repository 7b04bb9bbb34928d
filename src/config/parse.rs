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
    let (root, mut errors) = DeTable::parse_recoverable(text);
    errors.sort_by_key(|error| error.span().map(|span| span.start));
    let mut reports = Vec::new();
    let mut broken_lines = Vec::new();
    for error in &errors {
        let span = error.span().unwrap_or(text.len()..text.len());
        let lines = lines_around(text, &span);
        // The first thing wrong on a line explains the others.
        if broken_lines.last().is_none_or(|last: &Range<usize>| last.end < lines.start) {
            let title = match error.message() {
                "duplicate key" => "this is written twice",
                _ => "this is not TOML",
            };
            let report = Report::problem("config.syntax", title);
            reports.push(report.at(&Place::Span(span), error.message()));
        }
        broken_lines.push(lines);
    }
    let mut walk = Walk { tables: Vec::new(), reports };
    for (key, value) in root.get_ref() {
        match TABLES.iter().find(|table| table.name == key.get_ref()) {
            Some(schema) => {
                walk.check_brackets(schema, value);
                walk.known(schema, value);
            }
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
    let masked = masked(text, root.get_ref(), &broken_lines);
    let file = File { name: name.to_owned(), masked, broken };
    Parsed { tables: walk.tables, reports: walk.reports, file, broken_lines }
}

struct Walk {
    tables: Vec<GivenTable>,
    reports: Vec<Report>,
}

type SpannedKey<'a> = Spanned<std::borrow::Cow<'a, str>>;

impl Walk {
    /// A table of the schema, under its name or one that is nearly it.
    fn known(&mut self, schema: &'static Table, value: &Spanned<DeValue<'_>>) {
        match value.get_ref() {
            DeValue::Table(table) => self.table(schema, value.span(), table),
            DeValue::Array(array) => {
                for one in array {
                    match one.get_ref().as_table() {
                        Some(table) => self.table(schema, one.span(), table),
                        None => self.not_a_table(schema, one),
                    }
                }
            }
            _ => self.not_a_table(schema, value),
        }
    }

    /// Single brackets where there are double ones, or the other way round.
    fn check_brackets(&mut self, schema: &Table, value: &Spanned<DeValue<'_>>) {
        let written: Vec<Range<usize>> = match value.get_ref() {
            DeValue::Table(_) if schema.many => vec![value.span()],
            DeValue::Array(array) if !schema.many => {
                array.iter().filter(|one| one.get_ref().is_table()).map(Spanned::span).collect()
            }
            _ => return,
        };
        if written.is_empty() {
            return;
        }
        let header = schema.header();
        let title = if schema.many {
            format!("`{}` takes double brackets, as there may be several", schema.name)
        } else {
            format!("`{}` takes single brackets, as there is only one", schema.name)
        };
        let report = Report::problem("config.wrong_type", title);
        let report = written
            .into_iter()
            .fold(report, |report, span| report.at(&Place::Span(span), format!("write {header}")));
        self.reports.push(report);
    }

    fn not_a_table(&mut self, schema: &'static Table, value: &Spanned<DeValue<'_>>) {
        let place = Place::Span(value.span());
        self.reports.push(
            Report::problem("config.wrong_type", format!("`{}` is a table", schema.name))
                .at(&place, found(value.get_ref()))
                .help(format!("write {}, and its keys on the lines below", schema.header())),
        );
        self.tables.push(GivenTable { unusable: true, ..GivenTable::new(schema, place) });
    }

    fn unknown(&mut self, key: &SpannedKey<'_>, value: &Spanned<DeValue<'_>>) {
        let name = &**key.get_ref();
        let place = Place::Span(key.span());
        let headers = TABLES.iter().map(Table::header).collect::<Vec<_>>().join(", ");
        if holds_table(value.get_ref()) {
            let report = Report::problem("config.unknown_table", format!("unknown table `{name}`"));
            let near = nearest(name, TABLES.iter().map(|table| table.name));
            let report = match TABLES.iter().find(|table| Some(table.name) == near) {
                Some(table) => {
                    self.known(table, value);
                    report.at(&place, format!("did you mean {}?", table.header()))
                }
                None => report.at(&place, "not a table of this file"),
            };
            self.reports.push(report.help(format!("the tables are {headers}")));
            return;
        }
        let title = format!("`{name}` stands outside of a table");
        let report = Report::problem("config.unknown_key", title);
        self.reports.push(match TABLES.iter().find(|table| table.key(name).is_some()) {
            Some(table) => report
                .at(&place, "above the first table")
                .help(format!("put it under {}", table.header())),
            None => report
                .at(&place, "above the first table, and no key of any")
                .help(format!("the tables are {headers}")),
        });
    }

    fn table(&mut self, schema: &'static Table, header: Range<usize>, table: &DeTable<'_>) {
        let mut given = GivenTable::new(schema, Place::Span(header));
        let mut misspelt = Vec::new();
        for (key, value) in table {
            match schema.key(key.get_ref()) {
                Some(known) => {
                    let value = Given {
                        place: Place::Span(value.span()),
                        value: self.value(schema, known, value),
                    };
                    given.values.insert(known.name, value);
                }
                None => {
                    let (report, meant) = unknown_key(schema, key);
                    self.reports.push(report);
                    misspelt.extend(meant.map(|meant| (meant, Place::Span(key.span()))));
                }
            }
        }
        // What was probably meant is not missing.
        for (meant, place) in misspelt {
            given.values.entry(meant.name).or_insert(Given { place, value: Value::Unusable });
        }
        self.tables.push(given);
    }

    fn value(&mut self, schema: &Table, key: &Key, value: &Spanned<DeValue<'_>>) -> Value {
        match taken(&key.kind, value.get_ref()) {
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
fn taken(kind: &Kind, value: &DeValue<'_>) -> Option<Value> {
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
        (Kind::Addresses | Kind::Texts, DeValue::Array(array)) => {
            let text = |one: &Spanned<DeValue<'_>>| one.get_ref().as_str().map(str::to_owned);
            array.iter().map(text).collect::<Option<_>>().map(Value::Texts)
        }
        (Kind::Flag | Kind::Number(_) | Kind::Addresses | Kind::Texts, _) => None,
        (_, DeValue::String(text)) => Some(Value::Text(text.clone().into_owned())),
        _ => None,
    }
}

fn found(value: &DeValue<'_>) -> String {
    let article = if matches!(value, DeValue::Integer(_) | DeValue::Array(_)) { "an" } else { "a" };
    format!("this is {article} {}", value.type_str())
}

fn holds_table(value: &DeValue<'_>) -> bool {
    match value {
        DeValue::Table(_) => true,
        DeValue::Array(array) => array.iter().any(|one| one.get_ref().is_table()),
        _ => false,
    }
}

/// The report, and the key that was probably meant.
fn unknown_key(schema: &Table, key: &SpannedKey<'_>) -> (Report, Option<&'static Key>) {
    let name = &**key.get_ref();
    let header = schema.header();
    let report = Report::problem("config.unknown_key", format!("unknown key `{name}` in {header}"));
    let place = Place::Span(key.span());
    if let Some(table) = TABLES.iter().find(|table| table.name == name) {
        let label = format!("this is a table of its own: write {}", table.header());
        return (report.at(&place, label).help(table.doc), None);
    }
    for table in &TABLES {
        if let Some(key) = table.key(name) {
            let label = format!("this belongs into {}", table.header());
            return (report.at(&place, label).help(format!("`{name}`: {}", key.doc)), None);
        }
    }
    let near = nearest(name, schema.keys.iter().map(|key| key.name));
    if let Some(meant) = near.and_then(|near| schema.key(near)) {
        let label = format!("did you mean `{}`?", meant.name);
        let help = format!("`{}`: {}", meant.name, meant.doc);
        return (report.at(&place, label).help(help), Some(meant));
    }
    let keys: Vec<_> = schema.keys.iter().map(|key| key.name).collect();
    let help = format!("{header} takes {}", keys.join(", "));
    (report.at(&place, "not a key of this table").help(help), None)
}

/// The whole lines that a span touches.
fn lines_around(text: &str, span: &Range<usize>) -> Range<usize> {
    let start = text[..span.start].rfind('\n').map_or(0, |newline| newline + 1);
    let end = text[span.end..].find('\n').map_or(text.len(), |newline| span.end + newline);
    start..end
}
