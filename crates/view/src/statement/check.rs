//! What the inside of a migration's statement may hold.

use std::ops::ControlFlow;

use datafusion_sql::sqlparser::ast::{
    BinaryOperator, CreateIndex, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Query, Select,
    Statement, TableFactor, UnaryOperator, Visit as _, Visitor,
};

/// Functions of a statement that the replica's writer runs: none of them does anything but calculate.
const FUNCTIONS: [&str; 63] = [
    "abs",
    "avg",
    "bool_and",
    "bool_or",
    "ceil",
    "ceiling",
    "char_length",
    "character_length",
    "coalesce",
    "concat",
    "concat_ws",
    "count",
    "current_date",
    "current_timestamp",
    "date",
    "date_part",
    "date_trunc",
    "every",
    "first_value",
    "floor",
    "greatest",
    "group_concat",
    "ifnull",
    "iif",
    "instr",
    "json_array_length",
    "jsonb_array_length",
    "lag",
    "last_value",
    "lead",
    "least",
    "left",
    "length",
    "lower",
    "lpad",
    "ltrim",
    "max",
    "min",
    "mod",
    "nullif",
    "position",
    "pow",
    "power",
    "rank",
    "replace",
    "right",
    "round",
    "row_number",
    "rpad",
    "rtrim",
    "sign",
    "sqrt",
    "starts_with",
    "strftime",
    "string_agg",
    "strpos",
    "substr",
    "substring",
    "sum",
    "to_char",
    "trim",
    "trunc",
    "upper",
];

/// Checks a statement that only defines what others will read.
pub(super) fn reading(statement: &Statement) -> Result<(), String> {
    check(statement, false)
}

/// Checks a statement that the replica's writer runs.
pub(super) fn writing(statement: &Statement) -> Result<(), String> {
    check(statement, true)
}

fn check(statement: &Statement, runs: bool) -> Result<(), String> {
    match statement.visit(&mut Inside { runs, statements: 0 }) {
        ControlFlow::Break(reason) => Err(reason),
        ControlFlow::Continue(()) => Ok(()),
    }
}

struct Inside {
    /// Whether the statement is run now, with the writer's rights.
    runs: bool,
    statements: usize,
}

impl Visitor for Inside {
    type Break = String;

    fn pre_visit_statement(&mut self, _: &Statement) -> ControlFlow<String> {
        self.statements += 1;
        if self.statements > 1 {
            return ControlFlow::Break(
                "a query cannot change rows on the way; write two statements".to_owned(),
            );
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<String> {
        if query.locks.is_empty() {
            return ControlFlow::Continue(());
        }
        ControlFlow::Break("rows need no lock: nobody else writes the replica".to_owned())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<String> {
        if select.into.is_none() {
            return ControlFlow::Continue(());
        }
        ControlFlow::Break("write CREATE TABLE … AS SELECT instead of SELECT INTO".to_owned())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<String> {
        let calls = match factor {
            TableFactor::Table { args, .. } => args.is_some(),
            TableFactor::Derived { .. } | TableFactor::NestedJoin { .. } => false,
            _ => true,
        };
        if calls && self.runs {
            return ControlFlow::Break("a function in FROM is possible in a view only".to_owned());
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expression: &Expr) -> ControlFlow<String> {
        let Expr::Function(function) = expression else { return ControlFlow::Continue(()) };
        let name = function.name.to_string().to_ascii_lowercase();
        if self.runs && !FUNCTIONS.contains(&name.as_str()) {
            return ControlFlow::Break(format!("the function {name} is possible in a view only"));
        }
        ControlFlow::Continue(())
    }
}

/// Whether an index takes every row that there can be; else why not.
pub(super) fn indexable(index: &CreateIndex) -> Result<(), &'static str> {
    if index.unique {
        return Err("a unique index could refuse rows of the source; leave UNIQUE out");
    }
    let columns = index.columns.iter().map(|column| &column.column.expr);
    if !columns.clone().all(is_key) {
        return Err("an expression could fail for a row; index columns, or lower(column)");
    }
    if !index.predicate.as_ref().is_none_or(is_condition) {
        return Err("the condition could fail for a row; compare columns with literals");
    }
    Ok(())
}

fn is_key(expression: &Expr) -> bool {
    match expression {
        Expr::Identifier(_) => true,
        Expr::Function(function) => {
            let name = function.name.to_string().to_ascii_lowercase();
            let FunctionArguments::List(list) = &function.args else { return false };
            let column = |argument: &FunctionArg| {
                matches!(argument, FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Identifier(_))))
            };
            (name == "lower" || name == "upper") && matches!(list.args.as_slice(), [only] if column(only))
        }
        _ => false,
    }
}

/// Comparisons of columns with literals, and what joins them.
fn is_condition(expression: &Expr) -> bool {
    let is_plain = |side: &Expr| matches!(side, Expr::Identifier(_) | Expr::Value(_));
    match expression {
        Expr::BinaryOp { left, op: BinaryOperator::And | BinaryOperator::Or, right } => {
            is_condition(left) && is_condition(right)
        }
        Expr::BinaryOp { left, op, right } => {
            use BinaryOperator as Op;
            let compares = matches!(op, Op::Eq | Op::NotEq | Op::Lt | Op::LtEq | Op::Gt | Op::GtEq);
            compares && is_plain(left) && is_plain(right)
        }
        Expr::Nested(inner) | Expr::UnaryOp { op: UnaryOperator::Not, expr: inner } => is_condition(inner),
        Expr::IsNull(inner) | Expr::IsNotNull(inner) => is_plain(inner),
        Expr::Identifier(_) => true,
        _ => false,
    }
}
