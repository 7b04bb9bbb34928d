//! PullLogs: the log groups behind a cursor, compressed as SLS sent them.

use std::str::FromStr;

use bytes::Bytes;

use super::body::Compression;
use super::budget::{PullBudget, Room};
use super::client::{Client, Received, text};
use super::cursor::Cursor;
use super::error::Error;

/// What to pull from a shard.
#[derive(Clone, Copy, Debug)]
pub struct PullRequest<'a> {
    /// Where to begin.
    pub cursor: &'a Cursor,
    /// Most log groups in the answer, 1 to 1000. With a filter, log groups are counted
    /// before it.
    pub count: u32,
    /// Where to end: log groups from here on are left out.
    pub end_cursor: Option<&'a Cursor>,
    /// What SLS leaves out.
    pub filter: Option<&'a Filter>,
    /// The largest answer taken, bytes after decompression; the client's limit if none. The
    /// body as it is sent never takes more than the client's limit.
    pub max_raw_bytes: Option<u64>,
    /// Memory that the body has to fit into.
    pub budget: Option<&'a PullBudget>,
    /// About how many bytes the body is expected to have: of pulls with large answers the
    /// budget lets fewer be made at the same time.
    pub expected: u64,
}

/// A filter that SLS applies before it answers. Progress comes from the cursor alone: an
/// answer may be empty although the cursor moved.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Filter {
    /// An SPL query, such as `* | where status = '403'` (`query`, in the pull mode
    /// `scan_on_stream`).
    Query(String),
    /// The name of a consume processor kept in the project (`processor`).
    Processor(String),
}

/// How much a filter looked at and let through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filtered {
    /// Bytes before the filter (`x-log-rawdatasize`): what the pull cost the shard.
    pub bytes_before: u64,
    /// Log groups before the filter (`x-log-rawdatacount`).
    pub groups_before: u64,
    /// Logs before the filter (`x-log-rawdatalines`).
    pub logs_before: u64,
    /// Logs in the answer (`x-log-resultlines`).
    pub logs: u64,
    /// Logs on which the filter failed (`x-log-failedlines`).
    pub logs_failed: u64,
}

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
    /// The number of the last log group in the body (`x-log-read-last-cursor`), from which
    /// those before it count down. None with a filter: what it lets through has no numbers
    /// of its own, so no log of it can be told from its repetition.
    pub last_group_cursor: Option<u64>,
    /// When SLS received the log group at the cursor, seconds since the epoch
    /// (`x-log-cursor-time`).
    pub cursor_time: Option<i64>,
    /// Whether this is all the shard had when it was asked (`x-log-end-of-cursor`). Not all regions
    /// may say so; the cursor standing still says it too.
    pub end_of_cursor: bool,
    /// What the filter did; none without one, or when SLS does not say.
    pub filtered: Option<Filtered>,
    /// The server's time, seconds since the epoch (`Date`).
    pub date: Option<i64>,
    /// `x-log-requestid`.
    pub request_id: String,
    /// The body's part of the budget, kept as long as this answer.
    pub room: Room,
}

/// The headers of an answer, understood.
struct Head {
    next_cursor: Option<Cursor>,
    groups: u32,
    raw_size: Option<u64>,
    compression: Compression,
}

impl<'a> PullRequest<'a> {
    /// Up to `count` log groups (1 to 1000) from the cursor on, all that is in them.
    pub fn new(cursor: &'a Cursor, count: u32) -> Self {
        Self {
            cursor,
            count,
            end_cursor: None,
            filter: None,
            max_raw_bytes: None,
            budget: None,
            expected: 0,
        }
    }
}

impl PullAnswer {
    /// Log groups, and their bytes before compression, that the pull went over: with a
    /// filter more than came back. What a pull costs, and whether it was full, goes by them.
    pub fn looked_at(&self) -> (u64, u64) {
        match self.filtered {
            Some(filtered) => (filtered.groups_before, filtered.bytes_before),
            None => (u64::from(self.groups), self.raw_size),
        }
    }
}

impl Client {
    /// PullLogs.
    ///
    /// # Errors
    /// As every call, see [`Error::advice`]; [`Error::TooLarge`] before anything is
    /// allocated when the answer is over the cap: ask for fewer log groups.
    pub async fn pull_logs(
        &self,
        logstore: &str,
        shard: u32,
        request: PullRequest<'_>,
    ) -> Result<PullAnswer, Error> {
        let PullRequest { cursor, count, end_cursor, filter, max_raw_bytes, budget, expected } =
            request;
        let call = self.on_shard("PullLogs", logstore, shard)?;
        let mut call = call.query("type", "log").query("cursor", cursor).query("count", count);
        if let Some(end) = end_cursor {
            call = call.query("end_cursor", end);
        }
        call = match filter {
            None => call,
            Some(Filter::Query(query)) => {
                call.query("query", query).query("pullMode", "scan_on_stream")
            }
            Some(Filter::Processor(name)) => call.query("processor", name),
        };
        call.accept = &[("Accept", "application/x-protobuf"), ("Accept-Encoding", "lz4")];
        call.large = true;
        let _under_way = match budget {
            Some(budget) => budget.pull(expected).await,
            None => Room::default(),
        };
        let (answer, head) = self
            .within(&call, None, async {
                let answer = self.send(&call).await?;
                let head = read_head(&answer)?;
                Ok((answer, head))
            })
            .await?;
        let most = self.max_raw_bytes();
        let cap = max_raw_bytes.unwrap_or(most);
        if let Some(size) = head.raw_size.filter(|size| *size > cap) {
            return Err(answer.too_large(size, cap));
        }
        let raw_size = head.raw_size.unwrap_or(most).min(most);
        let longest = head.compression.longest_body(raw_size);
        let room = match budget {
            Some(budget) => budget.room(answer.announced().unwrap_or(longest)).await,
            None => Room::default(),
        };
        self.within(&call, None, async {
            let date = answer.date();
            let last_group_cursor = match filter {
                None => optional(&answer, "x-log-read-last-cursor"),
                Some(_) => None,
            };
            let filtered = filter.and_then(|_| read_filtered(&answer));
            let cursor_time = optional(&answer, "x-log-cursor-time");
            let end_of_cursor = text(answer.headers(), "x-log-end-of-cursor")
                .is_some_and(|value| matches!(value.trim(), "1" | "true"));
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
                filtered,
                date,
                request_id,
                room,
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

/// The first two are what pacing needs; without them the rest says nothing either.
fn read_filtered(answer: &Received<'_>) -> Option<Filtered> {
    Some(Filtered {
        bytes_before: optional(answer, "x-log-rawdatasize")?,
        groups_before: optional(answer, "x-log-rawdatacount")?,
        logs_before: optional(answer, "x-log-rawdatalines").unwrap_or(0),
        logs: optional(answer, "x-log-resultlines").unwrap_or(0),
        logs_failed: optional(answer, "x-log-failedlines").unwrap_or(0),
    })
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
