//! Every type and boundary, written by the real engine and read as it says itself that it wrote them.
//!
//! The engine lists the differences of each of its transactions (`genjihost -truth`), with types and keys; the tail must see
//! the same, and a snapshot what they leave. `DELTAMESH_VALUES_STATEMENTS` sets how many random statements (default 300),
//! `DELTAMESH_VALUES_SEED` which.

use std::collections::BTreeMap;
use std::path::Path;

use deltamesh_genji::{ReadOptions, Snapshot, Tail};
use deltamesh_testkit::{GenjiHost, number};
use expect_test::expect;
use serde_json::{Value as Json, json};

use crate::case::{document, snapshot};
use crate::fixtures::Model;

mod literal;

use literal::Random;

/// Runs lines in the engine, process after process, and compares what it says with what we read.
struct Comparison {
    dir: tempfile::TempDir,
    tail: Option<Tail>,
    model: Model,
    ours: Vec<Json>,
    seen: usize,
}

impl Comparison {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { dir, tail: None, model: Model::default(), ours: Vec::new(), seen: 0 }
    }

    /// One life of the engine. Statements that it refuses are passed over. Returns how many it took, if it is here.
    fn run(&mut self, lines: impl IntoIterator<Item = String>) -> Option<usize> {
        let truth = self.dir.path().join("truth.json");
        let database = self.dir.path().join("db");
        let mut host = GenjiHost::start_with(&database, &["-truth", truth.to_str().unwrap()]).unwrap()?;
        let mut taken = 0;
        self.follow(&database);
        for line in lines {
            taken += usize::from(host.execute(&line).is_ok());
            self.follow(&database);
        }
        host.close().unwrap();
        self.follow(&database);
        let theirs: Vec<Json> = serde_json::from_str(&std::fs::read_to_string(&truth).unwrap()).unwrap();
        self.compare(&database, theirs.iter().filter_map(Self::changes).collect());
        Some(taken)
    }

    /// Takes what the engine has written.
    fn follow(&mut self, database: &Path) {
        let tail = self
            .tail
            .get_or_insert_with(|| Snapshot::open(database, &ReadOptions::default()).unwrap().into_tail());
        while let Some(transaction) = tail.poll().unwrap() {
            let changes = self.model.apply(&transaction).map(|mut ours| ours["changes"].take());
            self.ours
                .extend(changes.filter(|changes| changes.as_object().is_some_and(|map| !map.is_empty())));
        }
        assert_eq!(tail.faults(), []);
    }

    /// The rows that a transaction changed, by table and key. A rename looks like deletes and inserts there.
    fn changes(transaction: &Json) -> Option<(String, Json)> {
        let statements = transaction["stmts"].to_string();
        let changes = transaction["changes"].as_array()?.iter().filter(|change| change["op"] != "noop");
        let changes = changes.map(|change| {
            let (key, document) = document(change);
            let document = if change["op"] == "delete" { Json::Null } else { document };
            (format!("{} {key}", change["table"].as_str().unwrap()), json!([change["op"], document]))
        });
        let changes: BTreeMap<_, _> = changes.collect();
        let is_one = !changes.is_empty() && !statements.contains("RENAME");
        is_one.then(|| (statements, json!(changes)))
    }

    fn compare(&mut self, database: &Path, theirs: Vec<(String, Json)>) {
        for (ours, (statements, theirs)) in self.ours.iter().zip(&theirs) {
            assert_eq!(ours, theirs, "{statements}");
        }
        let (ours, theirs_too) = (self.ours.get(theirs.len()), theirs.get(self.ours.len()));
        assert_eq!((ours, theirs_too), (None, None), "only one of us has it");
        self.seen += theirs.len();
        self.ours.clear();
        let mut left = self.model.tables.clone();
        left.retain(|_, rows| !rows.is_empty());
        assert_eq!(snapshot(database), left);
    }
}

