//! Random histories: after every step the mirrors equal a model of the source, every view equals its own SQL, and the feed,
//! replayed from its beginning, equals the view.

use std::collections::BTreeMap;

use deltamesh_change::Value;
use deltamesh_replica::{ErrorKind, Limits, Replica as _};
use proptest::prelude::*;
use serde_json::Value as Json;

use crate::fixture::*;

const VIEWS: &str = "
CREATE MATERIALIZED VIEW short AS SELECT id, chat, body FROM message WHERE body <> 'z';
CREATE MATERIALIZED VIEW feed WITH (subject = 'chat') AS
    SELECT m.id, m.chat, u.login, m.body FROM message m JOIN user u ON u.id = m.sender;
CREATE MATERIALIZED VIEW counts AS
    SELECT chat, count(*) AS messages, sum(sender) AS senders FROM message GROUP BY chat;
CREATE MATERIALIZED VIEW logins AS
    SELECT u.login, count(*) AS messages FROM message m JOIN user u ON u.id = m.sender GROUP BY u.login;
CREATE MATERIALIZED VIEW loud WITH (stored = never) AS SELECT id, body FROM message WHERE chat > 1;
CREATE MATERIALIZED VIEW busy AS SELECT chat FROM counts WHERE messages > 2;";

#[derive(Debug, Clone)]
enum Row {
    Message(i64, i64, i64, &'static str),
    NoMessage(i64),
    User(i64, &'static str),
    NoUser(i64),
}

#[derive(Debug, Clone)]
enum Step {
    /// Transactions that are applied together.
    Apply(Vec<Vec<Row>>),
    /// The disk is full during these; then it is not, and maybe the process was restarted.
    Full(Vec<Row>, bool),
    /// The source as it stands, after changes that nobody saw.
    Snapshot(Vec<Row>),
    Reopen,
    /// A view is dropped and created again.
    Recreate,
}

fn row() -> impl Strategy<Value = Row> {
    let body = prop_oneof![Just("a"), Just("b"), Just("z"), Just("")];
    let login = prop_oneof![Just("ann"), Just("bob"), Just("é\"")];
    prop_oneof![
        6 => (0..12_i64, 0..4_i64, 0..4_i64, body).prop_map(|(id, chat, sender, body)| Row::Message(id, chat, sender, body)),
        2 => (0..12_i64).prop_map(Row::NoMessage),
        2 => (0..4_i64, login).prop_map(|(id, login)| Row::User(id, login)),
        1 => (0..4_i64).prop_map(Row::NoUser),
    ]
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    proptest::collection::vec(row(), 0..8)
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => proptest::collection::vec(rows(), 1..4).prop_map(Step::Apply),
        1 => (rows(), any::<bool>()).prop_map(|(rows, reopen)| Step::Full(rows, reopen)),
        2 => rows().prop_map(Step::Snapshot),
        1 => Just(Step::Reopen),
        1 => Just(Step::Recreate),
    ]
}

/// What the source holds.
#[derive(Default)]
struct Model {
    messages: BTreeMap<i64, (i64, i64, &'static str)>,
    users: BTreeMap<i64, &'static str>,
}

impl Model {
    fn take(&mut self, rows: &[Row]) {
        for row in rows {
            match *row {
                Row::Message(id, chat, sender, body) => drop(self.messages.insert(id, (chat, sender, body))),
                Row::NoMessage(id) => drop(self.messages.remove(&id)),
                Row::User(id, login) => drop(self.users.insert(id, login)),
                Row::NoUser(id) => drop(self.users.remove(&id)),
            }
        }
    }

    fn lines(&self) -> String {
        let messages = self
            .messages
            .iter()
            .map(|(id, (chat, sender, body))| serde_json::json!([id, chat, sender, body]).to_string());
        let users = self.users.iter().map(|(id, login)| serde_json::json!([id, login]).to_string());
        messages.chain(users).collect::<Vec<_>>().join("\n")
    }

