//! Random statements over a schema.
//!
//! Genji's defects that the statements step round stand at the places where they do.

use deltamesh_testkit::Random;

use super::schema::{Kind, Schema, Table, list};

/// A statement, what of its answer is compared, and what it leaves behind.
pub(super) struct Statement {
    pub(super) sql: String,
    pub(super) answer: Answer,
    /// The schema if it succeeds.
    pub(super) schema: Option<Schema>,
    /// Whether it takes values of sequences, or docids.
    pub(super) takes_values: bool,
    /// Whether what it left when it failed depends on the order in which rows were found.
    pub(super) fails_in_order: bool,
}

/// What of an answer is compared.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Answer {
    /// Only whether it succeeds.
    Outcome,
    /// Rows in any order.
    Rows,
    /// Rows in their order.
    Ordered,
}

impl Statement {
    fn write(sql: String) -> Self {
        Self { sql, answer: Answer::Outcome, schema: None, takes_values: false, fails_in_order: false }
    }

    fn read(sql: String) -> Self {
        Self { answer: Answer::Rows, ..Self::write(sql) }
    }

    fn defines(sql: String, schema: Schema) -> Self {
        Self { schema: Some(schema), ..Self::write(sql) }
    }

    /// A random definition, or what fails to be one.
    pub(super) fn definition(random: &mut Random, schema: &Schema) -> Self {
        definition_of(random, schema)
    }

    /// A random statement; in a transaction none that moves sequences.
    pub(super) fn random(random: &mut Random, schema: &mut Schema, in_transaction: bool) -> Self {
        if schema.tables.is_empty() || random.chance(4) {
            return Self::definition(random, schema);
        }
        if !schema.sequences.is_empty() && random.chance(3) && !in_transaction {
            let sequence = random.pick(&schema.sequences);
            let sql = format!("SELECT NEXT VALUE FOR {sequence} AS v");
            return Self { takes_values: true, ..Self::read(sql) };
        }
        let at = random.below(schema.tables.len());
        match random.below(100) {
            0..36 => insert(random, schema, at),
            36..54 => update(random, schema, at),
            54..61 => delete(random, &schema.tables[at]),
            _ => select(random, &schema.tables[at]),
        }
    }
}

fn definition_of(random: &mut Random, schema: &Schema) -> Statement {
    let mut after = schema.clone();
    let sql = match random.below(20) {
        _ if schema.tables.is_empty() => after.create_table(random),
        0..4 if schema.tables.len() < 5 => after.create_table(random),
        4..6 if schema.sequences.len() < 3 => after.create_sequence(random),
        6..12 => {
            let at = random.below(schema.tables.len());
            match after.create_index(random, at) {
                Some(sql) => sql,
                None => return drop_index(random, schema, at),
            }
        }
        12..15 => {
            let at = random.below(schema.tables.len());
            return drop_index(random, schema, at);
        }
        15..17 => {
            let at = random.below(schema.tables.len());
            let (from, to) = (schema.tables[at].name.clone(), after.name("r"));
            after.tables[at].name.clone_from(&to);
            format!("ALTER TABLE {from} RENAME TO {to}")
        }
        17 => {
            let name = after.tables.swap_remove(random.below(schema.tables.len())).name;
            format!("DROP TABLE {name}")
        }
        _ => {
            let fails = [
                "DROP TABLE nowhere",
                "DROP INDEX IF EXISTS nowhere",
                "DROP SEQUENCE nowhere",
                "ALTER TABLE nowhere RENAME TO somewhere",
                "CREATE INDEX ON nowhere (a)",
                "SELECT FROM",
                "DROP SEQUENCE IF EXISTS nowhere",
            ];
            return Statement::write((*random.pick(&fails)).to_owned());
        }
    };
    Statement::defines(sql, after)
}

fn drop_index(random: &mut Random, schema: &Schema, at: usize) -> Statement {
    let mut after = schema.clone();
    let table = &mut after.tables[at];
    if table.indexes.is_empty() {
        return Statement::write("DROP INDEX nowhere".to_owned());
    }
    let index = table.indexes.swap_remove(random.below(table.indexes.len()));
    // What stays in `unique` only makes updates more careful than they need be.
    Statement::defines(format!("DROP INDEX {}", index.name), after)
}

/// Fields with values; some left out, few of a wrong type.
fn values(random: &mut Random, schema: &mut Schema, at: usize) -> Vec<(String, String)> {
    let number = schema.number();
    let table = &schema.tables[at];
    let mut values = Vec::new();
    for field in &table.fields {
        let is_needed = table.is_key(&field.name);
        if !is_needed && random.chance(20) {
            continue;
        }
        let fresh = field.kind.fresh(number).filter(|_| is_needed && random.chance(50));
        values.push((field.name.clone(), fresh.unwrap_or_else(|| value(random, &field.kind))));
    }
    if table.is_open && random.chance(50) {
        values.push(("extra".to_owned(), Kind::Any.literal(random)));
        if random.chance(30) {
            values.push(("more".to_owned(), "{x: {y: 1, z: [NULL]}}".to_owned()));
        }
    }
    values
}

