//! What pulling costs: the real daemon against an emulated SLS in another process, with a
//! receiver that refuses connections, so that logs are pulled, checked, made durable and
//! committed, and nothing else.
//!
//! ```text
//! cargo bench --bench fetch                     all of it, about five minutes
//! cargo bench --bench fetch -- throughput tls   parts of it
//! ```
//!
//! `throughput` 4 GB over plain http and 32 shards, `tls` the same over https, `idle` a
//! minute with 16 shards and nothing to pull, `shards` 1,000 shards without and with a backlog.
//! Every measurement is one line of JSON; CPU seconds are those of the daemon alone, from
//! `/proc/PID/stat`. The service shares the cores, so its answers are made once and kept.
//!
//! `SLS_RELAY_BENCH_GB`: raw bytes of one run, 4 by default.
//! `SLS_RELAY_BENCH_ROUNDS`: runs of `throughput` and `tls`, 3 by default; medians are shown.
//! `SLS_RELAY_BENCH_SECONDS`: of `idle`, and of both of `shards`; 60 by default.
//! `SLS_RELAY_BENCH_DIR`: where the spool goes, up to 11 GB; `target` by default.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program that only measures"
)]

mod daemon;
mod service;

use std::time::{Duration, Instant};

use serde_json::json;

use daemon::Daemon;
use service::{Content, Service};

/// Wanted: raw MB a second, CPU seconds per raw GB, percent of a core, MB of memory.
const RATE: f64 = 300.0;
const COST: f64 = 1.0;
const IDLE: f64 = 0.5;
const MEMORY: f64 = 128.0;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    if let Some(("serve", content)) = args.first().map(String::as_str).zip(args.get(1)) {
        return service::serve(&serde_json::from_str(content).unwrap());
    }
    let wanted = |part: &str| args.is_empty() || args.iter().any(|arg| arg == part);
    let rounds = variable("SLS_RELAY_BENCH_ROUNDS").unwrap_or(3);
    let gigabytes = variable("SLS_RELAY_BENCH_GB").unwrap_or(4);
    let seconds = Duration::from_secs(variable("SLS_RELAY_BENCH_SECONDS").unwrap_or(60));
    for (name, tls) in [("throughput", false), ("tls", true)] {
        if wanted(name) {
            throughput(name, tls, gigabytes * 1_000_000_000, rounds);
        }
    }
    if wanted("idle") {
        idle(seconds);
    }
    if wanted("shards") {
        shards("shards idle", 0, seconds / 2);
        shards("shards with a backlog", 1_000_000, seconds / 2);
    }
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

/// So many raw bytes over 32 shards, from the first request to the last checkpoint.
fn throughput(name: &str, tls: bool, bytes: u64, rounds: u64) {
    const SHARDS: u32 = 32;
    let (mut rates, mut costs) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        let mut content = Content { shards: SHARDS, groups: 1, logs: 50, repeat: 8, tls };
        content.groups = bytes / u64::from(SHARDS) / content.group_bytes();
        let service = Service::start(&content);
        let daemon = Daemon::start(&service, "");
        let (start, from) = (Instant::now(), daemon.cpu());
        let service_from = service.cpu();
        while service.uncommitted() > 0 {
            assert!(start.elapsed() < Duration::from_secs(600), "{}", daemon.log());
            std::thread::sleep(Duration::from_millis(50));
        }
        let (took, cpu) = (start.elapsed().as_secs_f64(), daemon.cpu() - from);
        let raw = content.raw_bytes() as f64;
        let (rate, cost) = (raw / 1e6 / took, cpu / (raw / 1e9));
        rates.push(rate);
        costs.push(cost);
        let line = json!({
            "bench": name,
            "round": round,
            "raw_bytes": content.raw_bytes(),
            "spool_bytes": daemon.spool_bytes(),
            "pulls": service.pulls(),
            "seconds": round_to(took, 2),
            "mb_per_second": round_to(rate, 0),
            "cpu_seconds": round_to(cpu, 2),
            "cpu_seconds_per_gb": round_to(cost, 3),
            "service_cpu_seconds": round_to(service.cpu() - service_from, 2),
            "peak_memory_mb": round_to(daemon.peak_memory(), 1),
        });
        println!("{line}");
    }
    rates.sort_by(f64::total_cmp);
    costs.sort_by(f64::total_cmp);
    let (rate, cost) = (rates[rates.len() / 2], costs[costs.len() / 2]);
    let line = json!({
        "bench": name,
        "median_mb_per_second": round_to(rate, 0),
        "best_mb_per_second": rates.last().map(|best| round_to(*best, 0)),
        "median_cpu_seconds_per_gb": round_to(cost, 3),
        "best_cpu_seconds_per_gb": costs.first().map(|best| round_to(*best, 3)),
    });
    println!("{line}");
    if !tls {
        verdict("MB/s of raw logs", rate, RATE, rate >= RATE);
        verdict("CPU seconds per raw GB", cost, COST, cost <= COST);
    }
}

