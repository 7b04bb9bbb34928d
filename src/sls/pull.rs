//! PullLogs: the log groups behind a cursor, compressed as SLS sent them.

use std::str::FromStr;

use bytes::Bytes;

use super::body::Compression;
use super::client::{Client, Received, text};
use super::cursor::Cursor;
use super::error::Error;

/// A PullLogs answer. The body is neither decompressed nor checked yet; see
/// [`super::body::decompress`] and [`super::walk::summary`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PullAnswer {
    /// Where to go on. The cursor asked with, when the shard has nothing more.
    pub next_cursor: Cursor,
    /// Log groups in the body (`x-log-count`).
    pub groups: u32,
    /// Size of the body after decompression, bytes (`x-log-bodyrawsize`).
    pub raw_size: u64,
    /// How the body is compressed.
    pub compression: Compression,
    /// The body exactly as received.
    pub body: Bytes,
    /// The number of the last log group in the body (`x-log-read-last-cursor`).
    pub last_group_cursor: Option<u64>,
    /// When SLS received the log group at the cursor, seconds since the epoch
    /// (`x-log-cursor-time`).
    pub cursor_time: Option<i64>,
    /// Whether this is all the shard has for now (`x-log-end-of-cursor`). Not all regions
    /// may say so; the cursor standing still says it too.
    pub end_of_cursor: bool,
    /// The server's time, seconds since the epoch (`Date`).
    pub date: Option<i64>,
    /// `x-log-requestid`.
    pub request_id: String,
}

/// The headers of an answer, understood.
struct Head {
    next_cursor: Option<Cursor>,
    groups: u32,
    raw_size: Option<u64>,
    compression: Compression,
}

impl Client {
    /// PullLogs: up to `count` log groups (1 to 1000) from the cursor on.
    ///
    /// # Errors
    /// As every call, see [`Error::advice`]; [`Error::TooLarge`] before anything is
    /// allocated when the answer is over the cap: ask for fewer log groups.
    pub async fn pull_logs(
        &self,
        logstore: &str,
        shard: u32,
        cursor: &Cursor,
        count: u32,
    ) -> Result<PullAnswer, Error> {
        let call = self.on_shard("PullLogs", logstore, shard)?;
        let mut call = call.query("type", "log").query("cursor", cursor).query("count", count);
        call.accept = &[("Accept", "application/x-protobuf"), ("Accept-Encoding", "lz4")];
        self.within(&call, None, async {
            let answer = self.send(&call).await?;
            let cap = self.max_raw_bytes();
            let head = read_head(&answer)?;
            if head.raw_size.is_some_and(|size| size > cap) {
                return Err(answer.too_large(head.raw_size.unwrap_or(cap), cap));
            }
            let date = answer.date();
            let last_group_cursor = optional(&answer, "x-log-read-last-cursor");
            let cursor_time = optional(&answer, "x-log-cursor-time");
            let end_of_cursor = text(answer.headers(), "x-log-end-of-cursor")
                .is_some_and(|value| matches!(value.trim(), "1" | "true"));
            let longest = head.compression.longest_body(head.raw_size.unwrap_or(cap));
            let (request_id, body) = answer.read(longest).await?;
            Ok(PullAnswer {
                next_cursor: head.next_cursor.unwrap_or_else(|| cursor.clone()),
                groups: head.groups,
                raw_size: head.raw_size.unwrap_or(body.len() as u64),
                compression: head.compression,
                body,
                last_group_cursor,
                cursor_time,
                end_of_cursor,
                date,
                request_id,
            })
        })
        .await
    }
}

fn read_head(answer: &Received<'_>) -> Result<Head, Error> {
    let compression = text(answer.headers(), "x-log-compresstype").unwrap_or_default();
    let compression = Compression::from_header(compression)
        .ok_or_else(|| answer.malformed("x-log-compresstype is neither lz4 nor zstd"))?;
    let groups = required(answer, "x-log-count", "x-log-count is missing or no number")?;
    let raw_size = match answer.headers().contains_key("x-log-bodyrawsize") {
        false if compression == Compression::None => None,
        _ => {
            let problem = "x-log-bodyrawsize is missing or no number";
            Some(required(answer, "x-log-bodyrawsize", problem)?)
        }
    };
    let next_cursor =
        text(answer.headers(), "x-log-cursor").filter(|cursor| !cursor.is_empty()).map(Cursor::new);
    // Asking again with the old cursor would bring the same log groups for ever.
    if next_cursor.is_none() && groups > 0 {
        return Err(answer.malformed("log groups without x-log-cursor to go on from"));
    }
    Ok(Head { next_cursor, groups, raw_size, compression })
}

fn required<T: FromStr>(
    answer: &Received<'_>,
    name: &str,
    problem: &'static str,
) -> Result<T, Error> {
    optional(answer, name).ok_or_else(|| answer.malformed(problem))
}

fn optional<T: FromStr>(answer: &Received<'_>, name: &str) -> Option<T> {
    text(answer.headers(), name)?.trim().parse().ok()
}
