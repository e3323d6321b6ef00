//! Where a subscriber stands, as the opaque text that it hands back to resume.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::replica::FeedPosition;

/// A position in the feeds of one replica, valid at every gateway of that replica.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// Incarnation of the replica whose feed positions these are.
    #[serde(rename = "i")]
    pub incarnation: String,
    /// Everything up to this feed position has been delivered.
    #[serde(rename = "s")]
    pub sequence: u64,
    /// Source positions that this includes, by source.
    #[serde(rename = "p", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub positions: BTreeMap<String, String>,
}

impl From<FeedPosition> for Cursor {
    fn from(at: FeedPosition) -> Self {
        Self { incarnation: at.incarnation, sequence: at.last, positions: at.positions }
    }
}

/// A text that no gateway has given out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("cursor is not one that was given out")]
pub struct CursorError;

impl Cursor {
    /// The opaque text: base64url, without padding.
    #[must_use]
    pub fn encode(&self) -> String {
        // A map of texts has a JSON form.
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    /// The cursor of a text.
    ///
    /// # Errors
    /// [`CursorError`].
    pub fn decode(text: &str) -> Result<Self, CursorError> {
        let bytes = URL_SAFE_NO_PAD.decode(text.trim()).map_err(|_| CursorError)?;
        serde_json::from_slice(&bytes).map_err(|_| CursorError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips() {
        let positions = BTreeMap::from([("app".to_owned(), "x/7/42.2.310".to_owned())]);
        let cursor = Cursor { incarnation: "abc".into(), sequence: 12, positions };
        assert_eq!(Cursor::decode(&cursor.encode()), Ok(cursor));
        for bad in ["", "?", "bm90IGpzb24", "e30="] {
            assert_eq!(Cursor::decode(bad), Err(CursorError), "{bad}");
        }
    }
}
