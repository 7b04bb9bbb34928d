//! The consumer group: its settings, and the consumers in it.

use std::collections::BTreeMap;

use super::findings::Findings;
use super::probe::Probe;
use crate::config::{Settings, Source};
use crate::relay;
use crate::sls::{CheckpointState, ConsumerGroup};
use crate::spool;

/// Most consumers named, and most shards of each.
const SHOWN: usize = 20;

/// Compares the group as it is with what the configuration asks for.
pub(super) fn settings(source: &Source, found: &ConsumerGroup, findings: &mut Findings) {
    let word = |order| if order { "ordered" } else { "unordered" };
    let detail =
        format!("{} exists, timeout {} s, {}", found.name, found.timeout_s, word(found.order));
    let mut differences = Vec::new();
    let wanted = source.group_timeout.as_secs().max(1);
    if u64::from(found.timeout_s) != wanted {
        differences.push(format!("group_timeout says {wanted} s"));
    }
    if let Some(order) = source.order.filter(|order| *order != found.order) {
        differences.push(format!("order says {}", word(order)));
    }
    if differences.is_empty() {
        return findings.ok("consumer group", &detail);
    }
    let way = if source.manage_group {
        "the next start changes the group to it, for all its consumers"
    } else {
        "the group counts; set manage_group = true to have it changed for all its consumers"
    };
    let detail = format!("{detail}, where {}: {way}", differences.join(" and "));
    findings.warn("consumer group", "sls.group_differs", &detail);
}

/// Names the consumers, and which of them is this machine's own. Makes no identity.
pub(super) fn members(probe: &mut Probe<'_>, settings: &Settings, states: &[CheckpointState]) {
    let dir = &settings.spool.dir;
    let own = match spool::known_identity(dir) {
        Ok(own) => own.map(|identity| relay::consumer_name(&identity)),
        Err(error) => {
            probe.findings.warn("consumer name", error.code(), &relay::chain(&error));
            None
        }
    };
    match (&own, spool::Lock::holder(dir)) {
        (None, _) => {
            probe.findings.note("consumer name", "this relay gets its name at its first start")
        }
        (Some(own), None) => {
            probe.findings.note("consumer name", &format!("{own}; this relay does not run now"))
        }
        (Some(own), Some(holder)) => {
            probe.findings.note("consumer name", &format!("{own}; this relay runs: {holder}"));
        }
    }
    let mut members = BTreeMap::<&str, Vec<u32>>::new();
    for state in states.iter().filter(|state| !state.consumer.is_empty()) {
        members.entry(&state.consumer).or_default().push(state.shard);
    }
    if members.is_empty() {
        return probe.findings.note("consumers", "no shard is or was held by any");
    }
    for (name, shards) in members.iter().take(SHOWN) {
        let whose = if Some(*name) == own.as_deref() { ", this machine's own" } else { "" };
        let list: Vec<_> = shards.iter().take(SHOWN).map(ToString::to_string).collect();
        let more = if shards.len() > SHOWN { " …" } else { "" };
        let noun = if shards.len() == 1 { "shard" } else { "shards" };
        let detail = format!(
            "{name}{whose}: {} {noun} by their checkpoints: {}{more}",
            shards.len(),
            list.join(", ")
        );
        probe.findings.note("consumer", &detail);
    }
    if members.len() > SHOWN {
        let detail = format!("and {} more", members.len() - SHOWN);
        probe.findings.note("consumer", &detail);
    }
}
