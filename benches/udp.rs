//! Datagrams sent many with one call, against one call each, in the same run.
//!
//! `cargo bench --bench udp` sends the same messages over loopback in turns of both kinds, and
//! prints what each took of the sender's own CPU and of the clock. The receiver does not read:
//! its buffer is full, and what costs is the sending.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench says its figures, and a panic is the report"
)]

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use sls_relay::syslog::transport::{Frames, UdpConnection, UdpSettings};
use sls_relay::syslog::{Scheme, Target};

const MESSAGES: usize = 20_000;
const ROUNDS: usize = 9;

/// Time of the clock, and CPU time of this thread.
type Cost = (Duration, Duration);

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for size in [200, 500, 1000, 1400] {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = receiver.local_addr().unwrap();
        let target =
            Target { scheme: Scheme::Udp, host: address.ip().to_string(), port: address.port() };
        let mut frames = Frames::new();
        let message = vec![b'x'; size];
        (0..MESSAGES).for_each(|_| frames.push(|buf| buf.extend_from_slice(&message)));

        let single = UdpSocket::bind("127.0.0.1:0").unwrap();
        single.connect(address).unwrap();
        let settings = UdpSettings { max_rate: 0, ..UdpSettings::default() };
        let mut batched = runtime.block_on(UdpConnection::connect(&target, &settings)).unwrap();
        // The first datagram goes alone and waits.
        runtime.block_on(batched.send([&b"x"[..]])).unwrap();

        let (mut one_by_one, mut together) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            one_by_one.push(cost(|| {
                for frame in frames.iter() {
                    single.send(frame).unwrap();
                }
            }));
            together.push(cost(|| runtime.block_on(batched.write(&frames)).unwrap()));
        }
        let (one_by_one, together) = (median(one_by_one), median(together));
        let rate = |cost: Duration| MESSAGES as f64 / cost.as_secs_f64();
        println!(
            "{size} octets: single {:.0}/s, batched {:.0}/s, {:.2} times; per CPU second {:.2} times",
            rate(one_by_one.0),
            rate(together.0),
            rate(together.0) / rate(one_by_one.0),
            rate(together.1) / rate(one_by_one.1),
        );
    }
}

fn cost(run: impl FnOnce()) -> Cost {
    let cpu = || {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
    };
    let (clock, before) = (Instant::now(), cpu());
    run();
    (clock.elapsed(), cpu() - before)
}

fn median(mut costs: Vec<Cost>) -> Cost {
    costs.sort();
    costs[costs.len() / 2]
}
