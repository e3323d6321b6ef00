//! A Protobuf module: descriptors, annotations, inferred relations, JSON to message.
