//! The statements of a batch as functions in the schema: one call runs them all.
//!
//! What a batch runs follows from what its statements before have found, so one statement after the other would be one round
//! trip after the other. Here the statements that belong together (a view's of one phase, a mirror's) become a function in
//! PL/pgSQL, which takes the names of the tables of the batch that have rows, and what changes are stamped with, and gives those
//! names back with those that it filled; a batch becomes a function that calls these in turn and gives the number of changes and
//! the last one's. Each is named by its text, is made when it is first needed and stays, with its plans, as long as this writer;
//! a pooler may give each transaction another session.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use deltamesh_view::Action;

use crate::maintenance::mirror::literal;

/// Functions that are kept; when there are more, all are made again when they are needed.
pub(super) const MOST_FUNCTIONS: usize = 2_000;

/// What the name of each function begins with.
pub(super) const PREFIX: &str = "__deltamesh_run_";

/// A function: its name and the statement that makes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Function {
    pub(super) name: String,
    pub(super) create: String,
}

/// Statements of one owner that follow each other.
#[derive(Debug)]
struct Unit {
    owner: String,
    actions: Vec<Action>,
}

/// A function and whose statements it runs.
pub(super) struct Owned {
    owner: String,
    pub(super) function: Arc<Function>,
}

/// The functions of statements that have come before, by a hash of these: most batches run the same.
#[derive(Debug, Default)]
pub(super) struct Units(HashMap<u64, Arc<Function>>);

impl Units {
    fn of(&mut self, actions: &[Action]) -> Arc<Function> {
        let mut hasher = DefaultHasher::new();
        for action in actions {
            (&action.sql, action.needs(), action.excludes(), &action.fills).hash(&mut hasher);
        }
        if self.0.len() > MOST_FUNCTIONS {
            self.0.clear();
        }
        Arc::clone(self.0.entry(hasher.finish()).or_insert_with(|| Arc::new(unit(actions))))
    }
}

/// What has been put off, in order.
#[derive(Debug, Default)]
pub(super) struct Script {
    units: Vec<Unit>,
    /// Tables of the batch that had rows when the first statement was put off.
    pub(super) filled: Vec<String>,
}

impl Script {
    pub(super) fn is_empty(&self) -> bool {
        self.units.is_empty()
    }

    pub(super) fn begin(&mut self, filled: &HashSet<String>) {
        if self.units.is_empty() {
            self.filled = filled.iter().cloned().collect();
        }
    }

    pub(super) fn run<'a>(&mut self, owner: &str, actions: impl Iterator<Item = &'a Action>) {
        match self.units.last_mut().filter(|unit| unit.owner == owner) {
            Some(unit) => unit.actions.extend(actions.cloned()),
            None => self.units.push(Unit { owner: owner.to_owned(), actions: actions.cloned().collect() }),
        }
    }

    /// The functions that it calls.
    pub(super) fn functions(&self, units: &mut Units) -> Vec<Owned> {
        let owned = |unit: &Unit| Owned { owner: unit.owner.clone(), function: units.of(&unit.actions) };
        self.units.iter().map(owned).collect()
    }
}

/// The owner of the function that an error's context names.
pub(super) fn owner<'f>(functions: &'f [Owned], context: &str) -> Option<&'f str> {
    let owned = functions.iter().find(|owned| context.contains(&owned.function.name));
    owned.map(|owned| owned.owner.as_str())
}

/// What calls functions in turn; gives the number of changes that they record, and the number of the last.
pub(super) fn whole(functions: &[Owned]) -> Function {
    let last = "(SELECT coalesce(max(seq), 0) FROM __deltamesh_changes)";
    let stamp = STAMP.join(", ");
    let mut body = format!("{BEFORE} := {last};\n");
    for Owned { function, .. } in functions {
        body.push_str(&format!("{FILLED} := {}({FILLED}, {stamp});\n", function.name));
    }
    body.push_str(&format!("RETURN QUERY SELECT l.seq - {BEFORE}, l.seq FROM {last} AS l(seq);\n"));
    let variables = format!("{BEFORE} bigint;");
    function("TABLE (__deltamesh_count bigint, __deltamesh_last bigint)", &variables, &body)
}

/// Parameter and variable of a function.
const FILLED: &str = "__deltamesh_filled";
/// The other parameters, which the statements that record changes know.
const STAMP: [&str; 3] = ["__deltamesh_position", "__deltamesh_dsid", "__deltamesh_captured_us"];
/// The last change before.
const BEFORE: &str = "__deltamesh_before";

