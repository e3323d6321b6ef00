//! What maintenance asks of PostgreSQL.

use std::cell::{Cell as Flag, RefCell};
use std::collections::HashSet;

use deltamesh_change::ColumnType;
use deltamesh_view::{Action, Dialect, Program, Stored, ViewDefinition};
use sqlx::Arguments as _;
use sqlx::postgres::PgArguments;

use super::cells::{add, array_type, arrays, unnested};
use super::images;
use super::link::{Link, context};
use super::litter::Litter;
use super::place::PostgresPlace;
use super::script::{Function, MOST_FUNCTIONS, PREFIX, Script, Units, owner, whole};
use crate::error::{Error, ErrorKind, Result};
use crate::group::Checkpoint;
use crate::maintenance::cell::Cell;
use crate::maintenance::database::{Database, Object, Read};
use crate::maintenance::delta::{Filled, Key, Loaded, Net, Stamp, is_true};
use crate::maintenance::mirror::{Mirror, literal, quote};
use crate::maintenance::state::{Columns, last_sequence};

/// Version of the replica's own tables.
const FORMAT: &str = "1";

const TABLES: &str = "
CREATE TABLE IF NOT EXISTS __deltamesh_meta(name text PRIMARY KEY, value text);
CREATE TABLE IF NOT EXISTS __deltamesh_checkpoint(
    source text PRIMARY KEY, incarnation text NOT NULL, ordinal bigint NOT NULL,
    engine_sequence bigint NOT NULL, engine_log bigint NOT NULL, engine_offset bigint NOT NULL,
    stream_sequence bigint NOT NULL);
CREATE TABLE IF NOT EXISTS __deltamesh_schema(
    id bigint PRIMARY KEY, source text NOT NULL, relation text NOT NULL, dsid bigint NOT NULL,
    schema text, diff text NOT NULL);
CREATE TABLE IF NOT EXISTS __deltamesh_views(
    name text PRIMARY KEY, position bigint NOT NULL, module text NOT NULL, sql text NOT NULL,
    definition text NOT NULL, program text NOT NULL, fault text);
CREATE TABLE IF NOT EXISTS __deltamesh_changes(
    seq bigint PRIMARY KEY, view text NOT NULL, op text NOT NULL, key text NOT NULL, row text,
    before text, subject text, position text, dsid bigint, tx_end bigint, captured_us bigint);
CREATE TABLE IF NOT EXISTS __deltamesh_migrations(
    id bigint PRIMARY KEY, module text NOT NULL, number bigint NOT NULL, name text NOT NULL, sql text NOT NULL,
    applied_us bigint NOT NULL, took_us bigint NOT NULL);
CREATE OR REPLACE VIEW __deltamesh_outbox AS
    SELECT * FROM __deltamesh_changes
    WHERE seq > (SELECT CAST(value AS bigint) FROM __deltamesh_meta WHERE name = 'published');
INSERT INTO __deltamesh_meta VALUES ('published', '0') ON CONFLICT DO NOTHING;
";

const FUNCTIONS: &str = include_str!("functions.sql");

/// The changed rows come first and reach every other table by an index, whatever the statistics say: tables for the rows of a
/// batch have none, and a plan is kept while tables grow. What is switched off costs so much in the planner's eyes that it would
/// compile every statement to machine code.
const PLANS: &str =
    "set_config('join_collapse_limit', '1', true), set_config('enable_hashjoin', 'off', true),
    set_config('enable_mergejoin', 'off', true), set_config('enable_seqscan', 'off', true),
    set_config('jit', 'off', true), set_config('plan_cache_mode', 'force_generic_plan', true)";
/// A view is filled, and rows are compared, by plans for whole tables.
const WHOLE: &str = "SET LOCAL join_collapse_limit = 8; SET LOCAL enable_hashjoin = on;
    SET LOCAL enable_mergejoin = on; SET LOCAL enable_seqscan = on;";

/// The connection that writes a schema.
#[derive(Debug)]
pub struct Postgres {
    link: Link,
    /// What this writer has put into the replica: another writer's transaction puts its own.
    token: String,
    /// Statements of the batch that are put off.
    script: RefCell<Script>,
    units: RefCell<Units>,
    /// What the changes that they record are stamped with.
    stamp: RefCell<Option<Stamp>>,
    /// Names of the functions that this writer has made.
    made: RefCell<HashSet<String>>,
    litter: RefCell<Litter>,
    /// The last change of the transaction, where it is known.
    last: Flag<Option<u64>>,
    /// Statements that the commit takes along.
    closing: RefCell<String>,
}

