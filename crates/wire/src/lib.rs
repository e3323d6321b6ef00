//! What travels between the services: Protobuf messages, subjects and headers, and conversions to the domain.
//!
//! [`proto`] is generated from the files under `proto/` of the workspace and committed; a test regenerates and compares.
//! [`DESCRIPTOR_SET`] describes the same files at run time. [`subject`] and [`header`] hold every name that appears on
//! NATS. No I/O.

mod convert;
pub mod header;
pub mod subject;

pub use convert::{ConvertError, ErrorKind};

/// Serialised `google.protobuf.FileDescriptorSet` of every file under `proto/`, with its imports.
pub const DESCRIPTOR_SET: &[u8] = include_bytes!("generated/deltamesh.binpb");

/// Value of the `Content-Type` header of a change message.
pub const CHANGES_CONTENT_TYPE: &str = "application/x-protobuf; messageType=deltamesh.change.v1.Changes";

/// Generated messages, one module per Protobuf package.
#[allow(missing_docs, unreachable_pub, unused_qualifications, clippy::all, clippy::pedantic)]
pub mod proto {
    /// Package `deltamesh.change.v1`: the change log.
    pub mod change {
        pub mod v1 {
            include!("generated/deltamesh.change.v1.rs");
        }
    }
    /// Package `deltamesh.feed.v1`: reading views.
    pub mod feed {
        pub mod v1 {
            include!("generated/deltamesh.feed.v1.rs");
        }
    }
    /// Package `deltamesh.module.v1`: annotations, and a module as it is kept.
    pub mod module {
        pub mod v1 {
            include!("generated/deltamesh.module.v1.rs");
        }
    }
    /// Package `deltamesh.source.v1`: writing to a hosted source.
    pub mod source {
        pub mod v1 {
            include!("generated/deltamesh.source.v1.rs");
        }
    }
}
