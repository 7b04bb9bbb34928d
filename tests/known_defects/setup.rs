//! Before the first pull: schemes, clocks, and groups that exist.

use std::io::Read as _;
use std::net::TcpListener;
use std::time::Duration;

use sls_relay::sls::Endpoint;

use crate::pipeline::{Running, wait_for};
use crate::scene::{GROUP, LOGSTORE, Scene, ids, python};

/// The first byte of a TLS record that begins a handshake (RFC 8446 section 5.1).
const TLS_HANDSHAKE: u8 = 0x16;

/// A port, and the first bytes that the first connection sends to it.
fn first_bytes() -> (u16, std::thread::JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let first = std::thread::spawn(move || {
        let (mut connection, _) = listener.accept().unwrap();
        connection.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut bytes = vec![0; 5];
        connection.read_exact(&mut bytes).unwrap();
        bytes
    });
    (port, first)
}

/// With an endpoint without a scheme the SDK speaks http, the relay TLS.
#[tokio::test(flavor = "multi_thread")]
async fn plain_http_is_the_default() {
    let sdk = async {
        let Some(python) = python() else { return };
        let scene = Scene::new(&[1]).await;
        let (port, first) = first_bytes();
        let _sdk = scene.sdk(&python, &["--endpoint", &format!("localhost:{port}")]);
        let first = tokio::task::spawn_blocking(|| first.join().unwrap()).await.unwrap();
        assert_eq!(first, b"GET /", "mended");
    };
    let relay = async {
        let scene = Scene::new(&[1]).await;
        let (port, first) = first_bytes();
        let mut settings = scene.settings();
        settings.sources[0].endpoint = Endpoint::parse(&format!("localhost:{port}")).unwrap();
        let relay = Running::start(settings).await;
        let first = tokio::task::spawn_blocking(|| first.join().unwrap()).await.unwrap();
        assert_eq!(first[0], TLS_HANDSHAKE, "{first:?}");
        relay.stop().await;
    };
    tokio::join!(sdk, relay);
    assert!(Endpoint::parse("cn-hangzhou.log.aliyuncs.com").unwrap().is_https());
}

/// The SDK's worker cannot even be made while the clock is off; the relay takes the
/// service's time from its answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_off_by_20_minutes_refuses_every_request() {
    for skew in [-1200, 1200] {
        let sdk = async {
            let Some(python) = python() else { return };
            let scene = Scene::new(&[2]).await;
            scene.emulator().faults().set_clock_skew(skew);
            let (status, complaints) = scene.sdk(&python, &[]).end().await;
            assert!(!status.success(), "mended");
            assert!(complaints.contains("RequestTime"), "{complaints}");
            assert!(scene.asked("PullLogs").is_empty());
        };
        let relay = async {
            let scene = Scene::new(&[2]).await;
            scene.emulator().faults().set_clock_skew(skew);
            let relay = scene.relay().await;
            scene.all_arrived(&ids(0, 0..2)).await;
            wait_for("the checkpoint", || scene.committed(0)).await;
            relay.stop().await;
        };
        tokio::join!(sdk, relay);
    }
}

/// The SDK writes its own timeout and order into a group that others use; the relay takes
/// the group as it is.
#[tokio::test(flavor = "multi_thread")]
async fn an_existing_group_is_overwritten() {
    let group = async |scene: &Scene| {
        let groups = scene.client().list_consumer_groups(LOGSTORE).await.unwrap();
        let group = groups.into_iter().find(|group| group.name == GROUP).unwrap();
        (group.timeout_s, group.order)
    };
    let sdk = async {
        let Some(python) = python() else { return };
        let scene = Scene::new(&[2]).await;
        scene.make_group(60, true).await;
        let _sdk = scene.sdk(&python, &[]);
        scene.all_arrived(&ids(0, 0..2)).await;
        assert_eq!(group(&scene).await, (2, false), "mended");
    };
    let relay = async {
        let scene = Scene::new(&[2]).await;
        scene.make_group(60, true).await;
        let relay = scene.relay().await;
        scene.all_arrived(&ids(0, 0..2)).await;
        relay.stop().await;
        assert_eq!(group(&scene).await, (60, true));
        assert!(scene.asked("UpdateConsumerGroup").is_empty());
    };
    tokio::join!(sdk, relay);
}
