//! A reader of message bodies written from the grammar in the documentation of
//! `syslog::body` alone: split at the separator, at the first `=`, undo the escapes.

/// The fields of a body.
pub(crate) fn fields(body: &str, separator: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
    body.split(separator)
        .map(|pair| {
            let (key, value) = pair.split_once('=').expect("a pair without an equals sign");
            (plain(key), plain(value))
        })
        .collect()
}

/// What a key or value stands for.
fn plain(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut parts = text.split('\\');
    out.extend(parts.next().unwrap().as_bytes());
    while let Some(part) = parts.next() {
        let rest = match part.chars().next() {
            // Two backslashes in a row leave nothing between them.
            None => {
                out.push(b'\\');
                parts.next().expect("a lone backslash at the end")
            }
            Some('n') => {
                out.push(b'\n');
                &part[1..]
            }
            Some('r') => {
                out.push(b'\r');
                &part[1..]
            }
            Some('x') => {
                out.push(u8::from_str_radix(&part[1..3], 16).expect("two hex digits"));
                &part[3..]
            }
            Some(other) => panic!("unknown escape {other:?} in {text:?}"),
        };
        out.extend(rest.as_bytes());
    }
    out
}
