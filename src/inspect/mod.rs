//! Questions about a spool and their answers, the same ones from the process that has the
//! spool open and from one that reads its directory.
//!
//! An answer is lines of JSON and at the end one object that sums it up. Bytes of logs are
//! strings where they are UTF-8 and `{"bytes": BASE64}` where they are not ([`Octets`]); keys may
//! repeat, so fields are an array of pairs. Among the lines, `{"damage": …}` tells of bytes that
//! do not check any more and `{"undecodable": …}` of a batch that checks but is no answer of SLS.
//! Nothing is ever changed.

mod batches;
mod chosen;
mod error;
mod filter;
mod ledger;
mod logs;
mod octets;
mod pass;
mod question;
mod stats;
mod status;
mod verify;

use std::io;

use serde_json::{Value, json};

pub use chosen::{Chosen, Part, Run, Whole, choose, choose_logs};
pub use error::Error;
pub use filter::logstore;
pub use ledger::told;
pub use octets::Octets;
pub use pass::describe as damage;
pub use question::{By, Clock, FieldTest, Only, Question, Selection};

use crate::spool::inspect::Inspection;
use pass::Scope;

/// Where an answer goes.
pub trait Output {
    /// Takes a line.
    ///
    /// # Errors
    /// What keeps it from being taken; the answer ends there.
    fn line(&mut self, line: &Value) -> io::Result<()>;

    /// Hears that `done` of `of` bytes are looked through.
    fn progress(&mut self, _done: u64, _of: u64) {}

    /// Whether anybody still wants the answer. Asked for every batch that may be part of it,
    /// and about every second while one is waited for.
    fn is_wanted(&self) -> bool {
        true
    }
}

/// Answers a question, blocking on the disk, and for one that follows until `out` does not want
/// it any more. The value sums the answer up; its `read_bytes` are those read since `spool`
/// was opened, its `spool_bytes` those of all segments.
///
/// # Errors
/// Where the spool cannot be read, does not hold what was asked for, or `out` takes no more.
pub fn answer(
    spool: &Inspection,
    question: &Question,
    out: &mut dyn Output,
) -> Result<Value, Error> {
    let scope = |selection, follow| Scope { selection, pattern: None, follow };
    let mut summary = match question {
        Question::Status => status::status(spool, out),
        Question::List { selection, limit, follow } => {
            batches::list(spool, &scope(selection, *follow), *limit, out)
        }
        Question::Show { seq, limit, raw } => batches::show(spool, *seq, *limit, *raw, out),
        Question::Cat { selection, limit, follow } => {
            batches::cat(spool, &scope(selection, *follow), *limit, false, out)
        }
        Question::Grep { pattern, ignore_case, count, selection, limit, follow } => {
            let pattern = Some((&*pattern.0, *ignore_case));
            let scope = Scope { selection, pattern, follow: *follow };
            batches::cat(spool, &scope, *limit, *count, out)
        }
        Question::Stats { by, selection } => {
            stats::stats(spool, &scope(selection, false), *by, out)
        }
        Question::Gaps => ledger::gaps(spool, out),
        Question::Verify => verify::verify(spool, out),
        Question::QuarantineList => ledger::list(spool, out),
        Question::QuarantineShow { name, raw } => ledger::show(spool, name, *raw, out),
    }?;
    summary["read_bytes"] = json!(spool.read_bytes());
    summary["spool_bytes"] = json!(status::bytes(spool));
    Ok(summary)
}

fn send(out: &mut dyn Output, line: &Value) -> Result<(), Error> {
    out.line(line).map_err(Error::Output)
}

/// Bytes of one line at most, before base64.
const BYTES_A_LINE: usize = 48 << 10;

fn send_bytes(out: &mut dyn Output, bytes: &[u8]) -> Result<(), Error> {
    bytes.chunks(BYTES_A_LINE).try_for_each(|part| send(out, &Octets::raw(part)))
}

/// Milliseconds since the epoch as a time in UTC.
fn time(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms)
        .map_or_else(|_| ms.to_string(), |time| time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}
