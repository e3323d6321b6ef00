//! Files of sqllogictest, each query as a view.
//!
//! SQLite runs the statements of a file; the rows that they leave reach a replica as changes. Each query becomes a view, which is
//! filled, then kept while half of the rows go, come back with values of others and take their own again. After each batch every
//! view equals its SQL; at the beginning and at the end it has the rows that the file says, and that SQLite gives for the query.

mod script;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use deltamesh_change::{Column, ColumnType, Item, RelationSchema, Value};
use deltamesh_replica::{Limits, Reader};
use rusqlite::Connection;
use rusqlite::types::ValueRef;
use serde_json::Value as Json;

use crate::fixture::*;
use script::{Query, Record};

/// Views at a time.
const CHUNK: usize = 20;
/// Key of a table without primary key.
const ROW: &str = "__docid";

/// A table of the source.
struct Table {
    schema: Arc<RelationSchema>,
    rows: Vec<Vec<Value>>,
}

/// What came of the queries.
#[derive(Default)]
struct Outcome {
    equal: usize,
    refused: BTreeMap<String, usize>,
    different: Vec<String>,
}

/// The files of `DELTAMESH_SLT` (separated by `:`), or those of the package, as views in a file.
#[test]
fn files() {
    run_files(Fixture::new);
}

/// The same, as views in a schema.
#[test]
fn files_on_postgres() {
    run_files(Fixture::on_postgres);
}

#[allow(clippy::print_stdout, reason = "`cargo xtask slt` shows it")]
fn run_files(replica: fn() -> Fixture) {
    let asked = std::env::var("DELTAMESH_SLT").ok();
    let files: Vec<PathBuf> = match &asked {
        Some(files) => files.split(':').map(PathBuf::from).collect(),
        None => {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/slt");
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
        }
    };
    let mut different = vec![];
    for file in &files {
        let outcome = run(&std::fs::read_to_string(file).unwrap(), replica);
        let refused: usize = outcome.refused.values().sum();
        println!(
            "{}: {} equal, {refused} refused, {} different",
            file.display(),
            outcome.equal,
            outcome.different.len()
        );
        for (reason, times) in &outcome.refused {
            println!("  {times} refused: {reason}");
        }
        if asked.is_none() {
            assert_eq!(refused, 0, "{}", file.display());
            assert!(outcome.equal > 0, "{} has no query", file.display());
        }
        different.extend(outcome.different.into_iter().map(|what| format!("{}:{what}", file.display())));
    }
    assert_eq!(different.join("\n"), "");
}

fn run(text: &str, replica: fn() -> Fixture) -> Outcome {
    let source = Connection::open_in_memory().unwrap();
    let mut outcome = Outcome::default();
    let mut queries = vec![];
    for record in script::parse(text) {
        match record {
            Record::Statement { sql, succeeds } => {
                check_all(&source, &std::mem::take(&mut queries), replica, &mut outcome);
                let done = source.execute_batch(&sql);
                assert_eq!(done.is_ok(), succeeds, "{sql}: {done:?}");
            }
            Record::Query(query) => queries.push(query),
        }
    }
    check_all(&source, &queries, replica, &mut outcome);
    outcome
}

fn check_all(source: &Connection, queries: &[Query], replica: fn() -> Fixture, outcome: &mut Outcome) {
    let tables = tables(source);
    for queries in queries.chunks(CHUNK) {
        check(source, &tables, queries, replica(), outcome);
    }
}