impl Postgres {
    pub(super) fn open(place: PostgresPlace) -> Result<Self> {
        let link = Link::new(place)?;
        let name = link.place.to_string();
        let schema = link.place.schema.clone();
        link.begin("", "", &format!("SELECT {};", lock(&schema)))?;
        let prepared = prepare(&link, &name, &schema);
        let token = match prepared {
            Ok(token) => link.end("COMMIT").map(|()| token)?,
            Err(error) => {
                link.end("ROLLBACK").ok();
                return Err(error);
            }
        };
        Ok(Self {
            link,
            token,
            script: RefCell::default(),
            units: RefCell::default(),
            stamp: RefCell::default(),
            made: RefCell::default(),
            litter: RefCell::default(),
            last: Flag::default(),
            closing: RefCell::default(),
        })
    }

    /// Makes the functions of a script that are not there yet.
    fn make_functions<'f>(&self, place: &str, functions: impl Iterator<Item = &'f Function>) -> Result<()> {
        let mut made = self.made.borrow_mut();
        if made.len() > MOST_FUNCTIONS {
            made.clear();
            self.link.batch(place, drop_functions(&self.link)?.join(";\n"))?;
        }
        let missing: Vec<&Function> = functions.filter(|function| !made.contains(&function.name)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let create: Vec<&str> = missing.iter().map(|function| function.create.as_str()).collect();
        self.link.batch(place, create.join(";\n"))?;
        made.extend(missing.into_iter().map(|function| function.name.clone()));
        Ok(())
    }

    /// Calls the functions of a script; gives the number of changes that it recorded, and the number of the last.
    fn call(&self, place: &str, script: &Script, stamp: &Stamp) -> Result<[u64; 2]> {
        let functions = script.functions(&mut self.units.borrow_mut());
        let whole = whole(&functions);
        self.make_functions(place, functions.iter().map(|owned| &*owned.function).chain([&whole]))?;
        let sql = format!("SELECT * FROM {}($1, $2, $3, $4)", whole.name);
        let mut arguments = PgArguments::default();
        let added = arguments.add(&script.filled);
        added.map_err(|error| Error::new(ErrorKind::Sql, place, "array has no form").caused_by(error))?;
        let stamp = [
            Cell::Text(stamp.position.clone()),
            Cell::Integer(stamp.dsid.cast_signed()),
            Cell::Integer(stamp.captured_us),
        ];
        stamp.iter().try_for_each(|cell| add(place, &mut arguments, cell))?;
        let called = self.link.fetch(place, &sql, arguments, true);
        let rows = called.map_err(|error| {
            match context(&error).and_then(|context| owner(&functions, &context)) {
                Some(owner) => error.at_place(owner),
                None => error,
            }
        })?;
        let mut row = Columns::new(rows.into_iter().next().unwrap_or_default());
        Ok([row.unsigned(), row.unsigned()])
    }
}

/// Statements that drop the functions that this writer or a former one has made.
fn drop_functions(link: &Link) -> Result<Vec<String>> {
    let sql = "SELECT p.oid::regprocedure::text FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
               WHERE n.nspname = $1 AND starts_with(p.proname, $2)";
    let names = [link.place.schema.as_str(), PREFIX].map(|text| Cell::Text(text.to_owned()));
    let names = link.rows("functions", sql, &names)?.into_iter().flatten().filter_map(Cell::text);
    Ok(names.map(|name| format!("DROP FUNCTION {name}")).collect())
}

/// One writer's transaction at a time.
fn lock(schema: &str) -> String {
    format!("pg_advisory_xact_lock(hashtextextended({}, 0))", literal(&format!("deltamesh {schema}")))
}

