//! What proof costs: a spool drained over TCP with drains, with the window, and naively, on this
//! host and over paths of 50 and 150 ms.
//!
//! ```text
//! cargo bench --bench delivery
//! ```
//!
//! Every variant is the relay's own sender on the same spool, in one process with a receiver that
//! counts bytes, in turns, again and again. Medians are shown, of the percentages those of each
//! turn, and only figures of one run compare. *Naive* is the same sender without a drain until the end, which deletes nothing
//! earlier for it: what remains is the cost of cycling connections. The path is a proxy that passes
//! bytes on half a round trip later and begins each connection with one; the kernel here has no
//! such path to offer.
//!
//! `SLS_RELAY_BENCH_DIR`: where the spool goes, `target/bench-delivery` by default; about 300 MB.
//! `SLS_RELAY_BENCH_ROUNDS`: turns of each variant, 7 by default.
//! `SLS_RELAY_BENCH_MB`: megabytes of messages, 800 by default.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a program that only measures")]

mod proxy;

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use prost::Message as _;
use sls_relay::config::Destination;
use sls_relay::emulator::waf::Waf;
use sls_relay::relay::replay::{Plan, replay};
use sls_relay::sls::wire::LogGroupList;
use sls_relay::spool::{Batch, Compression, Options, ShardKey, Span, Spool};
use sls_relay::syslog::Proof;
use tokio_util::sync::CancellationToken;

/// Logs in a batch.
const LOGS: usize = 500;
/// Round trips, in milliseconds.
const PATHS: [u64; 3] = [0, 50, 150];
/// What the drains may cost, in percent of the naive sender's time.
const WANTED: f64 = 110.0;

#[derive(Clone, Copy)]
enum Variant {
    Naive,
    Drain,
    Window,
}

fn main() {
    let rounds = variable("SLS_RELAY_BENCH_ROUNDS").unwrap_or(7);
    let megabytes = variable("SLS_RELAY_BENCH_MB").unwrap_or(800);
    let dir = std::env::var_os("SLS_RELAY_BENCH_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench-delivery"),
        |dir| PathBuf::from(dir).join("bench-delivery"),
    );
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let spool = Spool::open(&Options::new(&dir, 8 << 30)).unwrap().0;
    let batches = runtime.block_on(fill(&spool, megabytes));
    let (sink, read) = sink();
    println!("{batches} batches of {LOGS} logs, {rounds} rounds, in {}", dir.display());
    println!("{:<10}{:<10}{:>10}{:>12}", "path", "variant", "MB/s", "of naive");
    let mut verdicts = Vec::new();
    for path in PATHS {
        let to = match path {
            0 => sink,
            ms => proxy::start(sink, Duration::from_millis(ms)),
        };
        let variants =
            [("naive", Variant::Naive), ("drain", Variant::Drain), ("window", Variant::Window)];
        let mut times = [const { Vec::new() }; 3];
        let mut bytes = 0;
        for _ in 0..rounds {
            for ((_, variant), times) in variants.iter().zip(&mut times) {
                let before = read.load(Ordering::Relaxed);
                let end = spool.status().state.next_seq;
                times.push(runtime.block_on(run(&spool, end, to, *variant, &read)));
                bytes = read.load(Ordering::Relaxed) - before;
            }
        }
        let naive = times[0].clone();
        for ((name, variant), times) in variants.iter().zip(&mut times) {
            let mut ratios: Vec<_> = times.iter().zip(&naive).map(|(t, n)| 100.0 * t / n).collect();
            let (time, of_naive) = (median(times), median(&mut ratios));
            let rate = bytes as f64 / time / 1e6;
            println!("{:<10}{name:<10}{rate:>10.0}{of_naive:>11.0}%", format!("{path} ms"));
            if matches!(variant, Variant::Drain) {
                verdicts.push((path, of_naive));
            }
        }
    }
    println!();
    for (path, of_naive) in verdicts {
        let met = if of_naive <= WANTED { "met" } else { "MISSED" };
        println!(
            "{path} ms: drains take {of_naive:.0} % of the naive time, {WANTED} % wanted: {met}"
        );
    }
    runtime.block_on(async { drop(spool) });
    let _ = std::fs::remove_dir_all(&dir);
}

