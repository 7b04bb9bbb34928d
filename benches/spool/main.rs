//! What durability costs: the spool against plain writing, and against embedded stores with batches
//! as values.
//!
//! ```text
//! cargo bench --bench spool
//! ```
//!
//! All variants run in one process on one disk, in turns, again and again, and medians are
//! shown, because disks and machines are noisy: only figures of one run compare. Bodies are
//! incompressible, as what SLS sends is, and the disk is synced between turns. Every batch is
//! durable before the next one starts, but in groups of eight, whose batches are on their way
//! together and have one barrier.
//!
//! The spool shows twice. A producer that hands over the next batch after the receipt for the
//! one before, as one shard alone does, has two sleeping threads woken up per batch; on a
//! virtual machine that can cost more than the writing. Where the next batch waits already, as
//! with several shards, what is measured is the writer, with one barrier per batch all the same.
//!
//! `SLS_RELAY_BENCH_DIR`: where to write, `target/bench-spool` by default; about 3 GB.
//! `SLS_RELAY_BENCH_ROUNDS`: turns per size, 31 by default.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a program that only measures")]

mod plain;
mod spooled;
mod stores;

use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;

use plain::Plain;
use spooled::{Next, Spooled};
use stores::{Fjall, Redb, Sled, Values};

const SIZES: [usize; 3] = [64 << 10, 512 << 10, 1 << 20];
/// Bytes one variant writes in one turn.
const TURN: usize = 16 << 20;
/// Batches that have one barrier in a group.
const GROUP: usize = 8;
/// Of plain writing, in percent: what the spool's writer has to reach.
const WANTED: f64 = 90.0;

const PLAIN: &str = "plain write + fdatasync";
const SPOOL: &str = "spool, next batch waiting";
const SPOOLS: &str = "spool, groups of 8, next waiting";
/// Variants that the spool's groups have to beat.
const REFERENCES: [&str; 3] = ["sled, groups of 8", "fjall, groups of 8", "redb, groups of 8"];

fn main() {
    let rounds = variable("SLS_RELAY_BENCH_ROUNDS").unwrap_or(31);
    let dir = std::env::var_os("SLS_RELAY_BENCH_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench-spool"),
        |dir| Path::new(&dir).join("bench-spool"),
    );
    println!("{rounds} rounds of {} MiB each, in {}", TURN >> 20, dir.display());
    println!("{:<10}{:<36}{:>8}{:>11}{:>12}", "batch", "variant", "MB/s", "of plain", "ms/batch");
    let mut verdicts = Vec::new();
    for size in SIZES {
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        let medians = measure(&dir, size, rounds);
        let seconds = |name: &str| medians.iter().find(|(known, ..)| *known == name).unwrap().1;
        for (name, each, plain) in &medians {
            let rate = TURN as f64 / each / 1e6;
            let ratio = 100.0 * seconds(plain) / each;
            let each = 1e3 * each / (TURN / size) as f64;
            println!("{:<10}{name:<36}{rate:>8.0}{ratio:>10.0}%{each:>12.2}", kib(size));
        }
        let reached = 100.0 * seconds(PLAIN) / seconds(SPOOL);
        let best = REFERENCES.map(seconds).into_iter().fold(f64::INFINITY, f64::min);
        let faster = best / seconds(SPOOLS);
        verdicts.push((size, reached, faster));
    }
    let _ = fs::remove_dir_all(&dir);
    println!();
    for (size, reached, faster) in verdicts {
        let met = if reached >= WANTED && faster > 1.0 { "met" } else { "MISSED" };
        println!(
            "{}: the writer reaches {reached:.0}% of plain, {WANTED:.0}% wanted; groups of {GROUP} \
             are {faster:.2} times as fast as the best of the stores, more than 1 wanted: {met}",
            kib(size)
        );
    }
}

type Row = (&'static str, &'static str, Box<dyn Variant>);

/// Median seconds per turn of each variant, and the name of its plain writing.
fn measure(dir: &Path, size: usize, rounds: usize) -> Vec<(&'static str, f64, &'static str)> {
    let plains = "plain, groups of 8";
    let spool = |name, producers, next| Spooled::new(&dir.join(name), producers, next);
    let mut variants: Vec<Row> = vec![
        (PLAIN, PLAIN, Box::new(Plain::new(dir.join("plain"), 1))),
        (SPOOL, PLAIN, Box::new(spool("spool-a", 1, Next::Early))),
        ("spool, next after the receipt", PLAIN, Box::new(spool("spool-p", 1, Next::AfterReceipt))),
        ("sled, flush()", PLAIN, Box::new(Values::new(Sled::new(&dir.join("sled"), false), 1))),
        (
            "spool, encrypted, next waiting",
            PLAIN,
            Box::new(Spooled::encrypted(&dir.join("spool-x"), 1, Next::Early)),
        ),
        (
            "sled, flush() + fdatasync",
            PLAIN,
            Box::new(Values::new(Sled::new(&dir.join("sled-s"), true), 1)),
        ),
        ("fjall", PLAIN, Box::new(Values::new(Fjall::new(&dir.join("fjall")), 1))),
        ("redb", PLAIN, Box::new(Values::new(Redb::new(&dir.join("redb")), 1))),
        (plains, plains, Box::new(Plain::new(dir.join("plain-8"), GROUP))),
        (SPOOLS, plains, Box::new(spool("spool-a8", GROUP, Next::Early))),
        ("spool, groups of 8", plains, Box::new(spool("spool-p8", GROUP, Next::AfterReceipt))),
        (
            REFERENCES[0],
            plains,
            Box::new(Values::new(Sled::new(&dir.join("sled-8"), false), GROUP)),
        ),
        (REFERENCES[1], plains, Box::new(Values::new(Fjall::new(&dir.join("fjall-8")), GROUP))),
        (REFERENCES[2], plains, Box::new(Values::new(Redb::new(&dir.join("redb-8")), GROUP))),
    ];
    let mut rng = fastrand::Rng::with_seed(size as u64);
    let disk = File::open(dir).unwrap();
    let mut seconds = vec![Vec::new(); variants.len()];
    // The first round is not counted: files and caches are made in it.
    for round in 0..=rounds {
        let bodies: Vec<Bytes> = (0..TURN / size).map(|_| noise(size, &mut rng)).collect();
        // Another one begins each round, so that none always comes after the same.
        for turn in 0..variants.len() {
            let index = (turn + round) % variants.len();
            let variant = &mut variants[index].2;
            let took = variant.turn(&bodies);
            if round > 0 {
                seconds[index].push(took.as_secs_f64());
            }
            variant.tidy();
            // What one left un-synced would go to the disk with the next one's barrier.
            rustix::fs::syncfs(&disk).unwrap();
        }
    }
    let each = variants.iter().zip(seconds);
    each.map(|((name, plain, _), seconds)| (*name, median(seconds), *plain)).collect()
}

/// One way to make batches durable.
trait Variant {
    /// Stores the bodies, each durable on return.
    fn turn(&mut self, bodies: &[Bytes]) -> Duration;
    /// Lets go of what was stored.
    fn tidy(&mut self);
}

fn noise(size: usize, rng: &mut fastrand::Rng) -> Bytes {
    let mut body = vec![0; size];
    rng.fill(&mut body);
    body.into()
}

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

fn kib(size: usize) -> String {
    format!("{} KiB", size >> 10)
}

fn variable(name: &str) -> Option<usize> {
    std::env::var(name).ok().map(|value| value.parse().unwrap())
}
