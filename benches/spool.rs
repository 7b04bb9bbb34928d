//! What durability costs: the spool against plain writing, and against sled as its store.
//!
//! ```text
//! cargo bench --bench spool
//! ```
//!
//! All variants run in one process on one disk, in turns, again and again, and medians are
//! shown, because disks and machines are noisy: only figures of one run compare. Bodies are
//! incompressible, as what SLS sends is, and the disk is synced between turns. Every batch is
//! durable before the next one starts, but for the group of eight, whose batches are on their
//! way together.
//!
//! `SLS_RELAY_BENCH_DIR`: where to write, `target/bench-spool` by default; about 3 GB.
//! `SLS_RELAY_BENCH_ROUNDS`: turns per size, 31 by default.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a program that only measures")]

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use sls_relay::spool::{Batch, Compression, Keys, Options, Position, ShardKey, Spool, Tenure};
use tokio::runtime::Runtime;

const SIZES: [usize; 3] = [64 << 10, 512 << 10, 1 << 20];
/// Bytes one variant writes in one turn.
const TURN: usize = 16 << 20;
/// Batches on their way together.
const PRODUCERS: usize = 8;
/// Where plain writing goes on in a new file, as the spool does.
const FILE_BYTES: u64 = 64 << 20;
/// Of plain writing, in percent: what the spool has to reach, and at which size.
const WANTED: (usize, f64) = (512 << 10, 85.0);

fn main() {
    let rounds = variable("SLS_RELAY_BENCH_ROUNDS").unwrap_or(31);
    let dir = std::env::var_os("SLS_RELAY_BENCH_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench-spool"),
        |dir| Path::new(&dir).join("bench-spool"),
    );
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    println!("{rounds} rounds of {} MiB each, in {}", TURN >> 20, dir.display());
    println!("{:<10}{:<36}{:>8}{:>11}{:>12}", "batch", "variant", "MB/s", "of plain", "ms/batch");
    let mut reached = None;
    for size in SIZES {
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        let medians = measure(&dir, size, rounds, &runtime);
        for (name, seconds, plain) in &medians {
            let rate = TURN as f64 / seconds / 1e6;
            let ratio = 100.0 * medians[*plain].1 / seconds;
            let each = 1e3 * seconds / (TURN / size) as f64;
            println!("{:<10}{name:<36}{rate:>8.0}{ratio:>10.0}%{each:>12.2}", kib(size));
            if size == WANTED.0 && *name == SPOOL {
                reached = Some(ratio);
            }
        }
    }
    let _ = fs::remove_dir_all(&dir);
    let reached = reached.unwrap_or_default();
    let verdict = if reached >= WANTED.1 { "met" } else { "MISSED" };
    println!(
        "\nspool at {}: {reached:.0}% of plain, {:.0}% wanted: {verdict}",
        kib(WANTED.0),
        WANTED.1
    );
}

const SPOOL: &str = "spool";

