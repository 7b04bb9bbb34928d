//! What was written, before anyone knows what it means.

use std::collections::BTreeMap;

use super::report::Place;
use super::schema::Table;

/// One table as it was written, or put together from flags and variables.
pub(super) struct GivenTable {
    pub(super) schema: &'static Table,
    /// Its header.
    pub(super) place: Place,
    /// Values by the name of their key.
    pub(super) values: BTreeMap<&'static str, Given>,
    /// Whether something else than a table stands in its place; that was reported.
    pub(super) unusable: bool,
    /// Names to show in place of keys: variables and flags.
    pub(super) aliases: &'static [(&'static str, &'static str)],
}

/// A value that was written.
pub(super) struct Given {
    pub(super) place: Place,
    pub(super) value: Value,
}

/// What was written, of the kind its key takes.
pub(super) enum Value {
    Text(String),
    Texts(Vec<String>),
    Number(i128),
    Flag(bool),
    /// Something that was reported already.
    Unusable,
}

impl GivenTable {
    pub(super) fn new(schema: &'static Table, place: Place) -> Self {
        Self { schema, place, values: BTreeMap::new(), unusable: false, aliases: &[] }
    }

    /// Whether this was put together from variables and flags.
    pub(super) fn is_environment(&self) -> bool {
        !self.aliases.is_empty()
    }

    /// What the operator knows a key as.
    pub(super) fn shown(&self, key: &'static str) -> &'static str {
        self.aliases.iter().find(|(name, _)| *name == key).map_or(key, |(_, alias)| alias)
    }

    /// Where a key was written, or nowhere.
    pub(super) fn place_of(&self, key: &str) -> Place {
        self.values.get(key).map_or(Place::Nowhere, |given| given.place.clone())
    }

    /// The string that was written for a key.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        match &self.values.get(key)?.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Whether a key was written.
    pub(super) fn has(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }
}
