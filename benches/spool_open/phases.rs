//! One question each, asked by a process of its own.

use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use sls_relay::spool::inspect::Inspection;
use sls_relay::spool::{
    Batch, Compression, Item, Options, Reader, Seq, ShardKey, Spool, StoredBatch, Tenure,
};
use tokio::runtime::Runtime;

use crate::cycle;
use crate::figures::Figures;

/// Bytes of a body.
pub(crate) const BODY: usize = 256 << 10;
/// Batches on their way together while the spool is built.
const GROUP: u64 = 8;
/// Batches in the newest segment when a spool is opened: most of 64 MiB.
const NEWEST: u64 = 240;
/// Time of receipt of the first batch, ms since the epoch; one follows a second.
const BEGIN: i64 = 1_700_000_000_000;

pub(crate) fn run(phase: &str, dir: &Path, bytes: u64) -> Figures {
    match phase {
        "build" => {
            let (figures, filler) = Figures::of(|| {
                let mut filler = Filler::new(open(dir));
                filler.fill(bytes / BODY as u64);
                filler
            });
            filler.spool.close();
            figures
        }
        "open" | "open-kill" => {
            let (figures, spool) = Figures::of(|| open(dir));
            let mut filler = Filler::new(spool);
            filler.fill(NEWEST);
            if phase == "open" {
                filler.spool.close();
            }
            // Else the process ends without one.
            figures
        }
        "minute" => minute(dir),
        "drain" => drain(dir),
        "cycle" => cycle::run(&dir.with_file_name("cycle")),
        other => panic!("no phase is called {other}"),
    }
}

fn open(dir: &Path) -> Spool {
    let (spool, opened) = Spool::open(&Options::new(dir, 1 << 40)).unwrap();
    assert!(opened.damage.is_empty(), "{:?}", opened.damage);
    spool
}

/// Appends batches.
pub(crate) struct Filler {
    pub(crate) spool: Spool,
    pub(crate) runtime: Runtime,
    tenure: Tenure,
    next: u64,
    noise: Vec<u8>,
}

impl Filler {
    pub(crate) fn new(spool: Spool) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let key = ShardKey { source: "https://sls.example/p/l/g".to_owned(), shard: 0 };
        let next = spool.status().state.next_seq;
        let tenure = runtime.block_on(async {
            spool.set_destinations(&["siem".to_owned()]).await.unwrap();
            spool.begin(key, cursor(next), None).await.unwrap()
        });
        let mut noise = vec![0; 2 * BODY];
        fastrand::Rng::with_seed(next).fill(&mut noise);
        Self { spool, runtime, tenure, next, noise }
    }

    pub(crate) fn fill(&mut self, batches: u64) {
        let end = self.next + batches;
        while self.next < end {
            let count = GROUP.min(end - self.next);
            assert!(self.group(count), "the spool is full");
        }
    }

    /// Appends `count` batches together; false where they do not fit.
    pub(crate) fn group(&mut self, count: u64) -> bool {
        let first = self.next;
        let appends = (first..first + count).map(|number| {
            let from = usize::try_from(number % 1009).unwrap();
            let body = Bytes::copy_from_slice(&self.noise[from..from + BODY]);
            self.spool.append(&self.tenure, batch(number, body))
        });
        let mut appends: Vec<_> = appends.map(Box::pin).collect();
        let receipts = self.runtime.block_on(async {
            // Polled once each, all of them are on their way.
            let mut receipts: Vec<Option<bool>> = vec![None; appends.len()];
            std::future::poll_fn(|context| {
                for (append, receipt) in appends.iter_mut().zip(&mut receipts) {
                    if receipt.is_none()
                        && let std::task::Poll::Ready(done) = append.as_mut().poll(context)
                    {
                        *receipt = Some(done.is_ok());
                    }
                }
                if receipts.iter().all(Option::is_some) {
                    std::task::Poll::Ready(())
                } else {
                    std::task::Poll::Pending
                }
            })
            .await;
            receipts
        });
        // The first that is refused has all later ones of its shard refused.
        let stored = receipts.iter().filter(|stored| **stored == Some(true)).count() as u64;
        self.next += stored;
        stored == count
    }
}

fn batch(number: u64, body: Bytes) -> Batch {
    let received_at = BEGIN + 1000 * i64::try_from(number).unwrap();
    let time = u32::try_from(received_at / 1000).unwrap();
    Batch {
        cursor: cursor(number),
        next_cursor: cursor(number + 1),
        first_group_cursor: Some(number),
        groups: 10,
        logs: 1000,
        query: false,
        received_at,
        min_time: time,
        max_time: time,
        raw_size: 4 * BODY as u64,
        compression: Compression::Lz4,
        body,
    }
}

fn cursor(number: u64) -> String {
    format!("MTcwMDAwMDAwMDAwMDAw{number:08}")
}

pub(crate) fn next(reader: &mut Reader) -> Option<StoredBatch> {
    match reader.read().unwrap()? {
        Item::Batch(batch) => Some(*batch),
        Item::Damage(damage) => panic!("damage: {damage:?}"),
    }
}

/// The minute in the middle, found by the times of the segments and within one by halves.
fn minute(dir: &Path) -> Figures {
    let (figures, found) = Figures::of(|| {
        let spool = Inspection::open(dir).unwrap();
        let state = spool.state();
        let since = BEGIN + 500 * i64::try_from(state.next_seq).unwrap();
        let until = since + 60_000;
        let holding = state.segments.values().find(|info| info.max_received >= since).unwrap();
        let received = |seq: Seq| next(&mut spool.reader(seq)).unwrap().header.received_at;
        let (mut low, mut high) = (holding.first_seq, holding.end_seq);
        while low < high {
            let middle = low.midpoint(high);
            (low, high) = if received(middle) < since { (middle + 1, high) } else { (low, middle) };
        }
        let mut reader = spool.reader(low);
        let mut found = 0;
        while let Some(batch) = next(&mut reader)
            && batch.header.received_at < until
        {
            found += 1;
        }
        found
    });
    assert_eq!(found, 60, "one batch a second");
    figures
}

/// Reads what lies in page cache, in turns with copying as many bytes and their checksum.
fn drain(dir: &Path) -> Figures {
    let spool = Inspection::open(dir).unwrap();
    let mut reader = spool.reader(0);
    // The first pass brings the bytes into the cache; it is not counted.
    for _ in 0..NEWEST * 8 {
        let _ = next(&mut reader);
    }
    let mut rng = fastrand::Rng::with_seed(1);
    let source: Vec<u8> = std::iter::repeat_with(|| rng.u8(..)).take(64 * BODY).collect();
    let mut target = vec![0; BODY];
    let mut sum = 0;
    let mut turns = (Vec::new(), Vec::new());
    reader.seek(0);
    let (mut figures, ()) = Figures::of(|| {
        for _ in 0..32 {
            let start = Instant::now();
            let mut bodies = 0;
            for _ in 0..64 {
                let Some(batch) = next(&mut reader) else { break };
                bodies += batch.body.len();
            }
            turns.0.push(start.elapsed());
            assert!(bodies > 0, "the spool is too small to be drained for this long");
            let start = Instant::now();
            for from in source[..bodies].chunks_exact(BODY) {
                target.copy_from_slice(from);
                sum ^= crc32c::crc32c(std::hint::black_box(&target));
            }
            turns.1.push(start.elapsed());
        }
    });
    std::hint::black_box(sum);
    figures.seconds = 32.0 * median(turns.0).as_secs_f64();
    figures.other = 32.0 * median(turns.1).as_secs_f64();
    figures
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
