//! The two calls that carry logs: PullLogs and PutLogs.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::StatusCode;
use prost::Message as _;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

use super::answer::{Answer, Refusal};
use super::filter::Filter;
use super::repeat::Kept;
use super::request::Request;
use super::routes::required_cursor;
use super::service::Service;
use super::shard::cursor_text;
use super::store::{Pull, Pulled};
use crate::sls::wire::LogGroup;

/// Largest uncompressed PutLogs body.
const MAX_PUT_BYTES: usize = 10 * 1024 * 1024;

impl Service {
    /// PullLogs.
    pub(super) fn pull(&self, request: &Request, shard: u32) -> Result<Answer, Refusal> {
        let filter = self.filter(request)?;
        let cursor = required_cursor(request.required("cursor")?)?;
        let stop = request.parameter("end_cursor").map(required_cursor).transpose()?;
        let count = request.required("count")?;
        let count =
            count.parse().ok().filter(|count| (1..=1000).contains(count)).ok_or_else(|| {
                Refusal::invalid(format!("parameter count={count} is not within 1 to 1000"))
            })?;
        let picked = self.state().store.pull(shard, cursor, count, stop)?;
        let compression = self.compression(request);
        let (pulled, body, raw_size) = self.encoded(picked, filter.as_ref(), &compression);
        self.counters.pulls.fetch_add(1, Ordering::Relaxed);

        let mut headers = vec![
            ("content-type", "application/x-protobuf".to_owned()),
            ("x-log-cursor", cursor_text(pulled.next)),
            ("x-log-count", pulled.groups.to_string()),
            ("x-log-bodyrawsize", raw_size.to_string()),
            ("x-log-cursor-time", pulled.received.unwrap_or(self.unix()).to_string()),
            ("x-log-end-of-cursor", u8::from(pulled.at_end).to_string()),
        ];
        if pulled.groups > 0 {
            headers.push(("x-log-read-last-cursor", (pulled.next - 1).to_string()));
        }
        if let Some(counts) = pulled.sifted {
            headers.extend([
                ("x-log-rawdatasize", counts.bytes.to_string()),
                ("x-log-rawdatacount", counts.groups.to_string()),
                ("x-log-rawdatalines", counts.lines.to_string()),
                ("x-log-resultlines", counts.left.to_string()),
                ("x-log-failedlines", "0".to_owned()),
            ]);
        }
        if let Some(name) = compression.name() {
            headers.push(("x-log-compresstype", name.to_owned()));
        }
        Ok(Answer { status: StatusCode::OK, headers, body })
    }

    /// The picked log groups, their body as it is sent, and its size before compression.
    fn encoded(
        &self,
        picked: Pull,
        filter: Option<&Filter>,
        compression: &Compression,
    ) -> (Pulled, Bytes, usize) {
        let name = compression.name().unwrap_or_default();
        let repeated = match (&self.repeated, picked.generated()) {
            (Some(repeated), Some((first, groups))) if filter.is_none() => {
                Some((repeated, repeated.key(first, groups, name)))
            }
            _ => None,
        };
        if let Some((repeated, key)) = repeated
            && let Some(kept) = repeated.get(key)
        {
            return (picked.encoded_before(kept.groups), kept.body, kept.raw_size);
        }
        let mut pulled = picked.sift(self.max_raw_bytes, filter);
        let raw = std::mem::take(&mut pulled.body);
        let raw_size = raw.len();
        let body = Bytes::from(compression.apply(raw));
        if let Some((repeated, key)) = repeated {
            repeated.keep(key, Kept { body: body.clone(), raw_size, groups: pulled.groups });
        }
        (pulled, body, raw_size)
    }

    /// The filter a pull names, by a query or by the name of a processor.
    fn filter(&self, request: &Request) -> Result<Option<Filter>, Refusal> {
        match (request.parameter("query"), request.parameter("processor")) {
            (None, None) => Ok(None),
            (Some(query), None) => Filter::parse(query).map(Some),
            (None, Some(name)) => match self.state().processors.get(name) {
                Some(filter) => Ok(Some(filter.clone())),
                None => Err(Refusal::invalid(format!("processor {name} does not exist"))),
            },
            (Some(_), Some(_)) => {
                Err(Refusal::invalid("parameters query and processor exclude each other"))
            }
        }
    }

    /// PutLogs, to the writable shards in turn.
    pub(super) fn put(&self, request: &Request) -> Result<Answer, Refusal> {
        let group = LogGroup::decode(uncompressed(request)?).map_err(|error| {
            let message = format!("the body is not a log group: {error}");
            Refusal::new(400, "PostBodyInvalid", message)
        })?;
        let now = self.unix();
        let mut state = self.state();
        let writable: Vec<u32> = state
            .store
            .shards()
            .filter(|shard| !shard.is_read_only())
            .map(|shard| shard.id)
            .collect();
        let turn = state.puts.checked_rem(writable.len()).unwrap_or_default();
        let shard = *writable.get(turn).ok_or_else(|| {
            Refusal::new(400, "ShardNotExist", "the logstore has no writable shard")
        })?;
        state.puts += 1;
        state.store.put(shard, &group, now)?;
        Ok(Answer::empty())
    }

    /// What the client asked for; lz4 instead of a zstd that is switched off.
    fn compression(&self, request: &Request) -> Compression {
        let accepted = request.header("accept-encoding").unwrap_or_default();
        let accepts = |name: &str| {
            accepted.split([',', ';']).any(|token| token.trim().eq_ignore_ascii_case(name))
        };
        if accepts("zstd") && self.zstd {
            Compression::Zstd
        } else if accepts("lz4") || accepts("zstd") {
            Compression::Lz4
        } else {
            Compression::None
        }
    }
}

enum Compression {
    None,
    Lz4,
    Zstd,
}

impl Compression {
    fn name(&self) -> Option<&'static str> {
        match self {
            Compression::None => None,
            Compression::Lz4 => Some("lz4"),
            Compression::Zstd => Some("zstd"),
        }
    }

    fn apply(&self, raw: Vec<u8>) -> Vec<u8> {
        match self {
            _ if raw.is_empty() => raw,
            Compression::None => raw,
            Compression::Lz4 => lz4_flex::block::compress(&raw),
            Compression::Zstd => compress_to_vec(raw.as_slice(), CompressionLevel::Fastest),
        }
    }
}

fn uncompressed(request: &Request) -> Result<Bytes, Refusal> {
    match request.header("x-log-compresstype").unwrap_or_default() {
        "" => Ok(request.body.clone()),
        "lz4" => {
            let size = request.header("x-log-bodyrawsize").and_then(|size| size.parse().ok());
            let size = size.filter(|size| *size <= MAX_PUT_BYTES).ok_or_else(|| {
                let message = "x-log-bodyrawsize is missing, no number or above 10 MiB";
                Refusal::new(400, "PostBodyTooLarge", message)
            })?;
            let raw = lz4_flex::block::decompress(&request.body, size).map_err(|error| {
                let message = format!("the body is not an lz4 block of that size: {error}");
                Refusal::new(400, "PostBodyUncompressError", message)
            })?;
            Ok(Bytes::from(raw))
        }
        other => {
            let message = format!("x-log-compresstype {other} is not supported, use lz4 or none");
            Err(Refusal::new(400, "InvalidCompressType", message))
        }
    }
}