/// Makes the replica's own tables, and this writer the one that writes them.
fn prepare(link: &Link, name: &str, schema: &str) -> Result<String> {
    let there =
        link.rows(name, "SELECT 1 FROM pg_namespace WHERE nspname = $1", &[Cell::Text(schema.to_owned())])?;
    if there.is_empty() {
        link.batch(name, format!("CREATE SCHEMA {}", quote(schema)))?;
    }
    let foreign = "SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1
                   AND NOT EXISTS (SELECT 1 FROM pg_class m WHERE m.relnamespace = n.oid AND m.relname = '__deltamesh_meta')";
    if !link.rows(name, foreign, &[Cell::Text(schema.to_owned())])?.is_empty() {
        return Err(Error::new(ErrorKind::Version, name, "schema is not a replica"));
    }
    let functions = FUNCTIONS.replace("PERFORM PLANS", &format!("PERFORM {PLANS}"));
    let functions = functions.replace("PERFORM LOCK", &format!("PERFORM {}", lock(schema)));
    link.batch(name, [TABLES, &functions].concat())?;
    let stale = drop_functions(link)?;
    if !stale.is_empty() {
        link.batch(name, stale.join(";\n"))?;
    }
    let fresh = format!(
        "INSERT INTO __deltamesh_meta VALUES ('incarnation', {0}), ('format', '{FORMAT}') ON CONFLICT DO NOTHING;
         INSERT INTO __deltamesh_meta VALUES ('writer', {0}) ON CONFLICT (name) DO UPDATE SET value = excluded.value;",
        Postgres::FRESH
    );
    link.batch(name, fresh)?;
    let meta = |key: &str| -> Result<String> {
        let sql = "SELECT value FROM __deltamesh_meta WHERE name = $1";
        let rows = link.rows(name, sql, &[Cell::Text(key.to_owned())])?;
        Ok(rows.into_iter().flatten().next().and_then(Cell::text).unwrap_or_default())
    };
    let format = meta("format")?;
    if format != FORMAT {
        return Err(Error::new(ErrorKind::Version, name, format!("replica format {format} is unknown")));
    }
    meta("writer")
}

impl Read for Postgres {
    fn rows(&self, place: &str, sql: &str, parameters: &[Cell]) -> Result<Vec<Vec<Cell>>> {
        self.link.rows(place, sql, parameters)
    }
}

impl Database for Postgres {
    const DIALECT: Dialect = Dialect::Postgres;
    const FRESH: &str = "substr(md5(random()::text || clock_timestamp()::text), 1, 16)";
    const STORE_PUBLISHED: &str =
        "UPDATE __deltamesh_meta SET value = CAST($1 AS text) WHERE name = 'published'";

    fn store_checkpoint(&self, checkpoint: &Checkpoint) -> Result<()> {
        let texts = [&checkpoint.source, &checkpoint.position.incarnation].map(|text| literal(text));
        let numbers = checkpoint.numbers().map(|number| number.cast_signed().to_string());
        let call = format!("SELECT __deltamesh_checkpoint({}, {});", texts.join(", "), numbers.join(", "));
        self.closing.borrow_mut().push_str(&call);
        Ok(())
    }

    fn end_changes(&self, before: u64) -> Result<u64> {
        let last = match self.last.get() {
            Some(last) => last,
            None => last_sequence(self)?,
        };
        if last > before {
            self.closing.borrow_mut().push_str(&format!("SELECT __deltamesh_end({last});"));
        }
        Ok(last.max(before))
    }

    fn begin(&self) -> Result<()> {
        self.last.set(None);
        let rows = self.link.begin("", "", &format!("SELECT __deltamesh_begin({})", literal(&self.token)))?;
        if rows.last().and_then(|row| row.first()) == Some(&Cell::Text("t".to_owned())) {
            return Ok(());
        }
        self.link.end("ROLLBACK")?;
        let place = self.link.place.to_string();
        Err(Error::new(ErrorKind::Locked, place, "another view-builder has taken this replica over"))
    }

    fn commit(&self) -> Result<()> {
        debug_assert!(self.script.borrow().is_empty(), "a batch was not settled");
        if !self.link.in_transaction.get() {
            return Err(Error::new(
                ErrorKind::Io,
                self.link.place.to_string(),
                "connection to the database is lost",
            ));
        }
        let closing = self.closing.take();
        self.link.end(&format!("{closing} COMMIT"))?;
        self.litter.borrow_mut().clear_away(&self.link);
        Ok(())
    }

    fn rollback(&self) -> Result<()> {
        self.script.take();
        self.closing.take();
        // Those that the transaction has made go with it.
        self.made.borrow_mut().clear();
        self.link.end("ROLLBACK")
    }

    fn execute(&self, place: &str, sql: &str, parameters: &[Cell]) -> Result<u64> {
        let rows = self.link.execute(place, sql, super::cells::arguments(place, parameters)?)?;
        // Slices come into the tables of a batch by statements.
        self.litter.borrow_mut().add(usize::try_from(rows).unwrap_or(usize::MAX));
        Ok(rows)
    }