/// A value for a field: mostly of its type.
fn value(random: &mut Random, kind: &Kind) -> String {
    match random.below(100) {
        0..4 => "NULL".to_owned(),
        // What is no document in a field that is none: Genji panics over a document in an ANY field.
        4..8 => Kind::Any.literal(random),
        8..10 if *kind == Kind::Integer => format!("{} + 1", kind.literal(random)),
        10..12 if *kind == Kind::Text => format!("{} || 'z'", kind.literal(random)),
        _ => kind.literal(random),
    }
}

fn insert(random: &mut Random, schema: &mut Schema, at: usize) -> Statement {
    if schema.tables.len() > 1 && random.chance(5) {
        return insert_selected(random, schema, at);
    }
    let count = if random.chance(20) { random.below(4) + 2 } else { 1 };
    let rows: Vec<_> = (0..count).map(|_| values(random, schema, at)).collect();
    let table = &schema.tables[at];
    let document = |row: &Vec<(String, String)>| {
        format!("{{{}}}", list(row.iter().map(|(name, value)| format!("{name}: {value}"))))
    };
    let mut sql = match rows.as_slice() {
        [row] if !row.is_empty() && random.chance(50) => {
            let names = list(row.iter().map(|(name, _)| name.clone()));
            let values = list(row.iter().map(|(_, value)| value.clone()));
            format!("INSERT INTO {} ({names}) VALUES ({values})", table.name)
        }
        rows => format!("INSERT INTO {} VALUES {}", table.name, list(rows.iter().map(document))),
    };
    let mut answer = Answer::Outcome;
    // Genji's DO REPLACE leaves stale entries in indexes, and rows under keys of others where UNIQUE is what conflicts.
    let can_replace = table.indexes.is_empty() && table.unique.is_empty();
    match random.below(20) {
        0..3 => sql += " ON CONFLICT DO NOTHING",
        3..5 if can_replace => sql += " ON CONFLICT DO REPLACE",
        5..8 => {
            sql += &format!(" RETURNING *, {} AS again", table.fields[0].name);
            answer = Answer::Rows;
        }
        _ => {}
    }
    let takes_values = table.takes_values || table.key.is_empty();
    Statement { answer, takes_values, ..Statement::write(sql) }
}

fn insert_selected(random: &mut Random, schema: &Schema, at: usize) -> Statement {
    let into = &schema.tables[at];
    let from = &schema.tables[(at + 1) % schema.tables.len()];
    let from_leaves = from.leaves();
    let values: Vec<String> = into
        .fields
        .iter()
        .map(|field| {
            let same: Vec<&String> =
                from_leaves.iter().filter(|(_, kind)| *kind == field.kind).map(|(path, _)| path).collect();
            if same.is_empty() { field.kind.literal(random) } else { (*random.pick(&same)).clone() }
        })
        .collect();
    let names = list(into.fields.iter().map(|field| field.name.clone()));
    // Without the names Genji takes `a AS b` for the field `a`.
    let is_plain = into.fields.iter().zip(&values).all(|(field, value)| field.name == *value);
    let names = if is_plain && random.chance(50) { String::new() } else { format!(" ({names})") };
    let conflict = if random.chance(60) { " ON CONFLICT DO NOTHING" } else { "" };
    let sql =
        format!("INSERT INTO {}{names} SELECT {} FROM {}{conflict}", into.name, values.join(", "), from.name);
    let takes_values = into.takes_values || into.key.is_empty();
    Statement { takes_values, fails_in_order: true, ..Statement::write(sql) }
}

