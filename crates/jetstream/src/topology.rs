//! Streams and buckets as code: every limit and setting that JetStream needs from us.
//!
//! A stream that exists keeps the limits that an operator gave it; only what our protocol needs (subjects, direct get,
//! atomic batches, counters) is put right.

use std::time::Duration;

use async_nats::jetstream::context::GetStreamByNameErrorKind;
use async_nats::jetstream::kv;
use async_nats::jetstream::stream::{Config, DiscardPolicy, PersistenceMode, RetentionPolicy, StorageType};
use deltamesh_wire::subject;
use tracing::warn;

use crate::{Client, Error, ErrorKind};

const GIB: i64 = 1 << 30;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Oldest messages go above this size. What a replica missed then comes from a snapshot of the source.
const CHANGES_BYTES: i64 = 8 * GIB;
/// Oldest messages go after this time.
const CHANGES_AGE: Duration = DAY.saturating_mul(7);
/// A subscriber that resumes from behind this is served from the replica.
const FEED_BYTES: i64 = 2 * GIB;
/// The same by time.
const FEED_AGE: Duration = DAY;

/// A stream that cannot have this much is not worth having.
const LEAST_BYTES: i64 = 16 << 20;

/// A bucket of current values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BucketName {
    /// Applied modules, by module name.
    Modules,
    /// What each service made of a module, by `<module>.<service>`.
    ModuleStatus,
    /// Replicas by name.
    Replicas,
}

impl BucketName {
    fn config(self) -> kv::Config {
        let (bucket, description, history) = match self {
            Self::Modules => (subject::MODULES_BUCKET, "Applied modules", 8),
            Self::ModuleStatus => (subject::MODULE_STATUS_BUCKET, "What services made of modules", 1),
            Self::Replicas => (subject::REPLICAS_BUCKET, "Replicas and their feeds", 1),
        };
        kv::Config {
            bucket: bucket.to_owned(),
            description: description.to_owned(),
            history,
            storage: StorageType::File,
            num_replicas: 1,
            ..kv::Config::default()
        }
    }
}

fn stream(name: String, description: String, subjects: Vec<String>) -> Config {
    Config {
        name,
        description: Some(description),
        subjects,
        retention: RetentionPolicy::Limits,
        discard: DiscardPolicy::Old,
        storage: StorageType::File,
        num_replicas: 1,
        allow_direct: true,
        ..Config::default()
    }
}

/// The change log of a source. Nobody deletes single messages: a hole in its sequences means that it was trimmed.
fn changes(source: &str) -> Config {
    Config {
        max_bytes: CHANGES_BYTES,
        max_age: CHANGES_AGE,
        deny_delete: true,
        allow_atomic_publish: true,
        ..stream(
            subject::changes_stream(source),
            format!("Change log of source {source}"),
            vec![subject::changes_all(source)],
        )
    }
}

/// The feeds of a replica. Every message is in the replica's change log too, from which the stream is completed after a
/// crash of the server; so it is written without waiting for the disk, which an atomic batch would need.
fn feed(replica: &str, views: &[String], first_sequence: u64) -> Config {
    Config {
        max_bytes: FEED_BYTES,
        max_age: FEED_AGE,
        deny_delete: true,
        persist_mode: Some(PersistenceMode::Async),
        first_sequence: (first_sequence > 1).then_some(first_sequence),
        ..stream(
            subject::feed_stream(replica),
            format!("View changes of replica {replica}"),
            views.iter().map(|view| subject::feed_view(view)).chain([subject::aside_all(replica)]).collect(),
        )
    }
}

fn dsid() -> Config {
    Config {
        max_messages_per_subject: 1,
        allow_message_counter: true,
        ..stream(
            subject::DSID_STREAM.to_owned(),
            "Schema sequence counters".to_owned(),
            vec![subject::dsid("*")],
        )
    }
}

/// Creates the change log of `source` and its schema counter where they are missing.
///
/// # Errors
/// The server refuses or does not answer.
pub async fn ensure_changes(client: &Client, source: &str) -> Result<(), Error> {
    ensure(client, changes(source)).await?;
    ensure(client, dsid()).await
}

/// Creates the feed stream of `replica`, or makes it capture exactly the feeds of `views`.
///
/// A stream that is created anew starts at `first_sequence`, so that feed positions that were already given out are not
/// given out again.
///
/// # Errors
/// [`ErrorKind::Taken`] where another stream has the feed of a view, which [`feed_owner`] names. Else the server refuses, or does
/// not answer.
pub async fn ensure_feed(
    client: &Client,
    replica: &str,
    views: &[String],
    first_sequence: u64,
) -> Result<(), Error> {
    ensure(client, feed(replica, views, first_sequence)).await
}

