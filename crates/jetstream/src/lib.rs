//! JetStream as Deltamesh uses it: topology, publisher, consumer, position recovery.