/// Makes the queries views over these tables and moves the rows under them.
fn check(
    source: &Connection,
    tables: &[Table],
    queries: &[Query],
    mut fixture: Fixture,
    outcome: &mut Outcome,
) {
    fixture.apply(tables.iter().map(|table| define(&table.schema)).collect());
    fixture.apply(everything(tables));
    let mut kept = vec![];
    for query in queries {
        let name = format!("v{}", query.line);
        match create(&mut fixture, source, &name, &query.sql) {
            Ok(()) => kept.push((name, query)),
            Err(reason) => *outcome.refused.entry(reason).or_default() += 1,
        }
    }
    let differing = |fixture: &mut Fixture, found: &mut BTreeMap<usize, String>, when: &str| {
        let mut reader = fixture.reader();
        for (name, query) in &kept {
            if let Some(difference) = difference(source, &mut reader, name, query) {
                found.entry(query.line).or_insert(format!("{}: {when}: {difference}", query.line));
            }
        }
        own_sql(fixture, found, when);
    };
    let mut found = BTreeMap::new();
    differing(&mut fixture, &mut found, "filled");
    for (batch, when) in
        [(gone(tables), "half of the rows gone"), (moved(tables), "rows with others' values")]
    {
        fixture.apply(batch);
        own_sql(&mut fixture, &mut found, when);
    }
    fixture.apply(everything(tables));
    differing(&mut fixture, &mut found, "as it was again");
    outcome.equal += kept.len() - found.len();
    outcome.different.extend(found.into_values());
}

/// Notes the views that are not what their SQL gives.
fn own_sql(fixture: &mut Fixture, found: &mut BTreeMap<usize, String>, when: &str) {
    let views = fixture.replica().views();
    let verified = fixture.reader().verify(&views, Limits::default()).unwrap();
    let faults = views.iter().filter_map(|view| Some((&view.definition.name, view.fault.clone()?)));
    let differing = verified.iter().filter(|verified| (verified.missing, verified.extra) != (0, 0));
    let differing = differing.map(|verified| (&verified.view, format!("{verified:?}")));
    for (view, what) in faults.chain(differing) {
        let line = view.trim_start_matches('v').parse().unwrap();
        found.entry(line).or_insert(format!("{line}: {when}: {what}"));
    }
}

/// Creates the view, with names for its columns and without the reading order if need be; gives why it is refused.
fn create(fixture: &mut Fixture, source: &Connection, name: &str, sql: &str) -> Result<(), String> {
    let width = source.prepare(sql).map_err(|error| error.to_string())?.column_count();
    let columns: Vec<String> = (0..width).map(|column| format!("c{column}")).collect();
    let unordered = sql.to_uppercase().rfind("ORDER BY").map_or(sql, |place| &sql[..place]);
    let named = |sql: &str| format!("WITH q({}) AS ({sql}) SELECT * FROM q", columns.join(", "));
    let mut refused = String::new();
    for form in [sql.to_owned(), named(sql), unordered.to_owned(), named(unordered)] {
        let create = format!("CREATE MATERIALIZED VIEW {name} AS {form}");
        match fixture.replica().execute(&create) {
            Ok(_) => {
                let views = fixture.replica().views();
                let made = views.iter().find(|view| view.definition.name == name);
                if made.is_some_and(|view| view.definition.columns.len() == width) {
                    return Ok(());
                }
                fixture.replica().execute(&format!("DROP MATERIALIZED VIEW {name}")).unwrap();
                return Err("* of a table without primary key has its hidden one".to_owned());
            }
            Err(error) => {
                // Without the view and the place in it.
                let reason = error.to_string();
                let is_place = |part: &&str| {
                    let is_number = part.bytes().all(|byte| byte.is_ascii_digit() || byte == b':');
                    is_number || *part == "statement" || part.strip_prefix("view ").unwrap_or(part) == name
                };
                refused = reason.split(": ").skip_while(is_place).collect::<Vec<_>>().join(": ");
            }
        }
        let is_form = ["name", "two columns", "ORDER BY"].iter().any(|word| refused.contains(word));
        if !is_form {
            break;
        }
    }
    Err(refused)
}

