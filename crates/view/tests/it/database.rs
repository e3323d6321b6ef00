//! A small replica: runs programs by the batch protocol on an in-memory SQLite.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use deltamesh_change::{ColumnType, RelationSchema, Value, to_json};
use deltamesh_view::{
    Action, Catalog, Dialect, Error, Phase, Program, Statement, Tier, mirror_table, new_table, old_table,
};
use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::types::Value::Real;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, named_params};
use serde_json::Value as Json;

use crate::random_case::RowChange;

pub(crate) struct Database {
    pub(crate) connection: Connection,
    pub(crate) catalog: Catalog,
    relations: Vec<Arc<RelationSchema>>,
    pub(crate) programs: Vec<Program>,
    /// What a subscriber has, per view: key → row.
    feeds: Vec<BTreeMap<String, Json>>,
    seen: i64,
    /// Tables of the batch that have rows.
    filled: RefCell<HashSet<String>>,
}

impl Database {
    pub(crate) fn new(relations: Vec<Arc<RelationSchema>>) -> Self {
        let connection = Connection::open_in_memory().expect("open");
        let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
        let function = |name: &str, call: fn(Value) -> Option<String>| {
            connection
                .create_scalar_function(name, 1, flags, move |context| Ok(call(value(context.get_raw(0)))))
                .expect("function");
        };
        function("deltamesh_json", |value| Some(to_json(&value).to_string()));
        function("deltamesh_base64", |value| to_json(&value).as_str().map(str::to_owned));
        function("deltamesh_token", |value| Some(to_json(&value).to_string().replace(['"', '.'], "_")));
        for (name, of) in
            [("ceil", f64::ceil as fn(f64) -> f64), ("floor", f64::floor), ("trunc", f64::trunc)]
        {
            let whole = move |context: &Context<'_>| {
                Ok(match context.get(0)? {
                    Real(value) => Real(of(value) + 0.0),
                    whole => whole,
                })
            };
            connection.create_scalar_function(name, 1, flags, whole).expect("function");
        }
        let root = |context: &Context<'_>| Ok(context.get::<Option<f64>>(0)?.map(f64::sqrt));
        connection.create_scalar_function("sqrt", 1, flags, root).expect("function");
        let mut catalog = Catalog::new();
        for schema in &relations {
            catalog.add_relation("main", schema);
            let columns: Vec<String> = schema
                .columns
                .iter()
                .map(|column| {
                    format!(
                        "{} {}",
                        quote(&column.name),
                        Dialect::Sqlite.declared_type(column.column_type).unwrap_or_default()
                    )
                })
                .collect();
            let keys: Vec<String> = schema.key_columns().map(|column| quote(&column.name)).collect();
            let body = format!("({}, PRIMARY KEY ({}))", columns.join(", "), keys.join(", "));
            let table = mirror_table("main", &schema.relation);
            for (prefix, table) in
                [("", table.clone()), ("TEMP", old_table(&table)), ("TEMP", new_table(&table))]
            {
                connection
                    .execute_batch(&format!("CREATE {prefix} TABLE {} {body}", quote(&table)))
                    .expect("mirror");
            }
        }
        for schema in &relations {
            // The statements as they are written read relations by their own names.
            let (name, table) = (quote(&schema.relation), quote(&mirror_table("main", &schema.relation)));
            connection.execute_batch(&format!("CREATE VIEW {name} AS SELECT * FROM {table}")).expect("view");
        }
        connection
            .execute_batch(
                "CREATE TABLE __deltamesh_changes (seq INTEGER PRIMARY KEY, view, op, key, row, before, subject, position, dsid, tx_end, captured_us)",
            )
            .expect("changes");
        let filled = RefCell::default();
        Self { connection, catalog, relations, programs: vec![], feeds: vec![], seen: 0, filled }
    }

    /// Creates and fills the views of a text.
    pub(crate) fn create(&mut self, sql: &str) {
        for statement in
            deltamesh_view::parse_statements(sql).unwrap_or_else(|error| panic!("{error}\n{sql}"))
        {
            self.create_view(&statement).unwrap_or_else(|error| panic!("{error}\n{sql}"));
        }
    }

    /// Creates and fills a view that may be refused; tells its tier, or why it is.
    pub(crate) fn try_create(&mut self, sql: &str) -> Result<Tier, String> {
        let reason = |error: Error| error.message;
        let statements = deltamesh_view::parse_statements(sql).map_err(reason)?;
        let [statement] = statements.as_slice() else { panic!("one statement: {sql}") };
        self.create_view(statement).map_err(reason)
    }

    fn create_view(&mut self, statement: &Statement) -> Result<Tier, Error> {
        let Statement::Create(view) = statement else { panic!("not a CREATE") };
        let program = deltamesh_view::plan(view, &self.catalog, Dialect::Sqlite)?;
        for base in &program.definition.bases {
            self.store(&base.table);
        }
        let indexes = program.definition.indexes.iter().map(|index| index.create(Dialect::Sqlite));
        indexes.for_each(|sql| self.run(&sql));
        for sql in program.create.iter().chain(&program.connect).chain(&program.fill) {
            self.run(sql);
        }
        self.catalog.add_view(&program.definition);
        let feed = self.snapshot(&program);
        self.feeds.push(feed);
        let tier = program.explain.tier;
        self.programs.push(program);
        Ok(tier)
    }

    /// Keeps the rows of a view in a table: another one reads it.
    fn store(&mut self, view: &str) {
        let unstored = self.programs.iter_mut().find(|program| program.definition.name == view);
        let Some(known) = unstored.filter(|program| !program.definition.stored) else { return };
        self.catalog.keep_rows(view);
        let statement = deltamesh_view::parse_statements(&known.definition.sql).expect("parse").remove(0);
        let Statement::Create(create) = statement else { panic!("not a CREATE") };
        let program = deltamesh_view::plan(&create, &self.catalog, Dialect::Sqlite).expect("plan");
        let former = std::mem::replace(known, program.clone());
        for sql in former.drop.iter().chain(&program.create).chain(&program.connect).chain(&program.fill) {
            self.run(sql);
        }
        self.catalog.add_view(&program.definition);
    }

    fn run(&self, sql: &str) {
        self.connection.execute(sql, []).unwrap_or_else(|error| panic!("{error}\n{sql}"));
    }

    /// Applies a batch by the protocol of the crate's documentation.
    pub(crate) fn apply(&mut self, changes: &[RowChange]) {
        self.run("BEGIN");
        let bases: Vec<(String, Vec<String>)> = self
            .relations
            .iter()
            .enumerate()
            .filter_map(|(index, schema)| {
                let rows: Vec<&RowChange> = changes.iter().filter(|change| change.0 == index).collect();
                (!rows.is_empty()).then(|| self.load(schema, &rows))
            })
            .collect();
        for (table, mirror) in &bases {
            self.phase(&Phase::Before(table.clone()));
            for sql in mirror {
                self.run(sql);
            }
            self.phase(&Phase::After(table.clone()));
        }
        for program in &self.programs {
            for step in program.maintain.iter().filter(|step| step.phase == Phase::Finish) {
                self.act(&step.action);
            }
            let name = &program.definition.name;
            self.phase(&Phase::Before(name.clone()));
            program.apply.iter().for_each(|action| self.act(action));
            for Action { sql, .. } in program.record.iter().filter(|action| self.let_run(action)) {
                self.connection
                    .execute(sql, named_params! {":position": "p", ":dsid": 1, ":captured_us": 2})
                    .unwrap_or_else(|error| panic!("{error}\n{sql}"));
            }
            self.phase(&Phase::After(name.clone()));
        }
        self.programs.iter().flat_map(|program| &program.clear).for_each(|action| self.act(action));
        self.filled.borrow_mut().clear();
        for (table, _) in &bases {
            self.run(&format!("DELETE FROM temp.{}", quote(&old_table(table))));
            self.run(&format!("DELETE FROM temp.{}", quote(&new_table(table))));
        }
        self.run("COMMIT");
    }

    fn phase(&self, phase: &Phase) {
        for step in self.programs.iter().flat_map(|program| &program.maintain) {
            if step.phase == *phase {
                self.act(&step.action);
            }
        }
    }

    fn let_run(&self, action: &Action) -> bool {
        action.applies(|table| self.filled.borrow().contains(table))
    }

    /// Runs a statement of a program, unless it says that it does nothing.
    fn act(&self, action: &Action) {
        if !self.let_run(action) {
            return;
        }
        let sql = &action.sql;
        let rows = self.connection.execute(sql, []).unwrap_or_else(|error| panic!("{error}\n{sql}"));
        self.filled.borrow_mut().extend(action.fills.clone().filter(|_| rows > 0));
    }

    /// Fills the images of a mirror; returns its name and the statements that update it.
    fn load(&self, schema: &RelationSchema, changes: &[&RowChange]) -> (String, Vec<String>) {
        let table = mirror_table("main", &schema.relation);
        let (old, new, mirror) = (quote(&old_table(&table)), quote(&new_table(&table)), quote(&table));
        let keys: Vec<String> = schema.key_columns().map(|column| quote(&column.name)).collect();
        let same: Vec<String> = keys.iter().map(|key| format!("a.{key} = b.{key}")).collect();
        let (keys, same) = (keys.join(", "), same.join(" AND "));
        for (_, row, delete) in changes {
            let values: Vec<String> = row.iter().map(literal).collect();
            let insert = format!("INSERT OR REPLACE INTO temp.{new} VALUES ({})", values.join(", "));
            self.run(&insert);
            self.run(&format!(
                "INSERT OR IGNORE INTO temp.{old} SELECT b.* FROM temp.{new} AS a, {mirror} AS b WHERE {same}"
            ));
            if *delete {
                let key: Vec<String> = schema.key.iter().map(|index| values[*index].clone()).collect();
                self.run(&format!("DELETE FROM temp.{new} WHERE ({keys}) IN (VALUES ({}))", key.join(", ")));
            }
        }
        let equal =
            format!("SELECT {keys} FROM (SELECT * FROM temp.{old} INTERSECT SELECT * FROM temp.{new})");
        self.run(&format!("CREATE TEMP TABLE equal AS {equal}"));
        for images in [&old, &new] {
            self.run(&format!("DELETE FROM temp.{images} WHERE ({keys}) IN (SELECT {keys} FROM temp.equal)"));
        }
        self.run("DROP TABLE temp.equal");
        for images in [&old, &new].map(|images| format!("temp.{images}")) {
            let is_filled = !self.rows(&format!("SELECT 1 FROM {images} LIMIT 1")).is_empty();
            self.filled.borrow_mut().extend(is_filled.then_some(images));
        }
        let update = vec![
            format!("DELETE FROM {mirror} WHERE ({keys}) IN (SELECT {keys} FROM temp.{old})"),
            format!("INSERT INTO {mirror} SELECT * FROM temp.{new}"),
        ];
        (table, update)
    }

    /// Checks every view against its own SQL, and against what its feed said.
    pub(crate) fn check(&mut self) -> Result<(), String> {
        self.replay()?;
        for (program, feed) in self.programs.iter().zip(&self.feeds) {
            let name = &program.definition.name;
            let actual = self.rows(&format!("SELECT * FROM {}", quote(name)));
            let as_written = Some(written(&program.definition.sql)).filter(|_| !name.ends_with("_ansi"));
            for query in [program.oracle.as_str()].into_iter().chain(as_written) {
                let expected = self.rows(query);
                if actual != expected {
                    return Err(format!(
                        "view {name}\n  is {actual:?}\n  should be {expected:?}\n{}",
                        program.explain
                    ));
                }
            }
            let mut rows: Vec<String> =
                self.snapshot(program).into_values().map(|row| row.to_string()).collect();
            let mut fed: Vec<String> = feed.values().map(Json::to_string).collect();
            rows.sort();
            fed.sort();
            if rows != fed {
                return Err(format!(
                    "feed of {name}\n  has {fed:?}\n  should have {rows:?}\n{}",
                    program.explain
                ));
            }
        }
        Ok(())
    }

    /// Whether some view has more than so many rows.
    pub(crate) fn has_more_rows(&self, most: usize) -> bool {
        let more = |program: &Program| {
            let view = quote(&program.definition.name);
            !self.rows(&format!("SELECT 1 FROM {view} LIMIT 1 OFFSET {most}")).is_empty()
        };
        self.programs.iter().any(more)
    }

    /// Rows with the kind of each value, sorted.
    pub(crate) fn rows(&self, sql: &str) -> Vec<String> {
        let mut statement = self.connection.prepare(sql).unwrap_or_else(|error| panic!("{error}\n{sql}"));
        let width = statement.column_count();
        let mut rows = statement.query([]).expect("query");
        let mut found = vec![];
        while let Some(row) = rows.next().expect("row") {
            let values: Vec<String> =
                (0..width).map(|index| format!("{:?}", value(row.get_ref(index).expect("value")))).collect();
            found.push(values.join(" "));
        }
        found.sort();
        found
    }

    /// Rows of a view as its feed should show them, under any distinct keys.
    fn snapshot(&self, program: &Program) -> BTreeMap<String, Json> {
        let definition = &program.definition;
        let sql = if definition.storage == definition.name || definition.hidden.is_empty() {
            format!("SELECT *, 0 FROM {}", quote(&definition.name))
        } else {
            let keys: Vec<String> = definition.key.iter().map(|name| quote(name)).collect();
            let columns: Vec<String> = definition.columns.iter().map(|column| quote(&column.name)).collect();
            let keys = if keys.is_empty() { "0".to_owned() } else { keys.join(", ") };
            format!("SELECT {}, {keys} FROM {}", columns.join(", "), quote(&definition.storage))
        };
        let mut statement = self.connection.prepare(&sql).unwrap_or_else(|error| panic!("{error}\n{sql}"));
        let width = statement.column_count();
        let mut rows = statement.query([]).expect("query");
        let mut snapshot = BTreeMap::new();
        while let Some(row) = rows.next().expect("row") {
            let cells: Vec<Value> =
                (0..width).map(|index| value(row.get_ref(index).expect("value"))).collect();
            let fields = definition
                .columns
                .iter()
                .zip(&cells)
                .map(|(column, cell)| (column.name.clone(), spelled(column.column_type, cell)));
            let object = Json::Object(fields.collect());
            let key: Vec<String> = definition
                .key
                .iter()
                .map(|name| match object.get(name) {
                    Some(value) => value.to_string(),
                    None => {
                        let place = definition.key.iter().position(|key| key == name).expect("key");
                        let hidden = definition.hidden.iter().find(|hidden| hidden.column.name == *name);
                        let kind = hidden.expect("hidden").column.column_type;
                        spelled(kind, &cells[definition.columns.len() + place]).to_string()
                    }
                })
                .collect();
            snapshot.insert(format!("[{}]", key.join(",")), object);
        }
        snapshot
    }

    /// Applies the recorded changes to what subscribers have.
    fn replay(&mut self) -> Result<(), String> {
        let sql = "SELECT seq, view, op, key, row, before, subject FROM __deltamesh_changes WHERE seq > ? ORDER BY seq";
        let mut statement = self.connection.prepare(sql).expect("prepare");
        let mut rows = statement.query([self.seen]).expect("query");
        while let Some(row) = rows.next().expect("row") {
            let text = |index: usize| row.get::<_, Option<String>>(index).expect("text").unwrap_or_default();
            self.seen = row.get(0).expect("seq");
            let (view, op, key) = (text(1), text(2), text(3));
            let image: Json =
                serde_json::from_str(&text(4)).map_err(|error| format!("{view}: {error}: {}", text(4)))?;
            let index =
                self.programs.iter().position(|program| program.definition.name == view).expect("view");
            let feed = &mut self.feeds[index];
            if !text(6).starts_with(&format!("feed.{view}.")) {
                return Err(format!("{view}: subject {}", text(6)));
            }
            match op.as_str() {
                "insert" => {
                    if feed.insert(key.clone(), image).is_some() {
                        return Err(format!("{view}: insert of existing {key}"));
                    }
                }
                "update" => {
                    let before: Json =
                        serde_json::from_str(&text(5)).map_err(|error| format!("{view}: {error}"))?;
                    let mut old = image.clone();
                    for (name, value) in before.as_object().into_iter().flatten() {
                        old[name] = value.clone();
                    }
                    let known = feed.insert(key.clone(), image.clone());
                    if known.as_ref() != Some(&old) || old == image {
                        return Err(format!(
                            "{view}: update of {key} from {old}, known {known:?}, to {image}"
                        ));
                    }
                }
                "delete" => {
                    let known = feed.remove(&key);
                    if known.as_ref() != Some(&image) {
                        return Err(format!("{view}: delete of {key} {image}, known {known:?}"));
                    }
                }
                other => return Err(format!("{view}: {other}")),
            }
        }
        Ok(())
    }

    /// Loops of the program's statements that read all of a durable table, with the statement.
    pub(crate) fn scans(&self, view: &str) -> Vec<(String, String)> {
        let program = self.programs.iter().find(|program| program.definition.name == view).expect("view");
        let mut scans = vec![];
        let steps =
            program.maintain.iter().map(|step| &step.action).chain(&program.apply).chain(&program.record);
        for Action { sql, .. } in steps {
            let explain = format!("EXPLAIN QUERY PLAN {sql}");
            let mut statement =
                self.connection.prepare(&explain).unwrap_or_else(|error| panic!("{error}\n{sql}"));
            let mut rows = statement.raw_query();
            let mut details: Vec<String> = vec![];
            while let Some(row) = rows.next().expect("row") {
                details.push(row.get(3).expect("detail"));
            }
            let sorts = details.iter().any(|detail| detail.starts_with("USE TEMP B-TREE FOR ORDER BY"));
            // Ends after the first rows; the few that were the first before are all looked at.
            let ends = !sorts && sql.contains(" LIMIT ");
            let few = sql.contains(" SELECT -1, ") && !sql.contains(" WHERE ");
            for detail in details.iter().filter(|_| !ends && !few) {
                let whole = detail.strip_prefix("SCAN ").filter(|rest| !rest.contains("VIRTUAL TABLE"));
                let whole = whole.or_else(|| {
                    detail.strip_prefix("SEARCH ").filter(|rest| rest.contains("USING AUTOMATIC"))
                });
                let name = whole.and_then(|rest| rest.split(' ').next());
                if name.is_some_and(|name| !is_temporary(name, sql)) {
                    scans.push((detail.clone(), sql.clone()));
                }
            }
        }
        scans
    }
}

