//! JetStream as Deltamesh uses it: topology, publisher, consumer, position recovery.
//!
//! A change log or feed has one writer, a [`Publisher`], and any number of readers, each with its [`Consumer`]. Which
//! streams and buckets there are, and with which limits, says [`topology`](ensure_changes). [`Requests`] and [`StatusBoard`]
//! carry what services ask each other. What to do after an [`Error`] says its [`Disposition`].

mod bucket;
mod client;
mod consumer;
mod error;
mod feed;
mod group;
mod headers;
mod journal;
mod lease;
mod message;
mod metrics;
mod pack;
mod publisher;
mod recovery;
mod reopen;
mod service;
mod status;
mod topology;

pub use deltamesh_nats_grpc::Code;

pub use bucket::{Bucket, BucketEvent, Entry, Watch};
pub use client::{ANSWER_TIMEOUT, Client, backoff, connect};
pub use consumer::Consumer;
pub use error::{Disposition, Error, ErrorKind};
pub use feed::FeedPublisher;
pub use group::{Group, GroupReader, decode};
pub use headers::Headers;
pub use journal::{Ack, Bounds, Journal, MAX_BATCH, StreamJournal};
pub use lease::{
    Fence, Former, Lease, Leases, Limits, directory, last_directory, publish_writer, without_rows,
};
pub use message::{Message, Stored};
pub use pack::{GroupPacker, SnapshotPacker};
pub use publisher::Publisher;
pub use recovery::{Recovered, next_dsid, recover_changes};
pub use service::{Replies, Request, Requests, ServiceError};
pub use status::{Fault, Hop, Status, StatusBoard, answer_status, gather_status, now_us};
pub use topology::{BucketName, ensure_changes, ensure_feed, feed_owner};
