//! `ingest-genji inspect` over directories that the real engine wrote.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use deltamesh_testkit::{GenjiHost, workspace_root};
use serde_json::Value as Json;

pub(crate) fn inspect(dir: &Path, arguments: &[&str]) -> Output {
    let mut program = Command::new(env!("CARGO_BIN_EXE_ingest-genji"));
    program.arg("inspect").arg(dir).args(arguments).output().expect("program")
}

pub(crate) fn json(output: &Output) -> Json {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!("{error}: {}", String::from_utf8_lossy(&output.stderr));
    })
}

/// The cases of the project, and all there are where the reference fixtures are present.
fn cases() -> Vec<PathBuf> {
    let named = std::env::var_os("DELTAMESH_REFERENCE_FIXTURES").map(PathBuf::from);
    let reference = named.unwrap_or_else(|| workspace_root().join("../shared/fixtures")).join("genji");
    let mut folders = vec![workspace_root().join("fixtures/genji")];
    if reference.exists() {
        folders.push(reference);
    } else {
        // Straight to stderr: the test harness would keep back what a passing test prints.
        writeln!(std::io::stderr().lock(), "skipped: no reference fixtures in {}", reference.display())
            .expect("stderr");
    }
    let entries = folders.iter().flat_map(|folder| std::fs::read_dir(folder).expect("folder"));
    let mut cases: Vec<_> = entries.map(|entry| entry.expect("entry").path()).collect();
    cases.retain(|path| path.join("expected.json").exists());
    cases.sort();
    cases
}

/// The case's directory after its last step, unpacked where it is packed.
fn database(case: &Path, unpacked: &Path) -> PathBuf {
    if case.join("db").exists() {
        return case.join("db");
    }
    let mut tar = Command::new("tar");
    let tar = tar.arg("xzf").arg(case.join("db.tar.gz")).arg("-C").arg(unpacked);
    assert!(tar.status().expect("tar").success());
    unpacked.join("db")
}

/// Rows without their keys where the expectation has none, and sorted where the order says nothing.
fn rows(rows: &Json, has_keys: bool, is_ordered: bool) -> Vec<Json> {
    let mut rows = rows.as_array().expect("rows").clone();
    for row in &mut rows {
        if let Some(row) = row.as_object_mut().filter(|_| !has_keys) {
            row.remove("key");
        }
    }
    if !is_ordered {
        rows.sort_by_key(Json::to_string);
    }
    rows
}

#[test]
fn every_case_as_the_real_engine_reads_it() {
    for case in cases() {
        let unpacked = tempfile::tempdir().expect("folder");
        let name = case.file_name().expect("name").to_string_lossy().into_owned();
        let expected = std::fs::read_to_string(case.join("expected.json")).expect("expected");
        let expected: Json = serde_json::from_str(&expected).expect("json");
        let output = inspect(&database(&case, unpacked.path()), &["--snapshot", "--log", "--json"]);
        let ours = json(&output);
        let theirs = expected["tables"].as_object().expect("tables");
        let tables = ours["tables"].as_object().expect("tables");
        assert_eq!(tables.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>(), "{name}");
        // Keys that the engine cannot order stand in the order of its files.
        let is_ordered = name != "long_text_keys";
        let has_keys = theirs["__genji_catalog"][0].get("key").is_some();
        for (table, expected) in theirs {
            let [ours, theirs] = [&tables[table], expected].map(|table| rows(table, has_keys, is_ordered));
            assert_eq!(ours, theirs, "{name} {table}");
        }
        if let Some(theirs) = expected["changes"].as_array() {
            let changes = ours["changes"].as_array().expect("changes");
            for (ours, theirs) in changes.iter().zip(theirs) {
                assert_eq!(ours, theirs, "{name}");
            }
            assert_eq!(changes.len(), theirs.len(), "{name}");
        }
        let is_fault = name == "namespace_reuse";
        assert_eq!(output.status.code(), Some(if is_fault { 2 } else { 0 }), "{name}");
    }
}

#[test]
fn text_names_tables_and_operations() {
    let output = inspect(&workspace_root().join("fixtures/genji/drop_recreate/db"), &["--snapshot", "--log"]);
    let text = String::from_utf8(output.stdout).expect("utf-8");
    for line in [
        "table t (namespace 13)",
        "  CREATE TABLE t (z INTEGER NOT NULL, CONSTRAINT t_pk PRIMARY KEY (z))",
        "  [5] {\"z\":5}",
        "  9 10 insert t [1] {\"id\":1,\"a\":\"one\"}",
        "  16 1 drop table t CREATE TABLE t (id INTEGER NOT NULL, a TEXT, CONSTRAINT t_pk PRIMARY KEY (id), CONSTRAINT t_a_unique UNIQUE (a))",
    ] {
        assert!(text.lines().any(|found| found.starts_with(line)), "{line}\n{text}");
    }
}

#[test]
fn what_cannot_be_read_is_named() {
    let dir = tempfile::tempdir().expect("folder");
    let output = inspect(dir.path(), &["--json"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("CURRENT"));
    assert_eq!(inspect(dir.path(), &["--what"]).status.code(), Some(64));
}

/// The directory of a living engine, which nothing is written to.
#[test]
fn beside_the_engine() {
    let dir = tempfile::tempdir().expect("folder");
    let Some(mut host) = GenjiHost::start(&dir.path().join("db")).expect("genjihost") else { return };
    host.execute("CREATE TABLE t(id INT PRIMARY KEY, pad TEXT)").expect("create");
    host.execute(".fill t 0 20000 100 1000").expect("fill");
    let files = || {
        let entries = std::fs::read_dir(dir.path().join("db")).expect("folder");
        entries.map(|entry| entry.expect("entry").file_name()).collect::<std::collections::BTreeSet<_>>()
    };
    let before = files();
    let tables = json(&inspect(&dir.path().join("db"), &["--json"]));
    assert_eq!(tables["tables"]["t"].as_array().map(Vec::len), Some(20_000));
    assert_eq!(files(), before);
    host.execute("INSERT INTO t(id, pad) VALUES (20000, \"last\")").expect("insert");
    let log = json(&inspect(&dir.path().join("db"), &["--log", "--json"]));
    let last = log["changes"].as_array().and_then(|changes| changes.last()).expect("change");
    assert_eq!(last["changes"][0]["after"]["doc"][1][1]["text"], "last");
}
