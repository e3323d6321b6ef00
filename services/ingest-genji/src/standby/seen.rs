//! The keys that a snapshot holds, to find the rows that it does not hold.
//!
//! A key is kept as a hash of 128 bits, in a temporary file: memory is bounded whatever the number of rows, and a table is
//! read once for every [`PASS`] keys of the snapshot.

use std::fs::File;
use std::hash::{BuildHasher as _, RandomState};
use std::io::{BufReader, BufWriter, Read as _, Result, Seek as _, Write as _};
use std::path::Path;

use deltamesh_change::Value;

/// Keys of one pass: 64 MiB.
const PASS: u64 = 4 << 20;

/// Keys as they come.
pub(crate) struct Seen {
    hashes: Hashes,
    file: BufWriter<File>,
    count: u64,
}

/// Two hashers that an application cannot foresee.
#[derive(Clone, Default)]
struct Hashes([RandomState; 2]);

impl Hashes {
    fn of(&self, key: &[Value]) -> u128 {
        // One text for equal values of equal kinds.
        let text = format!("{key:?}");
        let [first, second] = &self.0;
        u128::from(first.hash_one(&text)) << 64 | u128::from(second.hash_one(&text))
    }
}

impl Seen {
    /// Kept in a file of that folder that has no name.
    pub(crate) fn new(folder: &Path) -> Result<Self> {
        let file = BufWriter::new(tempfile::tempfile_in(folder)?);
        Ok(Self { hashes: Hashes::default(), file, count: 0 })
    }

    pub(crate) fn add(&mut self, key: &[Value]) -> Result<()> {
        self.count += 1;
        self.file.write_all(&self.hashes.of(key).to_le_bytes())
    }

    /// The keys again, by parts of all possible keys.
    pub(crate) fn passes(self) -> Result<Passes> {
        let file = self.file.into_inner().map_err(std::io::IntoInnerError::into_error)?;
        let passes = self.count.div_ceil(PASS).max(1);
        Ok(Passes { hashes: self.hashes, file, passes, next: 0 })
    }
}

/// Parts that are still to come.
pub(crate) struct Passes {
    hashes: Hashes,
    file: File,
    passes: u64,
    next: u64,
}

/// The keys of one part.
pub(crate) struct Pass {
    hashes: Hashes,
    sorted: Vec<u128>,
    passes: u64,
    number: u64,
}

impl Passes {
    pub(crate) fn next(&mut self) -> Result<Option<Pass>> {
        if self.next == self.passes {
            return Ok(None);
        }
        self.file.rewind()?;
        let mut file = BufReader::new(&self.file);
        let mut pass =
            Pass { hashes: self.hashes.clone(), sorted: vec![], passes: self.passes, number: self.next };
        let mut bytes = [0; 16];
        loop {
            match file.read_exact(&mut bytes) {
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => break,
                other => other?,
            }
            let hash = u128::from_le_bytes(bytes);
            if pass.has(hash) {
                pass.sorted.push(hash);
            }
        }
        pass.sorted.sort_unstable();
        self.next += 1;
        Ok(Some(pass))
    }
}

impl Pass {
    fn has(&self, hash: u128) -> bool {
        hash % u128::from(self.passes) == u128::from(self.number)
    }

    /// Whether the key belongs to this part and was not seen.
    pub(crate) fn lacks(&self, key: &[Value]) -> bool {
        let hash = self.hashes.of(key);
        self.has(hash) && self.sorted.binary_search(&hash).is_err()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_in_one_pass() {
        let mut seen = Seen::new(&std::env::temp_dir()).unwrap();
        let key = |number: i64| [Value::Int(number), Value::from("k")];
        (0..1000).for_each(|number| seen.add(&key(number)).unwrap());
        let mut passes = seen.passes().unwrap();
        passes.passes = 7;
        let mut lacking = 0;
        while let Some(pass) = passes.next().unwrap() {
            assert!((0..1000).all(|number| !pass.lacks(&key(number))));
            lacking += (1000..1100).filter(|&number| pass.lacks(&key(number))).count();
        }
        assert_eq!(lacking, 100);
    }
}
