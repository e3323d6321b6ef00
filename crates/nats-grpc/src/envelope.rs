//! Bytes of the envelopes, `nrpc.Request` and `nrpc.Response`.

use bytes::{BufMut, Bytes, BytesMut};
use prost::encoding::{encode_varint, encoded_len_varint};
use prost::{DecodeError, Message};

use crate::generated::nrpc;
pub(crate) use crate::generated::nrpc::request::Type as RequestKind;
pub(crate) use crate::generated::nrpc::response::Type as ResponseKind;
use crate::metadata::Metadata;
use crate::status::Status;

/// Key of the member `data` in both envelopes, and of `Data.data`.
const DATA_KEY: u8 = 0x1a;
const BYTES_KEY: u8 = 0x0a;
/// `End` without status: half-close, or success.
const END: &[u8] = &[0x22, 0x00];

/// One application message with its envelope, ready to be published any number of times.
///
/// A feed encodes a row once and sends the same frame to all its subscribers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    envelope: Bytes,
    payload_at: usize,
}

impl Frame {
    /// Wraps a serialised message. The message is copied, once.
    #[must_use]
    pub fn new(payload: &[u8]) -> Self {
        let length = payload.len();
        let inner = if length == 0 { 0 } else { 1 + encoded_len_varint(length as u64) + length };
        let mut envelope = BytesMut::with_capacity(1 + encoded_len_varint(inner as u64) + inner);
        envelope.put_u8(DATA_KEY);
        encode_varint(inner as u64, &mut envelope);
        if length > 0 {
            envelope.put_u8(BYTES_KEY);
            encode_varint(length as u64, &mut envelope);
        }
        let payload_at = envelope.len();
        envelope.put_slice(payload);
        Self { envelope: envelope.freeze(), payload_at }
    }

    /// The serialised message.
    #[must_use]
    pub fn payload(&self) -> Bytes {
        self.envelope.slice(self.payload_at..)
    }

    /// What goes into the NATS message.
    pub(crate) fn envelope(&self) -> Bytes {
        self.envelope.clone()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.payload_at == self.envelope.len()
    }
}

pub(crate) fn call(method: &str, metadata: Metadata, nid: &str) -> Bytes {
    let call = nrpc::Call { method: method.to_owned(), metadata: metadata.into_wire(), nid: nid.to_owned() };
    nrpc::Request { r#type: Some(RequestKind::Call(call)) }.encode_to_vec().into()
}

pub(crate) fn begin(header: Metadata, nid: &str) -> Bytes {
    let begin = nrpc::Begin { header: header.into_wire(), nid: nid.to_owned() };
    nrpc::Response { r#type: Some(ResponseKind::Begin(begin)) }.encode_to_vec().into()
}

/// Half-close of a client.
pub(crate) fn half_close() -> Bytes {
    Bytes::from_static(END)
}

/// Cancellation by a client.
pub(crate) fn cancel(status: &Status) -> Bytes {
    end(Some(status), Metadata::new())
}

/// The outcome of a call. Success has no status at all: Go clients take any status for a failure.
pub(crate) fn end(failure: Option<&Status>, trailer: Metadata) -> Bytes {
    if failure.is_none() && trailer.is_empty() {
        return Bytes::from_static(END);
    }
    let end = nrpc::End { status: failure.map(Status::to_wire), trailer: trailer.into_wire() };
    nrpc::Response { r#type: Some(ResponseKind::End(end)) }.encode_to_vec().into()
}

/// `None`: an empty message or an unknown member, to be ignored.
pub(crate) fn decode_request(payload: Bytes) -> Result<Option<RequestKind>, DecodeError> {
    nrpc::Request::decode(payload).map(|request| request.r#type)
}

/// `None`: an empty message or an unknown member, to be ignored.
pub(crate) fn decode_response(payload: Bytes) -> Result<Option<ResponseKind>, DecodeError> {
    nrpc::Response::decode(payload).map(|response| response.r#type)
}

#[cfg(test)]
mod tests;
