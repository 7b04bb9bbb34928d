//! The trace id of a generated log: 32 hex digits that carry shard and number.
//!
//! Real trace ids look random, so shard, number and a fixed check word go through
//! three rounds of a keyless Feistel network. Any changed digit destroys the check
//! word, so a damaged id is not taken for another log's.

/// What the low half of the shard word must read after decoding.
const CHECK: u64 = 0x5761_664c;

/// The trace id of log `n` of `shard`, in lower-case hex.
pub fn trace_id(shard: u32, n: u64) -> [u8; 32] {
    let mut left = (u64::from(shard) << 32) | CHECK;
    let mut right = n;
    left ^= mix(right);
    right ^= mix(left);
    left ^= mix(right);
    let mut id = [0; 32];
    let bits = (u128::from(left) << 64) | u128::from(right);
    for (i, digit) in id.iter_mut().enumerate() {
        *digit = b"0123456789abcdef"[(bits >> (124 - 4 * i)) as usize & 15];
    }
    id
}

/// The shard and number in a trace id; `None` when `value` is not one of ours, byte for byte.
pub fn id_of(value: &[u8]) -> Option<(u32, u64)> {
    if value.len() != 32 {
        return None;
    }
    let mut bits = 0u128;
    for &digit in value {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        bits = (bits << 4) | u128::from(digit);
    }
    let (mut left, mut right) = ((bits >> 64) as u64, bits as u64);
    left ^= mix(right);
    right ^= mix(left);
    left ^= mix(right);
    (left & 0xffff_ffff == CHECK).then_some(((left >> 32) as u32, right))
}

/// Spreads every input bit over the whole word (the finaliser of splitmix64).
pub(super) fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}