fn difference(source: &Connection, replica: &mut Reader, name: &str, query: &Query) -> Option<String> {
    let given = rows(source, &query.sql, query);
    let kept = kept(replica, name, query);
    if kept != given {
        return Some(format!("view has {kept:?}, SQLite gives {given:?}"));
    }
    let expected = query.expected.as_ref()?;
    let width = query.types.len().max(1);
    let by_line = expected.len() == given.len() && width > 1;
    let rows = expected.chunks(if by_line { 1 } else { width });
    let rows = rows.map(|row| row.join(" ").split_whitespace().collect::<Vec<_>>().join(" "));
    let rows = sorted(rows.collect(), query.by_value);
    let given = given.into_iter().map(|row| row.split_whitespace().collect::<Vec<_>>().join(" "));
    let given = sorted(given.collect(), query.by_value);
    (rows != given).then(|| format!("file says {rows:?}, SQLite gives {given:?}"))
}

/// Rows in the format of the files, sorted.
fn rows(connection: &Connection, sql: &str, query: &Query) -> Vec<String> {
    let mut statement = connection.prepare(sql).unwrap();
    let width = statement.column_count();
    let rows = statement.query_map([], |row| {
        let value = |column| Ok(spelled(row.get_ref(column)?, query.types.chars().nth(column)));
        Ok((0..width).map(value).collect::<Result<Vec<_>, rusqlite::Error>>()?.join(" "))
    });
    sorted(rows.unwrap().map(Result::unwrap).collect(), query.by_value)
}

/// Rows of a view in the format of the files, sorted.
fn kept(replica: &mut Reader, name: &str, query: &Query) -> Vec<String> {
    let mut rows = vec![];
    let sql = format!("SELECT * FROM {name}");
    let taken = replica.query(&sql, &[], Limits::default(), &mut |_, page| {
        rows.extend(page.iter().map(|row| {
            let values = row.iter().enumerate();
            let spelled =
                values.map(|(column, value)| spelled(stored(value), query.types.chars().nth(column)));
            spelled.collect::<Vec<_>>().join(" ")
        }));
        std::ops::ControlFlow::Continue(())
    });
    taken.unwrap();
    sorted(rows, query.by_value)
}

/// A value as SQLite stores it.
fn stored(value: &Json) -> ValueRef<'_> {
    match value {
        Json::Null => ValueRef::Null,
        Json::Bool(truth) => ValueRef::Integer(i64::from(*truth)),
        Json::Number(number) => match number.as_i64() {
            Some(number) => ValueRef::Integer(number),
            None => ValueRef::Real(number.as_f64().unwrap()),
        },
        Json::String(text) => ValueRef::Text(text.as_bytes()),
        other => panic!("{other} is no value of the files"),
    }
}

fn sorted(mut rows: Vec<String>, by_value: bool) -> Vec<String> {
    if by_value {
        rows = rows.iter().flat_map(|row| row.split(' ')).map(str::to_owned).collect();
    }
    rows.sort_unstable();
    rows
}

fn spelled(value: ValueRef<'_>, kind: Option<char>) -> String {
    match (value, kind) {
        (ValueRef::Null, _) => "NULL".to_owned(),
        (ValueRef::Integer(value), Some('R')) => format!("{value}.000"),
        (ValueRef::Integer(value), _) => value.to_string(),
        (ValueRef::Real(value), Some('I')) => format!("{:.0}", value.trunc()),
        (ValueRef::Real(value), _) => format!("{value:.3}"),
        (ValueRef::Text(text), Some('I')) => leading_integer(text).to_string(),
        (ValueRef::Text(b""), _) => "(empty)".to_owned(),
        (ValueRef::Text(text) | ValueRef::Blob(text), _) => String::from_utf8_lossy(text).into_owned(),
    }
}

/// What SQLite makes of a text that is asked for as an integer.
fn leading_integer(text: &[u8]) -> i64 {
    let text = String::from_utf8_lossy(text);
    let end =
        text.find(|character: char| !character.is_ascii_digit() && character != '-').unwrap_or(text.len());
    text[..end].parse().unwrap_or(0)
}

/// The tables of the source as relations with their rows.
fn tables(source: &Connection) -> Vec<Table> {
    let mut names =
        source.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name").unwrap();
    let names = names.query_map([], |row| row.get::<_, String>(0)).unwrap();
    names.map(|name| table(source, &name.unwrap())).collect()
}

