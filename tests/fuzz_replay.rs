//! Replays the fuzzing corpus, and seeded mutations of it, through the functions that the
//! coverage-guided fuzzer calls (see `fuzz/README.md`).
//!
//! `SLS_RELAY_FUZZ_SECONDS` is the time all targets take together, 30 by default;
//! `SLS_RELAY_SEED` repeats a run. An input that fails is kept under `target/fuzz-failures`,
//! and is printed where it is short.

#![expect(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, reason = "a test")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sls_relay::{control, sls, spool, syslog};

type Target = fn(&[u8]);
/// The input that is running, and since when.
type Current = Arc<Mutex<Option<(Instant, Vec<u8>)>>>;

const TARGETS: u64 = 9;
/// Bytes: no input may ask for more at once. Inputs are far smaller; this is the limit of an
/// encoded header, and a little.
const LARGEST_ALLOCATION: usize = (16 << 20) + (64 << 10);
/// Bytes of the longest mutated input.
const LONGEST: usize = 64 << 10;
/// No input comes near it; the one that does never ends.
const STUCK_AFTER: Duration = Duration::from_secs(60);

#[test]
fn pull_answers_of_any_bytes_are_read_or_refused() {
    replay("pull_answer", sls::fuzz::pull_answer);
}

#[test]
fn decompressed_answers_of_any_bytes_are_read_or_refused() {
    replay("decompressed_answer", sls::fuzz::decompressed_answer);
}

#[test]
fn error_answers_of_any_bytes_are_read_and_shown() {
    replay("error_answer", sls::fuzz::error_answer);
}

#[test]
fn answers_about_groups_of_any_bytes_are_read_or_refused() {
    replay("group_answer", sls::fuzz::group_answer);
}

#[test]
fn credential_documents_of_any_bytes_are_read_or_refused() {
    replay("credential_document", sls::fuzz::credential_document);
}

#[test]
fn segments_of_any_bytes_are_read_or_set_aside() {
    replay("spool_segment", spool::fuzz::segment);
}

#[test]
fn entry_headers_of_any_bytes_are_read_or_refused() {
    replay("spool_entry", spool::fuzz::entry_header);
}

#[test]
fn requests_and_replies_of_any_bytes_are_read_or_refused() {
    replay("control_request", control::fuzz::control);
}

#[test]
fn what_relp_servers_say_in_any_bytes_is_read_or_refused() {
    replay("relp_reader", syslog::fuzz::relp_reader);
}

/// `SLS_RELAY_WRITE_CORPUS=1` writes these anew; those of the spool come from its own tests.
#[test]
fn the_committed_answers_are_those_of_the_fixtures() {
    for vector in fixture("bodies.json") {
        let name = vector["name"].as_str().unwrap();
        let size = u32::try_from(vector["raw_size"].as_u64().unwrap()).unwrap().to_le_bytes();
        for (kind, field) in [(0, "raw_hex"), (1, "lz4_block_hex"), (2, "zstd_hex")] {
            let body = unhex(vector[field].as_str().unwrap());
            if body.len() > 8 << 10 {
                continue;
            }
            let suffix = field.split('_').next().unwrap();
            let input = [&[kind], &size[..], &body].concat();
            is_committed("pull_answer", &format!("{name}-{suffix}"), &input);
            if kind == 0 {
                is_committed("decompressed_answer", name, &body);
            }
        }
    }
}

