//! Random queries over random relations, from a list of choices: shrinking the list makes the query simpler.

use std::fmt::Write as _;
use std::sync::Arc;

use deltamesh_change::{Column, ColumnType, RelationSchema, Value};

/// Choices that a generator makes, the first option where there are none left.
pub(crate) struct Choices<'a> {
    left: &'a [u8],
    aliases: usize,
}

/// A column that an expression may name: with its relation, and its kind.
#[derive(Clone)]
struct Known {
    name: String,
    kind: ColumnType,
}

/// A query, and the kinds of its columns, which are called `c0`, `c1`, ….
pub(crate) struct Query {
    pub(crate) sql: String,
    kinds: Vec<ColumnType>,
}

const KINDS: [ColumnType; 4] = [ColumnType::Int, ColumnType::Text, ColumnType::Bool, ColumnType::Float];

/// Two to four relations with a key of one or two integers.
pub(crate) fn relations(choices: &mut Choices<'_>) -> Vec<Arc<RelationSchema>> {
    let relation = |number: usize, choices: &mut Choices<'_>| {
        let keys = 1 + choices.below(2);
        let others = 1 + choices.below(4);
        let key = (0..keys).map(|key| Column::new(format!("k{key}"), ColumnType::Int, false));
        let other = (0..others).map(|other| {
            Column::new(format!("v{other}"), KINDS[choices.below(KINDS.len())], choices.chance(70))
        });
        let columns = key.chain(other).collect();
        Arc::new(RelationSchema {
            relation: format!("r{number}"),
            dsid: 1,
            columns,
            key: (0..keys).collect(),
        })
    };
    let count = 2 + choices.below(3);
    (0..count).map(|number| relation(number, choices)).collect()
}

/// Values of a row.
pub(crate) fn row(schema: &RelationSchema, choices: &mut Choices<'_>) -> Vec<Value> {
    let value = |column: &Column| {
        if column.nullable && choices.chance(25) {
            return Value::Null;
        }
        let number = choices.below(5);
        match column.column_type {
            ColumnType::Text => Value::from(["", "a", "b", "5", "x"][number]),
            ColumnType::Bool => Value::Bool(number.is_multiple_of(2)),
            // Sums of quarters are exact.
            ColumnType::Float => Value::Float(f64::from(u8::try_from(number).unwrap_or_default()) * 0.25),
            _ => Value::Int(i64::try_from(number).unwrap_or_default()),
        }
    };
    schema.columns.iter().map(value).collect()
}

impl<'a> Choices<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { left: bytes, aliases: 0 }
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        let Some((first, rest)) = self.left.split_first() else { return 0 };
        self.left = rest;
        usize::from(*first) % limit
    }

    /// Never where no choices are left.
    pub(crate) fn chance(&mut self, percent: usize) -> bool {
        let Some((first, rest)) = self.left.split_first() else { return false };
        self.left = rest;
        usize::from(*first) * 100 >= (100 - percent) * 256
    }

    fn alias(&mut self) -> String {
        self.aliases += 1;
        format!("t{}", self.aliases)
    }
}

/// A generator of queries over some relations and views.
pub(crate) struct Generator<'a, 'c> {
    pub(crate) choices: &'a mut Choices<'c>,
    /// Relations: names and columns.
    bases: Vec<(String, Vec<Known>)>,
}

impl<'a, 'c> Generator<'a, 'c> {
    pub(crate) fn new(choices: &'a mut Choices<'c>, relations: &[Arc<RelationSchema>]) -> Self {
        let known = |column: &Column| Known { name: column.name.clone(), kind: column.column_type };
        let base = |schema: &Arc<RelationSchema>| {
            (schema.relation.clone(), schema.columns.iter().map(known).collect())
        };
        Self { choices, bases: relations.iter().map(base).collect() }
    }

    /// Lets later queries read a view.
    pub(crate) fn add_view(&mut self, name: &str, query: &Query) {
        self.bases.push((name.to_owned(), columns(&query.kinds)));
    }

    /// A whole query.
    pub(crate) fn query(&mut self) -> Query {
        if self.choices.chance(15) {
            let inner = self.set(2, None);
            let name = self.choices.alias();
            self.bases.push((name.clone(), columns(&inner.kinds)));
            let query = self.set(2, None);
            self.bases.retain(|(known, _)| *known != name);
            return Query { sql: format!("WITH {name} AS ({}) {}", inner.sql, query.sql), ..query };
        }
        let query = self.set(2, None);
        if self.choices.chance(15) { self.limited(query) } else { query }
    }