fn update(random: &mut Random, schema: &mut Schema, at: usize) -> Statement {
    let number = schema.number();
    let table = &schema.tables[at];
    let leaves = table.leaves();
    let (mut changes, mut changed_paths) = (Vec::new(), Vec::new());
    let mut of_one_row = false;
    for _ in 0..random.below(2) + 1 {
        let (path, kind) = random.pick(&leaves);
        // Genji takes a field of what became an array for its first element.
        if changed_paths.iter().any(|other| path.starts_with(&format!("{other}."))) {
            continue;
        }
        changed_paths.push(path);
        if table.is_unique(path) || table.is_key(path) {
            // UNIQUE is not checked by Genji's UPDATE: only what is new goes there. Which row has the key first depends on
            // the order of rows: only one gets it.
            if let Some(fresh) = kind.fresh(number).filter(|_| !matches!(kind, Kind::Document(_))) {
                changes.push(format!("{path} = {fresh}"));
                of_one_row = true;
            }
        } else {
            changes.push(format!("{path} = {}", changed(random, &leaves, path, kind)));
        }
    }
    if table.is_open && random.chance(20) {
        changes.push(format!("extra = {}", Kind::Any.literal(random)));
    }
    let unset = &random.pick(&table.fields).name;
    // Genji leaves a row under its old key where what is around a field of the key goes.
    let can_unset = !table.is_key(unset) || table.key.contains(unset);
    if changes.is_empty() && !can_unset {
        return select(random, table);
    }
    let changes = if changes.is_empty() || can_unset && random.chance(10) {
        // A default may take values of a sequence: which row gets which depends on the order of rows.
        of_one_row = table.takes_values;
        format!("UNSET {unset}")
    } else {
        format!("SET {}", changes.join(", "))
    };
    let filter = if of_one_row {
        match one_row(random, table) {
            Some(filter) => filter,
            None => return select(random, table),
        }
    } else {
        filter(random, table)
    };
    let sql = format!("UPDATE {} {changes}{filter}", table.name);
    Statement { fails_in_order: true, takes_values: table.takes_values, ..Statement::write(sql) }
}

/// A new value for a path: of its type, or made of what is there.
fn changed(random: &mut Random, leaves: &[(String, Kind)], path: &str, kind: &Kind) -> String {
    let same: Vec<&String> =
        leaves.iter().filter(|(_, other)| other == kind).map(|(other, _)| other).collect();
    match (kind, random.below(4)) {
        (_, 0) => (*random.pick(&same)).clone(),
        (Kind::Integer, 1) => format!("{path} + {}", random.below(5)),
        (Kind::Integer, 2) => format!("{path} % 7"),
        (Kind::Double, 1) => format!("{path} + 0.5"),
        (Kind::Text, 1) => "'b' || 'c'".to_owned(),
        _ => value(random, kind),
    }
}

/// WHERE for the one row of a key.
fn one_row(random: &mut Random, table: &Table) -> Option<String> {
    let leaves = table.leaves();
    let mut conditions = Vec::new();
    for path in &table.key {
        let (_, kind) = leaves.iter().find(|(leaf, _)| leaf == path)?;
        conditions.push(format!("{path} = {}", kind.literal(random)));
    }
    (!conditions.is_empty()).then(|| format!(" WHERE {}", conditions.join(" AND ")))
}

fn delete(random: &mut Random, table: &Table) -> Statement {
    let filter = filter(random, table);
    if filter.is_empty() && random.chance(80) {
        return select(random, table);
    }
    // Of rows that are equal in ORDER BY each engine may take others.
    let window = match table.key.as_slice() {
        [key] if random.chance(20) => format!(" ORDER BY {key} LIMIT {}", random.below(3)),
        _ => String::new(),
    };
    Statement::write(format!("DELETE FROM {}{filter}{window}", table.name))
}

/// WHERE, or nothing.
fn filter(random: &mut Random, table: &Table) -> String {
    if random.chance(15) {
        return String::new();
    }
    if random.chance(25)
        && let Some(filter) = one_row(random, table)
    {
        return filter;
    }
    format!(" WHERE {}", condition(random, table, 2))
}

/// A condition over the fields of a table. Paths stand left of the operator, as Genji takes `9 < id` for `id < 9` where `id`
/// is indexed; nothing is compared with a bare NULL, which Genji finds in an index; each condition names a path, as Genji falls
/// over a conjunction of constants.
fn condition(random: &mut Random, table: &Table, depth: usize) -> String {
    if depth > 0 && random.chance(45) {
        let (left, right) = (condition(random, table, depth - 1), condition(random, table, depth - 1));
        return match random.below(8) {
            0..4 => format!("{left} AND {right}"),
            4..7 => format!("({left} OR {right})"),
            _ => format!("NOT ({left})"),
        };
    }
    let leaves = table.leaves();
    let (path, kind) = random.pick(&leaves).clone();
    let is_integer = matches!(kind, Kind::Integer);
    // Through an index documents compare by their encoding, else by their values.
    if matches!(kind, Kind::Document(_)) && table.is_found_by(&path) {
        return format!("{path} IS NOT NULL");
    }
    let kind = if random.chance(8) { Kind::Any } else { kind }.narrowed(random);
    let operator = *random.pick(&["=", "=", "=", ">", ">=", "<", "<=", "!="]);
    match random.below(16) {
        0 => format!("{path} IS NULL"),
        1 => format!("{path} IS NOT NULL"),
        // Genji finds a row as often as an index has its value in the list.
        2..4 => {
            let mut items: Vec<String> = (0..3).map(|_| kind.bound(random)).collect();
            items.sort();
            items.dedup();
            format!("{path} IN [{}]", items.join(", "))
        }
        // Genji rounds doubles that bound a range in an index of integers.
        4 if is_integer => {
            format!("{path} BETWEEN {} AND {}", Kind::Integer.bound(random), Kind::Integer.bound(random))
        }
        // Between bounds of two types Genji's ranges find what is of a third.
        4 => format!("{path} BETWEEN {} AND {}", kind.bound(random), kind.bound(random)),
        5 => format!("{path} LIKE '{}'", random.pick(&["a%", "%b", "_", "%n%", "t1%"])),
        6 => format!("typeof({path}) = '{}'", random.pick(&["integer", "double", "text", "null", "array"])),
        7 if matches!(kind, Kind::Integer | Kind::Double) => {
            format!("{path} % 3 {operator} {}", random.below(3))
        }
        8 if table.is_open => format!("extra {operator} {}", Kind::Any.literal(random)),
        _ => format!("{path} {operator} {}", kind.bound(random)),
    }
}

