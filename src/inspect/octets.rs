//! Bytes of logs in JSON, none of them lost.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value, json};

/// Bytes that travel as a string where they are UTF-8, else as `{"bytes": BASE64}`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Octets(pub Vec<u8>);

impl Octets {
    /// The form in which `bytes` travel.
    pub fn to_json(bytes: &[u8]) -> Value {
        match std::str::from_utf8(bytes) {
            Ok(text) => Value::String(text.to_owned()),
            Err(_) => Self::raw(bytes),
        }
    }

    /// The form of bytes that are no text.
    pub fn raw(bytes: &[u8]) -> Value {
        json!({ "bytes": BASE64_STANDARD.encode(bytes) })
    }

    /// The bytes that [`Self::to_json`] or [`Self::raw`] wrote; none for any other value.
    pub fn from_json(value: &Value) -> Option<Self> {
        match value {
            Value::String(text) => Some(Self(text.clone().into_bytes())),
            Value::Object(fields) if fields.len() == 1 => {
                BASE64_STANDARD.decode(fields.get("bytes")?.as_str()?).ok().map(Self)
            }
            _ => None,
        }
    }
}

impl Serialize for Octets {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::to_json(&self.0).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Octets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        Self::from_json(&value)
            .ok_or_else(|| D::Error::custom("a string is needed, or {\"bytes\": BASE64}"))
    }
}
