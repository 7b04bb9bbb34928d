//! Logs out of the quarantine as a replay sends them: each is a batch by itself, numbered
//! from 0 in the order in which they are sent.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::sls::Cursor;
use crate::spool::{self, BatchHeader, Compression, Origin, Seq, ShardKey, StoredBatch};

/// One log of the quarantine.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeptLog {
    /// Its name in the quarantine.
    pub name: String,
    /// The shard it came from.
    pub key: ShardKey,
    /// Its identity on the wire, as [`spool::QuarantinedLog`] has it.
    pub cursor: String,
    /// See [`spool::QuarantinedLog::index`].
    pub index: u32,
    /// See [`spool::QuarantinedLog::approximate`].
    pub approximate: bool,
}

/// Reads the copy of a log by its name; nothing where there is none any more.
pub type ReadKept = Box<dyn Fn(&str) -> Result<Option<Vec<u8>>, spool::Error> + Send + Sync>;

/// The logs of the quarantine that a replay sends.
pub struct Kept {
    logs: Vec<KeptLog>,
    read: ReadKept,
    refused: Mutex<BTreeMap<Seq, String>>,
}

impl Kept {
    /// These logs, in this order.
    pub fn new(logs: Vec<KeptLog>, read: ReadKept) -> Self {
        Self { logs, read, refused: Mutex::default() }
    }

    /// The logs, in the order of their numbers.
    pub fn logs(&self) -> &[KeptLog] {
        &self.logs
    }

    /// Why log `seq` was passed over, if it was.
    pub fn refusal(&self, seq: Seq) -> Option<String> {
        self.lock().get(&seq).cloned()
    }

    /// Log `seq` as a batch. One without logs where the copy is gone.
    pub(crate) fn batch(&self, seq: Seq) -> Result<Option<StoredBatch>, spool::Error> {
        let at = usize::try_from(seq).unwrap_or(usize::MAX);
        let Some(log) = self.logs.get(at) else { return Ok(None) };
        let copy = (self.read)(&log.name)?;
        if copy.is_none() {
            self.refuse(seq, "its copy is gone");
        }
        let logs = u32::from(copy.is_some());
        let body = copy.unwrap_or_default();
        let number = Cursor::new(log.cursor.as_str()).number();
        let header = BatchHeader {
            seq,
            first_log: seq,
            key: log.key.clone(),
            cursor: log.cursor.clone(),
            next_cursor: log.cursor.clone(),
            first_group_cursor: number.filter(|_| !log.approximate),
            groups: logs,
            logs,
            query: false,
            received_at: 0,
            min_time: 0,
            max_time: 0,
            raw_size: body.len() as u64,
            compression: Compression::None,
            origin: Origin::Live,
            key_id: 0,
        };
        Ok(Some(StoredBatch { header, body }))
    }

    /// The place of log `seq` behind its cursor.
    pub(crate) fn place(&self, seq: Seq) -> u32 {
        let log = usize::try_from(seq).ok().and_then(|at| self.logs.get(at));
        log.map_or(0, |log| log.index)
    }

    /// Log `seq` is not sent: it stays in the quarantine.
    pub(crate) fn refuse(&self, seq: Seq, why: &str) {
        self.lock().insert(seq, why.to_owned());
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Seq, String>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kept").field("logs", &self.logs).finish_non_exhaustive()
    }
}
