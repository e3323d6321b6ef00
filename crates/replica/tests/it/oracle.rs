//! Random histories: after every step the mirrors equal a model of the source, every view equals its own SQL or says why it is
//! not maintained, and the feed, replayed from its beginning, equals the view.

use std::collections::{BTreeMap, BTreeSet};

use deltamesh_change::Item;
use deltamesh_replica::{Applied, ErrorKind, Filling, Limits, Reader, ViewState};
use deltamesh_view::Index;
use proptest::prelude::*;
use serde_json::Value as Json;

use crate::fixture::*;
use crate::model::{Change, Model, changes, row};

const VIEWS: &str = "
CREATE MATERIALIZED VIEW short AS SELECT id, chat, body FROM message WHERE body <> 'z';
CREATE MATERIALIZED VIEW feed WITH (subject = 'chat') AS
    SELECT m.id, m.chat, u.login, m.body FROM message m JOIN user u ON u.id = m.sender;
CREATE MATERIALIZED VIEW counts AS
    SELECT chat, count(*) AS messages, sum(sender) AS senders FROM message GROUP BY chat;
CREATE MATERIALIZED VIEW logins AS
    SELECT u.login, count(*) AS messages FROM message m JOIN user u ON u.id = m.sender GROUP BY u.login;
CREATE MATERIALIZED VIEW extremes AS SELECT chat, min(body) AS first, max(id) AS last FROM message GROUP BY chat;
CREATE MATERIALIZED VIEW outer_ AS SELECT m.id, m.chat, u.login FROM message m LEFT JOIN user u ON u.id = m.sender;
CREATE MATERIALIZED VIEW loud WITH (stored = never) AS SELECT id, body FROM message WHERE chat > 1;
CREATE MATERIALIZED VIEW latest WITH (stored = never) AS SELECT id, body FROM message ORDER BY id DESC;
CREATE MATERIALIZED VIEW bodies AS SELECT body FROM message;
CREATE MATERIALIZED VIEW busy AS SELECT chat FROM counts WHERE messages > 2;
CREATE MATERIALIZED VIEW notes WITH (stored = never) AS SELECT * FROM note;
CREATE MATERIALIZED VIEW answers AS SELECT n.id, m.id AS message, m.body FROM note n JOIN message m ON m.chat = n.chat;
CREATE MATERIALIZED VIEW person AS SELECT * FROM person;
CREATE MATERIALIZED VIEW names AS SELECT DISTINCT login FROM person;
CREATE MATERIALIZED VIEW crowds AS WITH c AS (SELECT chat, count(*) AS n FROM message GROUP BY chat HAVING count(*) > 1)
    SELECT m.id, c.n, u.login FROM message m JOIN c ON c.chat = m.chat JOIN user u ON u.id = m.sender;
CREATE MATERIALIZED VIEW texts AS SELECT login AS text FROM user UNION SELECT body FROM message;
CREATE MATERIALIZED VIEW silent AS SELECT id FROM user EXCEPT SELECT sender FROM message;
CREATE MATERIALIZED VIEW everyone AS SELECT login, id FROM person UNION ALL SELECT login, id FROM user;
CREATE MATERIALIZED VIEW quiet AS SELECT id, login FROM user u WHERE NOT EXISTS (SELECT 1 FROM message m WHERE m.sender = u.id);
CREATE MATERIALIZED VIEW newest AS SELECT id, chat, body FROM message m WHERE id = (SELECT max(l.id) FROM message l WHERE l.chat = m.chat);
CREATE MATERIALIZED VIEW known AS SELECT id, body FROM message WHERE sender IN (SELECT id FROM user WHERE login <> 'z');
CREATE MATERIALIZED VIEW last_two AS SELECT chat, id, body FROM message QUALIFY row_number() OVER (PARTITION BY chat ORDER BY id DESC) <= 2;
CREATE MATERIALIZED VIEW steps AS SELECT id, lag(body) OVER (PARTITION BY sender ORDER BY id) AS former FROM message;
CREATE MATERIALIZED VIEW sizes AS SELECT n, count(*) AS rows FROM crowds GROUP BY n;";