/// Median seconds per turn of each variant, and which variant is its plain writing.
fn measure(
    dir: &Path,
    size: usize,
    rounds: usize,
    runtime: &Runtime,
) -> Vec<(&'static str, f64, usize)> {
    let mut variants: Vec<(&'static str, usize, Box<dyn Variant + '_>)> = vec![
        ("plain write + fdatasync", 0, Box::new(Plain::new(dir.join("plain"), 1))),
        (SPOOL, 0, Box::new(Spooled::new(&dir.join("spool"), 1, runtime))),
        ("sled values, flush()", 0, Box::new(Sled::new(dir.join("sled"), false))),
        ("sled values, flush() + fdatasync", 0, Box::new(Sled::new(dir.join("sledf"), true))),
        ("plain, groups of 8", 4, Box::new(Plain::new(dir.join("plain8"), PRODUCERS))),
        ("spool, 8 producers", 4, Box::new(Spooled::new(&dir.join("spool8"), PRODUCERS, runtime))),
        ("spool, encrypted", 0, Box::new(Spooled::encrypted(&dir.join("spoolx"), 1, runtime))),
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

/// Appends to a file.
struct Plain {
    path: PathBuf,
    file: File,
    length: u64,
    group: usize,
}

impl Plain {
    fn new(path: PathBuf, group: usize) -> Self {
        let file = new_file(&path);
        Self { path, file, length: 0, group }
    }
}

impl Variant for Plain {
    fn turn(&mut self, bodies: &[Bytes]) -> Duration {
        let start = Instant::now();
        for group in bodies.chunks(self.group) {
            if self.length >= FILE_BYTES {
                fs::remove_file(&self.path).unwrap();
                self.file = new_file(&self.path);
                self.length = 0;
            }
            for body in group {
                self.file.write_all(body).unwrap();
                self.length += body.len() as u64;
            }
            self.file.sync_data().unwrap();
        }
        start.elapsed()
    }

    fn tidy(&mut self) {}
}

fn new_file(path: &Path) -> File {
    let file = OpenOptions::new().append(true).create_new(true).open(path).unwrap();
    File::open(path.parent().unwrap()).unwrap().sync_all().unwrap();
    file
}

/// The spool, with one shard per producer.
struct Spooled<'a> {
    spool: Spool,
    runtime: &'a Runtime,
    producers: Vec<(Tenure, u64)>,
}

impl<'a> Spooled<'a> {
    fn new(dir: &Path, producers: usize, runtime: &'a Runtime) -> Self {
        Self::open(&Options::new(dir, 8 << 30), producers, runtime)
    }

    fn encrypted(dir: &Path, producers: usize, runtime: &'a Runtime) -> Self {
        let keys = Keys::parse(&Keys::random().unwrap()).unwrap();
        Self::open(&Options { keys, ..Options::new(dir, 8 << 30) }, producers, runtime)
    }

    fn open(options: &Options, producers: usize, runtime: &'a Runtime) -> Self {
        let options = Options { min_free_bytes: 256 << 20, ..options.clone() };
        let (spool, _) = Spool::open(&options).unwrap();
        let producers = runtime.block_on(async {
            spool.set_destinations(&["siem".to_owned()]).await.unwrap();
            let mut tenures = Vec::new();
            for shard in (0..).take(producers) {
                let key = ShardKey { source: "https://sls.example/p/l/g".to_owned(), shard };
                tenures.push((spool.begin(key, cursor(0), None).await.unwrap(), 0));
            }
            tenures
        });
        Self { spool, runtime, producers }
    }
}

impl Variant for Spooled<'_> {
    fn turn(&mut self, bodies: &[Bytes]) -> Duration {
        let start = Instant::now();
        for group in bodies.chunks(self.producers.len()) {
            let appends = group.iter().zip(&mut self.producers).map(|(body, producer)| {
                let (tenure, number) = producer;
                *number += 1;
                self.spool.append(tenure, batch(*number - 1, body))
            });
            let appends: Vec<_> = appends.collect();
            self.runtime.block_on(async {
                for receipt in join(appends).await {
                    receipt.unwrap();
                }
            });
        }
        start.elapsed()
    }

    /// All but the last batch is delivered: segments fill up, and then they go.
    fn tidy(&mut self) {
        let state = self.spool.status().state;
        let position = Position { seq: state.next_seq - 1, index: 0 };
        self.spool.ack("siem", position, state.next_log - 1000);
        for (tenure, number) in &self.producers {
            self.spool.committed(tenure.key().clone(), cursor(*number));
        }
        self.runtime.block_on(self.spool.flush()).unwrap();
    }
}

/// Batches as values in sled.
struct Sled {
    db: Option<sled::Db>,
    file: Option<File>,
    next: u64,
}

impl Sled {
    fn new(dir: PathBuf, synced: bool) -> Self {
        let db = sled::Config::new()
            .path(&dir)
            .cache_capacity(16 << 20)
            .flush_every_ms(None)
            .open()
            .unwrap();
        let file = synced.then(|| OpenOptions::new().write(true).open(dir.join("db")).unwrap());
        Self { db: Some(db), file, next: 0 }
    }
}

impl Variant for Sled {
    fn turn(&mut self, bodies: &[Bytes]) -> Duration {
        let db = self.db.as_ref().unwrap();
        let start = Instant::now();
        for body in bodies {
            db.insert(self.next.to_be_bytes(), &body[..]).unwrap();
            self.next += 1;
            db.flush().unwrap();
            if let Some(file) = &self.file {
                file.sync_data().unwrap();
            }
        }
        start.elapsed()
    }

    fn tidy(&mut self) {
        let db = self.db.as_ref().unwrap();
        for key in db.range(..self.next.to_be_bytes()).keys() {
            db.remove(key.unwrap()).unwrap();
        }
        db.flush().unwrap();
    }
}

/// Polls all of them, in order, until all are ready.
async fn join<T>(futures: Vec<impl Future<Output = T>>) -> Vec<T> {
    let mut waiting: Vec<_> = futures.into_iter().map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|context| {
        let mut ready = true;
        for (future, output) in &mut waiting {
            if output.is_none() {
                match future.as_mut().poll(context) {
                    std::task::Poll::Ready(value) => *output = Some(value),
                    std::task::Poll::Pending => ready = false,
                }
            }
        }
        if ready { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    waiting.into_iter().filter_map(|(_, output)| output).collect()
}

fn batch(number: u64, body: &Bytes) -> Batch {
    Batch {
        cursor: cursor(number),
        next_cursor: cursor(number + 1),
        first_group_cursor: Some(number),
        groups: 10,
        logs: 1000,
        query: false,
        received_at: 1_700_000_000_000,
        min_time: 1_700_000_000,
        max_time: 1_700_000_009,
        raw_size: 4 * body.len() as u64,
        compression: Compression::Lz4,
        body: body.clone(),
    }
}

fn cursor(number: u64) -> String {
    format!("MTcwMDAwMDAwMDAwMDAw{number:08}")
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
