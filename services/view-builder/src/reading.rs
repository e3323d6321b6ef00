//! Reading the replica without holding up the loop.

use std::path::{Path, PathBuf};

use deltamesh_replica::{Error, ErrorKind, Reader, Result};

/// A reading connection that lives on blocking threads. Opened when first needed, and again after an error.
#[derive(Debug)]
pub(crate) struct Reading {
    path: PathBuf,
    reader: Option<Reader>,
}

impl Reading {
    pub(crate) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), reader: None }
    }

    pub(crate) async fn read<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Reader) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (kept, path) = (self.reader.take(), self.path.clone());
        let reading = tokio::task::spawn_blocking(move || {
            let mut reader = kept.map_or_else(|| Reader::open(&path), Ok)?;
            let value = work(&mut reader)?;
            Ok((reader, value))
        });
        let ended =
            |error| Error::new(ErrorKind::Stopped, "read replica", "thread has ended").caused_by(error);
        let (reader, value) = reading.await.map_err(ended)??;
        self.reader = Some(reader);
        Ok(value)
    }
}
