//! Making a message fit that is longer than its receiver takes.

use super::body;
use super::framing::Format;
use super::rfc5424::{Formatter, LogLine, Outcome};
use super::shrink;
use super::sink::Sink;
use super::size::{MAX_PARTS, Oversize};
use super::{decimal, json, sample};

/// Octets of text that a part has at least; with less, splitting is no use.
const LEAST_PART: usize = 64;
/// How often shortening makes room for its own mark.
const ROUNDS: usize = 4;

impl Formatter {
    /// Brings a message of `length` octets within the limit. It stands in `out` at the places
    /// `at` (its start, its structured data, its text), cut off at the limit.
    pub(super) fn fit(
        &mut self,
        log: &LogLine<'_>,
        length: usize,
        at: [usize; 3],
        out: &mut Vec<u8>,
    ) -> Outcome {
        let [start, _, text_at] = at;
        let whole = match self.settings.oversize {
            Oversize::Quarantine => {
                out.truncate(start);
                return Outcome::Refused;
            }
            Oversize::Truncate => None,
            Oversize::Shrink => self.shrink(log, length, start, out),
            Oversize::Split => self
                .split(log, length - (text_at - start), start, out)
                .or_else(|| self.shrink(log, length, start, out)),
        };
        whole.unwrap_or_else(|| {
            out.truncate(start);
            let (_, at) = self.write(log, "", start.saturating_add(self.settings.max_bytes), out);
            self.truncate(length, at, out);
            Outcome::Truncated
        })
    }

    /// Shortens values; none where that does not suffice.
    fn shrink(
        &mut self,
        log: &LogLine<'_>,
        length: usize,
        start: usize,
        out: &mut Vec<u8>,
    ) -> Option<Outcome> {
        let max = self.settings.max_bytes;
        let ends = [(&b"__topic__"[..], log.topic), (b"__source__", log.source)];
        let all = || ends.iter().chain(log.tags).chain(log.fields).copied();
        let lengths: Vec<_> = all().map(|(name, value)| (name, self.written(value))).collect();
        let mut reserved = self.cost("");
        for _ in 0..ROUNDS {
            let rooms = shrink::rooms(&lengths, (length + reserved).saturating_sub(max))?;
            let kept: Vec<(&[u8], &[u8])> = all()
                .zip(rooms)
                .map(|((name, value), room)| {
                    (name, shrink::prefix(value, room, |text| self.written(text)))
                })
                .collect();
            let shortened = all()
                .zip(&kept)
                .filter(|((_, value), (_, kept))| value.len() > kept.len())
                .map(|((name, value), _)| (name, value.len()));
            let mark = format!(" truncated=\"{}\"", shrink::mark(shortened));
            let cost = self.cost(&mark);
            if cost <= reserved {
                let (tags, fields) = kept[ends.len()..].split_at(log.tags.len());
                let shorter = LogLine { topic: kept[0].1, source: kept[1].1, tags, fields, ..*log };
                out.truncate(start);
                let (total, _) = self.write(&shorter, &mark, start.saturating_add(max), out);
                return (total <= max).then_some(Outcome::Shrunk);
            }
            reserved = cost;
        }
        None
    }

    /// Writes parts; none where they would be too many or too small.
    fn split(
        &mut self,
        log: &LogLine<'_>,
        text: usize,
        start: usize,
        out: &mut Vec<u8>,
    ) -> Option<Outcome> {
        let max = self.settings.max_bytes;
        let mark = |part: usize, of: usize| format!(" part=\"{part}/{of}\"");
        // Only the header: nothing of the text.
        let mut header = Vec::new();
        let (_, [_, _, header_end]) = self.write(log, &mark(MAX_PARTS, MAX_PARTS), 0, &mut header);
        let room = max.checked_sub(header_end).filter(|room| *room >= LEAST_PART)?;
        if text > room.saturating_mul(MAX_PARTS) {
            return None;
        }
        let mut whole = Vec::with_capacity(text);
        self.write_text(log, &mut Sink::new(&mut whole, usize::MAX));
        let (mut pieces, mut rest) = (Vec::new(), &whole[..]);
        while !rest.is_empty() {
            let piece;
            (piece, rest) = rest.split_at(self.cut_anywhere(rest, room));
            pieces.push(piece);
        }
        if pieces.len() > MAX_PARTS {
            return None;
        }
        out.truncate(start);
        let mut ends = Vec::with_capacity(pieces.len());
        for (number, piece) in (1..).zip(&pieces) {
            self.write(log, &mark(number, pieces.len()), 0, out);
            out.extend_from_slice(piece);
            ends.push(out.len() - start);
        }
        Some(Outcome::Split(ends))
    }

    /// Cuts a message that was `length` octets and marks it.
    fn truncate(&self, length: usize, at: [usize; 3], out: &mut Vec<u8>) {
        let [start, data_at, text_at] = at;
        let limit = self.settings.max_bytes - (data_at - start);
        let mut mark = b" truncated=\"".to_vec();
        decimal::plain(length, &mut mark);
        mark.extend_from_slice(b"\"]");
        // Without the `] ` behind it; a lone `- ` leaves nothing.
        let mut data = out[data_at..text_at - 2].to_vec();
        if data.is_empty() || data.len() + mark.len() > limit {
            data.clear();
            data.push(b'[');
            data.extend_from_slice(self.settings.sd_id.as_bytes());
        }
        data.extend_from_slice(&mark);
        let room = limit.saturating_sub(data.len() + 1);
        let text = &out[text_at..];
        match self.settings.format {
            Format::Rfc5424 => {
                out.truncate(text_at + body::cut(text, room, &self.settings.separator));
            }
            Format::Json => json::cut(out, text_at, room),
            Format::Sample => out.truncate(text_at + sample::cut(text, room)),
        }
        if out.len() > text_at {
            data.push(b' ');
        }
        out.splice(data_at..text_at, data);
    }

    /// The longest beginning of a text that ends between characters and escapes; never empty
    /// where `room` takes the longest of these.
    fn cut_anywhere(&self, text: &[u8], room: usize) -> usize {
        let keep = match self.settings.format {
            Format::Rfc5424 => body::whole_escapes(text, room),
            Format::Json => json::whole_escapes(text, room),
            Format::Sample => sample::cut(text, room),
        };
        if keep > 0 { keep } else { room.min(text.len()) }
    }

    /// Octets of a value as it is written.
    fn written(&self, value: &[u8]) -> usize {
        let mut nothing = Vec::new();
        let mut sink = Sink::new(&mut nothing, 0);
        match self.settings.format {
            Format::Rfc5424 => self.escaper.value(value, &mut sink),
            Format::Json => json::value(value, &mut sink),
            Format::Sample => sample::value(value, &mut sink),
        }
        sink.total()
    }

    /// Octets by which these parameters lengthen a message.
    fn cost(&self, marks: &str) -> usize {
        match self.settings.format {
            Format::Rfc5424 | Format::Json => marks.len(),
            // An element where there was none.
            Format::Sample if !marks.is_empty() => self.settings.sd_id.len() + 1 + marks.len(),
            Format::Sample => 0,
        }
    }
}
