//! The protobuf wire format, as far as reading it in place goes.

use super::DecodeError;

/// Groups inside groups (wire types 3 and 4) deeper than this are refused.
const DEEPEST_GROUP: u32 = 100;

/// Reads one field after the other of one message. It keeps to a part of the whole
/// body, so that errors name their position there.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    body: &'a [u8],
    /// The first byte not read yet; at most `end`.
    at: usize,
    /// Where the message ends; at most `body.len()`.
    end: usize,
}

/// One field of a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field<'a> {
    pub(super) number: u32,
    /// Where the field starts in the body.
    at: usize,
    value: Value<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Value<'a> {
    Varint(u64),
    Fixed32(u32),
    Delimited(Reader<'a>),
    /// Fixed64 and groups: no field of ours has them.
    Skipped,
}

impl<'a> Reader<'a> {
    pub(super) fn new(body: &'a [u8]) -> Self {
        Self { body, at: 0, end: body.len() }
    }

    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// The messages in the fields of this number. For what has been checked already: it
    /// ends where it cannot go on.
    pub(super) fn messages(self, number: u32) -> impl Iterator<Item = Reader<'a>> {
        let mut rest = self;
        std::iter::from_fn(move || {
            loop {
                let field = rest.next_field().ok()??;
                if field.number == number {
                    return field.message().ok();
                }
            }
        })
    }

    /// The next field, or none at the end of the message.
    #[inline]
    pub(super) fn next_field(&mut self) -> Result<Option<Field<'a>>, DecodeError> {
        if self.at == self.end {
            return Ok(None);
        }
        let at = self.at;
        let (number, wire_type) = self.tag()?;
        let value = match wire_type {
            0 => Value::Varint(self.varint()?),
            2 => Value::Delimited(self.delimited()?),
            5 => Value::Fixed32(u32::from_le_bytes(self.take()?)),
            _ => {
                self.skip(number, wire_type, 0)?;
                Value::Skipped
            }
        };
        Ok(Some(Field { number, at, value }))
    }

    /// Field number and wire type.
    #[inline]
    fn tag(&mut self) -> Result<(u32, u32), DecodeError> {
        let at = self.at;
        let tag = u32::try_from(self.varint()?)
            .map_err(|_| DecodeError::Protobuf { at, problem: "a field number is too large" })?;
        if tag >> 3 == 0 {
            return Err(DecodeError::Protobuf { at, problem: "a field has the number 0" });
        }
        Ok((tag >> 3, tag & 7))
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, DecodeError> {
        match self.rest().first() {
            Some(&byte) if byte < 0x80 => {
                self.at += 1;
                Ok(u64::from(byte))
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0;
        for (position, &byte) in self.rest().iter().take(10).enumerate() {
            if position == 9 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7F) << (7 * position);
            if byte < 0x80 {
                self.at += position + 1;
                return Ok(value);
            }
        }
        let problem =
            if self.end - self.at < 10 { "a number is cut off" } else { "a number is too long" };
        Err(self.error(problem))
    }

    #[inline]
    fn delimited(&mut self) -> Result<Reader<'a>, DecodeError> {
        let length = self.varint()?;
        let at = self.at;
        match usize::try_from(length) {
            Ok(length) if length <= self.end - at => {
                self.at += length;
                Ok(Reader { body: self.body, at, end: at + length })
            }
            _ => Err(self.error("a length goes beyond its message")),
        }
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let Some(bytes) = self.rest().first_chunk::<N>() else {
            return Err(self.error("a number is cut off"));
        };
        self.at += N;
        Ok(*bytes)
    }

    fn skip(&mut self, number: u32, wire_type: u32, depth: u32) -> Result<(), DecodeError> {
        match wire_type {
            0 => self.varint().map(drop),
            1 => self.take::<8>().map(drop),
            2 => self.delimited().map(drop),
            3 if depth < DEEPEST_GROUP => loop {
                let (inner, wire_type) = self.tag()?;
                match wire_type {
                    4 if inner == number => break Ok(()),
                    4 => break Err(self.error("a group ends that did not begin")),
                    _ => self.skip(inner, wire_type, depth + 1)?,
                }
            },
            3 => Err(self.error("groups are nested too deep")),
            4 => Err(self.error("a group ends that did not begin")),
            5 => self.take::<4>().map(drop),
            _ => Err(self.error("a field has an unknown wire type")),
        }
    }

    #[inline]
    fn rest(&self) -> &'a [u8] {
        &self.body[self.at..self.end]
    }

    #[cold]
    fn error(&self, problem: &'static str) -> DecodeError {
        DecodeError::Protobuf { at: self.at, problem }
    }
}

impl std::fmt::Debug for Reader<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "bytes {}..{}", self.at, self.end)
    }
}

impl<'a> Field<'a> {
    #[inline]
    pub(super) fn message(&self) -> Result<Reader<'a>, DecodeError> {
        match self.value {
            Value::Delimited(message) => Ok(message),
            _ => Err(self.wrong_type()),
        }
    }

    #[inline]
    pub(super) fn bytes(&self) -> Result<&'a [u8], DecodeError> {
        self.message().map(|message| message.rest())
    }

    /// As protobuf has it, a value above 32 bits loses the upper ones.
    pub(super) fn uint32(&self) -> Result<u32, DecodeError> {
        match self.value {
            Value::Varint(value) => Ok((value & u64::from(u32::MAX)) as u32),
            _ => Err(self.wrong_type()),
        }
    }

    pub(super) fn fixed32(&self) -> Result<u32, DecodeError> {
        match self.value {
            Value::Fixed32(value) => Ok(value),
            _ => Err(self.wrong_type()),
        }
    }

    #[cold]
    fn wrong_type(&self) -> DecodeError {
        DecodeError::Protobuf { at: self.at, problem: "a known field has another wire type" }
    }
}
