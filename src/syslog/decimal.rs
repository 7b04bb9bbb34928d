//! Decimal numbers, written without allocation.

/// Appends a number.
pub(super) fn plain(number: usize, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = number;
    loop {
        at -= 1;
        digits[at] = digit(rest % 10);
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Appends the last `width` digits of a number, with zeros in front.
pub(super) fn padded(number: u32, width: usize, out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + width, b'0');
    let mut rest = number;
    for place in out[start..].iter_mut().rev() {
        *place = digit((rest % 10) as usize);
        rest /= 10;
    }
}

fn digit(value: usize) -> u8 {
    b"0123456789"[value]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_plain_and_padded() {
        let mut out = Vec::new();
        for number in [0, 7, 10, 65_507, usize::MAX] {
            plain(number, &mut out);
            out.push(b' ');
        }
        padded(42, 6, &mut out);
        padded(1_234, 2, &mut out);
        assert_eq!(out, format!("0 7 10 65507 {} 00004234", usize::MAX).as_bytes());
    }
}
