//! Messages of a change stream to groups.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use deltamesh_change::{Item, RelationSchema, SchemaChange};
use deltamesh_wire::proto::change::v1::{Changes, Position};
use prost::Message as _;

use crate::error::{Error, ErrorKind, Result};
use crate::group::{Group, Items};
use crate::spool::{Spool, SpoolWriter};

/// Payload bytes of a group that are kept in memory; a larger group goes to disk.
const MEMORY: usize = 16 << 20;

/// The schemas that rows are read by, followed through the stream.
#[derive(Debug, Clone, Default)]
pub(crate) struct Schemas(HashMap<String, Arc<RelationSchema>>);

impl Schemas {
    /// The items of a message, in order; a schema change is in force from here on.
    pub(crate) fn items(&mut self, changes: Changes) -> Result<Vec<Item>> {
        let place = || format!("relation {}", changes.relation);
        let broken = |error: deltamesh_wire::ConvertError| {
            Error::new(ErrorKind::Decode, place(), error.to_string()).caused_by(error)
        };
        if let Some(change) = changes.schema {
            let change = SchemaChange::try_from(change).map_err(broken)?;
            self.follow(&change);
            return Ok(vec![Item::Schema(change)]);
        }
        if changes.relation.is_empty() && changes.transactions.is_empty() {
            // Only a position: a source without relations, or a new writer.
            return Ok(vec![]);
        }
        let schema = self.0.get(&changes.relation);
        let schema = schema.ok_or_else(|| Error::new(ErrorKind::Decode, place(), "relation is unknown"))?;
        if schema.dsid != changes.dsid {
            let reason = format!("rows have schema {}, known is {}", changes.dsid, schema.dsid);
            return Err(Error::new(ErrorKind::Decode, place(), reason));
        }
        let rows = changes.transactions.into_iter().flat_map(|transaction| transaction.rows);
        rows.map(|row| row.into_event(schema).map(Item::Row).map_err(broken)).collect()
    }

    fn follow(&mut self, change: &SchemaChange) {
        match change {
            SchemaChange::Define(schema) => {
                self.0.insert(schema.relation.clone(), schema.clone());
            }
            SchemaChange::Rename { from, to } => {
                self.0.remove(from);
                self.0.insert(to.relation.clone(), to.clone());
            }
            SchemaChange::Drop { relation, .. } => {
                self.0.remove(relation);
            }
        }
    }
}

/// Puts the messages of one source's change stream together to groups.
#[derive(Debug)]
pub struct Assembler {
    source: String,
    spool: PathBuf,
    schemas: Schemas,
    open: Option<Open>,
    skip: Skip,
}

/// Which messages are dropped because the beginning of their group is missing. A snapshot without its beginning would
/// delete rows.
#[derive(Debug, PartialEq)]
enum Skip {
    Nothing,
    /// Those of the next group, whichever it is.
    NextGroup,
    /// Those of this group.
    Group(Head),
}

/// A group whose last message has not come yet.
#[derive(Debug)]
struct Open {
    head: Head,
    /// Schemas before the group's first message.
    schemas: Schemas,
    payloads: Vec<Vec<u8>>,
    bytes: usize,
    spool: Option<SpoolWriter>,
}

#[derive(Debug, Clone, PartialEq)]
struct Head {
    first_ordinal: u64,
    position: Position,
    snapshot: bool,
    /// Tells a group apart from the same one published again after its publisher died in the middle.
    captured_us: i64,
}

impl Assembler {
    /// Continues a source whose relations have these schemas at the checkpoint. Groups that are too large for memory go to
    /// files in the folder `spool`.
    #[must_use]
    pub fn new(
        source: &str,
        schemas: impl IntoIterator<Item = Arc<RelationSchema>>,
        spool: impl AsRef<Path>,
    ) -> Self {
        let schemas = schemas.into_iter().map(|schema| (schema.relation.clone(), schema));
        let schemas = Schemas(schemas.collect());
        let (source, spool) = (source.to_owned(), spool.as_ref().to_owned());
        Self { source, spool, schemas, open: None, skip: Skip::Nothing }
    }

    /// Drops the next group: the first message to come may be in its middle.
    pub fn skip_group(&mut self) {
        self.close(Skip::NextGroup);
    }

