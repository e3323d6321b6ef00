//! The committed code equals what the `.proto` files generate. `UPDATE_EXPECT=1` writes it anew.

use std::fs;
use std::path::{Path, PathBuf};

use prost_build::{Config, Module};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn proto_files(folder: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            proto_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            found.push(path);
        }
    }
}

fn check(path: &Path, generated: &[u8]) {
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(path, generated).unwrap();
    }
    let committed = fs::read(path).unwrap_or_default();
    assert!(committed == generated, "{} is stale: run `cargo xtask generate`", path.display());
}

#[test]
fn generated_code_is_fresh() {
    let proto = root().join("proto");
    let mut files = Vec::new();
    proto_files(&proto, &mut files);
    let mut compiler = protox::Compiler::new([&proto]).unwrap();
    compiler.include_source_info(true).include_imports(true).open_files(&files).unwrap();
    let commented = compiler.file_descriptor_set();

    let out = root().join("crates/wire/src/generated");
    let mut config = Config::new();
    config.bytes([".deltamesh.change.v1", ".deltamesh.module.v1.Module"]);
    let requests = commented
        .file
        .iter()
        .map(|file| (Module::from_protobuf_package_name(file.package()), file.clone()))
        .collect();
    let modules = config.generate(requests).unwrap();
    for (module, code) in modules {
        if code.is_empty() || module.parts().next() != Some("deltamesh") {
            continue;
        }
        check(&out.join(module.to_file_name_or("root")), code.as_bytes());
    }

    compiler.include_source_info(false);
    check(&out.join("deltamesh.binpb"), &compiler.encode_file_descriptor_set());
}
