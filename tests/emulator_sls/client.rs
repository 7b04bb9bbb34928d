//! A client that writes its requests byte by byte, so that a test sees every answer
//! as it came: cut short, reset or not at all.

use std::collections::HashMap;

use prost::Message as _;
use serde_json::{Value, json};
use sls_relay::emulator::sls::SlsEmulator;
use sls_relay::sls::sign;
use sls_relay::sls::wire::LogGroupList;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::DEADLINE;

pub(crate) const HOST: &str = "demo-project.127.0.0.1";
pub(crate) const SHARD: &str = "/logstores/demo-logstore/shards/0";
pub(crate) const GROUPS: &str = "/logstores/demo-logstore/consumergroups";

/// How a test signs.
#[derive(Clone)]
pub(crate) enum Signing {
    V1 { secret: &'static str },
    V4 { secret: &'static str },
    None,
}

pub(crate) const V1: Signing = Signing::V1 { secret: "demo-key-secret" };
pub(crate) const V4: Signing = Signing::V4 { secret: "demo-key-secret" };

/// One request of a test.
#[derive(Clone)]
pub(crate) struct Ask {
    pub(crate) method: &'static str,
    pub(crate) path: String,
    pub(crate) query: Vec<(String, String)>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) host: String,
    pub(crate) signing: Signing,
    pub(crate) time: jiff::Timestamp,
}

pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Ask {
    pub(crate) fn new(method: &'static str, path: &str, query: &[(&str, &str)]) -> Ask {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        Ask {
            method,
            path: path.to_owned(),
            query: query.iter().map(owned).collect(),
            headers: vec![],
            body: vec![],
            host: HOST.to_owned(),
            signing: V1,
            time: jiff::Timestamp::now(),
        }
    }

    pub(crate) fn get(path: &str, query: &[(&str, &str)]) -> Ask {
        Ask::new("GET", path, query)
    }

    pub(crate) fn pull(cursor: &str, count: &str) -> Ask {
        let query = [("type", "log"), ("cursor", cursor), ("count", count)];
        Ask::get(SHARD, &query).header("accept-encoding", "lz4")
    }

    pub(crate) fn post(path: &str, query: &[(&str, &str)], body: &Value) -> Ask {
        let ask = Ask::new("POST", path, query).header("content-type", "application/json");
        Ask { body: body.to_string().into_bytes(), ..ask }
    }

    pub(crate) fn heartbeat(consumer: &str, reported: &[u32]) -> Ask {
        let query = [("type", "heartbeat"), ("consumer", consumer)];
        Ask::post(&format!("{GROUPS}/cg"), &query, &json!(reported))
    }

    pub(crate) fn commit(consumer: &str, cursor: &str, force: &str) -> Ask {
        let query = [("type", "checkpoint"), ("consumer", consumer), ("forceSuccess", force)];
        let body = json!({"shard": 0, "checkpoint": cursor});
        Ask::post(&format!("{GROUPS}/cg"), &query, &body)
    }

