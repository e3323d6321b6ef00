//! Groups that do not fit into memory, as a file of length-prefixed messages.

use std::fs::{File, OpenOptions};
use std::io::{BufReader, BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use deltamesh_change::Item;
use deltamesh_wire::proto::change::v1::Changes;
use prost::Message as _;

use crate::decode::Schemas;
use crate::error::{Error, ErrorKind, Result};

/// The file while the group's messages still come. It has no name any more: it ends with the process.
#[derive(Debug)]
pub(crate) struct SpoolWriter {
    file: BufWriter<File>,
}

impl SpoolWriter {
    pub(crate) fn create(folder: &Path) -> Result<Self> {
        let path = folder.join(format!(".deltamesh-spool-{}", std::process::id()));
        let place = |error| Error::io(format!("spool {}", path.display()), error);
        let file = OpenOptions::new().create(true).truncate(true).read(true).write(true).open(&path);
        let file = file.map_err(place)?;
        std::fs::remove_file(&path).map_err(place)?;
        Ok(Self { file: BufWriter::with_capacity(1 << 20, file) })
    }

    pub(crate) fn write(&mut self, payload: &[u8]) -> Result<()> {
        let length = u32::try_from(payload.len())
            .map_err(|_| Error::new(ErrorKind::Decode, "spool", "message is too large"))?;
        let place = |error| Error::io("write spool", error);
        self.file.write_all(&length.to_le_bytes()).map_err(place)?;
        self.file.write_all(payload).map_err(place)
    }
}

/// The complete file. It can be read several times: a transaction that failed is tried again.
#[derive(Debug)]
pub struct Spool {
    file: File,
    schemas: Schemas,
}

impl Spool {
    pub(crate) fn new(writer: SpoolWriter, schemas: Schemas) -> Result<Self> {
        let file = writer.file.into_inner().map_err(|error| Error::io("write spool", error.into_error()))?;
        Ok(Self { file, schemas })
    }

    /// Gives each item in order, one message's worth in memory at a time.
    pub(crate) fn visit<E: From<Error>>(
        &self,
        each: &mut dyn FnMut(&Item) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let place = |error| Error::io("read spool", error);
        let mut reader = BufReader::with_capacity(1 << 20, &self.file);
        reader.seek(SeekFrom::Start(0)).map_err(place)?;
        let mut schemas = self.schemas.clone();
        let mut length = [0_u8; 4];
        let mut payload = Vec::new();
        loop {
            match reader.read_exact(&mut length) {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(()),
                Err(error) => return Err(place(error).into()),
            }
            payload.resize(u32::from_le_bytes(length) as usize, 0);
            reader.read_exact(&mut payload).map_err(place)?;
            let changes = Changes::decode(payload.as_slice()).map_err(|error| {
                Error::new(ErrorKind::Decode, "read spool", "not a change message").caused_by(error)
            })?;
            for item in schemas.items(changes)? {
                each(&item)?;
            }
        }
    }
}
