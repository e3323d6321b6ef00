//! Seeded courses of random tests.

use anyhow::{Context, Result};

/// A generator of which a seed gives the same numbers everywhere (Knuth's MMIX constants).
#[derive(Debug, Clone)]
pub struct Random(pub u64);

impl Random {
    /// From 0 up to, but without, `limit`, which is positive.
    pub fn below(&mut self, limit: i64) -> i64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % limit.unsigned_abs()).cast_signed()
    }
}

/// The number in an environment variable that shapes a test.
///
/// # Errors
/// The variable holds something else.
pub fn number(name: &str, default: u64) -> Result<u64> {
    let Ok(text) = std::env::var(name) else { return Ok(default) };
    text.parse().with_context(|| format!("{name} must be a number, not {text:?}"))
}
