//! What a log costs between the spool and the socket: decompressing an answer, checking it,
//! walking it, and writing its messages.
//!
//! ```text
//! cargo bench --bench decode
//! ```
//!
//! The answer is 1,000 WAF logs in ten log groups, lz4, as the emulator serves it. All steps
//! are measured in turns and medians are shown.
//! `SLS_RELAY_BENCH_ROUNDS`: turns, 200 by default.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a program that only measures")]

use std::hint::black_box;
use std::time::Instant;

use prost::Message as _;
use sls_relay::emulator::waf::Waf;
use sls_relay::sls::wire::LogGroupList;
use sls_relay::sls::{Compression, body, walk};
use sls_relay::syslog::{Format, FormatSettings, Formatter, Framing, Identity, LogLine};

/// What is measured, by name.
type Step<'a> = (&'static str, Box<dyn FnMut() + 'a>);

const GROUPS: u64 = 10;
const LOGS_PER_GROUP: usize = 100;

fn main() {
    let rounds = std::env::var("SLS_RELAY_BENCH_ROUNDS").map_or(200, |text| text.parse().unwrap());
    let waf = Waf::new(1);
    let groups = (0..GROUPS).map(|n| waf.group(0, n * LOGS_PER_GROUP as u64, LOGS_PER_GROUP));
    let answer = LogGroupList { log_groups: groups.collect() }.encode_to_vec();
    let block = lz4_flex::block::compress(&answer);
    let logs = walk::summary(&answer).unwrap().logs;

    let mut raw = Vec::new();
    let mut rfc5424 = formatter(Format::Rfc5424);
    let mut sample = formatter(Format::Sample);
    let mut messages = Vec::new();
    let mut steps: Vec<Step<'_>> = vec![
        (
            "body::decompress (lz4)",
            Box::new(|| {
                body::decompress(Compression::Lz4, &block, answer.len() as u64, &mut raw).unwrap();
            }),
        ),
        ("walk::summary", Box::new(|| drop(black_box(walk::summary(&answer))))),
        (
            "walk over every field",
            Box::new(|| {
                black_box(walked(&answer));
            }),
        ),
        ("prost decode, to compare", Box::new(|| drop(LogGroupList::decode(&answer[..]).unwrap()))),
    ];
    let mut times = measure(rounds, &mut steps);
    drop(steps);
    for (name, formatter, framing) in [
        ("format rfc5424, octet counting", &mut rfc5424, Framing::OctetCounting),
        ("format sample, LF", &mut sample, Framing::Lf),
    ] {
        let write: Box<dyn FnMut()> =
            Box::new(|| written(&answer, formatter, framing, &mut messages));
        times.extend(measure(rounds, &mut [(name, write)]));
    }

    let (raw, stored) = (answer.len() as f64, block.len());
    println!("{logs} logs, {} bytes, {stored} bytes as lz4; {rounds} rounds", answer.len());
    println!("{:<34}{:>10}{:>12}{:>12}", "step", "MB/s", "ns/log", "µs/answer");
    for (name, seconds) in times {
        let each = 1e9 * seconds / f64::from(logs);
        println!("{name:<34}{:>10.0}{each:>12.0}{:>12.0}", raw / seconds / 1e6, 1e6 * seconds);
    }
}

/// Median seconds of each step.
fn measure(rounds: usize, steps: &mut [Step<'_>]) -> Vec<(&'static str, f64)> {
    let mut seconds = vec![Vec::new(); steps.len()];
    for _ in 0..rounds {
        for ((_, step), seconds) in steps.iter_mut().zip(&mut seconds) {
            let start = Instant::now();
            step();
            seconds.push(start.elapsed().as_secs_f64());
        }
    }
    let medians = seconds.into_iter().map(|mut seconds| {
        seconds.sort_by(f64::total_cmp);
        seconds[seconds.len() / 2]
    });
    steps.iter().map(|(name, _)| *name).zip(medians).collect()
}

/// Bytes of all keys and values.
fn walked(answer: &[u8]) -> usize {
    let logs = walk::groups(answer).flat_map(|group| group.unwrap().logs());
    let fields = logs.flat_map(|log| log.fields());
    fields.map(|(key, value)| key.len() + value.len()).sum()
}

/// Writes every message of the answer, framed, as the relay does.
fn written(answer: &[u8], formatter: &mut Formatter, framing: Framing, out: &mut Vec<u8>) {
    out.clear();
    let (mut tags, mut fields, mut message) = (Vec::new(), Vec::new(), Vec::new());
    for group in walk::groups(answer) {
        let group = group.unwrap();
        tags.clear();
        tags.extend(group.tags());
        for (index, log) in (0..).zip(group.logs()) {
            fields.clear();
            fields.extend(log.fields());
            message.clear();
            let line = LogLine {
                time: log.time,
                time_ns: log.time_ns,
                topic: group.topic,
                source: group.source,
                tags: &tags,
                fields: &fields,
                identity: Identity {
                    source: "waf-project/waf-logstore",
                    shard: 0,
                    cursor: "MTczNjg5OTIwMDEyMzQ1Njc4OQ==",
                    index,
                    approximate: false,
                },
                origin: None,
                replay: None,
                severity: None,
            };
            black_box(formatter.format(&line, &mut message).truncated_from);
            framing.append(&message, out);
        }
    }
    black_box(out.len());
}

fn formatter(format: Format) -> Formatter {
    let settings = FormatSettings {
        format,
        hostname: "relay".to_owned(),
        app_name: "sls-relay".to_owned(),
        ..FormatSettings::default()
    };
    Formatter::new(settings).unwrap()
}
