//! A replica in a temporary folder, and short ways to say what a source did.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use deltamesh_change::{
    ChangeEvent, Column, ColumnType, EnginePosition, Item, Operation, RelationSchema, SchemaChange,
    SourcePosition, Value,
};
use deltamesh_replica::{
    ErrorKind, Group, Items, Limits, Location, PostgresReplica, Reader, Replica, Retention, SqliteReplica,
};
use deltamesh_testkit::PostgresServer;

/// The server of this test binary. It ends with the process that started it.
pub(crate) fn server() -> &'static PostgresServer {
    static SERVER: OnceLock<PostgresServer> = OnceLock::new();
    SERVER.get_or_init(|| PostgresServer::start().unwrap())
}

/// Where a replica is kept.
enum Place {
    File(tempfile::TempDir),
    Schema(String),
}

/// Its writer.
enum Opened {
    Sqlite(Box<SqliteReplica>),
    Postgres(Box<PostgresReplica>),
}

pub(crate) struct Fixture {
    place: Place,
    replica: Option<Opened>,
    pub(crate) ordinal: u64,
    pub(crate) incarnation: &'static str,
    always_recompute: bool,
    /// From which size of a relation on, and by how much, views are filled in slices.
    slices: Option<(u64, u64)>,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        Self::at(Place::File(tempfile::tempdir().unwrap()))
    }

    /// A replica in a new schema of this test binary's server.
    pub(crate) fn on_postgres() -> Self {
        Self::at(Place::Schema(server().fresh_schema()))
    }

    fn at(place: Place) -> Self {
        let mut fixture = Self {
            place,
            replica: None,
            ordinal: 0,
            incarnation: "i1",
            always_recompute: false,
            slices: None,
        };
        fixture.reopen();
        fixture
    }

    pub(crate) fn path(&self) -> PathBuf {
        match &self.place {
            Place::File(dir) => dir.path().join("replica.db"),
            Place::Schema(url) => panic!("{url} is no file"),
        }
    }

    pub(crate) fn location(&self) -> Location {
        match &self.place {
            Place::File(_) => Location::from(self.path()),
            Place::Schema(url) => Location::parse(url).unwrap(),
        }
    }

    pub(crate) fn is_file(&self) -> bool {
        matches!(self.place, Place::File(_))
    }

    pub(crate) fn reopen(&mut self) {
        self.reopen_keeping(Retention::default());
    }

    pub(crate) fn reopen_keeping(&mut self, retention: Retention) {
        self.replica = None;
        let opened = match &self.place {
            Place::File(_) => Opened::Sqlite(Box::new(reopened(&self.path(), retention))),
            Place::Schema(url) => {
                let replica = PostgresReplica::open(url, retention).unwrap();
                Opened::Postgres(Box::new(replica))
            }
        };
        self.replica = Some(opened);
        if self.always_recompute {
            self.always_recompute();
        }
        if let Some((from, rows)) = self.slices {
            self.fill_in_slices(from, rows);
        }
    }

    /// Views over small relations are filled in slices, too, also after it is opened again.
    pub(crate) fn fill_in_slices(&mut self, from: u64, rows: u64) {
        self.slices = Some((from, rows));
        match self.replica.as_mut().unwrap() {
            Opened::Sqlite(replica) => replica.fill_in_slices(from, rows),
            Opened::Postgres(replica) => replica.fill_in_slices(from, rows),
        }
    }

    /// Views are computed again where that is possible, also after it is opened again.
    pub(crate) fn always_recompute(&mut self) {
        self.always_recompute = true;
        match self.replica.as_mut().unwrap() {
            Opened::Sqlite(replica) => replica.always_recompute(),
            Opened::Postgres(replica) => replica.always_recompute(),
        }
    }

    pub(crate) fn replica(&mut self) -> &mut dyn Replica {
        match self.replica.as_mut().unwrap() {
            Opened::Sqlite(replica) => &mut **replica,
            Opened::Postgres(replica) => &mut **replica,
        }
    }

    /// Removes the schema of a replica that is one.
    pub(crate) fn drop_schema(&self) {
        let Place::Schema(url) = &self.place else { return };
        let schema = url.split_once("schema=").unwrap().1;
        server().psql(&format!("SET client_min_messages = error; DROP SCHEMA {schema} CASCADE")).unwrap();
    }

    /// Ends the connections of a replica that is a schema, as an administrator does.
    pub(crate) fn terminate(&self) {
        let Place::Schema(url) = &self.place else { return };
        let schema = url.split_once("schema=").unwrap().1;
        let sql = format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'deltamesh {schema}'"
        );
        server().psql(&sql).unwrap();
    }

    pub(crate) fn limit_pages(&mut self, pages: u32) {
        if let Some(Opened::Sqlite(replica)) = &mut self.replica {
            replica.limit_pages(pages).unwrap();
        }
    }

    pub(crate) fn reader(&self) -> Reader {
        Reader::open(self.location()).unwrap()
    }

    /// The source's next transaction.
    pub(crate) fn group(&mut self, items: Vec<Item>) -> Group {
        self.ordinal += 1;
        self.group_at(self.ordinal, false, items)
    }

    pub(crate) fn snapshot(&mut self, items: Vec<Item>) -> Group {
        self.ordinal += 1;
        self.group_at(self.ordinal, true, items)
    }

    pub(crate) fn group_at(&self, ordinal: u64, snapshot: bool, items: Vec<Item>) -> Group {
        Group {
            source: "app".into(),
            first_ordinal: ordinal,
            position: SourcePosition {
                incarnation: self.incarnation.into(),
                ordinal,
                engine: EnginePosition { sequence: ordinal * 10, log: 1, offset: ordinal },
            },
            captured_us: 1_000 + i64::try_from(ordinal).unwrap(),
            stream_sequence: ordinal,
            snapshot,
            items: Items::Memory(items),
        }
    }

    pub(crate) fn apply(&mut self, items: Vec<Item>) -> deltamesh_replica::Applied {
        let group = self.group(items);
        self.replica().apply(&[group]).unwrap()
    }

    /// The rows of a SELECT, one line each.
    pub(crate) fn rows(&self, sql: &str) -> String {
        let mut lines = Vec::new();
        self.reader()
            .query(sql, &[], Limits::default(), &mut |_, rows| {
                lines.extend(rows.into_iter().map(|row| serde_json::Value::Array(row).to_string()));
                std::ops::ControlFlow::Continue(())
            })
            .unwrap();
        lines.join("\n")
    }

    /// The change log behind a position: `seq op view key row before`, `!` where a transaction ends.
    pub(crate) fn changes(&self, after: u64) -> String {
        let changes = self.reader().changes_after(after, None, 10_000).unwrap();
        let lines = changes.into_iter().map(|change| {
            let before = change.before.map(|before| format!(" was {before}")).unwrap_or_default();
            let end = if change.transaction_end { " !" } else { "" };
            format!("{} {} {} {}{before}{end}", change.view, change.operation, change.key, change.row)
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    pub(crate) fn verify(&mut self) {
        let views = self.replica().views();
        for verified in self.reader().verify(&views, Limits::default()).unwrap() {
            assert_eq!((verified.missing, verified.extra), (0, 0), "view {}", verified.view);
        }
        for view in views {
            assert_eq!(view.fault, None, "view {}", view.definition.name);
        }
    }
}

pub(crate) fn schema(
    relation: &str,
    dsid: u64,
    columns: &[(&str, ColumnType)],
    key: &[usize],
) -> Arc<RelationSchema> {
    let columns = columns.iter().enumerate();
    let columns = columns.map(|(index, (name, kind))| Column::new(*name, *kind, !key.contains(&index)));
    Arc::new(RelationSchema {
        relation: relation.into(),
        dsid,
        columns: columns.collect(),
        key: key.to_vec(),
    })
}

pub(crate) fn message_schema() -> Arc<RelationSchema> {
    let columns = [
        ("id", ColumnType::Int),
        ("chat", ColumnType::Int),
        ("sender", ColumnType::Int),
        ("body", ColumnType::Text),
    ];
    schema("message", 1, &columns, &[0])
}

pub(crate) fn user_schema() -> Arc<RelationSchema> {
    schema("user", 2, &[("id", ColumnType::Int), ("login", ColumnType::Text)], &[0])
}

pub(crate) fn define(schema: &Arc<RelationSchema>) -> Item {
    Item::Schema(SchemaChange::Define(schema.clone()))
}

pub(crate) fn key(schema: &RelationSchema, row: &[Value]) -> Vec<Value> {
    schema.key.iter().map(|&index| row[index].clone()).collect()
}

pub(crate) fn upsert(schema: &Arc<RelationSchema>, row: Vec<Value>) -> Item {
    event(schema, Operation::Upsert, key(schema, &row), Some(row))
}

pub(crate) fn read(schema: &Arc<RelationSchema>, row: Vec<Value>) -> Item {
    event(schema, Operation::Read, key(schema, &row), Some(row))
}

pub(crate) fn delete(schema: &Arc<RelationSchema>, key: Vec<Value>) -> Item {
    event(schema, Operation::Delete, key, None)
}

pub(crate) fn event(
    schema: &Arc<RelationSchema>,
    operation: Operation,
    key: Vec<Value>,
    after: Option<Vec<Value>>,
) -> Item {
    Item::Row(ChangeEvent { schema: schema.clone(), operation, key, before: None, after })
}

pub(crate) fn message(id: i64, chat: i64, sender: i64, body: &str) -> Item {
    upsert(&message_schema(), vec![id.into(), chat.into(), sender.into(), body.into()])
}

pub(crate) fn user(id: i64, login: &str) -> Item {
    upsert(&user_schema(), vec![id.into(), login.into()])
}

/// Opens a file whose lock was just given up. A process that another test starts has it too until it runs its own program.
fn reopened(path: &Path, retention: Retention) -> SqliteReplica {
    for _ in 0..200 {
        match SqliteReplica::open(path, retention) {
            Err(error) if error.kind() == ErrorKind::Locked => std::thread::sleep(Duration::from_millis(10)),
            opened => return opened.unwrap(),
        }
    }
    panic!("{} stays locked", path.display());
}