/// The daemon with nothing to do, at the default idle poll.
fn idle(lasting: Duration) {
    let content = Content { shards: 16, groups: 0, logs: 50, repeat: 8, tls: false };
    let service = Service::start(&content);
    let daemon = Daemon::start(&service, "");
    settle(&service, content.shards);
    let (start, from, pulls) = (Instant::now(), daemon.cpu_ns(), service.pulls());
    std::thread::sleep(lasting);
    let took = start.elapsed().as_secs_f64();
    let percent = 100.0 * (daemon.cpu_ns() - from) as f64 / 1e9 / took;
    let line = json!({
        "bench": "idle",
        "shards": content.shards,
        "seconds": round_to(took, 1),
        "pulls_per_second": round_to((service.pulls() - pulls) as f64 / took, 1),
        "percent_of_a_core": round_to(percent, 3),
        "peak_memory_mb": round_to(daemon.peak_memory(), 1),
    });
    println!("{line}");
    verdict("percent of a core when idle", percent, IDLE, percent < IDLE);
}

/// A thousand shards, each with so many log groups of about 1 MB.
fn shards(name: &str, groups: u64, lasting: Duration) {
    let content = Content { shards: 1000, groups, logs: 700, repeat: 4, tls: false };
    let service = Service::start(&content);
    let daemon = Daemon::start(&service, "");
    settle(&service, content.shards);
    let (start, from, pulls) = (Instant::now(), daemon.cpu_ns(), service.pulls());
    std::thread::sleep(lasting);
    let took = start.elapsed().as_secs_f64();
    let memory = daemon.peak_memory();
    let line = json!({
        "bench": name,
        "shards": content.shards,
        "group_bytes": content.group_bytes(),
        "seconds": round_to(took, 1),
        "pulls_per_second": round_to((service.pulls() - pulls) as f64 / took, 1),
        "percent_of_a_core": round_to(100.0 * (daemon.cpu_ns() - from) as f64 / 1e9 / took, 1),
        "spool_bytes": daemon.spool_bytes(),
        "connections": daemon.connections(),
        "peak_memory_mb": round_to(memory, 1),
    });
    println!("{line}");
    verdict("MB of memory", memory, MEMORY, memory < MEMORY);
}

/// Until every shard was pulled, on average twice.
fn settle(service: &Service, shards: u32) {
    let start = Instant::now();
    while service.pulls() < 2 * u64::from(shards) {
        assert!(start.elapsed() < Duration::from_secs(120), "the shards are not pulled");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn verdict(what: &str, value: f64, wanted: f64, met: bool) {
    let verdict = if met { "met" } else { "MISSED" };
    eprintln!("{what}: {value:.3}, {wanted} wanted: {verdict}");
}

fn round_to(value: f64, digits: i32) -> f64 {
    let unit = 10f64.powi(digits);
    (value * unit).round() / unit
}