/// A stored value of a column of that type, as a feed spells it.
fn spelled(column_type: ColumnType, cell: &Value) -> Json {
    match (column_type, cell) {
        (ColumnType::Bool, Value::Int(truth)) => Json::Bool(*truth != 0),
        (ColumnType::Json, Value::Text(text)) => {
            serde_json::from_str(text).unwrap_or_else(|_| Json::String(text.clone()))
        }
        _ => to_json(cell),
    }
}

/// Whether a name in a query plan is a TEMP table of the statement, or an alias of one.
fn is_temporary(name: &str, sql: &str) -> bool {
    let aliased = sql.split("temp.\"").skip(1).any(|rest| {
        let alias = rest.split_once('"').and_then(|(_, rest)| rest.strip_prefix(" AS "));
        let alias = alias.and_then(|rest| rest.split([' ', ')']).next());
        alias.is_some_and(|alias| alias.trim_matches('"') == name)
    });
    name.starts_with("temp.")
        || name.starts_with("(subquery")
        || ["__deltamesh_affected", "__deltamesh_first"].contains(&name)
        || ["netted", "signed"].contains(&name)
        || aliased
}

fn value(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(value) => Value::Int(value),
        ValueRef::Real(value) => Value::Float(value),
        ValueRef::Text(text) => Value::Text(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Blob(bytes) => Value::Bytes(bytes.to_vec()),
    }
}

fn literal(value: &Value) -> String {
    match value {
        Value::Null => "NULL".to_owned(),
        Value::Bool(value) => i64::from(*value).to_string(),
        Value::Int(value) => value.to_string(),
        Value::Float(value) if value.is_infinite() => "9e999".to_owned(),
        Value::Float(value) => format!("{value:?}"),
        Value::Text(text) => format!("'{}'", text.replace('\'', "''")),
        Value::Bytes(bytes) => {
            format!("x'{}'", bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
        }
        other => format!("'{}'", to_json(other)),
    }
}

fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The query of a `CREATE MATERIALIZED VIEW`, as it is written.
fn written(sql: &str) -> &str {
    let queries = sql.match_indices(" AS ").map(|(place, words)| sql[place + words.len()..].trim_start());
    let is_query = |text: &&str| ["SELECT", "WITH", "("].iter().any(|word| text.starts_with(word));
    queries.into_iter().find(is_query).expect("a query")
}
