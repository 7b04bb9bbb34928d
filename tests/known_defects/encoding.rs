//! Bytes that are not UTF-8.

use bytes::Bytes;
use prost::Message as _;
use sls_relay::emulator::arrivals::body_of;
use sls_relay::emulator::receiver::Mode;
use sls_relay::sls::wire::{Log, LogGroup, LogGroupList};
use sls_relay::spool::inspect::Inspection;
use sls_relay::spool::{Item, Seq};
use sls_relay::syslog::body;

use crate::pipeline::wait_for;
use crate::scene::{Scene, content, python};

/// A request path as an attacker sends it: one lone byte, a Chinese character, half of one.
const PATH: &[u8] = b"/\xfd/\xe4\xb8\xad/\xe4\xb8/end";

fn hostile(shard: u32, number: u64) -> LogGroup {
    let id = format!("{shard}/{number}/0");
    let contents = vec![content("path", PATH), content("id", id)];
    let log = Log { time: 1_700_000_000, contents, time_ns: None };
    LogGroup { logs: vec![log], topic: Some(Bytes::from_static(b"waf")), ..LogGroup::default() }
}

/// The SDK takes the bytes out without a word; the relay escapes them, and its spool keeps
/// what SLS sent.
#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_not_utf_8_are_silently_removed() {
    let sdk = async {
        let Some(python) = python() else { return };
        let scene = Scene::serve(&[1], hostile).await;
        let _sdk = scene.sdk(&python, &[]);
        wait_for("the log", || !scene.messages().is_empty()).await;
        let message = String::from_utf8(scene.messages().remove(0)).unwrap();
        assert!(message.contains("path=//中//end"), "mended: {message}");
    };
    let relay = async {
        let scene = Scene::serve(&[1], hostile).await;
        scene.receiver.set_mode(Mode::Refuse).await.unwrap();
        let relay = scene.relay().await;
        wait_for("the batch in the spool", || relay.counters.snapshot().spooled == 1).await;
        let spool = Inspection::open(scene.spool()).unwrap();
        let Some(Item::Batch(batch)) = spool.reader(Seq::default()).read().unwrap() else {
            panic!("no batch");
        };
        let size = usize::try_from(batch.header.raw_size).unwrap();
        let raw = lz4_flex::block::decompress(&batch.body, size).unwrap();
        assert_eq!(LogGroupList::decode(&*raw).unwrap().log_groups, [hostile(0, 0)]);

        scene.receiver.set_mode(Mode::Accept).await.unwrap();
        wait_for("the log", || !scene.messages().is_empty()).await;
        relay.stop().await;
        let message = scene.messages().remove(0);
        let text = std::str::from_utf8(&message).unwrap();
        assert!(text.contains(r"path=/\xfd/中/\xe4\xb8/end"), "{text}");
        let fields = body::decode(body_of(&message).unwrap(), "||").unwrap();
        assert!(fields.contains(&(b"path".to_vec(), PATH.to_vec())), "{fields:?}");
    };
    tokio::join!(sdk, relay);
}
