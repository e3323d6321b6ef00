//! Reading the replica without holding up the loop.

use deltamesh_replica::{Error, ErrorKind, Location, Reader, Result};

/// A reading connection that lives on blocking threads. Opened when first needed, and again after an error.
#[derive(Debug)]
pub(crate) struct Reading {
    location: Location,
    reader: Option<Reader>,
}

impl Reading {
    pub(crate) fn new(location: &Location) -> Self {
        Self { location: location.clone(), reader: None }
    }

    pub(crate) async fn read<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Reader) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (kept, location) = (self.reader.take(), self.location.clone());
        let reading = tokio::task::spawn_blocking(move || {
            let mut reader = kept.map_or_else(|| Reader::open(location), Ok)?;
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