/// Both sides of every boundary, in declared and undeclared fields, nested, and in keys.
#[test]
fn boundaries() {
    let mut comparison = Comparison::new();
    let integers = literal::INTEGERS.iter().enumerate();
    let doubles = literal::DOUBLES.iter().enumerate();
    let lengths = literal::LENGTHS.iter().enumerate();
    let mut lines = vec![
        "CREATE TABLE scalar(id INT PRIMARY KEY, i INT, d DOUBLE, t TEXT, b BLOB, o BOOL, y ANY)".to_owned(),
        "CREATE TABLE i(k INT PRIMARY KEY)".into(),
        "CREATE TABLE d(k DOUBLE PRIMARY KEY)".into(),
        "CREATE TABLE y(k ANY, l ANY, PRIMARY KEY(k, l))".into(),
        "CREATE TABLE free".into(),
        "CREATE TABLE nested(o DOCUMENT(k INT, v DOCUMENT(w TEXT, ...)), a ARRAY, x DOCUMENT, PRIMARY KEY(o.k))"
            .into(),
    ];
    for (id, integer) in integers {
        lines.push(format!("INSERT INTO scalar(id, i, d, y) VALUES ({id}, {integer}, {integer}, {integer})"));
        lines.push(format!("INSERT INTO i(k) VALUES ({integer})"));
        lines.push(format!("INSERT INTO y(k, l) VALUES ({integer}, [{integer}, {{a: {integer}}}])"));
        lines.push(format!("INSERT INTO free(v, w) VALUES ({integer}, {{n: [{integer}]}})"));
    }
    for (id, double) in doubles {
        lines.push(format!("INSERT INTO scalar(id, d, y) VALUES ({}, {double}, {double})", id + 1000));
        lines.push(format!("INSERT INTO d(k) VALUES ({double})"));
        lines.push(format!("INSERT INTO y(k, l) VALUES ({double}, true)"));
    }
    for (id, &length) in lengths {
        let (text, blob) = (literal::text(length), literal::blob(length));
        lines.push(format!("INSERT INTO scalar(id, t, b, y) VALUES ({}, {text}, {blob}, {text})", id + 2000));
        lines.push(format!("INSERT INTO free(t, u) VALUES ({text}, [{text}, {{t: {text}}}])"));
    }
    for value in ["true", "false", "NULL", "\"\"", "[]", "[[], [null]]", "\"9\"", "\"ä€😀\""] {
        lines.push(format!("INSERT INTO y(k, l) VALUES ({value}, {value})"));
        lines.push(format!("INSERT INTO free(v, w) VALUES ({value}, [{value}])"));
    }
    for (id, value) in
        ["{}", "{k: 1}", "{v: {}}", "{k: 2, v: {w: \"x\"}}", "{k: 3, v: {z: 2, w: \"x\", n: null}}"]
            .into_iter()
            .enumerate()
    {
        lines.push(format!("INSERT INTO nested(o, a, x) VALUES ({value}, [{value}], {value})"));
        lines.push(format!("INSERT INTO nested(o, x) VALUES ({{k: {}, v: {value}}}, NULL)", id + 10));
    }
    lines.extend([
        "UPDATE scalar SET y = y, i = i".into(),
        "UPDATE free SET v = 1, added = {a: [1]}".into(),
        "UPDATE nested SET a = [1, 2.0]".into(),
        ".flush".into(),
        "DELETE FROM scalar WHERE id >= 2000".into(),
        "UPDATE i SET k = k - 1 WHERE k > 5".into(),
    ]);
    let Some(taken) = comparison.run(lines) else { return };
    assert!(taken > 200, "{taken}");
    assert!(comparison.seen > 150, "{}", comparison.seen);
}

