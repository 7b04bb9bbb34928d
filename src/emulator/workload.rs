//! A number of WAF logs, spread evenly over shards and made when they are pulled.

use std::sync::Arc;

use super::sls::Generator;
use super::waf::Waf;
use crate::sls::wire::LogGroup;

/// What an emulator serves: the same logs for the same seed.
#[derive(Clone, Debug)]
pub struct Workload {
    waf: Waf,
    logs: Vec<u64>,
    per_group: u64,
}

impl Workload {
    /// `logs` logs over `shards` shards, `per_group` in a log group.
    pub fn new(waf: Waf, shards: u32, logs: u64, per_group: u64) -> Self {
        let shards = u64::from(shards.max(1));
        let logs = (0..shards).map(|shard| logs / shards + u64::from(shard < logs % shards));
        Self { waf, logs: logs.collect(), per_group: per_group.max(1) }
    }

    /// Logs of each shard.
    pub fn logs_per_shard(&self) -> Vec<u64> {
        self.logs.clone()
    }

    /// Number of the log group that holds log `n` of a shard.
    pub fn group_of(&self, n: u64) -> u64 {
        n / self.per_group
    }

    /// A log group of a shard; its first log is number `group * per_group`.
    pub fn group(&self, shard: u32, group: u64) -> LogGroup {
        let first = group * self.per_group;
        let total = self.logs.get(shard as usize).copied().unwrap_or(0);
        let count = total.saturating_sub(first).min(self.per_group);
        self.waf.group(shard, first, usize::try_from(count).unwrap_or(usize::MAX))
    }

    /// Number of the first log in a group.
    pub fn first_of(&self, group: u64) -> u64 {
        group * self.per_group
    }

    /// For [`super::sls::SlsConfig::generator`].
    pub fn generator(&self) -> Generator {
        let this = self.clone();
        Generator {
            groups_per_shard: self.logs.iter().map(|logs| logs.div_ceil(self.per_group)).collect(),
            make: Arc::new(move |shard, group| this.group(shard, group)),
        }
    }
}
