//! Answers that are too large, too short, too late, or make no sense.

use std::time::Duration;

use sls_relay::sls::body::{Compression, decompress};
use sls_relay::sls::{
    Advice, Client, ClientConfig, Cursor, DecodeError, Error, Filter, Filtered, PullAnswer,
    PullRequest,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::stub::{Answer, Stub};
use crate::{client, config};

/// Pulls with a cap of one megabyte.
async fn pull(endpoint: &str) -> Result<PullAnswer, Error> {
    let config = ClientConfig { max_raw_bytes: 1 << 20, ..config(endpoint) };
    let client = Client::new(config).expect("a client");
    client.pull_logs("l", 0, PullRequest::new(&Cursor::from_number(7), 100)).await
}

async fn pull_answer(headers: &[(&str, &str)], body: &[u8]) -> Result<PullAnswer, Error> {
    let stub = Stub::start(vec![Answer::status(200, headers, body)]).await;
    let result = pull(&stub.endpoint).await;
    assert_eq!(stub.requests().len(), 1, "the caller decides on another try");
    result
}

const NEXT: (&str, &str) = ("x-log-cursor", "OA==");

#[tokio::test]
async fn a_raw_size_over_the_cap_is_refused_before_the_body() {
    let headers = [
        NEXT,
        ("x-log-count", "1"),
        ("x-log-bodyrawsize", "1048577"),
        ("x-log-compresstype", "lz4"),
        ("x-log-requestid", "R1"),
    ];
    let error = pull_answer(&headers, &[0; 16]).await.expect_err("over the cap");
    assert!(matches!(&error, Error::TooLarge { size: 1_048_577, cap: 1_048_576, .. }), "{error}");
    assert_eq!((error.code(), error.request_id()), ("sls.answer_too_large", Some("R1")));
}

#[tokio::test]
async fn a_body_longer_than_its_raw_size_can_make_it_is_refused() {
    let headers =
        [NEXT, ("x-log-count", "1"), ("x-log-bodyrawsize", "10"), ("x-log-compresstype", "lz4")];
    let error = pull_answer(&headers, &[0; 5000]).await.expect_err("longer than it may be");
    assert_eq!(error.code(), "sls.answer_too_large");
}

#[tokio::test]
async fn an_answer_without_end_is_cut_off_at_the_cap() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("listen");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a client");
        assert!(stream.read(&mut [0; 4096]).await.expect("a request") > 0);
        let head = "HTTP/1.1 200 OK\r\nx-log-cursor: OA==\r\nx-log-count: 1\r\n\
                    x-log-bodyrawsize: 1000000\r\nx-log-compresstype: lz4\r\n\
                    Transfer-Encoding: chunked\r\n\r\n";
        stream.write_all(head.as_bytes()).await.expect("write");
        let chunk = [b"10000\r\n".as_slice(), &[0; 0x10000], b"\r\n"].concat();
        let mut sent: u64 = 0;
        while stream.write_all(&chunk).await.is_ok() {
            sent += chunk.len() as u64;
        }
        sent
    });
    let error = pull(&endpoint).await.expect_err("without end");
    assert_eq!(error.code(), "sls.answer_too_large");
    // It hung up: the rest fits into the buffers of two sockets.
    assert!(server.await.expect("the server ends") < 64 << 20);
}

#[tokio::test]
async fn a_truncated_answer_is_an_error_and_never_a_short_body() {
    let headers = [
        NEXT,
        ("x-log-count", "1"),
        ("x-log-bodyrawsize", "100"),
        ("x-log-compresstype", "lz4"),
        ("Content-Length", "60"),
    ];
    let stub = Stub::start(vec![Answer::head(200, &headers, &[0; 59])]).await;
    let error = pull(&stub.endpoint).await.expect_err("cut off");
    assert!(matches!(error, Error::Transport { failure: "the answer broke off", .. }), "{error}");
    assert!(matches!(error.advice(), Advice::Retry { .. }));

    let head = "HTTP/1.1 200 OK\r\nx-log-cou";
    let stub = Stub::start(vec![Answer(head.into())]).await;
    let error = pull(&stub.endpoint).await.expect_err("cut off in the head");
    assert_eq!(error.code(), "sls.transport");
}

#[tokio::test]
async fn a_body_of_another_size_than_announced_does_not_decompress() {
    let raw = [7u8; 500];
    let body = lz4_flex::block::compress(&raw);
    for announced in ["499", "501"] {
        let headers = [
            NEXT,
            ("x-log-count", "1"),
            ("x-log-bodyrawsize", announced),
            ("x-log-compresstype", "lz4"),
        ];
        let answer = pull_answer(&headers, &body).await.expect("the body is not looked into");
        let mut out = Vec::new();
        let error = decompress(answer.compression, &answer.body, answer.raw_size, &mut out);
        assert!(matches!(error, Err(DecodeError::RawSize { .. } | DecodeError::Compressed { .. })));
    }
}

#[tokio::test]
async fn the_body_is_never_decompressed_on_the_way() {
    for encoding in ["zstd", "gzip", "lz4"] {
        let headers = [
            NEXT,
            ("x-log-count", "1"),
            ("x-log-bodyrawsize", "9"),
            ("x-log-compresstype", "zstd"),
            ("Content-Encoding", encoding),
        ];
        let answer = pull_answer(&headers, b"as it is").await.expect("answered");
        assert_eq!((&answer.body[..], answer.compression), (&b"as it is"[..], Compression::Zstd));
    }
}