#[test]
fn the_committed_errors_and_group_answers_are_those_of_the_fixtures() {
    let retry_after: [&[u8]; 3] = [b"", b"17", b"Thu, 15 Jan 2026 08:31:30 GMT"];
    for (number, vector) in fixture("errors.json").iter().enumerate() {
        let status = u16::try_from(vector["http_status"].as_u64().unwrap()).unwrap();
        let header = retry_after[number % retry_after.len()];
        let body = vector["body_utf8"].as_str().unwrap().as_bytes();
        let length = u8::try_from(header.len()).unwrap();
        let input = [&status.to_le_bytes(), &[length][..], header, body].concat();
        is_committed("error_answer", &format!("{number:02}-{status}"), &input);
    }
    for vector in fixture("operations.json") {
        let name = vector["op"].as_str().unwrap();
        let kind = match name.split('_').next().unwrap() {
            "HeartBeat" => 0,
            "GetCheckPoint" => 1,
            "ListConsumerGroup" => 2,
            _ => continue,
        };
        let body = vector["response"]["body_utf8"].as_str().unwrap().as_bytes();
        is_committed("group_answer", name, &[&[kind], body].concat());
    }
    let documented: [(u8, &str, &str); 2] = [
        (0, "HeartBeat_object", r#"{"shards":[4,2]}"#),
        (
            2,
            "ListConsumerGroup_object",
            r#"{"count":1,"consumerGroups":[{"name":"g","timeout":30,"order":true}]}"#,
        ),
    ];
    for (kind, name, body) in documented {
        is_committed("group_answer", name, &[&[kind], body.as_bytes()].concat());
    }
}

fn fixture(name: &str) -> Vec<serde_json::Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/sls").join(name);
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn replay(name: &'static str, target: Target) {
    let seed = variable("SLS_RELAY_SEED").unwrap_or_else(|| fastrand::u64(..));
    let seconds = variable("SLS_RELAY_FUZZ_SECONDS").unwrap_or(30);
    println!("{name}: SLS_RELAY_SEED={seed} SLS_RELAY_FUZZ_SECONDS={seconds}");
    let corpus = corpus(name);
    assert!(!corpus.is_empty(), "no corpus for {name}");
    let mut trial = Trial::new(name, target, seed);
    for input in &corpus {
        trial.run(input);
    }
    let mut rng = fastrand::Rng::with_seed(seed);
    let end = Instant::now() + Duration::from_secs(seconds) / u32::try_from(TARGETS).unwrap();
    while Instant::now() < end {
        let input = mutated(&corpus, &mut rng);
        trial.run(&input);
    }
    println!("{name}: {} inputs", trial.number);
}

/// One target with what is needed to tell how it failed.
struct Trial {
    name: &'static str,
    target: Target,
    seed: u64,
    number: u64,
    current: Current,
}

impl Trial {
    fn new(name: &'static str, target: Target, seed: u64) -> Self {
        let current = Current::default();
        let watched = Arc::downgrade(&current);
        std::thread::spawn(move || {
            while let Some(current) = watched.upgrade() {
                if let Some((since, input)) = current.lock().unwrap().as_ref()
                    && since.elapsed() > STUCK_AFTER
                {
                    eprintln!("{name} comes to no end, seed {seed}: {}", kept(name, seed, input));
                    std::process::exit(1);
                }
                drop(current);
                std::thread::sleep(Duration::from_secs(1));
            }
        });
        Self { name, target, seed, number: 0, current }
    }

    fn run(&mut self, input: &[u8]) {
        self.number += 1;
        *self.current.lock().unwrap() = Some((Instant::now(), input.to_vec()));
        LARGEST.set(0);
        let target = self.target;
        let outcome = catch_unwind(|| target(input));
        let largest = LARGEST.get();
        *self.current.lock().unwrap() = None;
        let (name, seed, number) = (self.name, self.seed, self.number);
        let at = || format!("{name}, seed {seed}, input {number}: {}", kept(name, seed, input));
        assert!(outcome.is_ok(), "panicked: {}", at());
        assert!(largest <= LARGEST_ALLOCATION, "asked for {largest} bytes at once: {}", at());
    }
}

/// Writes an input that failed to a file; gives its path, and the bytes if they are few.
fn kept(name: &str, seed: u64, input: &[u8]) -> String {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/fuzz-failures");
    let path = dir.join(format!("{name}-{seed}-{:08x}", crc32c::crc32c(input)));
    let written = fs::create_dir_all(&dir).and_then(|()| fs::write(&path, input));
    let hex: String = input.iter().take(2048).map(|byte| format!("{byte:02x}")).collect();
    let more = if input.len() > 2048 { "…" } else { "" };
    match written {
        Ok(()) => format!("{} {hex}{more}", path.display()),
        Err(error) => format!("(not kept: {error}) {hex}{more}"),
    }
}

/// An input of the corpus after one to eight changes.
fn mutated(corpus: &[Vec<u8>], rng: &mut fastrand::Rng) -> Vec<u8> {
    let mut input = corpus[rng.usize(..corpus.len())].clone();
    for _ in 0..1 << rng.u32(..4) {
        let at = rng.usize(..=input.len());
        let end = rng.usize(at..=input.len());
        match rng.u8(..9) {
            0 | 1 => {
                if let Some(byte) = input.get_mut(at) {
                    *byte ^= 1 << rng.u8(..8);
                }
            }
            2 => {
                if let Some(byte) = input.get_mut(at) {
                    *byte = rng.u8(..);
                }
            }
            3 | 4 => overwrite(&mut input, at, &interesting(rng)),
            5 => input.truncate(at),
            6 => drop(input.drain(at..end)),
            7 => {
                let again = input[at..end].to_vec();
                input.splice(at..at, again);
            }
            _ => {
                let other = &corpus[rng.usize(..corpus.len())];
                let from = rng.usize(..=other.len());
                let to = rng.usize(from..=other.len());
                input.splice(at..end, other[from..to].iter().copied());
            }
        }
    }
    input.truncate(LONGEST);
    input
}

fn overwrite(input: &mut [u8], at: usize, bytes: &[u8]) {
    for (byte, new) in input[at..].iter_mut().zip(bytes) {
        *byte = *new;
    }
}

/// Numbers at the edges, as the formats write them.
fn interesting(rng: &mut fastrand::Rng) -> Vec<u8> {
    const EDGES: [u64; 14] = [
        0,
        1,
        0x7f,
        0x80,
        0xff,
        0x7fff,
        0xffff,
        0x00ff_ffff,
        0x0100_0000,
        0x7fff_ffff,
        0xffff_ffff,
        0x1_0000_0000,
        i64::MAX as u64,
        u64::MAX,
    ];
    let number = EDGES[rng.usize(..EDGES.len())].wrapping_add(rng.u64(..3)).wrapping_sub(1);
    let width = 1 << rng.u32(..4);
    match rng.u8(..4) {
        0 => number.to_be_bytes()[8 - width..].to_vec(),
        // As protobuf writes it, and as bincode does.
        1 => {
            let mut left = number;
            let mut bytes = Vec::new();
            while left >= 0x80 {
                bytes.push(left as u8 | 0x80);
                left >>= 7;
            }
            bytes.push(left as u8);
            bytes
        }
        2 => [&[rng.u8(250..)], &number.to_le_bytes()[..width]].concat(),
        _ => number.to_le_bytes()[..width].to_vec(),
    }
}

fn directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name)
}

/// The committed inputs of a target, in the order of their names.
fn corpus(name: &str) -> Vec<Vec<u8>> {
    let files = fs::read_dir(directory(name)).unwrap();
    let mut paths: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

fn is_committed(target: &str, name: &str, bytes: &[u8]) {
    let path = directory(target).join(name);
    if std::env::var_os("SLS_RELAY_WRITE_CORPUS").is_some() {
        fs::create_dir_all(directory(target)).unwrap();
        fs::write(&path, bytes).unwrap();
    }
    let committed = fs::read(&path).unwrap_or_default();
    assert!(committed == bytes, "{} is not what the fixture says", path.display());
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
    digits.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap())
}

thread_local! {
    /// Bytes of the largest allocation of this thread since it was last set to 0.
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

struct Watching;

#[global_allocator]
static ALLOCATOR: Watching = Watching;

#[expect(unsafe_code, reason = "the largest allocation is seen by an allocator only")]
// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Watching {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

fn note(size: usize) {
    // A thread that ends has no cell any more.
    let _ = LARGEST.try_with(|largest| largest.set(largest.get().max(size)));
}
