//! Reflection over small descriptor pools.