/// Statements with their conditions. Which tables have rows is asked of the parameter once, and of variables then.
fn unit(actions: &[Action]) -> Function {
    let asked = actions.iter().flat_map(|action| action.needs().iter().flatten().chain(action.excludes()));
    let asked: BTreeSet<&str> =
        asked.chain(actions.iter().filter_map(|action| action.fills.as_ref())).map(String::as_str).collect();
    let asked: BTreeMap<&str, String> = asked
        .into_iter()
        .enumerate()
        .map(|(index, table)| (table, format!("__deltamesh_has{index}")))
        .collect();
    let any_of = |tables: &[String]| {
        let have = tables.iter().filter_map(|table| asked.get(table.as_str()).map(String::as_str));
        format!("({})", have.collect::<Vec<_>>().join(" OR "))
    };
    let mut body = String::new();
    for action in actions {
        let needs = action.needs().iter().map(|tables| any_of(tables));
        let excludes = Some(action.excludes()).filter(|tables| !tables.is_empty());
        let excludes = excludes.map(|tables| format!("NOT {}", any_of(tables)));
        let conditions: Vec<String> = needs.chain(excludes).collect();
        let conditions = if conditions.is_empty() { "true".to_owned() } else { conditions.join(" AND ") };
        let fills = action.fills.as_ref().and_then(|table| Some((table, asked.get(table.as_str())?)));
        let note = fills.map(|(table, has)| {
            let table = literal(table);
            format!("IF FOUND THEN {has} := true; {FILLED} := array_append({FILLED}, {table}); END IF; ")
        });
        let note = note.unwrap_or_default();
        body.push_str(&format!("IF {conditions} THEN {}; {note}END IF;\n", action.sql));
    }
    body.push_str(&format!("RETURN {FILLED};\n"));
    let variables =
        asked.iter().map(|(table, has)| format!("{has} boolean := {} = ANY({FILLED});", literal(table)));
    function("text[]", &variables.collect::<Vec<_>>().join("\n"), &body)
}

/// A function over the tables that have rows.
fn function(returns: &str, variables: &str, body: &str) -> Function {
    let [position, dsid, captured] = STAMP;
    let parameters = format!("{FILLED} text[], {position} text, {dsid} bigint, {captured} bigint");
    Function::new(&parameters, returns, variables, body)
}

impl Function {
    /// A function that is named by its text. Columns of its statements hide its variables.
    pub(super) fn new(parameters: &str, returns: &str, variables: &str, body: &str) -> Self {
        let body = format!("\n#variable_conflict use_column\nDECLARE {variables}\nBEGIN\n{body}END\n");
        // FNV-1a with two seeds: no two texts share a name.
        let hash = |seed: u64| {
            let bytes = parameters.bytes().chain(returns.bytes()).chain(body.bytes());
            bytes.fold(seed, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
        };
        let (one, other) = (hash(0xcbf2_9ce4_8422_2325), hash(0x9e37_79b9_7f4a_7c15));
        let name = format!("{PREFIX}{one:016x}{:08x}", other >> 32);
        let tag = format!("$deltamesh_{other:016x}$");
        let create = format!(
            "CREATE OR REPLACE FUNCTION {name}({parameters}) RETURNS {returns} LANGUAGE plpgsql AS {tag}{body}{tag}"
        );
        Self { name, create }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn a_batch_is_a_function_that_calls_those_of_its_owners() {
        let (mut script, mut units) = (Script::default(), Units::default());
        script.begin(&HashSet::from(["\"new__t\"".to_owned()]));
        let new = ["\"new__t\"".to_owned()];
        let action = Action::over(&new, "INSERT INTO t SELECT * FROM new__t".to_owned());
        script.run("t", [&action].into_iter());
        let other = Action::over(&new, "DELETE FROM new__t".to_owned());
        script.run("t", [&other].into_iter());
        let units = script.functions(&mut units);
        let whole = whole(&units);
        let functions = units.iter().map(|owned| &*owned.function).chain([&whole]);
        let functions: Vec<&str> = functions.map(|function| function.create.as_str()).collect();
        expect![[r#"
            CREATE OR REPLACE FUNCTION __deltamesh_run_3a00890806b62537361807fa(__deltamesh_filled text[], __deltamesh_position text, __deltamesh_dsid bigint, __deltamesh_captured_us bigint) RETURNS text[] LANGUAGE plpgsql AS $deltamesh_361807fa922234c7$
            #variable_conflict use_column
            DECLARE __deltamesh_has0 boolean := '"new__t"' = ANY(__deltamesh_filled);
            BEGIN
            IF (__deltamesh_has0) THEN INSERT INTO t SELECT * FROM new__t; END IF;
            IF (__deltamesh_has0) THEN DELETE FROM new__t; END IF;
            RETURN __deltamesh_filled;
            END
            $deltamesh_361807fa922234c7$
            CREATE OR REPLACE FUNCTION __deltamesh_run_7b344005d566b08907a58cd3(__deltamesh_filled text[], __deltamesh_position text, __deltamesh_dsid bigint, __deltamesh_captured_us bigint) RETURNS TABLE (__deltamesh_count bigint, __deltamesh_last bigint) LANGUAGE plpgsql AS $deltamesh_07a58cd3f8fddef9$
            #variable_conflict use_column
            DECLARE __deltamesh_before bigint;
            BEGIN
            __deltamesh_before := (SELECT coalesce(max(seq), 0) FROM __deltamesh_changes);
            __deltamesh_filled := __deltamesh_run_3a00890806b62537361807fa(__deltamesh_filled, __deltamesh_position, __deltamesh_dsid, __deltamesh_captured_us);
            RETURN QUERY SELECT l.seq - __deltamesh_before, l.seq FROM (SELECT coalesce(max(seq), 0) FROM __deltamesh_changes) AS l(seq);
            END
            $deltamesh_07a58cd3f8fddef9$"#]].assert_eq(&functions.join("\n"));
        let name = units[0].function.name.as_str();
        let failed = format!("PL/pgSQL function {name}(text[],text,bigint,bigint) line 4");
        assert_eq!((owner(&units, &failed), owner(&units, "line 1")), (Some("t"), None));
    }
}
