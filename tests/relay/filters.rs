//! Logs that SLS filters: what passes arrives, and progress is the cursor's, not the count's.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use sls_relay::emulator::receiver::{Receiver, ReceiverConfig};
use sls_relay::emulator::sls::{Generator, SlsConfig};
use sls_relay::emulator::waf::Waf;
use sls_relay::sls::Filter;
use sls_relay::sls::wire::{Content, Log, LogGroup};

use crate::pipeline::{Ends, Running, wait_for};

/// Log groups at the start, of which the second half holds nothing that passes.
const GROUPS: u64 = 400;

fn group(number: u64) -> LogGroup {
    let kept = number < GROUPS / 2 && number.is_multiple_of(10) || number >= GROUPS;
    let content =
        |key: &'static str, value: String| Content { key: key.into(), value: value.into() };
    let log = |id: String, kind: &str| Log {
        time: 1_700_000_000,
        contents: vec![content("id", id), content("kind", kind.to_owned())],
        time_ns: None,
    };
    let second = if kept { "keep" } else { "drop" };
    let logs = vec![log(format!("{number}a"), "drop"), log(format!("{number}b"), second)];
    LogGroup { logs, ..LogGroup::default() }
}

/// Runs a relay with the filter over all that is there, restarts it, and puts one log more.
async fn consume(filter: Filter) {
    let pulled = Arc::new(Mutex::new(Vec::new()));
    let made = Arc::clone(&pulled);
    let make = Arc::new(move |_, number| {
        made.lock().unwrap().push(number);
        group(number)
    });
    let generator = Some(Generator { groups_per_shard: vec![GROUPS], make });
    let adjust = |config: &mut SlsConfig| config.generator = generator;
    let ends = Ends::serve(Waf::new(1), 1, 1, adjust).await;
    ends.emulator.set_processor("kept", "* | where kind = 'keep'").unwrap();
    let messages = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&messages);
    let tcp = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    let receiver = Receiver::start(
        ReceiverConfig { tcp, ..ReceiverConfig::default() },
        Arc::new(move |_, message| {
            sink.lock().unwrap().push(String::from_utf8_lossy(message).into_owned());
        }),
    )
    .unwrap();
    let dir = tempfile::tempdir().unwrap();
    let to = format!("tcp://{}", receiver.tcp_addr().unwrap());
    let mut settings = ends.settings_to(dir.path(), &to);
    settings.sources[0].filter = Some(filter);

    let relay = Running::start(settings.clone()).await;
    wait_for("the checkpoint to pass what was left out", || ends.all_committed()).await;
    wait_for("what passes", || relay.confirmed() == GROUPS / 20).await;
    relay.stop().await;
    let ids = |messages: &[String]| -> Vec<String> {
        let id = |text: &String| {
            let (_, rest) = text.split_once("id=").unwrap();
            rest.split("||").next().unwrap().to_owned()
        };
        messages.iter().map(id).collect()
    };
    let expected: Vec<_> = (0..GROUPS / 2).step_by(10).map(|number| format!("{number}b")).collect();
    assert_eq!(ids(&messages.lock().unwrap()), expected);
    // Only what was pulled as a whole has an exact place in its log group.
    assert!(messages.lock().unwrap().iter().all(|message| message.contains(r#"approx="1""#)));

    pulled.lock().unwrap().clear();
    let relay = Running::start(settings).await;
    ends.emulator.put_group(0, &group(GROUPS)).unwrap();
    wait_for("the log put last", || messages.lock().unwrap().len() == expected.len() + 1).await;
    relay.stop().await;
    assert_eq!(ids(&messages.lock().unwrap()).last().unwrap(), &format!("{GROUPS}b"));
    assert_eq!(*pulled.lock().unwrap(), [0; 0], "nothing is read again");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_query_leaves_out_moves_the_checkpoint_and_is_not_read_again() {
    consume(Filter::Query("* | where kind = 'keep'".to_owned())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_processor_leaves_out_moves_the_checkpoint_and_is_not_read_again() {
    consume(Filter::Processor("kept".to_owned())).await;
}
