//! Mutations of real inputs, the same ones for the same seed.

/// A small generator of numbers (xorshift64*), so that a run can be repeated.
pub(super) struct Numbers(u64);

impl Numbers {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number below `limit`; 0 if that is 0.
    pub(super) fn below(&mut self, limit: usize) -> usize {
        ((self.next() >> 33) as usize).checked_rem(limit).unwrap_or_default()
    }
}

const TELLING: [u8; 17] =
    [0, 1, 2, 3, 5, 15, 0x24, 0x44, 0x7f, 0x80, 0xc3, 0xc7, 0xd0, 0xda, 0xe6, 0xf0, 0xff];

/// One to eight mutations of an input of the corpus.
pub(super) fn mutate(corpus: &[Vec<u8>], numbers: &mut Numbers, out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(&corpus[numbers.below(corpus.len())]);
    for _ in 0..=numbers.below(8) {
        let at = numbers.below(out.len());
        let length = numbers.below(16).min(out.len() - at);
        match numbers.below(9) {
            0 if at < out.len() => out[at] ^= 1 << numbers.below(8),
            1 if at < out.len() => out[at] = numbers.next() as u8,
            2 | 3 if at < out.len() => out[at] = TELLING[numbers.below(TELLING.len())],
            4 => out.insert(at, TELLING[numbers.below(TELLING.len())]),
            5 => drop(out.drain(at..at + length)),
            6 => {
                let copied = out[at..at + length].to_vec();
                let to = numbers.below(out.len());
                out.splice(to..to, copied);
            }
            7 => {
                let other = &corpus[numbers.below(corpus.len())];
                let from = numbers.below(other.len());
                let taken = &other[from..other.len().min(from + 64)];
                let end = out.len().min(at + taken.len());
                out.splice(at..end, taken.iter().copied());
            }
            _ if numbers.below(8) == 0 => out.truncate(at),
            _ => {}
        }
    }
}
