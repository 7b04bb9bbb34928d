//! Datagrams sent many with one call, against one call each, in the same run.
//!
//! `cargo bench --bench udp` sends the messages of 1,000 WAF logs over loopback, as the limits
//! `udp-mtu` and `rsyslog` leave them, in turns of both kinds, and prints medians of what each
//! took of the clock and of the sender's own CPU. The receiver does not read: its buffer is
//! full, and what costs is the sending.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench says its figures, and a panic is the report"
)]

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use prost::Message as _;
use sls_relay::emulator::waf::Waf;
use sls_relay::sls::walk;
use sls_relay::sls::wire::LogGroupList;
use sls_relay::syslog::transport::{Frames, UdpConnection, UdpSettings};
use sls_relay::syslog::{
    FormatSettings, Formatter, Identity, LogLine, Oversize, Scheme, Target, size,
};

const LOGS: usize = 1_000;
/// Times that all messages are sent in one turn.
const TIMES: usize = 20;
const TURNS: usize = 15;

/// Time of the clock, and CPU time of this thread.
type Cost = (Duration, Duration);

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for limit in ["udp-mtu", "rsyslog"] {
        let frames = messages(size::preset(limit).unwrap());
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = receiver.local_addr().unwrap();
        let target =
            Target { scheme: Scheme::Udp, host: address.ip().to_string(), port: address.port() };
        let single = UdpSocket::bind("127.0.0.1:0").unwrap();
        single.connect(address).unwrap();
        let settings = UdpSettings { max_rate: 0, ..UdpSettings::default() };
        let mut batched = runtime.block_on(UdpConnection::connect(&target, &settings)).unwrap();
        // The first datagram goes alone and waits.
        runtime.block_on(batched.send([&b"x"[..]])).unwrap();

        let (mut one_by_one, mut together) = (Vec::new(), Vec::new());
        for _ in 0..TURNS {
            one_by_one.push(cost(|| {
                for _ in 0..TIMES {
                    frames.iter().for_each(|frame| {
                        single.send(frame).unwrap();
                    });
                }
            }));
            together.push(cost(|| {
                for _ in 0..TIMES {
                    runtime.block_on(batched.write(&frames)).unwrap();
                }
            }));
        }
        let (one_by_one, together) = (median(one_by_one), median(together));
        let rate = |cost: Duration| (LOGS * TIMES) as f64 / cost.as_secs_f64();
        println!(
            "{limit}, {} octets on average: single {:.0}/s, batched {:.0}/s, {:.2} times; per CPU second {:.2} times",
            frames.len() / LOGS,
            rate(one_by_one.0),
            rate(together.0),
            rate(together.0) / rate(one_by_one.0),
            rate(together.1) / rate(one_by_one.1),
        );
    }
}

/// WAF logs as messages of at most `max_bytes`.
fn messages(max_bytes: usize) -> Frames {
    let groups = LogGroupList { log_groups: vec![Waf::new(1).group(0, 0, LOGS)] }.encode_to_vec();
    let mut formatter = Formatter::new(FormatSettings {
        hostname: "relay".to_owned(),
        app_name: "waf".to_owned(),
        max_bytes,
        oversize: Oversize::Shrink,
        ..FormatSettings::default()
    })
    .unwrap();
    let mut frames = Frames::new();
    for group in walk::groups(&groups).flatten() {
        for (index, log) in (0..).zip(group.logs()) {
            let fields: Vec<_> = log.fields().collect();
            let line = LogLine {
                time: log.time,
                time_ns: log.time_ns,
                topic: group.topic,
                source: group.source,
                tags: &[],
                fields: &fields,
                identity: Identity {
                    source: "waf-project/waf-logstore",
                    shard: 0,
                    cursor: "MTcwOTIxMDA5Ng==",
                    index,
                    approximate: false,
                },
                origin: None,
                replay: None,
                severity: None,
            };
            frames.push(|out| drop(formatter.format(&line, out)));
        }
    }
    assert_eq!(frames.count(), LOGS);
    frames
}

fn cost(run: impl FnOnce()) -> Cost {
    let cpu = || {
        let spent = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
        Duration::from_nanos(spent.split(' ').next().unwrap().parse().unwrap())
    };
    let (clock, before) = (Instant::now(), cpu());
    run();
    (clock.elapsed(), cpu() - before)
}

fn median(mut costs: Vec<Cost>) -> Cost {
    costs.sort();
    costs[costs.len() / 2]
}
