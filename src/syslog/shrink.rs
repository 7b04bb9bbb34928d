//! Which values of a log are shortened, and to how much, so that its message fits.

/// Values that are shortened before all others, in this order: long, and seldom what an
/// operator looks for.
const FIRST: [&[u8]; 6] = [
    b"request_body",
    b"http_cookie",
    b"querystring",
    b"http_user_agent",
    b"http_referer",
    b"http_x_forwarded_for",
];
/// Octets that such a value keeps while another one can still be shortened.
const KEPT: usize = 256;
/// Shortened values that are named one by one.
const NAMED: usize = 4;
/// Octets of a name that are shown.
const NAME: usize = 32;

/// The name of a value, and its length in octets as it is written.
pub(super) type Value<'a> = (&'a [u8], usize);

/// The octets that each value may take so that all together take `excess` fewer; none where
/// even no values at all would be too much.
pub(super) fn rooms(values: &[Value<'_>], mut excess: usize) -> Option<Vec<usize>> {
    let mut rooms: Vec<usize> = values.iter().map(|(_, length)| *length).collect();
    for first in FIRST {
        for (room, _) in rooms.iter_mut().zip(values).filter(|(_, (name, _))| *name == first) {
            let off = excess.min(room.saturating_sub(KEPT));
            *room -= off;
            excess -= off;
        }
    }
    if excess > 0 {
        let want = rooms.iter().sum::<usize>().checked_sub(excess)?;
        // The longest ones come down to one level, the highest that fits.
        let fits = |level: usize| rooms.iter().map(|room| level.min(*room)).sum::<usize>() <= want;
        let (mut low, mut high) = (0, rooms.iter().copied().max().unwrap_or(0));
        while low < high {
            let level = low + (high - low).div_ceil(2);
            if fits(level) {
                low = level;
            } else {
                high = level - 1;
            }
        }
        // What the level leaves goes to the first of them, one octet each.
        let mut left = want - rooms.iter().map(|room| low.min(*room)).sum::<usize>();
        for room in &mut rooms {
            let more = usize::from(*room > low && left > 0);
            left -= more;
            *room = low.min(*room) + more;
        }
    }
    Some(rooms)
}

/// The longest beginning of a value that takes at most `room` octets as `written` counts
/// them, and ends between characters. No value is shorter written than it is.
pub(super) fn prefix(value: &[u8], room: usize, written: impl Fn(&[u8]) -> usize) -> &[u8] {
    let (mut low, mut high) = (0, room.min(value.len()));
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        if written(&value[..between_characters(value, middle)]) <= room {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    &value[..between_characters(value, low)]
}

/// What was shortened, as the value of a structured data parameter: `NAME:LENGTH,…`, with the
/// lengths that the values had in the log. Only the first few are named.
pub(super) fn mark<'a>(shortened: impl Iterator<Item = (&'a [u8], usize)>) -> String {
    let (mut out, mut more) = (String::new(), 0);
    for (number, (name, length)) in shortened.enumerate() {
        if number >= NAMED {
            more += 1;
            continue;
        }
        if number > 0 {
            out.push(',');
        }
        let safe = |byte: &u8| match byte {
            b'"' | b'\\' | b']' | b',' | b':' => '_',
            byte if byte.is_ascii_graphic() => char::from(*byte),
            _ => '_',
        };
        out.extend(name.iter().take(NAME).map(safe));
        out.push(':');
        out.push_str(&length.to_string());
    }
    if more > 0 {
        out.push_str(&format!(",+{more}"));
    }
    out
}

/// The last place at or before `at` that is not within a character.
fn between_characters(text: &[u8], at: usize) -> usize {
    let within = |back: &usize| {
        let start = at.wrapping_sub(*back);
        let Some(rest) = text.get(start..text.len().min(start.saturating_add(4))) else {
            return false;
        };
        let first = rest.utf8_chunks().next().and_then(|chunk| chunk.valid().chars().next());
        first.is_some_and(|first| first.len_utf8() > *back)
    };
    (1..=3).find(within).map_or(at, |back| at - back)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bodies_and_cookies_come_first_and_then_the_longest() {
        let values: [Value<'_>; 4] =
            [(b"a", 900), (b"http_cookie", 800), (b"request_body", 1000), (b"b", 5)];
        assert_eq!(rooms(&values, 0), Some(vec![900, 800, 1000, 5]));
        assert_eq!(rooms(&values, 700), Some(vec![900, 800, 300, 5]));
        assert_eq!(rooms(&values, 1000), Some(vec![900, 544, 256, 5]));
        assert_eq!(rooms(&values, 1488), Some(vec![700, 256, 256, 5]));
        assert_eq!(rooms(&values, 2701), Some(vec![1; 4]));
        assert_eq!(rooms(&values, 2705), Some(vec![0; 4]));
        assert_eq!(rooms(&values, 2706), None);
    }

    #[test]
    fn a_mark_names_a_few_and_breaks_no_parameter() {
        let four = [(&b"a"[..], 5), (b"b\"]\\", 6), ("ü,:".as_bytes(), 7), (&[b'x'; 99], 8)];
        let name = "x".repeat(32);
        assert_eq!(mark(four.into_iter()), format!("a:5,b___:6,____:7,{name}:8"));
        let six = four.into_iter().chain([(&b"e"[..], 1), (b"f", 2)]);
        assert!(mark(six).ends_with(":8,+2"));
    }

    proptest! {
        #[test]
        fn rooms_are_what_is_needed_and_no_less(
            lengths in prop::collection::vec((0..8_usize, 0..3000_usize), 1..20), part in 0.0..1.2_f64
        ) {
            let names: Vec<&[u8]> = FIRST.into_iter().chain([&b"a"[..], b"b"]).collect();
            let values: Vec<Value<'_>> =
                lengths.iter().map(|(name, length)| (names[*name], *length)).collect();
            let total: usize = lengths.iter().map(|(_, length)| length).sum();
            let excess = (total as f64 * part) as usize;
            match rooms(&values, excess) {
                None => prop_assert!(excess > total),
                Some(rooms) => {
                    let left: usize = rooms.iter().sum();
                    prop_assert_eq!(left + excess, total);
                    prop_assert!(rooms.iter().zip(&values).all(|(room, (_, length))| room <= length));
                }
            }
        }

        #[test]
        fn a_beginning_is_the_longest_that_fits_and_splits_no_character(
            value in prop_oneof![
                any::<String>().prop_map(String::into_bytes),
                prop::collection::vec(any::<u8>(), 0..40),
            ],
            room in 0..60_usize,
        ) {
            let written = |text: &[u8]| -> usize {
                text.utf8_chunks().map(|chunk| chunk.valid().len() * 2 + chunk.invalid().len() * 4).sum()
            };
            let kept = prefix(&value, room, written);
            prop_assert!(value.starts_with(kept) && written(kept) <= room);
            let next = (kept.len() + 1..=value.len()).find(|at| between_characters(&value, *at) == *at);
            prop_assert!(next.is_none_or(|next| written(&value[..next]) > room));
            if let Ok(text) = std::str::from_utf8(&value) {
                prop_assert!(text.is_char_boundary(kept.len()));
            }
        }
    }
}
