//! How fast one inbox may be written to: Go clients lose what overruns their buffer, without a word.

use std::time::Duration;

use tokio::time::Instant;

/// A token bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Messages that may go out at once; the common Go client buffers 8192.
    pub burst: u32,
    /// Messages per second after a burst; 0 means no limit.
    pub per_second: u32,
}

impl Rate {
    /// This rate, or a lower one that the client has asked for.
    pub(crate) fn at_most(self, asked: Option<u32>) -> Self {
        match asked {
            Some(asked) if asked > 0 && (self.per_second == 0 || asked < self.per_second) => {
                Self { burst: self.burst.min(asked.div_ceil(10)), per_second: asked }
            }
            _ => self,
        }
    }
}

/// Sleeping per message costs more than a message: an empty bucket waits for at least this much.
const NAP: Duration = Duration::from_millis(1);

/// Pacing state of one call.
#[derive(Debug)]
pub(crate) enum Pacer {
    /// One or two messages fit every client's buffer.
    Free,
    Bucket {
        rate: Rate,
        tokens: f64,
        refilled: Instant,
    },
    /// One message at a time, for clients that buffer a single one.
    Single {
        gap: Duration,
        next: Instant,
    },
}

impl Pacer {
    pub(crate) fn bucket(rate: Rate, now: Instant) -> Self {
        if rate.per_second == 0 {
            return Self::Free;
        }
        Self::Bucket { rate, tokens: f64::from(rate.burst.max(1)), refilled: now }
    }

    pub(crate) fn single(gap: Duration, now: Instant) -> Self {
        Self::Single { gap, next: now }
    }

    /// Takes the right to send one message, or says when to ask again.
    pub(crate) fn take(&mut self, now: Instant) -> Result<(), Instant> {
        match self {
            Self::Free => Ok(()),
            Self::Bucket { rate, tokens, refilled } => {
                if *tokens < 1.0 {
                    let earned = (now - *refilled).as_secs_f64() * f64::from(rate.per_second);
                    *tokens = (*tokens + earned).min(f64::from(rate.burst.max(1)));
                    *refilled = now;
                }
                if *tokens < 1.0 {
                    return Err(now + NAP);
                }
                *tokens -= 1.0;
                Ok(())
            }
            Self::Single { gap, next } => {
                if now < *next {
                    return Err(*next);
                }
                *next = now + *gap;
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{Pacer, Rate};

    fn taken(pacer: &mut Pacer, now: Instant) -> usize {
        std::iter::repeat_with(|| pacer.take(now)).take_while(Result::is_ok).take(100_000).count()
    }

    #[test]
    fn a_client_may_ask_for_less() {
        let rate = Rate { burst: 2_000, per_second: 60_000 };
        assert_eq!(rate.at_most(None), rate);
        assert_eq!(rate.at_most(Some(0)), rate);
        assert_eq!(rate.at_most(Some(70_000)), rate);
        assert_eq!(rate.at_most(Some(500)), Rate { burst: 50, per_second: 500 });
        let free = Rate { burst: 2_000, per_second: 0 };
        assert_eq!(free.at_most(Some(70_000)), Rate { burst: 2_000, per_second: 70_000 });
    }

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let start = Instant::now();
        let mut pacer = Pacer::bucket(Rate { burst: 2_000, per_second: 60_000 }, start);
        assert_eq!(taken(&mut pacer, start), 2_000);
        assert_eq!(taken(&mut pacer, start + Duration::from_millis(10)), 600);
        assert_eq!(taken(&mut pacer, start + Duration::from_secs(9)), 2_000);
    }

    #[test]
    fn single_messages_keep_their_gap() {
        let start = Instant::now();
        let gap = Duration::from_micros(500);
        let mut pacer = Pacer::single(gap, start);
        assert_eq!(taken(&mut pacer, start), 1);
        assert_eq!(pacer.take(start), Err(start + gap));
        assert_eq!(taken(&mut pacer, start + gap), 1);
    }

    #[test]
    fn rate_zero_is_no_limit() {
        let start = Instant::now();
        let mut pacer = Pacer::bucket(Rate { burst: 1, per_second: 0 }, start);
        assert_eq!(taken(&mut pacer, start), 100_000);
    }
}
