//! The on-disk format of a Genji database: read, tail and write.