    fn snapshot(&self) -> Vec<deltamesh_change::Item> {
        let mut items = vec![define(&message_schema()), define(&user_schema())];
        items.extend(self.messages.iter().map(|(&id, &(chat, sender, body))| {
            read(&message_schema(), vec![id.into(), chat.into(), sender.into(), body.into()])
        }));
        items.extend(
            self.users.iter().map(|(&id, &login)| read(&user_schema(), vec![id.into(), login.into()])),
        );
        items
    }
}

fn items(rows: &[Row]) -> Vec<deltamesh_change::Item> {
    let item = |row: &Row| match *row {
        Row::Message(id, chat, sender, body) => message(id, chat, sender, body),
        Row::NoMessage(id) => delete(&message_schema(), vec![Value::Int(id)]),
        Row::User(id, login) => user(id, login),
        Row::NoUser(id) => delete(&user_schema(), vec![Value::Int(id)]),
    };
    rows.iter().map(item).collect()
}

/// Rows of every view by key, from the change log alone.
fn replayed(fixture: &Fixture) -> BTreeMap<(String, String), Json> {
    let mut rows = BTreeMap::new();
    for change in fixture.reader().changes_after(0, None, usize::MAX).unwrap() {
        let key = (change.view, change.key);
        let row: Json = serde_json::from_str(&change.row).unwrap();
        let known = match change.operation.as_str() {
            "delete" => rows.remove(&key),
            _ => rows.insert(key.clone(), row.clone()),
        };
        match (change.operation.as_str(), known) {
            ("insert", None) => {}
            ("delete", Some(known)) => assert_eq!(known, row, "{key:?}"),
            ("update", Some(known)) => {
                assert_ne!(known, row, "{key:?}");
                let before: Json = serde_json::from_str(change.before.as_deref().unwrap()).unwrap();
                for (name, value) in before.as_object().unwrap() {
                    assert_eq!(&known[name], value, "{key:?} {name}");
                }
            }
            (operation, known) => panic!("{operation} of {key:?}, known {known:?}"),
        }
    }
    rows
}

fn stored(fixture: &mut Fixture) -> BTreeMap<(String, String), Json> {
    let mut rows = BTreeMap::new();
    for view in fixture.replica().views() {
        let name = view.definition.name;
        fixture
            .reader()
            .snapshot(&name, &[], Limits::default(), &mut |page| {
                rows.extend(
                    page.into_iter()
                        .map(|row| ((name.clone(), Json::Array(row.key).to_string()), Json::Object(row.row))),
                );
                std::ops::ControlFlow::Continue(())
            })
            .unwrap();
    }
    rows
}

fn check(fixture: &mut Fixture, model: &Model) {
    let mirrors = [
        fixture.rows("SELECT * FROM app__message ORDER BY id"),
        fixture.rows("SELECT * FROM app__user ORDER BY id"),
    ];
    let lines = mirrors.into_iter().filter(|lines| !lines.is_empty()).collect::<Vec<_>>().join("\n");
    assert_eq!(lines, model.lines());
    fixture.verify();
    assert_eq!(replayed(fixture), stored(fixture));
}

fn run(steps: Vec<Step>) {
    let mut fixture = Fixture::new();
    let mut model = Model::default();
    fixture.apply(vec![define(&message_schema()), define(&user_schema())]);
    fixture.replica().execute(VIEWS).unwrap();
    for step in steps {
        match step {
            Step::Apply(transactions) => {
                let groups = transactions.iter().map(|rows| fixture.group(items(rows))).collect::<Vec<_>>();
                transactions.iter().for_each(|rows| model.take(rows));
                fixture.replica().apply(&groups).unwrap();
            }
            Step::Full(rows, reopen) => {
                let mut wide = items(&rows);
                wide.extend((0..60).map(|id| message(100 + id, 1, 1, "a")));
                wide.extend((0..60).map(|id| delete(&message_schema(), vec![Value::Int(100 + id)])));
                wide.push(message(99, 1, 1, "a"));
                let groups = [fixture.group(wide)];
                fixture.replica().limit_pages(1).unwrap();
                if let Err(error) = fixture.replica().apply(&groups) {
                    assert_eq!(error.kind(), ErrorKind::Full);
                    check(&mut fixture, &model);
                    if reopen {
                        fixture.reopen();
                    }
                    fixture.replica().limit_pages(1_000_000).unwrap();
                    fixture.replica().apply(&groups).unwrap();
                }
                fixture.replica().limit_pages(1_000_000).unwrap();
                model.take(&rows);
                model.take(&[Row::Message(99, 1, 1, "a")]);
            }
            Step::Snapshot(rows) => {
                model.take(&rows);
                fixture.ordinal += 5;
                let group = fixture.snapshot(model.snapshot());
                fixture.replica().apply(&[group]).unwrap();
            }
            Step::Reopen => fixture.reopen(),
            Step::Recreate => {
                let again =
                    "CREATE MATERIALIZED VIEW short AS SELECT id, chat, body FROM message WHERE body <> 'z'";
                fixture.replica().execute(&format!("DROP MATERIALIZED VIEW short; {again}")).unwrap();
            }
        }
        check(&mut fixture, &model);
    }
}

/// More of them where `PROPTEST_CASES` says so.
fn config() -> ProptestConfig {
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    let cases = std::env::var_os("PROPTEST_CASES").map_or(24, |_| config.cases);
    ProptestConfig { cases, ..config }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn random_histories(steps in proptest::collection::vec(step(), 1..12)) {
        run(steps);
    }
}
