//! Names of the NATS headers that Deltamesh sets.

/// Kind of the payload.
pub const CONTENT_TYPE: &str = "Content-Type";
/// Operation of a feed message: `insert`, `update` or `delete`.
pub const OPERATION: &str = "Deltamesh-Op";
/// Key of a feed message's row: a JSON array of the key values, in key order.
pub const KEY: &str = "Deltamesh-Key";
/// Former values of the columns that an update changed: a JSON object.
pub const BEFORE: &str = "Deltamesh-Before";
/// Source position that a feed message is the consequence of: `<source>=<position>`.
pub const POSITION: &str = "Deltamesh-Position";
/// Schema sequence id of the row.
pub const DSID: &str = "Deltamesh-Dsid";
/// `1` on the last feed message of a replica transaction.
pub const TRANSACTION_END: &str = "Deltamesh-Tx-End";
/// When ingest read the change, in microseconds since 1970-01-01 UTC.
pub const CAPTURED: &str = "Deltamesh-Captured";

/// Error text of a failed request (NATS micro services, ADR-32).
pub const SERVICE_ERROR: &str = "Nats-Service-Error";
/// Error code of a failed request: the number of the gRPC status code.
pub const SERVICE_ERROR_CODE: &str = "Nats-Service-Error-Code";
