//! Streams cut into any pieces give the same messages.

use proptest::prelude::*;
use sls_relay::syslog::framing::{Deframer, Expect, Framing};

const ALL: [Framing; 3] = [Framing::OctetCounting, Framing::Lf, Framing::Nul];

/// Messages as formats write them: not empty, without LF and NUL, and beginning with `<`.
fn messages() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let text = proptest::collection::vec(
        any::<u8>().prop_filter("an end", |b| !b"\n\0".contains(b)),
        0..60,
    );
    proptest::collection::vec(text.prop_map(|text| [b"<", text.as_slice()].concat()), 0..12)
}

/// Pushes a stream in pieces of these sizes, in turn.
fn read(expect: Expect, stream: &[u8], sizes: &[usize]) -> (Vec<Vec<u8>>, usize) {
    let mut deframer = Deframer::new(expect, 64);
    let mut found = Vec::new();
    let mut rest = stream;
    for &size in sizes.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, after) = rest.split_at(size.min(rest.len()));
        deframer.push(piece, &mut |message| found.push(message.to_vec())).expect("a good stream");
        rest = after;
    }
    (found, deframer.finish())
}

proptest! {
    #[test]
    fn any_chunking_gives_the_messages_back(
        messages in messages(),
        octets in proptest::collection::vec(any::<bool>(), 12),
        sizes in proptest::collection::vec(1_usize..40, 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut mixed = Vec::new();
        for (message, &octets) in messages.iter().zip(&octets) {
            let framing = if octets { Framing::OctetCounting } else { Framing::Lf };
            framing.append(message, &mut mixed);
        }
        prop_assert_eq!(read(Expect::Auto, &mixed, &sizes), (messages.clone(), 0));
        for framing in ALL {
            let mut stream = Vec::new();
            messages.iter().for_each(|message| framing.append(message, &mut stream));
            // Nobody takes NUL for an end unless told so.
            let auto = (framing != Framing::Nul).then_some(Expect::Auto);
            for expect in auto.into_iter().chain([Expect::Only(framing)]) {
                prop_assert_eq!(read(expect, &stream, &sizes), (messages.clone(), 0));
            }
            // A broken connection leaves whole messages and a count of the rest.
            let cut = cut.index(stream.len() + 1);
            let (found, left) = read(Expect::Only(framing), &stream[..cut], &sizes);
            let mut whole = Vec::new();
            found.iter().for_each(|message| framing.append(message, &mut whole));
            prop_assert_eq!(&whole[..], &stream[..whole.len()]);
            prop_assert_eq!(whole.len() + left, cut);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic_and_never_pass_the_limit(
        stream in proptest::collection::vec(prop_oneof![any::<u8>(), b'0'..=b'9', Just(b' '), Just(b'\n')], 0..400),
        size in 1_usize..50,
    ) {
        for expect in ALL.map(Expect::Only).into_iter().chain([Expect::Auto]) {
            let mut deframer = Deframer::new(expect, 64);
            let mut longest = 0;
            for piece in stream.chunks(size) {
                if deframer.push(piece, &mut |message| longest = longest.max(message.len())).is_err() {
                    break;
                }
            }
            prop_assert!(longest <= 64);
        }
    }
}