fn select(random: &mut Random, table: &Table) -> Statement {
    let leaves = table.leaves();
    let filter = filter(random, table);
    let name = &table.name;
    let path = random.pick(&leaves).0.clone();
    match random.below(12) {
        0..2 => Statement::read(format!("SELECT * FROM {name}{filter}")),
        2 => {
            // Of two fields of one name Genji returns nothing.
            let other = &random.pick(&leaves).0;
            Statement::read(format!("SELECT DISTINCT {path}, {other} AS other FROM {name}{filter}"))
        }
        3..5 => {
            let descending = random.pick(&["", " DESC"]);
            let sql = format!("SELECT {path} FROM {name}{filter} ORDER BY {path}{descending}");
            // Genji forgets the order where WHERE goes through an index and another one has the field behind its first.
            let is_behind = |paths: &Vec<String>| paths.iter().skip(1).any(|other| *other == path);
            if !filter.is_empty() && table.lookups().any(is_behind) {
                return Statement::read(sql);
            }
            let sql = format!("{sql}{}", window(random));
            Statement { answer: Answer::Ordered, ..Statement::read(sql) }
        }
        5 => {
            // Of documents that count as equal either may be the lowest.
            let of: Vec<&String> = leaves
                .iter()
                .filter(|(_, kind)| !matches!(kind, Kind::Document(_)))
                .map(|(path, _)| path)
                .collect();
            let low = if of.is_empty() {
                String::new()
            } else {
                format!(", MIN({0}) AS low, MAX({0}) AS high", random.pick(&of))
            };
            Statement::read(format!(
                "SELECT {path} AS g, COUNT(*) AS n{low} FROM {name}{filter} GROUP BY {path}"
            ))
        }
        6 => {
            let numbers: Vec<&String> = leaves
                .iter()
                .filter(|(_, kind)| matches!(kind, Kind::Integer | Kind::Double))
                .map(|(path, _)| path)
                .collect();
            let path = if numbers.is_empty() { &path } else { *random.pick(&numbers) };
            let sql = format!("SELECT COUNT(*), COUNT({path}), SUM({path}), AVG({path}) FROM {name}{filter}");
            Statement::read(sql)
        }
        _ => {
            let projections = list((0..random.below(3) + 1).map(|_| projection(random, table, &leaves)));
            Statement::read(format!("SELECT {projections} FROM {name}{filter}"))
        }
    }
}

fn window(random: &mut Random) -> String {
    match random.below(4) {
        0 => format!(" LIMIT {}", random.below(6)),
        1 => format!(" LIMIT {} OFFSET {}", random.below(6), random.below(4)),
        2 => format!(" OFFSET {}", random.below(4)),
        _ => String::new(),
    }
}

fn projection(random: &mut Random, table: &Table, leaves: &[(String, Kind)]) -> String {
    let (path, kind) = random.pick(leaves);
    match random.below(9) {
        0 => format!("typeof({path})"),
        1 => format!("len({path})"),
        2 if *kind == Kind::Integer => format!("CAST({path} AS TEXT) AS text"),
        3 if matches!(kind, Kind::Integer | Kind::Double) => {
            format!("{path} {} {}", random.pick(&["+", "-", "*", "/", "%"]), random.below(4))
        }
        4 if !table.key.is_empty() => "pk()".to_owned(),
        5 => format!("{{p: {path}, q: [{path}, 1]}} AS made"),
        6 => format!("{path} = {} AS same", kind.literal(random)),
        _ => path.clone(),
    }
}