    fn define(&self, place: &str, statements: &[String]) -> Result<()> {
        if statements.is_empty() {
            return Ok(());
        }
        self.litter.borrow_mut().forget();
        self.last.set(None);
        let together = format!("{WHOLE}\n{};\nSELECT {PLANS};", statements.join(";\n"));
        if self.link.in_transaction.get() {
            self.link.batch(place, together)?;
            return self.link.forget_statements(place);
        }
        self.begin()?;
        self.link.batch(place, together)?;
        self.link.forget_statements(place)?;
        self.commit()
    }

    fn insert(
        &self,
        table: &str,
        columns: &[(&str, ColumnType)],
        rows: &[Vec<Cell>],
        once: bool,
    ) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        self.litter.borrow_mut().add(rows.len());
        let names = columns.iter().map(|(name, _)| quote(name)).collect::<Vec<_>>().join(", ");
        let values = columns.iter().enumerate();
        let values = values.map(|(index, (_, kind))| unnested(&format!("u.c{index}"), *kind));
        let values = values.collect::<Vec<_>>().join(", ");
        let conflict = if once { " ON CONFLICT DO NOTHING" } else { "" };
        let sql = format!(
            "INSERT INTO {table} ({names}) SELECT {values} FROM {}{conflict}",
            unnest(columns, false)
        );
        self.link.execute(table, &sql, arrays(table, columns, rows)?).map(|_| ())
    }

    fn seen_table(mirror: &str) -> String {
        quote(&format!("seen__{mirror}"))
    }

    fn images(&self, mirror: &Mirror, keys: &[&Key]) -> Result<Vec<Option<Vec<Cell>>>> {
        let key: Vec<(&str, ColumnType)> =
            mirror.schema.key_columns().map(|column| (column.name.as_str(), column.column_type)).collect();
        let same = key.iter().enumerate().map(|(index, (name, kind))| {
            format!("m.{} = {}", quote(name), unnested(&format!("u.c{index}"), *kind))
        });
        let columns = mirror.schema.columns.iter().map(|column| format!("m.{}", quote(&column.name)));
        let sql = format!(
            "SELECT {} FROM {} LEFT JOIN {} AS m ON {} ORDER BY u.number",
            columns.collect::<Vec<_>>().join(", "),
            unnest(&key, true),
            mirror.table_name(),
            same.collect::<Vec<_>>().join(" AND ")
        );
        let place = mirror.table.as_str();
        let arguments = arrays(place, &key, keys)?;
        let rows = self.link.fetch(place, &sql, arguments, true)?;
        let first = mirror.schema.key.first().copied().unwrap_or_default();
        let found = |row: Vec<Cell>| (row.get(first) != Some(&Cell::Null)).then_some(row);
        Ok(rows.into_iter().map(found).collect())
    }

    fn load_images(&self, mirror: &Mirror, net: Net) -> Result<Loaded> {
        let place = mirror.table.as_str();
        let function = images::function(mirror);
        self.make_functions(place, std::iter::once(&function))?;
        let sql = images::call(mirror, &function);
        let rows = self.link.fetch(place, &sql, images::arguments(mirror, net)?, true)?;
        let mut counts = Columns::new(rows.into_iter().next().unwrap_or_default());
        let loaded = images::loaded(mirror, [counts.unsigned(), counts.unsigned(), counts.unsigned()]);
        self.litter.borrow_mut().add(usize::try_from(loaded.rows).unwrap_or(usize::MAX));
        Ok(loaded)
    }

    /// Puts them off: each is a round trip.
    fn run<'a>(
        &self,
        owner: &str,
        actions: impl IntoIterator<Item = &'a Action>,
        filled: &mut Filled,
    ) -> Result<()> {
        let actions: Vec<&Action> = actions.into_iter().collect();
        let Some(tables) = filled.tables().filter(|_| !actions.is_empty()) else { return Ok(()) };
        let mut script = self.script.borrow_mut();
        script.begin(tables);
        script.run(owner, actions.iter().copied());
        self.litter.borrow_mut().note(tables);
        for table in actions.iter().filter_map(|action| action.fills.as_ref()) {
            filled.note(table);
        }
        Ok(())
    }

    fn settle(&self) -> Result<u64> {
        let script = self.script.take();
        if script.is_empty() {
            return Ok(0);
        }
        let stamp = self.stamp.take().unwrap_or_default();
        let [changes, last] = self.call("batch", &script, &stamp)?;
        self.last.set(Some(last));
        Ok(changes)
    }

    fn record(&self, program: &Program, filled: &Filled, stamp: &Stamp) -> Result<u64> {
        let mut script = self.script.borrow_mut();
        let is_alone = script.is_empty();
        match filled.tables() {
            Some(tables) => script.begin(tables),
            // Any may have rows, so every statement runs.
            None => script.begin(&program.record.iter().flat_map(|action| action.needs().concat()).collect()),
        }
        script.run(&program.definition.name, program.record.iter());
        self.stamp.replace(Some(stamp.clone()));
        drop(script);
        if is_alone { self.settle() } else { Ok(0) }
    }

    fn append(
        &self,
        columns: &[(&str, ColumnType)],
        rows: &[Vec<Cell>],
        stamped: &[(&str, Cell)],
    ) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        self.last.set(None);
        let place = "change log";
        let names = columns.iter().map(|(name, _)| *name).chain(stamped.iter().map(|(name, _)| *name));
        let names = names.map(quote).collect::<Vec<_>>().join(", ");
        let values = (0..columns.len()).map(|index| format!("u.c{index}"));
        let same = (1..=stamped.len()).map(|number| format!("${}", columns.len() + number));
        let values = values.chain(same).collect::<Vec<_>>().join(", ");
        // Not a sequence: what is rolled back must leave no gap.
        let sql = format!(
            "INSERT INTO __deltamesh_changes (seq, {names}) SELECT
                 (SELECT coalesce(max(seq), 0) FROM __deltamesh_changes) + u.number, {values} FROM {}",
            unnest(columns, true)
        );
        let mut arguments = arrays(place, columns, rows)?;
        stamped.iter().try_for_each(|(_, cell)| add(place, &mut arguments, cell))?;
        self.link.execute(place, &sql, arguments).map(|_| ())
    }

    fn object(&self, name: &str) -> Result<Option<Object>> {
        let sql = "SELECT c.relkind = 'v' FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                   WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p', 'v')";
        let names = [self.link.place.schema.clone(), name.to_owned()].map(Cell::Text);
        let rows = self.rows(name, sql, &names)?;
        let object = if is_true(&rows) { Object::View } else { Object::Table };
        Ok((!rows.is_empty()).then_some(object))
    }

    fn indexes(&self, table: &str) -> Result<Vec<String>> {
        let sql = "SELECT i.relname FROM pg_index x JOIN pg_class t ON t.oid = x.indrelid
                   JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_namespace n ON n.oid = t.relnamespace
                   WHERE n.nspname = $1 AND t.relname = $2 AND NOT x.indisprimary";
        let names = [self.link.place.schema.clone(), table.to_owned()].map(Cell::Text);
        Ok(self.rows(table, sql, &names)?.into_iter().flatten().filter_map(Cell::text).collect())
    }

    fn order(&self, definition: &ViewDefinition) -> Result<Option<Vec<(String, ColumnType)>>> {
        let is_table = self.object(&definition.storage)? == Some(Object::Table);
        if !is_table || definition.options.stored == Stored::Never || definition.key.is_empty() {
            return Ok(None);
        }
        let hidden = definition.hidden.iter().map(|hidden| &hidden.column);
        let columns: Vec<_> = definition.columns.iter().chain(hidden).collect();
        let key = definition.key.iter().map(|name| {
            let column = columns.iter().find(|column| column.name == *name && !column.nullable)?;
            Some((quote(name), column.column_type))
        });
        Ok(key.collect())
    }

    fn converted(&self, column: &str, from: ColumnType, to: ColumnType) -> Option<String> {
        use ColumnType::{Any, Decimal, Float, Int, Json, Text};
        match (from, to) {
            (Int, Float) | (Text, Decimal) | (Decimal, Text) | (Any, Json) | (Json, Any) => {
                Some(column.to_owned())
            }
            (_, Any) => Some(format!("to_jsonb({column})")),
            _ => None,
        }
    }

    fn rest(&self) -> Result<()> {
        Ok(())
    }
}

/// `unnest` of one bound array for each column, as `u (c0, c1, …[, number])`.
fn unnest(columns: &[(&str, ColumnType)], numbered: bool) -> String {
    let arrays = columns.iter().enumerate();
    let arrays = arrays.map(|(index, (_, kind))| format!("CAST(${} AS {})", index + 1, array_type(*kind)));
    let names = (0..columns.len()).map(|index| format!("c{index}"));
    let names = names.chain(numbered.then(|| "number".to_owned())).collect::<Vec<_>>().join(", ");
    let ordinality = if numbered { " WITH ORDINALITY" } else { "" };
    format!("unnest({}){ordinality} AS u ({names})", arrays.collect::<Vec<_>>().join(", "))
}