/// The stream that captures the feed of a view, if there is one.
///
/// # Errors
/// The server refuses or does not answer.
pub async fn feed_owner(client: &Client, view: &str) -> Result<Option<String>, Error> {
    match client.context().stream_by_subject(subject::feed_view(view)).await {
        Ok(stream) => Ok(Some(stream)),
        Err(error) if error.kind() == GetStreamByNameErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::from_nats(format!("look up the feed of {view}"), error)),
    }
}

async fn ensure(client: &Client, wanted: Config) -> Result<(), Error> {
    let name = wanted.name.clone();
    let known = match get(client, &name).await {
        Ok(stream) => Some(stream.cached_info().config.clone()),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    match known {
        None => create(client, wanted).await,
        Some(known) => match corrected(&known, &wanted) {
            None => Ok(()),
            Some(config) => client
                .context()
                .update_stream(config)
                .await
                .map(drop)
                .map_err(|error| Error::from_nats(format!("update stream {name}"), error)),
        },
    }
}

/// The server sets the stream's limit aside in advance. Where it has less room than that, the stream gets a quarter of the
/// largest power of two that fits, so that others find room too.
async fn create(client: &Client, mut wanted: Config) -> Result<(), Error> {
    let name = wanted.name.clone();
    let full_size = wanted.max_bytes;
    while let Err(error) = client.context().create_stream(wanted.clone()).await {
        let error = Error::from_nats(format!("create stream {name}"), error);
        if error.kind() != ErrorKind::Full || wanted.max_bytes / 2 < LEAST_BYTES {
            return Err(error);
        }
        wanted.max_bytes /= 2;
    }
    if wanted.max_bytes < full_size {
        wanted.max_bytes /= 4;
        warn!(stream = name, bytes = wanted.max_bytes, "server has little room, stream is smaller");
        let updated = client.context().update_stream(wanted).await;
        updated.map_err(|error| Error::from_nats(format!("update stream {name}"), error))?;
    }
    Ok(())
}

/// `known` with what the protocol needs, or nothing where it has that already.
fn corrected(known: &Config, wanted: &Config) -> Option<Config> {
    // The server gives a stream without subjects its own name as subject.
    let subjects =
        if wanted.subjects.is_empty() { vec![wanted.name.clone()] } else { wanted.subjects.clone() };
    let sorted = |subjects: &[String]| {
        let mut subjects = subjects.to_vec();
        subjects.sort();
        subjects
    };
    let config = Config {
        allow_direct: true,
        allow_atomic_publish: wanted.allow_atomic_publish,
        allow_message_counter: wanted.allow_message_counter,
        ..known.clone()
    };
    if sorted(&known.subjects) == sorted(&subjects) {
        (config != *known).then_some(config)
    } else {
        Some(Config { subjects, ..config })
    }
}

/// Opens a bucket, and creates it where it is missing.
pub(crate) async fn ensure_bucket(client: &Client, name: BucketName) -> Result<kv::Store, Error> {
    let config = name.config();
    let bucket = config.bucket.clone();
    match client.context().get_key_value(&bucket).await {
        Ok(store) => Ok(store),
        Err(_) => client
            .context()
            .create_key_value(config)
            .await
            .map_err(|error| Error::from_nats(format!("create bucket {bucket}"), error)),
    }
}

/// The stream of that name.
pub(crate) async fn get(client: &Client, name: &str) -> Result<async_nats::jetstream::stream::Stream, Error> {
    let stream = client.context().get_stream(name).await;
    stream.map_err(|error| Error::from_nats(format!("look up stream {name}"), error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_an_operator_are_kept() {
        let wanted = changes("app");
        assert_eq!(corrected(&wanted, &wanted), None);
        let known = Config { max_bytes: 77, allow_atomic_publish: false, ..changes("app") };
        let config = corrected(&known, &wanted).expect("differs");
        assert_eq!((config.max_bytes, config.allow_atomic_publish), (77, true));
    }

    #[test]
    fn a_feed_captures_the_views_of_its_replica() {
        let known = feed("main", &["a".into(), "b".into()], 1);
        assert_eq!(corrected(&known, &feed("main", &["b".into(), "a".into()], 1)), None);
        let config = corrected(&known, &feed("main", &["a".into()], 1)).expect("differs");
        assert_eq!(config.subjects, ["feed.a.>", "aside.main.>"]);
    }
}
