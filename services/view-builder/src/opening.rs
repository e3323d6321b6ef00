//! Opening the replica, whose database may be away just now.

use deltamesh_jetstream::{Client, StatusBoard, answer_status, backoff};
use deltamesh_replica::{ErrorKind, Location, Replica};

use crate::{Error, Options};

/// What says in the status that the replica is not open yet.
const PART: &str = "replica";

/// Opens the replica once; gives none where it is worth trying again, and says so on the board.
pub(crate) async fn open(
    options: &Options,
    location: &Location,
    board: &StatusBoard,
) -> Result<Option<Box<dyn Replica>>, Error> {
    let (location, retention, from) = (location.clone(), options.retain, options.fill_beside);
    let opened = tokio::task::spawn_blocking(move || {
        let mut replica = location.open(retention)?;
        replica.fill_beside(from);
        Ok::<_, deltamesh_replica::Error>(replica)
    });
    let opened = opened.await.map_err(|error| {
        deltamesh_replica::Error::new(ErrorKind::Stopped, "open replica", "thread has ended").caused_by(error)
    })?;
    match opened {
        Err(error) if error.kind().is_retryable() => {
            tracing::warn!(
                place = error.place(),
                reason = error.reason(),
                "cannot open the replica, trying again"
            );
            board.raise(PART, error.place(), error.reason());
            Ok(None)
        }
        opened => {
            board.clear(PART);
            Ok(Some(opened?))
        }
    }
}

/// Tries until the replica is open, and answers for the status meanwhile.
pub(crate) async fn open_at_last(
    client: &Client,
    options: &Options,
    location: &Location,
    board: &StatusBoard,
) -> Result<Box<dyn Replica>, Error> {
    let opening = async {
        let mut attempt = 0;
        loop {
            tokio::time::sleep(backoff(attempt)).await;
            attempt += 1;
            if let Some(replica) = open(options, location, board).await? {
                return Ok(replica);
            }
        }
    };
    tokio::select! {
        replica = opening => replica,
        Err(error) = answer_status(client, board) => Err(error.into()),
    }
}
