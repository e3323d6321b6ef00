//! The committed code equals what the `.proto` files generate. `UPDATE_EXPECT=1` writes it anew.

use std::fs;
use std::path::Path;

use prost_build::{Config, Module};

/// Packages with Rust code: v1alpha's messages are v1's, byte for byte, and are only described.
const CODE: [&str; 4] = ["nrpc", "google.rpc", "grpc.health.v1", "grpc.reflection.v1"];

fn check(path: &Path, generated: &[u8]) {
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(path, generated).unwrap();
    }
    let committed = fs::read(path).unwrap_or_default();
    assert!(committed == generated, "{} is stale: test again with UPDATE_EXPECT=1", path.display());
}

#[test]
fn generated_code_is_fresh() {
    let crate_root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = [
        "nrpc.proto",
        "google/rpc/status.proto",
        "grpc/health/v1/health.proto",
        "grpc/reflection/v1/reflection.proto",
        "grpc/reflection/v1alpha/reflection.proto",
    ];
    let mut compiler = protox::Compiler::new([crate_root.join("proto")]).unwrap();
    compiler.include_source_info(true).include_imports(true).open_files(files).unwrap();
    let commented = compiler.file_descriptor_set();

    let out = crate_root.join("src/generated");
    let mut config = Config::new();
    config.bytes([".nrpc", ".grpc.reflection.v1"]).btree_map([".nrpc"]);
    let requests = commented
        .file
        .iter()
        .filter(|file| CODE.contains(&file.package()))
        .map(|file| (Module::from_protobuf_package_name(file.package()), file.clone()))
        .collect();
    for (module, code) in config.generate(requests).unwrap() {
        check(&out.join(module.to_file_name_or("root")), code.as_bytes());
    }

    let mut described = protox::Compiler::new([crate_root.join("proto")]).unwrap();
    described.include_source_info(false).include_imports(true).open_files(&files[2..]).unwrap();
    check(&out.join("services.binpb"), &described.encode_file_descriptor_set());
}
