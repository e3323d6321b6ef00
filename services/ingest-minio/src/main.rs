//! Captures the changes of S3 and MinIO buckets.

fn main() {}
