//! A server on loopback that answers requests one after the other as told, and keeps
//! what it was asked.

use std::sync::{Arc, Mutex};

use sls_relay::sls::sign;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// A request as it came over the wire.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// Not decoded.
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

/// One answer, byte for byte. Every answer ends its connection.
#[derive(Clone, Debug)]
pub(crate) struct Answer(pub(crate) Vec<u8>);

pub(crate) struct Stub {
    pub(crate) endpoint: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Stub {
    /// Listens; one answer for each request in turn, and then only 418.
    pub(crate) async fn start(answers: Vec<Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listen");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        tokio::spawn(async move {
            let mut answers = answers.into_iter();
            while let Ok((mut stream, _)) = listener.accept().await {
                let Some(request) = read_request(&mut stream).await else { continue };
                seen.lock().expect("no panic").push(request);
                let answer = answers.next().unwrap_or_else(|| Answer::status(418, &[], b""));
                // The client may hang up before all is written: that is what some tests
                // want.
                if stream.write_all(&answer.0).await.is_ok() {
                    stream.shutdown().await.ok();
                }
            }
        });
        Self { endpoint, requests }
    }

    /// What was asked so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().expect("no panic").clone()
    }

    /// The only request.
    pub(crate) fn request(&self) -> Request {
        let mut requests = self.requests();
        assert_eq!(requests.len(), 1, "one request");
        requests.remove(0)
    }
}

impl Answer {
    /// With the length of its body, and no other header than those given.
    pub(crate) fn status(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Self {
        let length = body.len().to_string();
        Self::head(status, &[headers, &[("Content-Length", length.as_str())]].concat(), body)
    }

    /// The head as given and whatever follows it.
    pub(crate) fn head(status: u16, headers: &[(&str, &str)], rest: &[u8]) -> Self {
        let mut bytes = format!("HTTP/1.1 {status} X\r\nConnection: close\r\n").into_bytes();
        for (name, value) in headers {
            bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(rest);
        Self(bytes)
    }

    /// 200 with JSON.
    pub(crate) fn json(body: &str) -> Self {
        Self::status(200, &[("x-log-requestid", "R")], body.as_bytes())
    }

    /// An error of SLS.
    pub(crate) fn error(status: u16, code: &str, headers: &[(&str, &str)]) -> Self {
        let body = format!(r#"{{"errorCode":"{code}","errorMessage":"because"}}"#);
        Self::status(status, headers, body.as_bytes())
    }
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
        let value = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "{name} is sent once");
        value
    }

    pub(crate) fn path(&self) -> &str {
        self.target.split('?').next().expect("split yields one")
    }

    /// Decoded, in the order of the wire.
    pub(crate) fn query(&self) -> Vec<(String, String)> {
        decode_query(&self.target)
    }

    /// Signs what came anew, as SLS does to check it.
    pub(crate) fn is_signed_with(&self, id: &str, secret: &str, region: Option<&str>) -> bool {
        let query = self.query();
        let parts = sign::Parts {
            method: &self.method,
            path: self.path(),
            query: &query,
            headers: &self.headers,
            body: &self.body,
        };
        let expected = match region {
            Some(region) => {
                sign::v4(id, secret, region, self.header("x-log-date").unwrap_or(""), &parts)
            }
            None => sign::v1(id, secret, &parts),
        };
        self.header("authorization") == Some(expected.as_str())
    }
}

/// The query of a URL: percent-encoding undone, `+` taken for a blank.
pub(crate) fn decode_query(url: &str) -> Vec<(String, String)> {
    let Some((_, query)) = url.split_once('?') else { return Vec::new() };
    let pair = |pair: &str| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(key), decode(value))
    };
    query.split('&').map(pair).collect()
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let hex = [rest.next().expect("a digit"), rest.next().expect("a digit")];
                let hex = std::str::from_utf8(&hex).expect("ASCII");
                bytes.push(u8::from_str_radix(hex, 16).expect("a byte in hex"));
            }
            byte => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).expect("UTF-8")
}

async fn read_request(stream: &mut TcpStream) -> Option<Request> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = std::str::from_utf8(&bytes[..end]).ok()?.to_owned();
    let mut lines = head.split("\r\n");
    let mut start = lines.next()?.split(' ');
    let (method, target) = (start.next()?.to_owned(), start.next()?.to_owned());
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length: usize = length.map_or(0, |(_, value)| value.parse().expect("a length"));
    let mut body = bytes.split_off(end + 4);
    while body.len() < length {
        if stream.read_buf(&mut body).await.ok()? == 0 {
            return None;
        }
    }
    Some(Request { method, target, headers, body })
}
