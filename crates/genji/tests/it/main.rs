//! Tests of the Genji format against what the real engine wrote, and against the real engine itself.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod case;
mod chai;
mod damage;
mod fixtures;
mod large;
mod live;
mod process;
mod reference;
mod storage;
mod values;
mod write;