/// Rows that are older than ALTER TABLE ADD FIELD, which the engine itself cannot read: the new fields are not there, undeclared
/// ones stay what they were. One way from the logs, another from tables.
#[test]
fn rows_older_than_their_fields() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut host) = GenjiHost::start(dir.path()).unwrap() else { return };
    let mut tail = Snapshot::open(dir.path(), &ReadOptions::default()).unwrap().into_tail();
    for statement in [
        "CREATE TABLE strict(id INT PRIMARY KEY, a TEXT)",
        "CREATE TABLE open(id INT PRIMARY KEY, ...)",
        "CREATE TABLE free",
        "INSERT INTO strict(id, a) VALUES (1, \"old\")",
        "INSERT INTO strict(id) VALUES (2)",
        "INSERT INTO open(id) VALUES (1)",
        "INSERT INTO open(id, n, z) VALUES (2, {a: 1}, [1])",
        "INSERT INTO free(n, z) VALUES (5, \"old\")",
        "ALTER TABLE strict ADD FIELD n DOCUMENT(x INT)",
        "ALTER TABLE open ADD FIELD n ARRAY",
        "ALTER TABLE free ADD FIELD n INT",
        "INSERT INTO strict(id, n) VALUES (3, {x: 7})",
        "INSERT INTO open(id, n, z) VALUES (3, [1], 1)",
        "INSERT INTO free(n, z) VALUES (6, \"new\")",
        "ALTER TABLE strict ADD FIELD m INT NOT NULL",
        "ALTER TABLE open ADD FIELD m DOCUMENT",
        "INSERT INTO strict(id, m) VALUES (4, 1)",
        "INSERT INTO open(id, m, z) VALUES (4, {n: 2}, 2)",
    ] {
        host.execute(statement).unwrap();
    }
    let mut model = Model::default();
    while let Some(transaction) = tail.poll().unwrap() {
        model.apply(&transaction);
    }
    assert_eq!(tail.faults(), []);
    assert_eq!(snapshot(dir.path()), model.tables);
    host.execute(".flush").unwrap();
    assert_eq!(snapshot(dir.path()), model.tables);
    let rows = |table: &str| model.tables[table].values().map(plain).collect::<Vec<_>>().join("\n");
    expect![[r#"
        {id: 1, a: old}
        {id: 2}
        {id: 3, n: {x: 7}}
        {id: 4, m: 1}"#]]
    .assert_eq(&rows("strict"));
    expect![[r#"
        {id: 1}
        {id: 2, n: {a: f1}, z: [f1]}
        {id: 3, n: [f1], z: f1}
        {id: 4, m: {n: f2}, z: f2}"#]]
    .assert_eq(&rows("open"));
    expect![[r#"
        {n: f5, z: old}
        {n: 6, z: new}"#]]
    .assert_eq(&rows("free"));
}

/// A typed value, shorter: integers as `1`, doubles as `f1`.
fn plain(json: &Json) -> String {
    let inside = |json: &Json| json.as_array().unwrap().iter().map(plain).collect::<Vec<_>>().join(", ");
    match json {
        Json::Object(map) => match map.iter().next().unwrap() {
            (tag, value) if tag == "doc" => {
                let field = |field: &Json| format!("{}: {}", field[0].as_str().unwrap(), plain(&field[1]));
                let fields = value.as_array().unwrap().iter().map(field).collect::<Vec<_>>();
                format!("{{{}}}", fields.join(", "))
            }
            (tag, value) if tag == "array" => format!("[{}]", inside(value)),
            (tag, value) if tag == "double" => {
                let bits = u64::from_str_radix(value.as_str().unwrap(), 16).unwrap();
                format!("f{}", f64::from_bits(bits))
            }
            (_, value) => value.as_str().unwrap().to_owned(),
        },
        other => other.to_string(),
    }
}

/// Random tables, values and statements, over several lives of the engine.
#[test]
fn random_statements() {
    let statements = number("DELTAMESH_VALUES_STATEMENTS", 300).unwrap();
    let mut random = Random::new(number("DELTAMESH_VALUES_SEED", 1).unwrap());
    let mut left = statements;
    while left > 0 {
        let mut comparison = Comparison::new();
        let mut tables = literal::Tables::default();
        for _ in 0..3 {
            let portion = left.min(500);
            left -= portion;
            let lines: Vec<String> = (0..portion).map(|_| tables.statement(&mut random)).collect();
            let lines = lines.into_iter().chain(["COMMIT".to_owned()]);
            if comparison.run(lines).is_none() {
                return;
            }
        }
    }
}
