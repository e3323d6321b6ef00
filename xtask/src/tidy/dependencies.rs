//! Which package may depend on what.

use crate::workspace::Graph;

/// Packages that do no I/O but on files, keep no clock and know no randomness.
const PURE: [&str; 5] =
    ["deltamesh-change", "deltamesh-genji", "deltamesh-module", "deltamesh-view", "deltamesh-wire"];
/// What they do not reach, however indirectly.
const DRIVERS: [&str; 4] = ["async-nats", "libsqlite3-sys", "rusqlite", "sqlx"];
/// What they do not name. (The SQL planner brings tokio and chrono along and starts neither.)
const IMPURE: [&str; 8] =
    ["async-trait", "chrono", "fastrand", "getrandom", "rand", "time", "tokio", "tokio-stream"];
/// A library that only these packages name.
const RESERVED: [(&str, &[&str]); 3] = [
    ("async-nats", &["deltamesh-jetstream", "deltamesh-nats-grpc"]),
    ("rusqlite", &["deltamesh-replica"]),
    ("sqlx", &["deltamesh-replica"]),
];
/// Packages that no product code depends on.
const DEV_ONLY: [&str; 3] = ["deltamesh-simulation", "deltamesh-testkit", "xtask"];

/// All violations, as sentences.
pub(crate) fn check(graph: &Graph) -> Vec<String> {
    let mut violations = Vec::new();
    for name in PURE {
        match graph.members.get(name) {
            None => violations.push(format!("package {name} is gone: mend the rules of tidy")),
            Some(package) => violations.extend(
                graph.way_to(&package.id, &DRIVERS).map(|way| format!("pure package: {}", way.join(" → "))),
            ),
        }
    }
    for (name, package) in &graph.members {
        for dependency in graph.direct(&package.id) {
            if let Some(rule) = refused(graph, name, dependency) {
                violations.push(format!("{name} depends on {dependency}: {rule}"));
            }
        }
    }
    violations
}

fn refused(graph: &Graph, name: &str, dependency: &str) -> Option<&'static str> {
    if is_service(graph, dependency) {
        return Some("nothing depends on a service");
    }
    if PURE.contains(&name) && IMPURE.contains(&dependency) {
        return Some("it is a pure package");
    }
    if DEV_ONLY.contains(&dependency) {
        return Some("it is for tests only");
    }
    let reserved = RESERVED.iter().find(|(library, _)| *library == dependency)?;
    (!reserved.1.contains(&name)).then_some("another package keeps this library to itself")
}

fn is_service(graph: &Graph, name: &str) -> bool {
    let parent = graph.members.get(name).and_then(|package| package.dir.parent());
    parent.is_some_and(|parent| parent.ends_with("services"))
}

/// The workspace's own edges, one package a line.
pub(crate) fn drawn(graph: &Graph) -> String {
    let mut text = String::from("# Normal dependencies inside the workspace. Renew: cargo xtask generate\n");
    for (name, package) in &graph.members {
        let inner: Vec<&str> =
            graph.direct(&package.id).into_iter().filter(|name| graph.members.contains_key(*name)).collect();
        text.push_str(format!("{name}: {}", inner.join(" ")).trim_end());
        text.push('\n');
    }
    text
}
