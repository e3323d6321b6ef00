//! Tests of the Genji format against what the real engine wrote, and against the real engine itself.

mod case;
mod fixtures;
mod live;
mod reference;
mod write;
