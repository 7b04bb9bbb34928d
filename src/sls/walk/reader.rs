//! The protobuf wire format, as far as reading it in place goes.

use super::DecodeError;

/// Groups inside groups (wire types 3 and 4) deeper than this are refused.
const DEEPEST_GROUP: u32 = 100;

/// Reads one field after the other of one message: what is left of it.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

/// One field of a message.
#[derive(Clone, Copy)]
pub(super) struct Field<'a> {
    pub(super) number: u32,
    value: Value<'a>,
    /// What follows the field, for naming its place.
    rest: &'a [u8],
}

#[derive(Clone, Copy)]
enum Value<'a> {
    Varint(u64),
    Fixed32(u32),
    Delimited(&'a [u8]),
    /// Fixed64 and groups: no field of ours has them.
    Skipped,
}

/// What is wrong, and where. Kept small, because every read could return one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fault {
    /// The address of the first byte not understood.
    place: usize,
    problem: Problem,
}

#[derive(Clone, Copy, Debug)]
enum Problem {
    Wire(&'static str),
    Missing(&'static str),
}

impl Fault {
    /// The required field is not in the message that `rest` ends.
    #[cold]
    pub(super) fn missing(message: &[u8], field: &'static str) -> Self {
        Self { place: message.as_ptr_range().end.addr(), problem: Problem::Missing(field) }
    }

    #[cold]
    fn new(rest: &[u8], problem: &'static str) -> Self {
        Self { place: rest.as_ptr().addr(), problem: Problem::Wire(problem) }
    }

    /// As an error that names the position in the whole body.
    pub(super) fn within(self, body: &[u8]) -> DecodeError {
        let at = self.place.saturating_sub(body.as_ptr().addr());
        match self.problem {
            Problem::Wire(problem) => DecodeError::Protobuf { at, problem },
            Problem::Missing(field) => DecodeError::Missing { at, field },
        }
    }
}

/// Shows how much there is, never what: these are other people's logs.
impl std::fmt::Debug for Reader<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{} bytes", self.rest.len())
    }
}

impl<'a> Reader<'a> {
    #[inline]
    pub(super) fn new(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    /// The messages in the fields of this number. For what has been checked already: it
    /// ends where it cannot go on.
    #[inline]
    pub(super) fn messages(mut self, number: u32) -> impl Iterator<Item = &'a [u8]> {
        std::iter::from_fn(move || {
            loop {
                let field = self.next_field().ok()??;
                if field.number == number {
                    return field.bytes().ok();
                }
            }
        })
    }

    /// The next field, or none at the end of the message.
    #[inline]
    pub(super) fn next_field(&mut self) -> Result<Option<Field<'a>>, Fault> {
        // Nearly all fields: a number below 16, delimited, shorter than 128 bytes, or than 16 KiB.
        let short = match self.rest {
            [tag @ 8..0x80, length @ ..0x80, rest @ ..] => Some((tag, usize::from(*length), rest)),
            [tag @ 8..0x80, low, high @ ..0x80, rest @ ..] => {
                Some((tag, usize::from(low & 0x7F) | usize::from(*high) << 7, rest))
            }
            _ => None,
        };
        if let Some((tag, length, rest)) = short
            && tag & 7 == 2
            && let Some((bytes, rest)) = rest.split_at_checked(length)
        {
            self.rest = rest;
            let number = u32::from(tag >> 3);
            return Ok(Some(Field { number, value: Value::Delimited(bytes), rest }));
        }
        if self.rest.is_empty() { Ok(None) } else { self.any_field().map(Some) }
    }

    fn any_field(&mut self) -> Result<Field<'a>, Fault> {
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
        Ok(Field { number, value, rest: self.rest })
    }

    /// Field number and wire type.
    fn tag(&mut self) -> Result<(u32, u32), Fault> {
        let before = self.rest;
        let tag = u32::try_from(self.varint()?)
            .map_err(|_| Fault::new(before, "a field number is too large"))?;
        if tag >> 3 == 0 {
            return Err(Fault::new(before, "a field has the number 0"));
        }
        Ok((tag >> 3, tag & 7))
    }

    fn varint(&mut self) -> Result<u64, Fault> {
        let mut value = 0;
        for (position, &byte) in self.rest.iter().take(10).enumerate() {
            if position == 9 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7F) << (7 * position);
            if byte < 0x80 {
                self.rest = &self.rest[position + 1..];
                return Ok(value);
            }
        }
        let cut = self.rest.len() < 10;
        Err(self.fault(if cut { "a number is cut off" } else { "a number is too long" }))
    }

    fn delimited(&mut self) -> Result<&'a [u8], Fault> {
        let length = self.varint()?;
        let split = usize::try_from(length).ok().and_then(|at| self.rest.split_at_checked(at));
        let (bytes, rest) = split.ok_or_else(|| self.fault("a length goes beyond its message"))?;
        self.rest = rest;
        Ok(bytes)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let Some((bytes, rest)) = self.rest.split_first_chunk::<N>() else {
            return Err(self.fault("a number is cut off"));
        };
        self.rest = rest;
        Ok(*bytes)
    }

    fn skip(&mut self, number: u32, wire_type: u32, depth: u32) -> Result<(), Fault> {
        match wire_type {
            0 => self.varint().map(drop),
            1 => self.take::<8>().map(drop),
            2 => self.delimited().map(drop),
            3 if depth < DEEPEST_GROUP => loop {
                let (inner, wire_type) = self.tag()?;
                match wire_type {
                    4 if inner == number => break Ok(()),
                    4 => break Err(self.fault("a group ends that did not begin")),
                    _ => self.skip(inner, wire_type, depth + 1)?,
                }
            },
            3 => Err(self.fault("groups are nested too deep")),
            4 => Err(self.fault("a group ends that did not begin")),
            5 => self.take::<4>().map(drop),
            _ => Err(self.fault("a field has an unknown wire type")),
        }
    }

    #[cold]
    fn fault(&self, problem: &'static str) -> Fault {
        Fault::new(self.rest, problem)
    }
}

impl<'a> Field<'a> {
    /// The content of a string or of a message.
    #[inline]
    pub(super) fn bytes(&self) -> Result<&'a [u8], Fault> {
        match self.value {
            Value::Delimited(bytes) => Ok(bytes),
            _ => Err(self.wrong_type()),
        }
    }

    /// As protobuf has it, a value above 32 bits loses the upper ones.
    #[inline]
    pub(super) fn uint32(&self) -> Result<u32, Fault> {
        match self.value {
            Value::Varint(value) => Ok((value & u64::from(u32::MAX)) as u32),
            _ => Err(self.wrong_type()),
        }
    }

    #[inline]
    pub(super) fn fixed32(&self) -> Result<u32, Fault> {
        match self.value {
            Value::Fixed32(value) => Ok(value),
            _ => Err(self.wrong_type()),
        }
    }

    #[cold]
    fn wrong_type(&self) -> Fault {
        Fault::new(self.rest, "the known field in front of it has another wire type")
    }
}