#[tokio::test]
async fn all_that_a_pull_answer_says_is_read() {
    let headers = [
        NEXT,
        ("x-log-count", "3"),
        ("x-log-bodyrawsize", "4"),
        ("x-log-read-last-cursor", "1729070618428044655"),
        ("x-log-cursor-time", "1729070700"),
        ("x-log-end-of-cursor", "1"),
        ("x-log-requestid", "R2"),
        ("Date", "Thu, 15 Jan 2026 08:30:00 GMT"),
    ];
    let answer = pull_answer(&headers, b"body").await.expect("answered");
    let expected = PullAnswer {
        next_cursor: Cursor::from_number(8),
        groups: 3,
        raw_size: 4,
        compression: Compression::None,
        body: "body".into(),
        last_group_cursor: Some(1_729_070_618_428_044_655),
        cursor_time: Some(1_729_070_700),
        end_of_cursor: true,
        filtered: None,
        date: Some(1_768_465_800),
        request_id: "R2".into(),
        room: Default::default(),
    };
    assert_eq!(answer, expected);
}

#[tokio::test]
async fn a_filtered_answer_says_what_was_looked_at_and_has_no_numbers_of_log_groups() {
    let headers = [
        NEXT,
        ("x-log-count", "0"),
        ("x-log-bodyrawsize", "0"),
        ("x-log-read-last-cursor", "7"),
        ("x-log-rawdatasize", "4000"),
        ("x-log-rawdatacount", "2"),
        ("x-log-rawdatalines", "80"),
        ("x-log-resultlines", "0"),
        ("x-log-failedlines", "3"),
    ];
    let stub = Stub::start(vec![Answer::status(200, &headers, b"")]).await;
    let (cursor, filter) = (Cursor::from_number(7), Filter::Query("* | where a = '1'".into()));
    let request = PullRequest { filter: Some(&filter), ..PullRequest::new(&cursor, 2) };
    let answer = client(&stub.endpoint).pull_logs("l", 0, request).await.expect("answered");
    let filtered =
        Filtered { bytes_before: 4000, groups_before: 2, logs_before: 80, logs: 0, logs_failed: 3 };
    assert_eq!(answer.filtered, Some(filtered));
    assert_eq!(answer.last_group_cursor, None, "no log of it can be told from its repetition");
    assert_eq!((answer.groups, answer.next_cursor), (0, Cursor::from_number(8)));
}

#[tokio::test]
async fn without_a_next_cursor_the_old_one_stays_unless_that_would_repeat_logs() {
    let empty = [("x-log-cursor", ""), ("x-log-count", "0"), ("x-log-bodyrawsize", "0")];
    let answer = pull_answer(&empty, b"").await.expect("nothing new");
    assert_eq!(answer.next_cursor, Cursor::from_number(7));
    let repeating = [("x-log-count", "1"), ("x-log-bodyrawsize", "4")];
    let error = pull_answer(&repeating, b"body").await.expect_err("logs without an end");
    assert_eq!(error.code(), "sls.answer_malformed");
}

#[tokio::test]
async fn a_pull_answer_that_makes_no_sense_is_malformed() {
    let count = ("x-log-count", "1");
    let lz4 = ("x-log-compresstype", "lz4");
    let cases: [&[(&str, &str)]; 6] = [
        &[NEXT, ("x-log-bodyrawsize", "4")],
        &[NEXT, ("x-log-count", "-1"), ("x-log-bodyrawsize", "4")],
        &[NEXT, count, lz4],
        &[NEXT, count, ("x-log-bodyrawsize", "many")],
        &[NEXT, count, ("x-log-bodyrawsize", "4"), ("x-log-compresstype", "deflate")],
        &[],
    ];
    for headers in cases {
        let error = pull_answer(headers, b"body").await.expect_err("no sense");
        assert_eq!(error.code(), "sls.answer_malformed", "{headers:?}");
        assert!(matches!(error.advice(), Advice::Retry { .. }));
    }
}

#[tokio::test]
async fn json_that_is_none_is_malformed() {
    for body in ["", "<html>", "{}", "null", r#"{"cursor":7}"#] {
        let stub = Stub::start(vec![Answer::json(body)]).await;
        let client = client(&stub.endpoint);
        let error = client.get_cursor("l", 0, sls_relay::sls::CursorFrom::Begin).await;
        assert_eq!(error.expect_err(body).code(), "sls.answer_malformed", "{body}");
    }
}

#[tokio::test]
async fn a_server_that_stays_silent_is_given_up_within_the_time_of_the_call() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("listen");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a client");
        // Until the client hangs up.
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.ok();
        rest.len()
    });
    let client = client(&endpoint);
    let timeout = Duration::from_millis(100);
    let error = client.heartbeat("l", "g", "c", &[], timeout).await.expect_err("no answer");
    assert!(matches!(&error, Error::Timeout { after, .. } if *after == timeout), "{error}");
    assert!(matches!(error.advice(), Advice::Retry { .. }));
    assert!(server.await.expect("the server ends") > 0, "the connection was given up");
}
