//! The statements of a batch as functions in the schema: one call runs them all.
//!
//! What a batch runs follows from what its statements before have found, so one statement after the other would be one round
//! trip after the other. Here the statements that belong together (a view's of one phase, a mirror's) become a function in
//! PL/pgSQL, which takes the names of the tables of the batch that have rows and gives them back with those that it filled; a
//! batch becomes a function that calls these in turn and gives the images of the views. Each is named by its text, is made when
//! it is first needed and stays, with its plans, as long as this writer; a pooler may give each transaction another session.

use std::collections::{HashMap, HashSet};
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

/// The statements of one owner.
#[derive(Debug)]
struct Unit {
    owner: String,
    function: Arc<Function>,
}

/// The functions of statements that have come before, by a hash of these: most batches run the same.
#[derive(Debug, Default)]
pub(super) struct Units(HashMap<u64, Arc<Function>>);

impl Units {
    fn of(&mut self, actions: &[&Action]) -> Arc<Function> {
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

/// Images that the batch gives.
#[derive(Debug)]
pub(super) struct Emitted {
    /// The view.
    pub(super) view: String,
    /// Its tables of before and after images, quoted.
    pub(super) tables: [String; 2],
    /// The columns to give, quoted.
    pub(super) columns: Vec<String>,
}

#[derive(Debug)]
enum Turn {
    Unit(Unit),
    Emit(Emitted),
}

/// What has been put off, in order.
#[derive(Debug, Default)]
pub(super) struct Script {
    turns: Vec<Turn>,
    /// Tables of the batch that had rows when the first statement was put off.
    pub(super) filled: Vec<String>,
}

impl Script {
    pub(super) fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    pub(super) fn begin(&mut self, filled: &HashSet<String>) {
        if self.turns.is_empty() {
            self.filled = filled.iter().cloned().collect();
        }
    }

    pub(super) fn run(&mut self, owner: &str, actions: &[&Action], units: &mut Units) {
        self.turns.push(Turn::Unit(Unit { owner: owner.to_owned(), function: units.of(actions) }));
    }

    pub(super) fn emit(&mut self, emitted: Emitted) {
        self.turns.push(Turn::Emit(emitted));
    }

    /// Everything that it calls.
    pub(super) fn units(&self) -> impl Iterator<Item = &Function> {
        self.turns.iter().filter_map(|turn| match turn {
            Turn::Unit(unit) => Some(&*unit.function),
            Turn::Emit(_) => None,
        })
    }

    /// Whose images the parts of the result are: two a view.
    pub(super) fn emitted(&self) -> impl Iterator<Item = &Emitted> {
        self.turns.iter().filter_map(|turn| match turn {
            Turn::Unit(_) => None,
            Turn::Emit(emitted) => Some(emitted),
        })
    }

    /// The owner of the function that an error's context names.
    pub(super) fn owner(&self, context: &str) -> Option<&str> {
        self.turns.iter().find_map(|turn| match turn {
            Turn::Unit(unit) if context.contains(&unit.function.name) => Some(unit.owner.as_str()),
            _ => None,
        })
    }

    /// What calls them in turn and gives the images.
    pub(super) fn whole(&self) -> Function {
        let mut body = String::new();
        let mut part = 0;
        for turn in &self.turns {
            match turn {
                Turn::Unit(unit) => {
                    body.push_str(&format!("{FILLED} := {}({FILLED});\n", unit.function.name))
                }
                Turn::Emit(Emitted { tables, columns, .. }) => {
                    let columns = columns.iter().enumerate();
                    let columns = columns.map(|(index, column)| format!("{column} AS c{index}"));
                    let columns = columns.collect::<Vec<_>>().join(", ");
                    for table in tables {
                        let rows = format!("SELECT {columns} FROM {table}");
                        body.push_str(&format!(
                            "IF {} THEN RETURN QUERY SELECT {part}, row_to_json(r)::text FROM ({rows}) AS r; END IF;\n",
                            any_of(std::slice::from_ref(table))
                        ));
                        part += 1;
                    }
                }
            }
        }
        function("TABLE (__deltamesh_part integer, __deltamesh_row text)", &body, "")
    }
}

/// Parameter and variable of a function.
const FILLED: &str = "__deltamesh_filled";

/// Statements with their conditions.
fn unit(actions: &[&Action]) -> Function {
    let mut body = String::new();
    for action in actions {
        let needs = action.needs().iter().map(|tables| any_of(tables));
        let excludes = Some(action.excludes()).filter(|tables| !tables.is_empty());
        let excludes = excludes.map(|tables| format!("NOT {}", any_of(tables)));
        let conditions: Vec<String> = needs.chain(excludes).collect();
        let conditions = if conditions.is_empty() { "true".to_owned() } else { conditions.join(" AND ") };
        let note = action.fills.as_ref().map(|table| {
            format!("IF FOUND THEN {FILLED} := array_append({FILLED}, {}); END IF; ", literal(table))
        });
        let note = note.unwrap_or_default();
        body.push_str(&format!("IF {conditions} THEN {}; {note}END IF;\n", action.sql));
    }
    function("text[]", &body, FILLED)
}

/// Whether one of these tables has rows.
fn any_of(tables: &[String]) -> String {
    let tables = tables.iter().map(|table| literal(table)).collect::<Vec<_>>().join(", ");
    format!("{FILLED} && ARRAY[{tables}]")
}

/// A function over the tables that have rows, named by its text. Columns of the statements hide its variables.
fn function(returns: &str, body: &str, result: &str) -> Function {
    let body = format!("\n#variable_conflict use_column\nBEGIN\n{body}RETURN {result};\nEND\n");
    // FNV-1a with two seeds: no two texts share a name.
    let hash = |seed: u64| {
        let bytes = returns.bytes().chain(body.bytes());
        bytes.fold(seed, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
    };
    let (one, other) = (hash(0xcbf2_9ce4_8422_2325), hash(0x9e37_79b9_7f4a_7c15));
    let name = format!("{PREFIX}{one:016x}{:08x}", other >> 32);
    let tag = format!("$deltamesh_{other:016x}$");
    let create = format!(
        "CREATE OR REPLACE FUNCTION {name}({FILLED} text[]) RETURNS {returns} LANGUAGE plpgsql AS {tag}{body}{tag}"
    );
    Function { name, create }
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
        script.run("t", &[&action], &mut units);
        let tables = ["\"old__v\"", "\"new__v\""].map(str::to_owned);
        script.emit(Emitted { view: "v".to_owned(), tables, columns: vec!["\"a\"".to_owned()] });
        let whole = script.whole();
        let functions: Vec<&str> =
            script.units().chain([&whole]).map(|function| function.create.as_str()).collect();
        expect![[r#"
            CREATE OR REPLACE FUNCTION __deltamesh_run_4a6b157a72ae054fd6b9dbac(__deltamesh_filled text[]) RETURNS text[] LANGUAGE plpgsql AS $deltamesh_d6b9dbac9654a23f$
            #variable_conflict use_column
            BEGIN
            IF __deltamesh_filled && ARRAY['"new__t"'] THEN INSERT INTO t SELECT * FROM new__t; END IF;
            RETURN __deltamesh_filled;
            END
            $deltamesh_d6b9dbac9654a23f$
            CREATE OR REPLACE FUNCTION __deltamesh_run_5f12e32d32d284eb32384365(__deltamesh_filled text[]) RETURNS TABLE (__deltamesh_part integer, __deltamesh_row text) LANGUAGE plpgsql AS $deltamesh_323843652fb1e1fb$
            #variable_conflict use_column
            BEGIN
            __deltamesh_filled := __deltamesh_run_4a6b157a72ae054fd6b9dbac(__deltamesh_filled);
            IF __deltamesh_filled && ARRAY['"old__v"'] THEN RETURN QUERY SELECT 0, row_to_json(r)::text FROM (SELECT "a" AS c0 FROM "old__v") AS r; END IF;
            IF __deltamesh_filled && ARRAY['"new__v"'] THEN RETURN QUERY SELECT 1, row_to_json(r)::text FROM (SELECT "a" AS c0 FROM "new__v") AS r; END IF;
            RETURN ;
            END
            $deltamesh_323843652fb1e1fb$"#]].assert_eq(&functions.join("\n"));
        let name = script.units().next().map(|unit| unit.name.as_str()).unwrap_or_default();
        let failed = format!("PL/pgSQL function {name}(text[]) line 4");
        assert_eq!((script.owner(&failed), script.owner("line 1")), (Some("t"), None));
    }
}
