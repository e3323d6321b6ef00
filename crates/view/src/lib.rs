//! SQL text to maintenance program, per dialect.
