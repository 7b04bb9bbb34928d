//! Walking agrees with prost on what is valid, and survives what is not.

use bytes::Bytes;
use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::sls::fuzz;
use crate::sls::wire;

/// What the walk yields, as the owned messages that prost decodes.
fn walked(raw: &[u8]) -> Result<wire::LogGroupList, DecodeError> {
    let pairs = |pairs: &mut dyn Iterator<Item = (&[u8], &[u8])>| -> Vec<(Bytes, Bytes)> {
        pairs
            .map(|(key, value)| (Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)))
            .collect()
    };
    let log_groups = groups(raw)
        .map(|group| {
            let group = group?;
            Ok(wire::LogGroup {
                logs: group
                    .logs()
                    .map(|log| wire::Log {
                        time: log.time,
                        time_ns: log.time_ns,
                        contents: pairs(&mut log.fields())
                            .into_iter()
                            .map(|(key, value)| wire::Content { key, value })
                            .collect(),
                    })
                    .collect(),
                topic: Some(Bytes::copy_from_slice(group.topic)),
                source: Some(Bytes::copy_from_slice(group.source)),
                tags: pairs(&mut group.tags())
                    .into_iter()
                    .map(|(key, value)| wire::LogTag { key, value })
                    .collect(),
                ..wire::LogGroup::default()
            })
        })
        .collect::<Result<_, DecodeError>>()?;
    Ok(wire::LogGroupList { log_groups })
}

/// Without what the walk does not show, and with absent strings made empty.
fn plain(mut list: wire::LogGroupList) -> wire::LogGroupList {
    for group in &mut list.log_groups {
        group.category = None;
        group.machine_uuid = None;
        group.topic.get_or_insert_default();
        group.source.get_or_insert_default();
    }
    list
}

/// A message as a list of encoded fields, to be put in any order.
fn message(fields: Vec<Vec<u8>>) -> Vec<u8> {
    fields.concat()
}

fn delimited(number: u32, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    prost::encoding::encode_key(number, prost::encoding::WireType::LengthDelimited, &mut out);
    prost::encoding::encode_varint(content.len() as u64, &mut out);
    out.extend_from_slice(content);
    out
}

fn varint(number: u32, value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    prost::encoding::encode_key(number, prost::encoding::WireType::Varint, &mut out);
    prost::encoding::encode_varint(value, &mut out);
    out
}

fn fixed32(number: u32, value: u32) -> Vec<u8> {
    let mut out = Vec::new();
    prost::encoding::encode_key(number, prost::encoding::WireType::ThirtyTwoBit, &mut out);
    out.extend_from_slice(&value.to_le_bytes());
    out
}

/// Fields of numbers that no message of ours has, of every wire type.
fn unknown() -> impl Strategy<Value = Vec<u8>> {
    let group = |inner: Vec<u8>| [vec![0x83, 0x01], inner, vec![0x84, 0x01]].concat();
    prop_oneof![
        (7u32..200, any::<u64>()).prop_map(|(number, value)| varint(number, value)),
        (7u32..200, any::<u32>()).prop_map(|(number, value)| fixed32(number, value)),
        (7u32..200, bytes()).prop_map(|(number, value)| delimited(number, &value)),
        any::<[u8; 8]>().prop_map(|value| [vec![0x79], value.to_vec()].concat()),
        bytes().prop_map(move |value| group(group(delimited(9, &value)))),
    ]
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => prop::collection::vec(any::<u8>(), 0..12),
        1 => prop::collection::vec(any::<u8>(), 120..300),
    ]
}

/// Required fields once or twice, others and unknown ones at will, in any order.
fn fields(
    required: Vec<BoxedStrategy<Vec<u8>>>,
    optional: BoxedStrategy<Vec<u8>>,
    at_most: usize,
) -> impl Strategy<Value = Vec<u8>> {
    let optional = prop::collection::vec(optional, 0..=at_most);
    let unknown = prop::collection::vec(unknown(), 0..2);
    (required, optional, unknown)
        .prop_map(|parts| [parts.0, parts.1, parts.2].concat())
        .prop_shuffle()
        .prop_map(message)
}

fn pair() -> impl Strategy<Value = Vec<u8>> {
    let part = |number| bytes().prop_map(move |value| delimited(number, &value)).boxed();
    fields(vec![part(1), part(2)], prop_oneof![part(1), part(2)].boxed(), 1)
}

fn log() -> impl Strategy<Value = Vec<u8>> {
    let time = any::<u64>().prop_map(|time| varint(1, time)).boxed();
    let content = pair().prop_map(|pair| delimited(2, &pair));
    let ns = any::<u32>().prop_map(|ns| fixed32(4, ns));
    fields(vec![time], prop_oneof![4 => content, 1 => ns].boxed(), 5)
}