/// Other definitions of them, and those that they had. `busy` reads `counts`, `sizes` reads `crowds`.
const REPLACED: [&str; 11] = [
    "short AS SELECT id, chat, body FROM message WHERE body <> 'a'",
    "short AS SELECT id, body, sender FROM message",
    "short AS SELECT id, chat, body FROM message WHERE body <> 'z'",
    "counts AS SELECT chat, count(*) AS messages, sum(sender) AS senders FROM message GROUP BY chat",
    "counts AS SELECT chat, count(*) AS messages, max(id) AS last FROM message WHERE sender > 1 GROUP BY chat",
    "crowds AS SELECT id, chat AS n, body FROM message",
    "crowds AS SELECT c.id, c.chat AS n FROM message c LEFT JOIN user u ON u.id = c.sender WHERE u.id IS NULL",
    "loud WITH (stored = never) AS SELECT id, body FROM message WHERE chat <= 2",
    "busy AS SELECT chat, messages FROM counts WHERE messages > 1",
    "busy AS SELECT chat FROM short WHERE id > 2",
    "feed WITH (subject = 'login') AS SELECT m.id, u.login FROM message m JOIN user u ON u.id = m.sender",
];

#[derive(Debug, Clone)]
enum Step {
    /// Transactions that are applied together.
    Apply(Vec<Vec<Change>>),
    /// The disk is full during these; then it is not, and maybe the process was restarted.
    Full(Vec<Change>, bool),
    /// The source as it stands, after changes that nobody saw.
    Snapshot(Vec<Change>),
    Reopen,
    /// A view is dropped and created again.
    Recreate,
    /// Views get other definitions, together.
    Replace(Vec<&'static str>),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => proptest::collection::vec(proptest::collection::vec(row(), 0..8), 1..4).prop_map(Step::Apply),
        6 => proptest::collection::vec(changes(), 1..4).prop_map(Step::Apply),
        1 => (changes(), any::<bool>()).prop_map(|(rows, reopen)| Step::Full(rows, reopen)),
        2 => changes().prop_map(Step::Snapshot),
        1 => Just(Step::Reopen),
        1 => Just(Step::Recreate),
        2 => proptest::collection::vec(proptest::sample::select(&REPLACED[..]), 1..4).prop_map(Step::Replace),
    ]
}

/// Rows of views by name and key.
pub(crate) type Rows = BTreeMap<(String, String), Json>;

