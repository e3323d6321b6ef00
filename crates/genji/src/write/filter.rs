//! A Bloom filter over the keys of one table, kept in memory: most lookups of a new key touch no block.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use super::order;
use crate::value;

const BITS_PER_KEY: usize = 10;
const PROBES: u64 = 6;

/// The hash under which a key, or the beginning of one, is looked up.
pub(crate) fn hash(key: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}

/// The hashes that a key answers to: its own, and for an index entry that of the indexed values alone.
pub(crate) fn put_hashes(hashes: &mut Vec<u64>, key: &[u8]) {
    hashes.push(hash(key));
    if let Some(length) = values_length(key) {
        hashes.push(hash(key.get(..length).unwrap_or_default()));
    }
}

/// The length of a key without its last component, if that is a blob.
pub(crate) fn values_length(key: &[u8]) -> Option<usize> {
    let (start, last) = order::components(key).last()?;
    (last.first() == Some(&value::BLOB)).then_some(start)
}

/// Tells for certain that a key is absent.
pub(crate) struct Filter {
    words: Vec<u64>,
}

impl Filter {
    pub(crate) fn new(hashes: &[u64]) -> Self {
        let mut filter = Self { words: vec![0; (hashes.len() * BITS_PER_KEY).div_ceil(64).max(1)] };
        for &hash in hashes {
            for bit in filter.bits(hash) {
                if let Some(word) = filter.words.get_mut((bit / 64) as usize) {
                    *word |= 1 << (bit % 64);
                }
            }
        }
        filter
    }

    /// Whether a key with this hash may be there.
    pub(crate) fn may_contain(&self, hash: u64) -> bool {
        let is_set =
            |bit: u64| self.words.get((bit / 64) as usize).is_some_and(|word| word >> (bit % 64) & 1 == 1);
        self.bits(hash).all(is_set)
    }

    fn bits(&self, hash: u64) -> impl Iterator<Item = u64> + use<> {
        let size = self.words.len() as u64 * 64;
        let step = hash.rotate_left(32) | 1;
        (0..PROBES).map(move |probe| hash.wrapping_add(probe.wrapping_mul(step)) % size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_and_few_others() {
        let hashes: Vec<u64> = (0..10_000u32).map(|key| hash(&key.to_be_bytes())).collect();
        let filter = Filter::new(&hashes);
        assert!(hashes.iter().all(|&hash| filter.may_contain(hash)));
        let wrong = (10_000..20_000u32).filter(|key| filter.may_contain(hash(&key.to_be_bytes()))).count();
        assert!(wrong < 300, "{wrong}");
    }

    #[test]
    fn index_entries_are_found_by_their_values() {
        let mut hashes = Vec::new();
        put_hashes(&mut hashes, &[0x54, 0xDA, 1, b'x', 0xE0, 2, 0x53, 0x45]);
        assert_eq!(hashes[1], hash(&[0x54, 0xDA, 1, b'x']));
        hashes.clear();
        put_hashes(&mut hashes, &[0x54, 0x45]);
        assert_eq!(hashes.len(), 1);
    }
}
