//! Outcome of a call: gRPC's canonical codes with message and details.

use std::fmt;

use prost_types::Any;

use crate::generated::google::rpc;

/// gRPC's canonical status codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
#[repr(i32)]
pub enum Code {
    Ok = 0,
    Cancelled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    OutOfRange = 11,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    DataLoss = 15,
    Unauthenticated = 16,
}

impl Code {
    /// All codes, each at the index of its number.
    const ALL: [Self; 17] = [
        Self::Ok,
        Self::Cancelled,
        Self::Unknown,
        Self::InvalidArgument,
        Self::DeadlineExceeded,
        Self::NotFound,
        Self::AlreadyExists,
        Self::PermissionDenied,
        Self::ResourceExhausted,
        Self::FailedPrecondition,
        Self::Aborted,
        Self::OutOfRange,
        Self::Unimplemented,
        Self::Internal,
        Self::Unavailable,
        Self::DataLoss,
        Self::Unauthenticated,
    ];

    /// The code's number on the wire.
    #[must_use]
    pub fn number(self) -> i32 {
        self as i32
    }
}

/// A number that is no canonical code means [`Code::Unknown`], as in gRPC.
impl From<i32> for Code {
    fn from(number: i32) -> Self {
        usize::try_from(number).ok().and_then(|index| Self::ALL.get(index)).copied().unwrap_or(Self::Unknown)
    }
}

/// Why a call failed. Success has no status: a handler returns `Ok(())`.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    /// The code; [`Code::Ok`] is sent as [`Code::Unknown`], since success carries no status.
    pub code: Code,
    /// For the caller; no secrets, no row values.
    pub message: String,
    /// `google.rpc` error details or any other messages.
    pub details: Vec<Any>,
}

impl Status {
    /// A status without details.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), details: Vec::new() }
    }

    /// The caller sent something wrong.
    pub fn invalid_argument(message: impl Into<String>) -> Self {
        Self::new(Code::InvalidArgument, message)
    }

    /// This side broke a rule of its own.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Code::Internal, message)
    }

    /// Not now; the caller may try again.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(Code::Unavailable, message)
    }

    pub(crate) fn cancelled() -> Self {
        Self::new(Code::Cancelled, "call ended by its caller")
    }

    pub(crate) fn deadline_exceeded() -> Self {
        Self::new(Code::DeadlineExceeded, "deadline exceeded")
    }

    pub(crate) fn to_wire(&self) -> rpc::Status {
        let code = if self.code == Code::Ok { Code::Unknown } else { self.code };
        rpc::Status { code: code.number(), message: self.message.clone(), details: self.details.clone() }
    }

    pub(crate) fn from_wire(status: rpc::Status) -> Self {
        Self { code: Code::from(status.code), message: status.message, details: status.details }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}: {}", self.code.number(), self.code, self.message)
    }
}

impl std::error::Error for Status {}

#[cfg(test)]
mod tests {
    use super::Code;

    #[test]
    fn codes_keep_their_numbers() {
        for (index, code) in Code::ALL.into_iter().enumerate() {
            assert_eq!(usize::try_from(code.number()), Ok(index));
            assert_eq!(Code::from(code.number()), code);
        }
        assert_eq!(Code::from(17), Code::Unknown);
        assert_eq!(Code::from(-1), Code::Unknown);
    }
}