/// Sends everything and returns how long it took until the receiver had read the last byte, in
/// seconds.
async fn run(
    spool: &Spool,
    end: u64,
    to: SocketAddr,
    variant: Variant,
    read: &Arc<AtomicU64>,
) -> f64 {
    let mut destination = Destination::new(format!("tcp://{to}").parse().unwrap(), "bench");
    destination.settle = Duration::from_millis(100);
    match variant {
        Variant::Drain => {}
        Variant::Window => destination.delivery = Proof::Window,
        Variant::Naive => {
            destination.drain_bytes = u64::MAX;
            destination.drain_every = Duration::from_secs(3600);
        }
    }
    let plan = Plan {
        id: "bench".to_owned(),
        batches: vec![Span { first: 0, end }],
        wanted: Arc::new(|_, _| None),
        rate: None,
        kept: None,
    };
    // The settling at the end is no part of it.
    let (start, before) = (Instant::now(), read.load(Ordering::Relaxed));
    let last = Arc::new(AtomicU64::new(0));
    let watching = tokio::spawn({
        let (read, last) = (Arc::clone(read), Arc::clone(&last));
        async move {
            let mut seen = before;
            loop {
                let now = read.load(Ordering::Relaxed);
                if now != seen {
                    seen = now;
                    let micros = u64::try_from(start.elapsed().as_micros()).unwrap();
                    last.store(micros, Ordering::Relaxed);
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    });
    let stop = CancellationToken::new();
    let pin = Some(spool.pin(0));
    replay(spool.clone(), pin, Arc::new(destination), plan, stop, |_| {}).await.unwrap();
    watching.abort();
    last.load(Ordering::Relaxed) as f64 / 1e6
}

/// A receiver that reads and answers the end of a connection, and how many bytes it has read.
fn sink() -> (SocketAddr, Arc<AtomicU64>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let (address, read) = (listener.local_addr().unwrap(), Arc::new(AtomicU64::new(0)));
    let counted = Arc::clone(&read);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, counted) = (stream.unwrap(), Arc::clone(&counted));
            thread::spawn(move || {
                let mut buffer = vec![0; 256 << 10];
                while let Ok(bytes @ 1..) = stream.read(&mut buffer) {
                    counted.fetch_add(bytes as u64, Ordering::Relaxed);
                }
            });
        }
    });
    (address, read)
}

/// Fills a spool that nobody empties with batches of logs of a firewall.
async fn fill(spool: &Spool, megabytes: u64) -> u64 {
    spool.set_destinations(&["nobody".to_owned()]).await.unwrap();
    let key =
        ShardKey { source: "https://sls.example/project/logstore#group".to_owned(), shard: 0 };
    let tenure = spool.begin(key, "0".to_owned(), None).await.unwrap();
    let waf = Waf::new(1);
    let mut written = 0;
    for number in 0u64.. {
        let group = waf.group(0, number * LOGS as u64, LOGS);
        let raw = LogGroupList { log_groups: vec![group] }.encode_to_vec();
        let batch = Batch {
            cursor: number.to_string(),
            next_cursor: (number + 1).to_string(),
            first_group_cursor: Some(number),
            groups: 1,
            logs: LOGS as u32,
            query: false,
            received_at: 1_763_906_445_000,
            min_time: 1_763_906_400,
            max_time: 1_763_906_440,
            raw_size: raw.len() as u64,
            compression: Compression::Lz4,
            body: Bytes::from(lz4_flex::block::compress(&raw)),
        };
        written += raw.len() as u64;
        spool.append(&tenure, batch).await.unwrap();
        if written >= megabytes * 1_000_000 {
            return number + 1;
        }
    }
    unreachable!("numbers do not end")
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}
