//! How messages are set apart on a stream (RFC 6587, 3.4; RFC 5425, 4.3).

mod deframer;

pub use deframer::{Deframer, Expect, FrameError};

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
}

/// How a log is written as a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Format {
    /// RFC 5424 with the log's identity as structured data; the body can be decoded back
    /// into the log's fields byte for byte.
    #[default]
    Rfc5424,
    /// The field order and leading separator of the SLS SDK's syslog sample, behind a
    /// valid RFC 5424 header.
    Sample,
}

impl Framing {
    /// Appends one message with its frame to `out`.
    ///
    /// The message is not empty: octet counting cannot say a length of 0. An LF in it,
    /// which no format writes, goes out as a space under LF framing, so that one message
    /// never becomes two.
    pub fn append(&self, message: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::OctetCounting => {
                decimal::plain(message.len(), out);
                out.push(b' ');
                out.extend_from_slice(message);
            }
            Self::Lf => {
                for (number, line) in message.split(|&byte| byte == b'\n').enumerate() {
                    if number > 0 {
                        out.push(b' ');
                    }
                    out.extend_from_slice(line);
                }
                out.push(b'\n');
            }
        }
    }
}

const FRAMINGS: [&str; 2] = ["octet-counting", "lf"];
const FORMATS: [&str; 2] = ["rfc5424", "sample"];

impl FromStr for Framing {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        match text {
            "octet-counting" => Ok(Self::OctetCounting),
            "lf" => Ok(Self::Lf),
            _ => Err(UnknownName::new("framing", text, &FRAMINGS)),
        }
    }
}

impl FromStr for Format {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        match text {
            "rfc5424" => Ok(Self::Rfc5424),
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
        })
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rfc5424 => "rfc5424",
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
    }

    #[test]
    fn framings_and_formats_parse_from_what_they_print() {
        for framing in [Framing::OctetCounting, Framing::Lf] {
            assert_eq!(framing.to_string().parse(), Ok(framing));
        }
        for format in [Format::Rfc5424, Format::Sample] {
            assert_eq!(format.to_string().parse(), Ok(format));
        }
        let error = "LF".parse::<Framing>().unwrap_err().to_string();
        assert_eq!(error, "unknown framing \"LF\": use one of octet-counting, lf");
        let error = "cef".parse::<Format>().unwrap_err().to_string();
        assert_eq!(error, "unknown format \"cef\": use one of rfc5424, sample");
    }
}
