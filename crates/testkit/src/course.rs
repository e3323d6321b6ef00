//! Seeded courses of random tests.

use anyhow::{Context, Result};

/// A generator of which a seed gives the same numbers everywhere (Knuth's MMIX constants).
#[derive(Debug, Clone)]
pub struct Random(pub u64);

impl Random {
    /// From 0 up to, but without, `limit`, which is positive.
    pub fn below<N>(&mut self, limit: N) -> N
    where
        N: Default + TryFrom<u64> + TryInto<u64>,
    {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let limit = limit.try_into().unwrap_or_default();
        // What is below the limit fits its type.
        (self.0 >> 33).checked_rem(limit).and_then(|number| N::try_from(number).ok()).unwrap_or_default()
    }

    /// True in `percent` of a hundred cases.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of them; there must be one.
    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len())]
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
