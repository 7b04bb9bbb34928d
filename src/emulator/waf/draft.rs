//! A log being written: its fields and one buffer that all its fresh values share.

use std::ops::Range;

use bytes::Bytes;
use fastrand::Rng;

use crate::sls::wire::Content;

/// The fields of one log, in order. Finishing it costs two allocations however many they are.
pub(super) struct Draft {
    pub(super) rng: Rng,
    buffer: Vec<u8>,
    fields: Vec<(&'static str, Value)>,
}

enum Value {
    Fixed(&'static [u8]),
    Written(Range<usize>),
    Shared(Bytes),
}

impl Draft {
    pub(super) fn new(seed: u64) -> Draft {
        Draft {
            rng: Rng::with_seed(seed),
            buffer: Vec::with_capacity(1536),
            fields: Vec::with_capacity(48),
        }
    }

    /// A field with a constant value.
    pub(super) fn fixed(&mut self, key: &'static str, value: &'static str) {
        self.fields.push((key, Value::Fixed(value.as_bytes())));
    }

    /// A field with a value of `table`, each as likely.
    pub(super) fn pick(&mut self, key: &'static str, table: &[&'static str]) {
        let value = one_of(&mut self.rng, table);
        self.fixed(key, value);
    }

    /// A field whose value `write` appends to the buffer.
    pub(super) fn write(&mut self, key: &'static str, write: impl FnOnce(&mut Vec<u8>, &mut Rng)) {
        let start = self.buffer.len();
        write(&mut self.buffer, &mut self.rng);
        self.fields.push((key, Value::Written(start..self.buffer.len())));
    }

    /// Replaces the value of the first field named `key`, or adds one.
    pub(super) fn rewrite(
        &mut self,
        key: &'static str,
        write: impl FnOnce(&mut Vec<u8>, &mut Rng),
    ) {
        let start = self.buffer.len();
        write(&mut self.buffer, &mut self.rng);
        self.put(key, Value::Written(start..self.buffer.len()));
    }

    /// Replaces the value of the first field named `key` by bytes kept elsewhere.
    pub(super) fn share(&mut self, key: &'static str, value: Bytes) {
        self.put(key, Value::Shared(value));
    }

    fn put(&mut self, key: &'static str, value: Value) {
        match self.fields.iter_mut().find(|(k, _)| *k == key) {
            Some(field) => field.1 = value,
            None => self.fields.push((key, value)),
        }
    }

    /// The fields as SLS stores them.
    pub(super) fn finish(self) -> Vec<Content> {
        let buffer = Bytes::from(self.buffer);
        self.fields
            .into_iter()
            .map(|(key, value)| Content {
                key: Bytes::from_static(key.as_bytes()),
                value: match value {
                    Value::Fixed(value) => Bytes::from_static(value),
                    Value::Written(range) => buffer.slice(range),
                    Value::Shared(value) => value,
                },
            })
            .collect()
    }
}

/// One value of `table`, each as likely. `table` must not be empty.
pub(super) fn one_of<T: Copy>(rng: &mut Rng, table: &[T]) -> T {
    table[rng.usize(..table.len())]
}

/// Appends `number` in decimal.
pub(super) fn decimal(out: &mut Vec<u8>, number: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut rest = number;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Appends `count` random characters of `alphabet`.
pub(super) fn noise(out: &mut Vec<u8>, rng: &mut Rng, alphabet: &[u8], count: usize) {
    for _ in 0..count {
        out.push(one_of(rng, alphabet));
    }
}