    fn limited(&mut self, query: Query) -> Query {
        let mut order: Vec<String> = (1..=query.kinds.len()).map(|column| column.to_string()).collect();
        let first = self.choices.below(order.len());
        order.rotate_left(first);
        if self.choices.chance(50) {
            order[0].push_str(" DESC");
        }
        let limit = self.choices.below(5) + 1;
        let offset = if self.choices.chance(20) { " OFFSET 1" } else { "" };
        Query { sql: format!("{} ORDER BY {} LIMIT {limit}{offset}", query.sql, order.join(", ")), ..query }
    }

    /// A query, sometimes of several with the same kinds of columns.
    fn set(&mut self, depth: usize, kinds: Option<&[ColumnType]>) -> Query {
        let first = self.select(depth, kinds, &[]);
        if depth == 0 || !self.choices.chance(15) {
            return first;
        }
        let second = self.select(depth - 1, Some(&first.kinds), &[]);
        let operator = ["UNION ALL", "UNION", "INTERSECT", "EXCEPT"][self.choices.below(4)];
        Query { sql: format!("{} {operator} {}", first.sql, second.sql), ..first }
    }

    /// A `SELECT` that may name the columns of the queries around it.
    fn select(&mut self, depth: usize, kinds: Option<&[ColumnType]>, around: &[Known]) -> Query {
        let (from, scope) = self.from(depth);
        let mut sql = from;
        if self.choices.chance(50) {
            let condition = self.condition(&scope, depth);
            let _ = write!(sql, " WHERE {condition}");
        }
        if let Some(outer) = around.first().filter(|_| !around.is_empty()) {
            let inner = self.expression(outer.kind, &scope, 0);
            let word = if sql.contains(" WHERE ") { "AND" } else { "WHERE" };
            let _ = write!(sql, " {word} {inner} = {}", outer.name);
        }
        let kinds: Vec<ColumnType> = match kinds {
            Some(kinds) => kinds.to_vec(),
            None => (0..=self.choices.below(3)).map(|_| KINDS[self.choices.below(KINDS.len())]).collect(),
        };
        let sql = match self.choices.below(8) {
            4 => self.grouped(&sql, &kinds, &scope),
            5 | 6 => self.grouped(&sql, &kinds, &scope),
            7 => self.windowed(&sql, &kinds, &scope),
            form => {
                let distinct = if form == 3 { "DISTINCT " } else { "" };
                let outputs: Vec<String> =
                    kinds.iter().map(|kind| self.expression(*kind, &scope, depth.min(1))).collect();
                format!("SELECT {distinct}{}{sql}", named(&outputs))
            }
        };
        Query { sql, kinds }
    }

    fn grouped(&mut self, from: &str, kinds: &[ColumnType], scope: &[Known]) -> String {
        let group: Vec<Known> =
            (0..self.choices.below(3)).map(|_| scope[self.choices.below(scope.len())].clone()).collect();
        let mut outputs = vec![];
        for kind in kinds {
            let of_kind = group.iter().find(|known| known.kind == *kind).map(|known| known.name.clone());
            let output = match of_kind {
                Some(name) if self.choices.chance(50) => name,
                _ => self.aggregate(*kind, scope),
            };
            outputs.push(output);
        }
        let mut sql = format!("SELECT {}{from}", named(&outputs));
        let mut names: Vec<String> = group.into_iter().map(|known| known.name).collect();
        names.sort();
        names.dedup();
        if !names.is_empty() {
            let _ = write!(sql, " GROUP BY {}", names.join(", "));
        }
        if self.choices.chance(25) {
            let aggregate = self.aggregate(ColumnType::Int, scope);
            let _ = write!(sql, " HAVING {aggregate} > {}", self.choices.below(3));
        }
        sql
    }

    fn aggregate(&mut self, kind: ColumnType, scope: &[Known]) -> String {
        let of = |generator: &mut Self, kind| generator.expression(kind, scope, 0);
        match kind {
            ColumnType::Int => match self.choices.below(5) {
                0 => "count(*)".to_owned(),
                1 => {
                    let kind = KINDS[self.choices.below(KINDS.len())];
                    format!("count({})", of(self, kind))
                }
                2 => {
                    let kind = KINDS[self.choices.below(2)];
                    format!("count(DISTINCT {})", of(self, kind))
                }
                3 => format!("sum({})", of(self, kind)),
                _ => format!("max({})", of(self, kind)),
            },
            ColumnType::Float if self.choices.chance(50) => format!("avg({})", of(self, ColumnType::Int)),
            ColumnType::Bool => {
                let condition = self.condition(scope, 0);
                match self.choices.below(4) {
                    0 => format!("bool_and({condition})"),
                    1 => format!("bool_or({condition}) FILTER (WHERE {})", self.condition(scope, 0)),
                    number => format!("count(*) > {number}"),
                }
            }
            ColumnType::Text if self.choices.chance(40) => self.joined_texts(scope),
            kind => format!("{}({})", ["min", "max"][self.choices.below(2)], of(self, kind)),
        }
    }