/// Takes what the change log has behind a position into the rows of every view; gives the new position.
pub(crate) fn replay(reader: &mut Reader, behind: u64, rows: &mut Rows) -> u64 {
    let mut position = behind;
    for change in reader.changes_after(behind, None, usize::MAX).unwrap() {
        position = change.sequence;
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
    position
}

/// Rows of every view as they are kept.
pub(crate) fn stored(reader: &mut Reader, views: &[ViewState]) -> Rows {
    let mut rows = BTreeMap::new();
    for view in views {
        let name = &view.definition.name;
        reader
            .snapshot(name, &[], Limits::default(), &mut |page| {
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

/// A replica beside a model of its source.
struct History {
    fixture: Fixture,
    model: Model,
    /// Views that a row has faulted: a later repair may mend them. The others can only be mended by a new schema.
    failed: BTreeSet<String>,
    /// Whether views are filled in slices, one after each step.
    fills: bool,
}

impl History {
    fn new(fixture: Fixture, mode: Mode) -> Self {
        let fills = mode == Mode::Fills;
        let mut history = Self { fixture, model: Model::default(), failed: BTreeSet::new(), fills };
        match mode {
            Mode::Usual => {}
            Mode::Recomputes => history.fixture.always_recompute(),
            Mode::Fills => history.fixture.fill_in_slices(0, 2),
        }
        let created = [(0, 0), (1, 0), (2, 1), (3, 1)].map(|(name, shape)| Change::Create(name, shape));
        let created = history.items(&created);
        history.fixture.apply(created);
        history.fixture.replica().execute(VIEWS).unwrap();
        history
    }

    fn items(&mut self, changes: &[Change]) -> Vec<Item> {
        changes.iter().flat_map(|change| self.model.take(change)).collect()
    }

    fn note(&mut self, applied: Applied) {
        self.failed.extend(applied.faults.into_iter().map(|fault| fault.view));
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Apply(transactions) => {
                let groups = transactions.iter().map(|changes| {
                    let items = self.items(changes);
                    self.fixture.group(items)
                });
                let groups = groups.collect::<Vec<_>>();
                let applied = self.fixture.replica().apply(&groups).unwrap();
                self.note(applied);
            }
            Step::Full(changes, reopen) if self.fixture.is_file() => {
                self.apply_on_full_disk(changes, *reopen)
            }
            Step::Full(changes, reopen) => self.apply_disturbed(changes, *reopen),
            Step::Snapshot(changes) => {
                self.items(changes);
                self.fixture.ordinal += 5;
                let group = self.fixture.snapshot(self.model.snapshot());
                let applied = self.fixture.replica().apply(&[group]).unwrap();
                self.note(applied);
            }
            Step::Reopen => self.fixture.reopen(),
            Step::Recreate => {
                let again =
                    "CREATE MATERIALIZED VIEW short AS SELECT id, chat, body FROM message WHERE body <> 'z'";
                let again = format!("DROP MATERIALIZED VIEW short; {again}");
                if let Err(error) = self.fixture.replica().execute(&again) {
                    assert!(matches!(error.kind(), ErrorKind::Plan | ErrorKind::Conflict), "{error}");
                }
            }
            Step::Replace(views) => {
                let replace = |view: &&str| format!("CREATE OR REPLACE MATERIALIZED VIEW {view};");
                let replace = views.iter().map(replace).collect::<String>();
                if let Err(error) = self.fixture.replica().execute(&replace) {
                    assert!(matches!(error.kind(), ErrorKind::Plan | ErrorKind::Conflict), "{error}");
                }
            }
        }
        self.check();
        // Some are filled while others are compared with what they replace.
        let filled: Vec<Filling> =
            (0..if self.fills { 3 } else { 0 }).map(|_| self.fixture.replica().fill().unwrap()).collect();
        if filled.iter().any(|filling| *filling != Filling::default()) {
            self.failed.extend(filled.into_iter().flat_map(|filling| filling.settled));
            self.check();
        }
    }

    /// Replaces and fills what is begun.
    fn fill_all(&mut self) {
        loop {
            let filling = self.fixture.replica().fill().unwrap();
            self.failed.extend(filling.settled);
            if !filling.goes_on {
                break;
            }
        }
        self.check();
        let views = self.fixture.replica().views();
        let begun: Vec<_> = views.iter().filter_map(|view| view.replacement.as_ref()).collect();
        // One that fails holds up those that belong to it.
        assert!(begun.is_empty() || begun.iter().any(|next| next.fault.is_some()), "{begun:?}");
    }

    fn apply_on_full_disk(&mut self, changes: &[Change], reopen: bool) {
        self.fixture.limit_pages(1);
        // What is refused must leave the state of before, so it is checked with the model of before.
        let before = (self.model.lines(), self.fixture.ordinal);
        let mut items = self.items(changes);
        items.extend((0..60).flat_map(|number| self.model.take(&Change::Put(0, number * 7_919))));
        let groups = [self.fixture.group(items)];
        let mut result = self.fixture.replica().apply(&groups);
        if let Err(error) = &result {
            assert_eq!(error.kind(), ErrorKind::Full);
            check_mirrors(&mut self.fixture, &before.0);
            if reopen {
                self.fixture.reopen();
            }
            self.fixture.limit_pages(1_000_000);
            result = self.fixture.replica().apply(&groups);
        }
        self.fixture.limit_pages(1_000_000);
        self.note(result.unwrap());
    }

    /// The writer's connection ends before it applies these, and it finds that out itself.
    fn apply_disturbed(&mut self, changes: &[Change], reopen: bool) {
        let mut items = self.items(changes);
        // As on a full disk, so that both replicas hold the same.
        items.extend((0..60).flat_map(|number| self.model.take(&Change::Put(0, number * 7_919))));
        let groups = [self.fixture.group(items)];
        self.fixture.terminate();
        let mut result = self.fixture.replica().apply(&groups);
        if let Err(error) = &result {
            assert!(error.kind().is_retryable(), "{error}");
            if reopen {
                self.fixture.reopen();
            }
            result = self.fixture.replica().apply(&groups);
        }
        self.note(result.unwrap());
    }

    fn check(&mut self) {
        check_mirrors(&mut self.fixture, &self.model.lines());
        let mended = self.fixture.replica().repair().unwrap();
        let needless = mended.iter().find(|view| !self.failed.contains(*view));
        assert_eq!(needless, None, "is faulted, and can be maintained");
        self.failed.clear();
        let views = self.fixture.replica().views();
        for verified in self.fixture.reader().verify(&views, Limits::default()).unwrap() {
            assert_eq!((verified.missing, verified.extra), (0, 0), "view {}", verified.view);
        }
        for view in &views {
            assert_eq!(view.oracle.is_none(), view.fault.is_some(), "view {}", view.definition.name);
            assert_ne!(view.fault.as_deref(), Some(""), "view {}", view.definition.name);
        }
        if views.iter().all(|view| view.replacement.is_none()) {
            check_indexes(&self.fixture, &views);
        }
        let (mut reader, mut fed) = (self.fixture.reader(), Rows::new());
        replay(&mut reader, 0, &mut fed);
        // A view that is being filled is not shown, but its changes are told.
        let shown = reader.views().unwrap();
        fed.retain(|(name, _), _| shown.iter().any(|view| view.definition.name == *name));
        assert_eq!(fed, stored(&mut reader, &shown));
    }
}

/// Each view has the indexes that its maintenance always reads by, none is there that a longer one replaces, and none that no
/// view asks for.
fn check_indexes(fixture: &Fixture, views: &[ViewState]) {
    let known = fixture.rows(if fixture.is_file() {
        "SELECT name, tbl_name FROM sqlite_schema WHERE name LIKE '!_!_deltamesh!_ix%' ESCAPE '!'"
    } else {
        "SELECT indexname, tablename FROM pg_indexes
           WHERE schemaname = current_schema() AND indexname LIKE '!_!_deltamesh!_ix%' ESCAPE '!'"
    });
    // Those within a view come and go with it.
    let mut known: Vec<&str> = known.lines().filter(|line| !line.contains("__deltamesh_part")).collect();
    known.sort_unstable();
    let named = |index: &Index| serde_json::json!([index.name, index.table]).to_string();
    let indexes = views.iter().filter(|view| view.fault.is_none()).flat_map(|view| &view.definition.indexes);
    let needed = indexes.filter(|index| index.is_made_at_once() || known.contains(&named(index).as_str()));
    let expected: BTreeSet<String> = Index::serving(needed).into_iter().map(named).collect();
    assert_eq!(known, expected.into_iter().collect::<Vec<_>>());
}

fn check_mirrors(
    fixture: &mut Fixture,
    expected: &[(std::sync::Arc<deltamesh_change::RelationSchema>, Vec<String>)],
) {
    let mut schemas =
        fixture.replica().relations().into_iter().map(|relation| relation.schema).collect::<Vec<_>>();
    schemas.sort_by(|one, other| one.relation.cmp(&other.relation));
    assert_eq!(schemas, expected.iter().map(|(schema, _)| schema.clone()).collect::<Vec<_>>());
    for (schema, lines) in expected {
        let rows = fixture.rows(&format!("SELECT * FROM \"app__{}\"", schema.relation));
        let mut rows = rows.lines().collect::<Vec<_>>();
        rows.sort_unstable();
        assert_eq!(&rows, lines, "{}", schema.relation);
    }
}

/// Which of the ways that give the same result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Usual,
    /// Views are computed again at every batch.
    Recomputes,
    /// Views are filled in slices, with the steps of the history in between.
    Fills,
}

fn mode() -> impl Strategy<Value = Mode> {
    prop_oneof![Just(Mode::Usual), Just(Mode::Recomputes), Just(Mode::Fills)]
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
    fn random_histories(steps in proptest::collection::vec(step(), 1..12), mode in mode()) {
        let mut history = History::new(Fixture::new(), mode);
        steps.iter().for_each(|step| history.step(step));
        history.fill_all();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: config().cases.div_ceil(6), ..config() })]

    /// The same history in both replicas: each view that both keep has the same rows.
    #[test]
    fn random_histories_on_postgres(steps in proptest::collection::vec(step(), 1..8), mode in mode()) {
        let mut sqlite = History::new(Fixture::new(), Mode::Usual);
        let mut postgres = History::new(Fixture::on_postgres(), mode);
        compare(&mut sqlite, &mut postgres);
        for step in &steps {
            sqlite.step(step);
            postgres.step(step);
            compare(&mut sqlite, &mut postgres);
        }
    }
}

fn compare(sqlite: &mut History, postgres: &mut History) {
    let rows = |view: &ViewState, history: &mut History| {
        let mut rows = Vec::new();
        let name = &view.definition.name;
        history
            .fixture
            .reader()
            .snapshot(name, &[], Limits::default(), &mut |page| {
                rows.extend(page.into_iter().map(|row| Json::Object(row.row).to_string()));
                std::ops::ControlFlow::Continue(())
            })
            .unwrap();
        rows.sort();
        rows
    };
    let by_name = |history: &mut History| {
        let views = history.fixture.replica().views().into_iter();
        views.map(|view| (view.definition.name.clone(), view)).collect::<BTreeMap<_, _>>()
    };
    for ((_, view), (_, other)) in by_name(sqlite).iter().zip(by_name(postgres)) {
        assert_eq!(view.definition.name, other.definition.name);
        let is_whole =
            |view: &&ViewState| view.fault.is_none() && view.filling.is_none() && view.replacement.is_none();
        if [view, &other].iter().all(is_whole) && view.definition.sql == other.definition.sql {
            assert_eq!(rows(view, sqlite), rows(&other, postgres), "view {}", view.definition.name);
        }
    }
}