fn answer() -> impl Strategy<Value = Vec<u8>> {
    let log = log().prop_map(|log| delimited(1, &log));
    let tag = pair().prop_map(|pair| delimited(6, &pair));
    let text = (2u32..6, bytes()).prop_map(|(number, text)| delimited(number, &text));
    let group = fields(vec![], prop_oneof![2 => log, 1 => tag, 1 => text].boxed(), 5);
    let group = group.prop_map(|group| delimited(1, &group)).boxed();
    fields(vec![], group, 4)
}

proptest! {
    #[test]
    fn walking_agrees_with_prost_on_valid_answers(raw in answer()) {
        let expected = wire::LogGroupList::decode(raw.as_slice()).expect("the generator is right");
        let times: Vec<u32> = expected
            .log_groups
            .iter()
            .flat_map(|group| group.logs.iter().map(|log| log.time))
            .collect();
        let counted = Summary {
            groups: expected.log_groups.len() as u32,
            logs: times.len() as u32,
            min_time: times.iter().min().copied(),
            max_time: times.iter().max().copied(),
        };
        prop_assert_eq!(summary(&raw).expect("valid"), counted);
        prop_assert_eq!(walked(&raw).expect("valid"), plain(expected));
        fuzz::decompressed_answer(&raw);
    }

    #[test]
    fn damaged_answers_never_panic_and_never_read_otherwise_than_prost(
        raw in answer(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
        cuts in any::<bool>(),
    ) {
        let mut raw = raw;
        for (place, byte) in damage {
            if !raw.is_empty() {
                let place = place.index(raw.len());
                raw[place] = byte;
            }
        }
        if cuts {
            raw.truncate(cut.index(raw.len() + 1));
        }
        fuzz::decompressed_answer(&raw);
        // What we accept, prost reads the same; what prost refuses, we refuse.
        if let Ok(ours) = walked(&raw) {
            let theirs = wire::LogGroupList::decode(raw.as_slice());
            prop_assert_eq!(ours, plain(theirs.expect("prost refuses what we accept")));
        }
    }

    #[test]
    fn any_bytes_are_survived(data in prop::collection::vec(any::<u8>(), 0..400)) {
        fuzz::pull_answer(&data);
        fuzz::decompressed_answer(&data);
    }
}

#[test]
fn a_missing_required_field_is_an_error() {
    let pair = message(vec![delimited(1, b"k"), delimited(2, b"v")]);
    let timeless = delimited(1, &delimited(1, &delimited(2, &pair)));
    let log =
        |pair: &[u8]| delimited(1, &delimited(1, &[varint(1, 9), delimited(2, pair)].concat()));
    assert!(summary(&log(&pair)).is_ok());
    for raw in [timeless, log(b""), log(&delimited(1, b"k")), log(&delimited(2, b"v"))] {
        assert!(matches!(summary(&raw), Err(DecodeError::Missing { .. })), "{raw:?}");
        fuzz::decompressed_answer(&raw);
    }
    let tag = delimited(1, &delimited(6, &delimited(1, b"k")));
    assert!(matches!(summary(&tag), Err(DecodeError::Missing { .. })));
}

#[test]
fn an_error_names_its_place_in_the_body() {
    let good = delimited(1, &delimited(3, b"topic"));
    let bad = [good.clone(), delimited(1, &[0x0A, 0x50])].concat();
    match summary(&bad) {
        Err(DecodeError::Protobuf { at, .. }) => assert_eq!(at, good.len() + 4),
        other => panic!("{other:?}"),
    }
    let mut groups = groups(&bad);
    assert!(matches!(groups.next(), Some(Ok(group)) if group.topic == b"topic"));
    assert!(matches!(groups.next(), Some(Err(_))));
    assert!(groups.next().is_none());
}

#[test]
fn a_known_field_of_another_wire_type_is_an_error() {
    for raw in
        [varint(1, 1), delimited(1, &varint(3, 1)), delimited(1, &delimited(1, &fixed32(1, 1)))]
    {
        assert!(matches!(summary(&raw), Err(DecodeError::Protobuf { .. })), "{raw:?}");
    }
}

#[test]
fn groups_nested_without_end_are_refused() {
    assert!(summary(&[0x7B; 100_000]).is_err());
    assert!(summary(&[0x7C]).is_err(), "an end without a beginning");
    assert!(summary(&[0x7B, 0x84, 0x01]).is_err(), "the end of another group");
}
