//! Why the service ends by itself.

/// A failure before the capture loop began.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// NATS refused something that the service cannot do without.
    #[error(transparent)]
    JetStream(#[from] deltamesh_jetstream::Error),
    /// The operating system refused a thread.
    #[error("cannot start a thread")]
    Thread(#[source] std::io::Error),
}