    pub(crate) fn create_group() -> Ask {
        let body = json!({"consumerGroup": "cg", "timeout": 60, "order": false});
        Ask::post(GROUPS, &[], &body)
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Ask {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn signed(self, signing: Signing) -> Ask {
        Ask { signing, ..self }
    }

    /// The request's bytes, signed.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut headers = self.headers.clone();
        let mut add = |name: &str, value: String| headers.push((name.to_owned(), value));
        add("host", self.host.clone());
        add("x-log-apiversion", "0.6.0".to_owned());
        match self.signing {
            Signing::V4 { .. } => {
                add("x-log-date", self.time.strftime("%Y%m%dT%H%M%SZ").to_string());
                add("x-log-content-sha256", sign::sha256_hex(&self.body));
            }
            _ => {
                add("x-log-signaturemethod", "hmac-sha1".to_owned());
                add("date", self.time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string());
                if !self.body.is_empty() {
                    add("content-md5", sign::content_md5(&self.body));
                }
            }
        }
        let parts = sign::Parts {
            method: self.method,
            path: &self.path,
            query: &self.query,
            headers: &headers.clone(),
            body: &self.body,
        };
        match self.signing {
            Signing::V1 { secret } => {
                headers.push(("authorization".into(), sign::v1("demo-key-id", secret, &parts)));
            }
            Signing::V4 { secret } => {
                let time = self.time.strftime("%Y%m%dT%H%M%SZ").to_string();
                let value = sign::v4("demo-key-id", secret, "cn-test", &time, &parts);
                headers.push(("authorization".into(), value));
            }
            Signing::None => {}
        }
        headers.push(("content-length".into(), self.body.len().to_string()));
        headers.push(("connection".into(), "close".into()));
        let query: Vec<String> = self
            .query
            .iter()
            .map(|(key, value)| format!("{key}={}", sign::percent_encode(value)))
            .collect();
        let mut text = format!("{} {}?{} HTTP/1.1\r\n", self.method, self.path, query.join("&"));
        for (name, value) in headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        [text.into_bytes(), self.body.clone()].concat()
    }

    /// A connection on which the request is written.
    pub(crate) async fn write(&self, emulator: &SlsEmulator) -> TcpStream {
        let mut stream = TcpStream::connect(emulator.address()).await.unwrap();
        stream.write_all(&self.encode()).await.unwrap();
        stream
    }

    /// All bytes of the answer, until the connection ends.
    pub(crate) async fn bytes(&self, emulator: &SlsEmulator) -> std::io::Result<Vec<u8>> {
        let mut stream = self.write(emulator).await;
        let mut answer = Vec::new();
        tokio::time::timeout(DEADLINE, stream.read_to_end(&mut answer)).await.unwrap()?;
        Ok(answer)
    }

    pub(crate) async fn send(&self, emulator: &SlsEmulator) -> Reply {
        Reply::parse(&self.bytes(emulator).await.unwrap())
    }
}

impl Reply {
    pub(crate) fn parse(bytes: &[u8]) -> Reply {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
        let head = std::str::from_utf8(&bytes[..end]).unwrap();
        let (first, rest) = head.split_once("\r\n").unwrap();
        let headers = rest
            .split("\r\n")
            .map(|line| line.split_once(':').unwrap())
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let status = first.split(' ').nth(1).unwrap().parse().unwrap();
        Reply { status, headers, body: bytes[end + 4..].to_vec() }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Status and error code.
    pub(crate) fn refusal(&self) -> (u16, String) {
        (self.status, self.json()["errorCode"].as_str().unwrap().to_owned())
    }

    pub(crate) fn cursor(&self) -> &str {
        &self.headers["x-log-cursor"]
    }

    pub(crate) fn raw_size(&self) -> usize {
        self.headers["x-log-bodyrawsize"].parse().unwrap()
    }

    pub(crate) fn ids(&self) -> Vec<String> {
        let raw = match self.headers.get("x-log-compresstype").map(String::as_str) {
            _ if self.raw_size() == 0 => vec![],
            None => self.body.clone(),
            Some("lz4") => lz4_flex::block::decompress(&self.body, self.raw_size()).unwrap(),
            Some(_) => {
                let mut raw = Vec::new();
                let mut decoder = ruzstd::decoding::StreamingDecoder::new(&*self.body).unwrap();
                std::io::Read::read_to_end(&mut decoder, &mut raw).unwrap();
                raw
            }
        };
        assert_eq!(raw.len(), self.raw_size());
        let list = LogGroupList::decode(&*raw).unwrap();
        assert_eq!(list.log_groups.len().to_string(), self.headers["x-log-count"]);
        let logs = list.log_groups.iter().flat_map(|group| &group.logs);
        logs.map(|log| String::from_utf8(log.contents[0].value.to_vec()).unwrap()).collect()
    }
}