    /// `string_agg`, whose order decides every two texts.
    fn joined_texts(&mut self, scope: &[Known]) -> String {
        let text = self.expression(ColumnType::Text, scope, 0);
        let filter = if self.choices.chance(20) {
            format!(" FILTER (WHERE {})", self.condition(scope, 0))
        } else {
            String::new()
        };
        if self.choices.chance(30) {
            return format!("string_agg(DISTINCT {text}, '; '){filter}");
        }
        let first = match self.choices.below(3) {
            0 => String::new(),
            1 => format!("{}, ", scope[self.choices.below(scope.len())].name),
            _ => format!("{} DESC, ", scope[self.choices.below(scope.len())].name),
        };
        format!("string_agg({text}, '; ' ORDER BY {first}{text}){filter}")
    }

    fn windowed(&mut self, from: &str, kinds: &[ColumnType], scope: &[Known]) -> String {
        let partition = scope[self.choices.below(scope.len())].name.clone();
        // Every column, so that rows that are left equal are equal altogether.
        let mut order: Vec<&str> = scope.iter().map(|known| known.name.as_str()).collect();
        let first = self.choices.below(order.len());
        order.rotate_left(first);
        let over = format!("(PARTITION BY {partition} ORDER BY {})", order.join(", "));
        let mut outputs = vec![];
        for kind in kinds {
            let value = self.expression(*kind, scope, 0);
            outputs.push(match (*kind, self.choices.below(4)) {
                (ColumnType::Int, 0) => format!("row_number() OVER {over}"),
                (ColumnType::Int, 1) => format!("sum({value}) OVER (PARTITION BY {partition})"),
                (ColumnType::Int, 2) => format!("rank() OVER (PARTITION BY {partition} ORDER BY {value})"),
                (_, 3) => value,
                (kind, 2) if kind != ColumnType::Bool => {
                    format!("max({value}) OVER (PARTITION BY {partition})")
                }
                _ => format!("lag({value}) OVER {over}"),
            });
        }
        format!("SELECT {}{from}", named(&outputs))
    }

    /// `FROM …` with joins, and the columns that it has.
    fn from(&mut self, depth: usize) -> (String, Vec<Known>) {
        let (first, mut scope) = self.factor(depth);
        let mut sql = format!(" FROM {first}");
        let joins = self.choices.below(3);
        for join in 0..joins {
            let (factor, columns) = self.factor(depth.saturating_sub(1));
            let kind = match self.choices.below(6) {
                3 | 4 => "LEFT JOIN",
                5 if join == 0 => ["RIGHT JOIN", "FULL JOIN"][self.choices.below(2)],
                _ => "JOIN",
            };
            let right = columns[self.choices.below(columns.len())].clone();
            let left = self.expression(right.kind, &scope, 0);
            scope.extend(columns);
            let _ = write!(sql, " {kind} {factor} ON {} = {left}", right.name);
            if self.choices.chance(20) && kind != "FULL JOIN" {
                let condition = self.condition(&scope, 0);
                let _ = write!(sql, " AND {condition}");
            }
        }
        (sql, scope)
    }

    fn factor(&mut self, depth: usize) -> (String, Vec<Known>) {
        let alias = self.choices.alias();
        let (text, columns) = if depth > 0 && self.choices.chance(20) {
            let mut query = self.set(depth - 1, None);
            if self.choices.chance(15) {
                query = self.limited(query);
            }
            (format!("({})", query.sql), columns(&query.kinds))
        } else {
            let (name, columns) = &self.bases[self.choices.below(self.bases.len())];
            (name.clone(), columns.clone())
        };
        let known = |known: &Known| Known { name: format!("{alias}.{}", known.name), ..known.clone() };
        (format!("{text} AS {alias}"), columns.iter().map(known).collect())
    }