fn table(source: &Connection, name: &str) -> Table {
    let mut info = source.prepare("SELECT name, type, pk, \"notnull\" FROM pragma_table_info(?)").unwrap();
    let info =
        info.query_map([name], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))).unwrap();
    let info: Vec<(String, String, i64, bool)> = info.map(Result::unwrap).collect();
    let mut key: Vec<usize> = (0..info.len()).filter(|column| info[*column].2 > 0).collect();
    key.sort_by_key(|column| info[*column].2);
    let column = |(name, declared, key, not_null): &(String, String, i64, bool)| {
        Column::new(name, column_type(declared), *key == 0 && !not_null)
    };
    let mut columns: Vec<Column> = info.iter().map(column).collect();
    let mut select = format!("SELECT * FROM \"{name}\"");
    if key.is_empty() {
        key.push(columns.len());
        columns.push(Column::new(ROW, ColumnType::Int, false));
        select = format!("SELECT *, rowid FROM \"{name}\"");
    }
    let mut statement = source.prepare(&select).unwrap();
    let rows = statement.query_map([], |row| {
        let value = |column: usize| Ok(value(row.get_ref(column)?, columns[column].column_type));
        (0..columns.len()).map(value).collect::<Result<Vec<_>, rusqlite::Error>>()
    });
    let rows = rows.unwrap().map(Result::unwrap).collect();
    Table { schema: Arc::new(RelationSchema { relation: name.to_owned(), dsid: 1, columns, key }), rows }
}

fn column_type(declared: &str) -> ColumnType {
    let declared = declared.to_ascii_uppercase();
    let is = |words: &[&str]| words.iter().any(|word| declared.contains(word));
    match () {
        () if is(&["INT"]) => ColumnType::Int,
        () if is(&["CHAR", "TEXT", "DATE", "TIME"]) => ColumnType::Text,
        () if is(&["REAL", "FLOA", "DOUB"]) => ColumnType::Float,
        () if is(&["BOOL"]) => ColumnType::Bool,
        () => ColumnType::Any,
    }
}

fn value(value: ValueRef<'_>, kind: ColumnType) -> Value {
    match (value, kind) {
        (ValueRef::Null, _) => Value::Null,
        (ValueRef::Integer(value), ColumnType::Bool) => Value::Bool(value != 0),
        (ValueRef::Integer(value), _) => Value::Int(value),
        (ValueRef::Real(value), _) => Value::Float(value),
        (ValueRef::Text(text), _) => Value::Text(String::from_utf8_lossy(text).into_owned()),
        (ValueRef::Blob(bytes), _) => Value::Bytes(bytes.to_vec()),
    }
}

fn everything(tables: &[Table]) -> Vec<Item> {
    let of =
        |table: &Table| table.rows.iter().map(|row| upsert(&table.schema, row.clone())).collect::<Vec<_>>();
    tables.iter().flat_map(of).collect()
}

/// Every other row goes.
fn gone(tables: &[Table]) -> Vec<Item> {
    let of = |table: &Table| {
        let rows = table.rows.iter().step_by(2);
        rows.map(|row| delete(&table.schema, key(&table.schema, row))).collect::<Vec<_>>()
    };
    tables.iter().flat_map(of).collect()
}

/// Two of three rows take the values of the row before them, under their own key.
fn moved(tables: &[Table]) -> Vec<Item> {
    let of = |table: &Table| {
        let pairs = table.rows.iter().zip(table.rows.iter().skip(1)).enumerate();
        let pairs = pairs.filter(|(number, _)| number % 3 > 0).map(|(_, pair)| pair);
        let moved = pairs.map(|(before, row)| {
            let mut moved = before.clone();
            table.schema.key.iter().for_each(|&column| moved[column] = row[column].clone());
            upsert(&table.schema, moved)
        });
        moved.collect::<Vec<_>>()
    };
    tables.iter().flat_map(of).collect()
}
