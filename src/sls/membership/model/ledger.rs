//! What became of every log, and which of them may be spooled once more.

use std::collections::BTreeMap;

use super::server::Name;

#[derive(Clone, Debug, Default)]
struct Log {
    spooled_by: Option<Name>,
    /// An operator has moved the checkpoint over it.
    skipped: bool,
    /// Something has happened that lets it be spooled again.
    again: bool,
}

/// The logs of all shards.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    logs: BTreeMap<u32, Vec<Log>>,
    /// Everything below is spooled or skipped.
    done: BTreeMap<u32, u64>,
}

impl Ledger {
    pub(super) fn spooled(
        &mut self,
        shard: u32,
        log: u64,
        by: Name,
        excused: bool,
    ) -> Result<(), String> {
        let log_at = self.log(shard, log);
        if let Some(before) = log_at.spooled_by.replace(by)
            && !std::mem::take(&mut log_at.again)
            && !excused
        {
            return Err(format!(
                "log {log} of shard {shard} was spooled by c{before} and without need by c{by}"
            ));
        }
        Ok(())
    }

    /// Uncommitted logs of one consumer may come again.
    pub(super) fn given_up(&mut self, shard: u32, by: Name, checkpoint: u64) {
        let logs = self.logs.entry(shard).or_default().iter_mut();
        let open = logs.skip(usize::try_from(checkpoint).expect("small"));
        open.filter(|log| log.spooled_by == Some(by)).for_each(|log| log.again = true);
    }

    /// A consumer with everything below `ever` durable has committed `cursor`.
    pub(super) fn committed(
        &mut self,
        shard: u32,
        before: u64,
        cursor: u64,
        ever: u64,
    ) -> Result<(), String> {
        if cursor > ever && cursor > before {
            return Err(format!("shard {shard}: commit of {cursor} ahead of durable {ever}"));
        }
        self.all_below(shard, cursor)?;
        // An old commit that comes late takes the checkpoint back.
        (cursor..before).for_each(|log| self.log(shard, log).again = true);
        Ok(())
    }

    pub(super) fn reset(&mut self, shard: u32, before: u64, to: u64) {
        (before..to).for_each(|log| self.log(shard, log).skipped = true);
        let logs = self.logs.entry(shard).or_default().iter_mut();
        logs.skip(usize::try_from(to).expect("small")).for_each(|log| log.again = true);
    }

    pub(super) fn forget_commits(&mut self) {
        self.logs.values_mut().flatten().for_each(|log| log.again = true);
    }

    /// Whether every log below the cursor is spooled, or was skipped by an operator.
    pub(super) fn all_below(&mut self, shard: u32, cursor: u64) -> Result<(), String> {
        let mut done = self.done.get(&shard).copied().unwrap_or(0);
        while done < cursor {
            let log = self.log(shard, done);
            if log.spooled_by.is_none() && !log.skipped {
                return Err(format!("log {done} of shard {shard} is missing below {cursor}"));
            }
            done += 1;
        }
        self.done.insert(shard, done);
        Ok(())
    }

    fn log(&mut self, shard: u32, log: u64) -> &mut Log {
        let logs = self.logs.entry(shard).or_default();
        let at = usize::try_from(log).expect("small");
        if logs.len() <= at {
            logs.resize_with(at + 1, Log::default);
        }
        &mut logs[at]
    }
}
