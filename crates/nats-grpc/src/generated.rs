//! Messages generated from `proto/`; the test `generated_code_is_fresh` compares them.

#![allow(missing_docs, unreachable_pub, clippy::all)]

pub(crate) mod nrpc {
    include!("generated/nrpc.rs");
}

pub(crate) mod google {
    pub(crate) mod rpc {
        include!("generated/google.rpc.rs");
    }
}

pub(crate) mod health {
    include!("generated/grpc.health.v1.rs");
}

/// Of v1; v1alpha is the same byte for byte.
pub(crate) mod reflection {
    include!("generated/grpc.reflection.v1.rs");
}

/// Descriptors of the health and both reflection services.
pub(crate) const SERVICES: &[u8] = include_bytes!("generated/services.binpb");