    fn condition(&mut self, scope: &[Known], depth: usize) -> String {
        let kind = KINDS[self.choices.below(2)];
        match self.choices.below(10) {
            0 | 1 => format!("{} IS NOT NULL", scope[self.choices.below(scope.len())].name),
            2 | 3 => {
                let operator = ["=", "<>", "<", "<=", ">", ">="][self.choices.below(6)];
                let (left, right) = (self.expression(kind, scope, 1), self.expression(kind, scope, 0));
                format!("{left} {operator} {right}")
            }
            4 => {
                format!("{} IN ({}, {})", self.expression(kind, scope, 0), literal(kind, 1), literal(kind, 2))
            }
            5 => format!("{} AND {}", self.condition(scope, depth), self.condition(scope, depth)),
            6 => format!("({} OR {})", self.condition(scope, depth), self.condition(scope, depth)),
            7 => format!("NOT ({})", self.condition(scope, 0)),
            _ if depth == 0 => self.expression(ColumnType::Bool, scope, 0),
            8 if self.choices.chance(20) => {
                let query = self.select(depth - 1, Some(&KINDS[..2]), &[]);
                let [int, text] = [KINDS[0], KINDS[1]].map(|kind| self.expression(kind, scope, 0));
                format!("({int}, {text}) IN ({})", query.sql)
            }
            8 => {
                let query = self.select(depth - 1, Some(&[kind]), &[]);
                let not = if self.choices.chance(25) { "NOT " } else { "" };
                format!("{} {not}IN ({})", self.expression(kind, scope, 0), query.sql)
            }
            _ if self.choices.chance(15) => {
                let (factor, columns) = self.factor(depth - 1);
                let not = if self.choices.chance(50) { "NOT " } else { "" };
                format!("{not}EXISTS (SELECT 1 FROM {factor} WHERE {})", self.condition(&columns, 0))
            }
            _ => {
                let outer = scope[self.choices.below(scope.len())].clone();
                let not = if self.choices.chance(50) { "NOT " } else { "" };
                format!("{not}EXISTS ({})", self.matching(&outer, scope))
            }
        }
    }

    /// A subquery of rows that match an outer column.
    fn matching(&mut self, outer: &Known, scope: &[Known]) -> String {
        let (factor, columns) = self.factor(0);
        let inner = self.expression(outer.kind, &columns, 0);
        let mut sql = format!("SELECT 1 FROM {factor} WHERE {inner} = {}", outer.name);
        if self.choices.chance(40) {
            let other = scope[self.choices.below(scope.len())].clone();
            let same = columns.iter().find(|known| known.kind == other.kind).map(|known| known.name.clone());
            let operator = ["<>", "<", ">="][self.choices.below(3)];
            // Of the same outer relation, else the subquery would need them joined.
            let (of_other, of_outer) = (relation(&other.name), relation(&outer.name));
            if let Some(same) = same.filter(|_| of_other == of_outer) {
                let _ = write!(sql, " AND {same} {operator} {}", other.name);
            }
        }
        sql
    }

    fn expression(&mut self, kind: ColumnType, scope: &[Known], depth: usize) -> String {
        let of_kind: Vec<&Known> = scope.iter().filter(|known| known.kind == kind).collect();
        let choice = self.choices.below(10);
        if choice < 6 && !of_kind.is_empty() {
            return of_kind[self.choices.below(of_kind.len())].name.clone();
        }
        if depth == 0 || choice == 9 {
            let number = self.choices.below(5);
            return match of_kind.first() {
                // A constant alone makes few views that change.
                Some(known) if number < 3 => known.name.clone(),
                _ => literal(kind, number),
            };
        }
        let part = |generator: &mut Self| generator.expression(kind, scope, depth - 1);
        match (kind, choice) {
            (_, 6) => format!("coalesce({}, {})", part(self), part(self)),
            (_, 7) => {
                let condition = self.condition(scope, 0);
                format!("CASE WHEN {condition} THEN {} ELSE {} END", part(self), part(self))
            }
            (ColumnType::Int, _) => {
                let operator = ["+", "-", "*", "/", "%"][self.choices.below(5)];
                format!("({} {operator} {})", part(self), part(self))
            }
            (ColumnType::Text, _) => match self.choices.below(4) {
                0 => format!("upper({})", part(self)),
                1 => format!("replace({}, 'a', {})", part(self), part(self)),
                _ => format!("({} || {})", part(self), part(self)),
            },
            (ColumnType::Float, _) if self.choices.chance(40) => {
                let function = ["floor", "ceil", "trunc", "sqrt"][self.choices.below(4)];
                format!("{function}({})", part(self))
            }
            (ColumnType::Bool, _) => format!("({})", self.condition(scope, 0)),
            _ => format!("({} + {})", part(self), part(self)),
        }
    }
}

fn columns(kinds: &[ColumnType]) -> Vec<Known> {
    let known = |(number, kind): (usize, &ColumnType)| Known { name: format!("c{number}"), kind: *kind };
    kinds.iter().enumerate().map(known).collect()
}

/// Outputs as `c0`, `c1`, ….
fn named(outputs: &[String]) -> String {
    let named = outputs.iter().enumerate().map(|(number, output)| format!("{output} AS c{number}"));
    named.collect::<Vec<_>>().join(", ")
}

fn relation(column: &str) -> &str {
    column.split('.').next().unwrap_or(column)
}

fn literal(kind: ColumnType, number: usize) -> String {
    match kind {
        ColumnType::Text => ["''", "'a'", "'b'", "'5'", "'x'"][number].to_owned(),
        ColumnType::Bool => ["TRUE", "FALSE"][number % 2].to_owned(),
        ColumnType::Float => format!("{:.2}", 0.25 * f64::from(u8::try_from(number).unwrap_or_default())),
        _ => number.to_string(),
    }
}
