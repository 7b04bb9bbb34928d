//! The ordinary part of a log: fields and values as WAF writes them.

use std::io::Write;

use fastrand::Rng;
use jiff::Timestamp;
use jiff::tz::Offset;

use super::data;
use super::draft::{Draft, decimal, noise, one_of};

const HEX: &[u8] = b"0123456789abcdef";

/// Writes all fields of one log. `seconds` is its time, `trace` its trace id.
pub(super) fn fill(draft: &mut Draft, seconds: u32, trace: &[u8; 32]) {
    let took = draft.rng.u32(1..3000);
    let verdict = match draft.rng.u32(..8) {
        0 => Some(one_of(&mut draft.rng, data::VERDICTS)),
        _ => None,
    };
    draft.write("time", |out, _| time(out, seconds));
    draft.write("start_time", |out, _| decimal(out, u64::from(seconds - took / 1000)));
    connection(draft);
    request(draft, seconds);
    draft.write("request_time_msec", |out, _| decimal(out, u64::from(took)));
    draft.write("request_traceid", |out, _| out.extend_from_slice(trace));
    answer(draft, took, verdict.is_some());
    draft.pick("region", data::REGIONS);
    draft.fixed("user_id", "1739812200345671");
    if let Some((action, plugin, module, kind)) = verdict {
        let rule = draft.rng.u32(100_000..9_999_999);
        draft.fixed("final_action", action);
        draft.fixed("final_plugin", plugin);
        draft.write("final_rule_id", |out, _| decimal(out, u64::from(rule)));
        draft.fixed("final_rule_type", kind);
        draft.fixed(module.action, action);
        draft.write(module.rule_id, |out, _| decimal(out, u64::from(rule)));
        draft.fixed(module.rule_type, kind);
        draft.pick(module.test, &["false", "false", "true"]);
    }
}

fn connection(draft: &mut Draft) {
    let (host, object) = one_of(&mut draft.rng, data::HOSTS);
    let tls = draft.rng.u32(..10) > 0;
    let client = draft.rng.u32(..);
    let port = draft.rng.u64(1024..65536);
    draft.fixed("host", host);
    draft.fixed("matched_host", object);
    draft.write("real_client_ip", |out, _| address(out, client));
    draft.write("remote_addr", |out, _| address(out, client));
    draft.write("remote_port", |out, _| decimal(out, port));
    draft.write("src_ip", |out, _| address(out, client));
    draft.write("src_port", |out, _| decimal(out, port));
    draft.fixed("dst_port", if tls { "443" } else { "80" });
    draft.pick("server_protocol", &["HTTP/1.1", "HTTP/2.0", "HTTP/2.0", "HTTP/1.0"]);
    draft.fixed("https", if tls { "on" } else { "" });
    let (protocol, cipher) = if tls { one_of(&mut draft.rng, data::CIPHERS) } else { ("-", "-") };
    draft.fixed("ssl_protocol", protocol);
    draft.fixed("ssl_cipher", cipher);
    draft.write("http_x_forwarded_for", |out, rng| {
        address(out, client);
        for _ in 0..rng.u32(..3) {
            out.extend_from_slice(b", ");
            address(out, rng.u32(..));
        }
    });
}

fn request(draft: &mut Draft, seconds: u32) {
    draft.pick("request_method", data::METHODS);
    draft.pick("request_path", data::PATHS);
    draft.write("querystring", query);
    draft.write("request_length", |out, rng| decimal(out, rng.u64(300..6000)));
    draft.pick("http_user_agent", data::AGENTS);
    draft.pick("http_referer", data::REFERERS);
    draft.write("http_cookie", |out, rng| cookie(out, rng, seconds));
    draft.pick("content_type", data::CONTENT_TYPES);
    draft.write("request_header", header);
    if draft.rng.u32(..3) == 0 {
        draft.pick("request_body", data::BODIES);
    } else {
        draft.fixed("request_body", "-");
    }
}

fn answer(draft: &mut Draft, took: u32, stopped: bool) {
    let status = if stopped { "405" } else { one_of(&mut draft.rng, data::STATUSES) };
    draft.fixed("status", status);
    draft.write("body_bytes_sent", |out, rng| decimal(out, rng.u64(..200_000)));
    if stopped {
        draft.fixed("upstream_addr", "-");
        draft.fixed("upstream_status", "-");
        draft.fixed("upstream_response_time", "-");
        return;
    }
    draft.write("upstream_addr", |out, rng| {
        address(out, 0xac10_0000 | rng.u32(..0xffff));
        out.extend_from_slice(b":8080");
    });
    draft.fixed("upstream_status", status);
    draft.write("upstream_response_time", |out, _| {
        let took = took * 9 / 10;
        decimal(out, u64::from(took / 1000));
        out.push(b'.');
        for digit in [took / 100 % 10, took / 10 % 10, took % 10] {
            decimal(out, u64::from(digit));
        }
    });
    if draft.rng.bool() {
        draft.write("response_set_cookie", |out, rng| {
            out.extend_from_slice(b"SERVERID=");
            noise(out, rng, HEX, 32);
            out.extend_from_slice(b"; Path=/; Secure; HttpOnly");
        });
    }
}

fn time(out: &mut Vec<u8>, seconds: u32) {
    let east = Timestamp::constant(i64::from(seconds), 0);
    // Writing to a vector cannot fail.
    let _ = write!(out, "{}", east.display_with_offset(Offset::constant(8)));
}

fn address(out: &mut Vec<u8>, bits: u32) {
    for (i, byte) in bits.to_be_bytes().into_iter().enumerate() {
        if i > 0 {
            out.push(b'.');
        }
        decimal(out, u64::from(byte));
    }
}

fn query(out: &mut Vec<u8>, rng: &mut Rng) {
    let parameters = rng.u32(..7);
    if parameters == 0 {
        out.push(b'-');
    }
    for i in 0..parameters {
        if i > 0 {
            out.push(b'&');
        }
        out.extend_from_slice(one_of(rng, data::PARAMETERS).as_bytes());
        out.push(b'=');
        let count = rng.usize(..24);
        noise(out, rng, b"abcdefghijklmnopqrstuvwxyz0123456789-_.%", count);
    }
}

fn cookie(out: &mut Vec<u8>, rng: &mut Rng, seconds: u32) {
    if rng.u32(..5) == 0 {
        out.push(b'-');
        return;
    }
    out.extend_from_slice(b"acw_tc=");
    noise(out, rng, HEX, 40);
    out.extend_from_slice(b"; _uab_collina=");
    decimal(out, u64::from(seconds) * 100_000 + rng.u64(..100_000));
    out.extend_from_slice(b"; sessionid=");
    let count = rng.usize(24..160);
    noise(out, rng, b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", count);
    out.extend_from_slice(b"; aliyun_lang=zh");
}

fn header(out: &mut Vec<u8>, rng: &mut Rng) {
    out.extend_from_slice(b"{\"Accept\":\"");
    out.extend_from_slice(one_of(rng, data::ACCEPTS).as_bytes());
    out.extend_from_slice(b"\",\"Accept-Language\":\"");
    out.extend_from_slice(one_of(rng, data::LANGUAGES).as_bytes());
    out.extend_from_slice(b"\",\"Accept-Encoding\":\"gzip, deflate, br\",\"X-Request-Id\":\"");
    noise(out, rng, HEX, 32);
    out.extend_from_slice(b"\",\"Sec-Fetch-Site\":\"same-origin\",\"Connection\":\"keep-alive\"}");
}
