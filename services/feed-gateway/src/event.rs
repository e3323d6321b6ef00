//! One message of a feed stream, decoded.

use std::sync::{Arc, Mutex, PoisonError};

use deltamesh_jetstream::Stored;
use deltamesh_nats_grpc::Frame;
use deltamesh_wire::{header, subject};
use serde_json::{Map, Value as Json};

/// A row: values by column name, in column order.
pub type Row = Map<String, Json>;

/// What happened to a row of a view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// The row is in a snapshot.
    Read,
    /// The row is new.
    Insert,
    /// The row has other values.
    Update,
    /// The row is gone.
    Delete,
}

impl Operation {
    /// Name in headers, events and messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }

    /// The change of that name.
    pub(crate) fn of_change(name: &str) -> Option<Self> {
        [Self::Insert, Self::Update, Self::Delete].into_iter().find(|operation| operation.name() == name)
    }
}

/// A change of one row of a view, as the feed stream or the replica has it.
#[derive(Debug, Clone)]
pub struct Event {
    /// Feed position.
    pub sequence: u64,
    /// What happened.
    pub operation: Operation,
    /// Key values, in key order.
    pub key: Vec<Json>,
    /// The row after; for a delete the row before.
    pub row: Row,
    /// For an update: the former values of the columns that changed.
    pub before: Option<Row>,
    /// Sources and positions that this is the consequence of.
    pub positions: Vec<(String, String)>,
    /// The replica's transaction ends here.
    pub transaction_end: bool,
    /// When ingest read the change, in microseconds since 1970-01-01 UTC.
    pub captured_us: Option<i64>,
    /// Forms that several subscribers get.
    pub(crate) encoded: Encoded,
}

/// Encoded once, sent to many: by the name of the form.
#[derive(Debug, Default)]
pub(crate) struct Encoded(Mutex<Vec<(Arc<str>, Frame)>>);

impl Clone for Encoded {
    /// A copy of an event may be changed, so it starts without forms.
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Encoded {
    /// The form of that name, made by the first who asks.
    pub(crate) fn form<E>(
        &self,
        name: &Arc<str>,
        make: impl FnOnce() -> Result<Vec<u8>, E>,
    ) -> Result<Frame, E> {
        let mut forms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, frame)) = forms.iter().find(|(known, _)| known == name) {
            return Ok(frame.clone());
        }
        let frame = Frame::new(&make()?);
        forms.push((Arc::clone(name), frame.clone()));
        Ok(frame)
    }
}

/// A feed message that breaks its contract; names the part, never the content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("feed message has no usable {0}")]
pub struct EventError(&'static str);

/// `source=position`, or several of them separated by commas.
pub(crate) fn positions(text: &str) -> Vec<(String, String)> {
    let pair =
        |text: &str| text.split_once('=').map(|(source, position)| (source.to_owned(), position.to_owned()));
    text.split(',').filter_map(pair).collect()
}

impl Event {
    /// Decodes a stored message; also returns the subject token of its view.
    pub(crate) fn decode(stored: &Stored) -> Result<(Arc<str>, Self), EventError> {
        let token = subject::view_token(&stored.subject).ok_or(EventError("subject"))?;
        let headers = &stored.headers;
        let operation = headers
            .get(header::OPERATION)
            .and_then(Operation::of_change)
            .ok_or(EventError(header::OPERATION))?;
        let key = headers.get(header::KEY).ok_or(EventError(header::KEY))?;
        let before = match headers.get(header::BEFORE) {
            Some(text) => Some(serde_json::from_str(text).map_err(|_| EventError(header::BEFORE))?),
            None => None,
        };
        let event = Self {
            sequence: stored.sequence,
            operation,
            key: serde_json::from_str(key).map_err(|_| EventError(header::KEY))?,
            row: serde_json::from_slice(&stored.payload).map_err(|_| EventError("payload"))?,
            before,
            positions: headers.get(header::POSITION).map(positions).unwrap_or_default(),
            transaction_end: headers.get(header::TRANSACTION_END) == Some("1"),
            captured_us: headers.get(header::CAPTURED).and_then(|text| text.parse().ok()),
            encoded: Encoded::default(),
        };
        Ok((Arc::from(token), event))
    }

    /// The row before the change, where there was one.
    #[must_use]
    pub fn row_before(&self) -> Option<Row> {
        match self.operation {
            Operation::Insert | Operation::Read => None,
            Operation::Delete => Some(self.row.clone()),
            Operation::Update => {
                let mut row = self.row.clone();
                for (name, value) in self.before.iter().flatten() {
                    row.insert(name.clone(), value.clone());
                }
                Some(row)
            }
        }
    }

    /// The row after the change, where there is one.
    #[must_use]
    pub fn row_after(&self) -> Option<&Row> {
        (self.operation != Operation::Delete).then_some(&self.row)
    }
}
