//! How messages are set apart on a stream (RFC 6587, 3.4; RFC 5425, 4.3).

mod deframer;
mod suspicion;

pub use deframer::{Deframer, Expect, FrameError};
pub use suspicion::Suspicion;

use std::fmt;
use std::str::FromStr;

use super::decimal;
use super::message::UnknownName;

/// How a stream transport marks where a message ends. Datagrams need none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Framing {
    /// `LEN SP MSG`: the length in octets, in decimal, before each message.
    #[default]
    OctetCounting,
    /// `MSG LF`: for receivers that read lines. The message must hold no LF.
    Lf,
    /// `MSG NUL`: for receivers that end a message so, such as Graylog's. The message must
    /// hold no NUL.
    Nul,
}

/// How a log is written as a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Format {
    /// RFC 5424 with the log's identity as structured data; the body can be decoded back
    /// into the log's fields byte for byte.
    #[default]
    Rfc5424,
    /// RFC 5424 with the log as one JSON object, its identity as structured data and in the
    /// object; for receivers that read JSON.
    Json,
    /// The field order and leading separator of the SLS SDK's syslog sample, behind a
    /// valid RFC 5424 header.
    Sample,
}

impl Framing {
    /// Appends one message with its frame to `out`.
    ///
    /// The message is not empty: octet counting cannot say a length of 0. The byte that ends
    /// a frame, which no format writes, goes out as a space within a message, so that one
    /// message never becomes two.
    pub fn append(&self, message: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::OctetCounting => {
                decimal::plain(message.len(), out);
                out.push(b' ');
                out.extend_from_slice(message);
            }
            Self::Lf => ended_by(b'\n', message, out),
            Self::Nul => ended_by(0, message, out),
        }
    }
}

fn ended_by(end: u8, message: &[u8], out: &mut Vec<u8>) {
    for (number, part) in message.split(|&byte| byte == end).enumerate() {
        if number > 0 {
            out.push(b' ');
        }
        out.extend_from_slice(part);
    }
    out.push(end);
}

const FRAMINGS: [&str; 3] = ["octet-counting", "lf", "nul"];
const FORMATS: [&str; 3] = ["rfc5424", "json", "sample"];

impl FromStr for Framing {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        match text {
            "octet-counting" => Ok(Self::OctetCounting),
            "lf" => Ok(Self::Lf),
            "nul" => Ok(Self::Nul),
            _ => Err(UnknownName::new("framing", text, &FRAMINGS)),
        }
    }
}

impl FromStr for Format {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        match text {
            "rfc5424" => Ok(Self::Rfc5424),
            "json" => Ok(Self::Json),
            "sample" => Ok(Self::Sample),
            _ => Err(UnknownName::new("format", text, &FORMATS)),
        }
    }
}

impl fmt::Display for Framing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OctetCounting => "octet-counting",
            Self::Lf => "lf",
            Self::Nul => "nul",
        })
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rfc5424 => "rfc5424",
            Self::Json => "json",
            Self::Sample => "sample",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_have_the_length_before_or_a_newline_behind() {
        let mut out = Vec::new();
        Framing::OctetCounting.append("<14>1 é".as_bytes(), &mut out);
        assert_eq!(out, "8 <14>1 é".as_bytes());
        out.clear();
        Framing::Lf.append(b"<14>1 a", &mut out);
        Framing::Lf.append(b"<14>1 b\n<14>1 forged\n", &mut out);
        assert_eq!(out, b"<14>1 a\n<14>1 b <14>1 forged \n");
        out.clear();
        Framing::Nul.append(b"<14>1 a\0<14>1 forged\n", &mut out);
        assert_eq!(out, b"<14>1 a <14>1 forged\n\0");
    }

    #[test]
    fn framings_and_formats_parse_from_what_they_print() {
        for framing in [Framing::OctetCounting, Framing::Lf, Framing::Nul] {
            assert_eq!(framing.to_string().parse(), Ok(framing));
        }
        for format in [Format::Rfc5424, Format::Json, Format::Sample] {
            assert_eq!(format.to_string().parse(), Ok(format));
        }
        let error = "LF".parse::<Framing>().unwrap_err().to_string();
        assert_eq!(error, "unknown framing \"LF\": use one of octet-counting, lf, nul");
        let error = "cef".parse::<Format>().unwrap_err().to_string();
        assert_eq!(error, "unknown format \"cef\": use one of rfc5424, json, sample");
    }
}
