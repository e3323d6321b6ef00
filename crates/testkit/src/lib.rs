//! Real servers on free ports for tests.