    /// Takes the next message; gives the group that it completes.
    ///
    /// A group that never got its last message, because its publisher died, is dropped when the next one begins: the
    /// publisher sends it again from its beginning. After an error the rest of the group is dropped.
    ///
    /// # Errors
    /// [`ErrorKind::Decode`] where the message breaks its contract, [`ErrorKind::Io`] or [`ErrorKind::Full`] where it cannot
    /// be spooled.
    pub fn push(&mut self, payload: &[u8], stream_sequence: u64) -> Result<Option<Group>> {
        let place = || format!("message {stream_sequence} of source {}", self.source);
        let decoded = Changes::decode(payload)
            .map_err(|error| Error::new(ErrorKind::Decode, place(), "not a change message").caused_by(error));
        let head = decoded.and_then(|mut changes| {
            let position = changes.position.take();
            let position =
                position.ok_or_else(|| Error::new(ErrorKind::Decode, place(), "position is missing"))?;
            let Changes { first_ordinal, snapshot, captured_us, .. } = changes;
            Ok((Head { first_ordinal, position, snapshot, captured_us }, changes))
        });
        let (head, changes) = match head {
            Ok(decoded) => decoded,
            Err(error) => {
                let open = self.open.as_ref().map(|open| Skip::Group(open.head.clone()));
                self.close(open.unwrap_or(Skip::NextGroup));
                return Err(error);
            }
        };
        if self.is_skipped(&head, changes.end) {
            return Ok(None);
        }
        let end = changes.end;
        let result = self.add(head.clone(), changes, payload, stream_sequence);
        if result.is_err() {
            self.close(if end { Skip::Nothing } else { Skip::Group(head) });
        }
        result
    }

    /// Forgets the open group, and the schemas that it brought.
    fn close(&mut self, skip: Skip) {
        if let Some(open) = self.open.take() {
            self.schemas = open.schemas;
        }
        self.skip = skip;
    }

    fn is_skipped(&mut self, head: &Head, end: bool) -> bool {
        let skipped = match &self.skip {
            Skip::Nothing => false,
            Skip::NextGroup => true,
            Skip::Group(skipped) => skipped == head,
        };
        self.skip = if skipped && !end { Skip::Group(head.clone()) } else { Skip::Nothing };
        skipped
    }

    fn add(
        &mut self,
        head: Head,
        changes: Changes,
        payload: &[u8],
        stream_sequence: u64,
    ) -> Result<Option<Group>> {
        let (end, captured_us) = (changes.end, changes.captured_us);
        if let Some(open) = self.open.take_if(|open| open.head != head) {
            self.schemas = open.schemas;
        }
        let schemas = &self.schemas;
        let open = self.open.get_or_insert_with(|| Open {
            head,
            schemas: schemas.clone(),
            payloads: Vec::new(),
            bytes: 0,
            spool: None,
        });
        if changes.schema.is_some() {
            self.schemas.items(changes)?;
        }
        open.keep(payload, &self.spool)?;
        if !end {
            return Ok(None);
        }
        let Some(open) = self.open.take() else { return Ok(None) };
        let head = open.head.clone();
        let before = open.schemas.clone();
        let items = open.finish().inspect_err(|_| self.schemas = before)?;
        Ok(Some(Group {
            source: self.source.clone(),
            first_ordinal: head.first_ordinal,
            position: head.position.into(),
            captured_us,
            stream_sequence,
            snapshot: head.snapshot,
            items,
        }))
    }
}

impl Open {
    fn keep(&mut self, payload: &[u8], folder: &Path) -> Result<()> {
        self.bytes += payload.len();
        if let Some(spool) = &mut self.spool {
            return spool.write(payload);
        }
        if self.bytes <= MEMORY {
            self.payloads.push(payload.to_vec());
            return Ok(());
        }
        let mut spool = SpoolWriter::create(folder)?;
        for kept in self.payloads.drain(..) {
            spool.write(&kept)?;
        }
        spool.write(payload)?;
        self.spool = Some(spool);
        Ok(())
    }

    fn finish(self) -> Result<Items> {
        if let Some(spool) = self.spool {
            return Ok(Items::Spool(Spool::new(spool, self.schemas)?));
        }
        let mut schemas = self.schemas;
        let mut items = Vec::new();
        for payload in &self.payloads {
            let changes = Changes::decode(payload.as_slice()).map_err(|error| {
                Error::new(ErrorKind::Decode, "kept message", "not a change message").caused_by(error)
            })?;
            items.append(&mut schemas.items(changes)?);
        }
        Ok(Items::Memory(items))
    }
}
