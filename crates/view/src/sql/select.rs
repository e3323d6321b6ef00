//! Spelling of expressions and of whole `SELECT`s.

use super::{postgres, quote, sqlite};
use crate::query::{
    Aggregate, AggregateFunction, ColumnRef, JoinKind, Joined, Joining, Output, Scalar, SelectQuery, Sort,
    Window, WindowFunction,
};
use crate::{Dialect, block};

/// What columns and other parts of an expression are called where it is used.
pub(crate) trait Names {
    /// SQL of a column.
    fn column(&self, column: ColumnRef) -> String;

    /// The query of the expression.
    fn query(&self) -> &SelectQuery;

    /// SQL that stands for a whole subexpression, if it was computed before.
    fn known(&self, _scalar: &Scalar) -> Option<String> {
        None
    }
}

/// Columns as `"alias"."column"`.
pub(crate) struct Render<'a>(pub(crate) &'a SelectQuery);

impl Names for Render<'_> {
    fn column(&self, column: ColumnRef) -> String {
        let joined = &self.0.relations[column.relation];
        format!("{}.{}", quote(&joined.alias), quote(&joined.base.columns[column.column].name))
    }

    fn query(&self) -> &SelectQuery {
        self.0
    }
}

/// SQL of an expression.
pub(crate) fn render(scalar: &Scalar, names: &dyn Names) -> String {
    if let Some(known) = names.known(scalar) {
        return known;
    }
    let spelled = match names.query().dialect {
        Dialect::Sqlite => sqlite::spell(scalar, names),
        Dialect::Postgres => postgres::spell(scalar, names),
    };
    if let Some(spelled) = spelled {
        return spelled;
    }
    let part = |scalar: &Scalar| render(scalar, names);
    let list = |scalars: &[Scalar]| scalars.iter().map(part).collect::<Vec<_>>().join(", ");
    let not = |negated: bool| if negated { "NOT " } else { "" };
    match scalar {
        Scalar::Column(column) => names.column(*column),
        Scalar::Literal(sql) => sql.clone(),
        Scalar::Unary(operator, operand) => format!("({operator} {})", part(operand)),
        Scalar::Binary(left, operator, right) => format!("({} {operator} {})", part(left), part(right)),
        Scalar::Postfix(operand, words) => format!("({} {words})", part(operand)),
        Scalar::Between { operand, negated, low, high } => {
            format!("({} {}BETWEEN {} AND {})", part(operand), not(*negated), part(low), part(high))
        }
        Scalar::InList { operand, negated, list: items } => {
            format!("({} {}IN ({}))", part(operand), not(*negated), list(items))
        }
        Scalar::Like { operand, negated, pattern, escape } => {
            let escape = escape.as_ref().map_or_else(String::new, |escape| format!(" ESCAPE {escape}"));
            format!("({} {}LIKE {}{escape})", part(operand), not(*negated), part(pattern))
        }
        Scalar::Case { operand, branches, otherwise } => {
            let operand =
                operand.as_deref().map_or_else(String::new, |operand| format!(" {}", part(operand)));
            let branches: String = branches
                .iter()
                .map(|(when, then)| format!(" WHEN {} THEN {}", part(when), part(then)))
                .collect();
            let otherwise =
                otherwise.as_deref().map_or_else(String::new, |value| format!(" ELSE {}", part(value)));
            format!("CASE{operand}{branches}{otherwise} END")
        }
        Scalar::Cast(operand, name) => format!("CAST({} AS {name})", part(operand)),
        Scalar::Call(name, arguments) => format!("{name}({})", list(arguments)),
        Scalar::Aggregate(aggregate) => aggregate_call(aggregate, names),
        Scalar::Window(window) => window_call(window, names),
    }
}

fn window_call(window: &Window, names: &dyn Names) -> String {
    let list = |scalars: &[Scalar]| {
        scalars.iter().map(|scalar| render(scalar, names)).collect::<Vec<_>>().join(", ")
    };
    let counts_rows = window.function == WindowFunction::Aggregate(AggregateFunction::Count);
    let arguments =
        if window.arguments.is_empty() && counts_rows { "*".to_owned() } else { list(&window.arguments) };
    format!("{}({arguments}) OVER ({})", window.function.name(), over(window, names))
}

/// What stands in the parentheses of `OVER`.
pub(super) fn over(window: &Window, names: &dyn Names) -> String {
    let mut over = vec![];
    if !window.partition.is_empty() {
        let partition: Vec<String> = window.partition.iter().map(|expr| render(expr, names)).collect();
        over.push(format!("PARTITION BY {}", partition.join(", ")));
    }
    if !window.order.is_empty() {
        over.push(format!("ORDER BY {}", sorted(&window.order, names)));
    }
    over.extend(window.frame.clone());
    over.join(" ")
}

/// The items of an `ORDER BY`.
pub(crate) fn sorted(order: &[Sort], names: &dyn Names) -> String {
    let item = |sort: &Sort| {
        let direction = if sort.descending { " DESC" } else { "" };
        let nulls = match sort.nulls_first.unwrap_or(!sort.descending) {
            // SQLite: what holds without a word, so that an index serves.
            first if first != sort.descending && names.query().dialect == Dialect::Sqlite => "",
            true => " NULLS FIRST",
            false => " NULLS LAST",
        };
        format!("{}{direction}{nulls}", render(&sort.expr, names))
    };
    order.iter().map(item).collect::<Vec<_>>().join(", ")
}

fn aggregate_call(aggregate: &Aggregate, names: &dyn Names) -> String {
    let argument =
        aggregate.argument.as_ref().map_or_else(|| "*".to_owned(), |argument| render(argument, names));
    if aggregate.function == AggregateFunction::Join {
        return joined(aggregate, &argument, names);
    }
    let distinct = if aggregate.distinct { "DISTINCT " } else { "" };
    format!("{}({distinct}{argument})", aggregate.function.name())
}

/// `string_agg`; in SQLite one of different values takes no separator, so that they are collected first.
pub(super) fn joined(aggregate: &Aggregate, argument: &str, names: &dyn Names) -> String {
    let Some(Joining { separator, order }) = &aggregate.joining else { return "NULL".to_owned() };
    let is_constant = aggregate.argument.as_ref().is_some_and(|argument| argument.columns().is_empty());
    let order = match (aggregate.distinct, names.query().dialect) {
        (true, _) if is_constant => return format!("max({argument})"),
        (true, Dialect::Sqlite) => {
            let direction = if order.iter().any(|sort| sort.descending) { " DESC" } else { "" };
            return format!(
                "(SELECT string_agg(value, {separator} ORDER BY value{direction}) FROM json_each(json_group_array(DISTINCT {argument})))"
            );
        }
        _ => sorted(order, names),
    };
    let distinct = if aggregate.distinct { "DISTINCT " } else { "" };
    format!("string_agg({distinct}{argument}, {separator} ORDER BY {order})")
}

impl SelectQuery {
    /// `FROM … WHERE …` as the user wrote it, reading the visible tables.
    pub(crate) fn tables_clause(&self, table: impl Fn(&Joined) -> String) -> String {
        let names = Render(self);
        let mut sql = String::from(" FROM ");
        for (index, joined) in self.relations.iter().enumerate() {
            let source = format!("{} AS {}", table(joined), quote(&joined.alias));
            let on = conjunction(joined.on.iter(), &names);
            match (index, joined.kind, on) {
                (0, ..) => sql.push_str(&source),
                (_, JoinKind::Inner, None) => sql.push_str(&format!(" CROSS JOIN {source}")),
                (_, JoinKind::Inner, Some(on)) => sql.push_str(&format!(" JOIN {source} ON {on}")),
                (_, JoinKind::Left, on) => {
                    sql.push_str(&format!(
                        " LEFT JOIN {source} ON {}",
                        on.unwrap_or_else(|| "TRUE".to_owned())
                    ));
                }
            }
        }
        if let Some(filter) = conjunction(self.filter.iter(), &names) {
            sql.push_str(&format!(" WHERE {filter}"));
        }
        sql
    }

    /// `GROUP BY … HAVING …`, or nothing.
    pub(crate) fn grouping_clause(&self) -> String {
        let names = Render(self);
        let mut sql = String::new();
        if let Some(group) = self.group.as_ref().filter(|group| !group.is_empty()) {
            let group: Vec<String> = group.iter().map(|expr| render(expr, &names)).collect();
            sql.push_str(&format!(" GROUP BY {}", group.join(", ")));
        }
        if let Some(having) = &self.having {
            sql.push_str(&format!(" HAVING {}", render(having, &names)));
        }
        sql
    }

    /// The view's own `SELECT`.
    pub(crate) fn oracle(&self) -> String {
        let Some(top) = &self.top else { return self.select(None) };
        if top.partition.is_empty() {
            let order = sorted(&top.order, &Render(self));
            return format!(
                "{} ORDER BY {order} LIMIT {} OFFSET {}",
                self.select(None),
                top.limit,
                top.offset
            );
        }
        let number = Window {
            function: WindowFunction::row_number(),
            arguments: vec![],
            partition: top.partition.clone(),
            order: top.order.clone(),
            frame: None,
        };
        let number = Output { name: NUMBER.to_owned(), expr: Scalar::Window(Box::new(number)) };
        let names: Vec<String> = self.outputs.iter().map(|output| quote(&output.name)).collect();
        format!(
            "SELECT {} FROM ({}) AS numbered WHERE {NUMBER} <= {}",
            names.join(", "),
            self.select(Some(&number)),
            top.limit
        )
    }

    /// The table that has the columns which the query names: hidden ones of a view are in its storage alone.
    fn readable<'a>(&self, joined: &'a Joined) -> &'a str {
        let base = &joined.base;
        let place = self.relations.iter().position(|other| other.alias == joined.alias);
        let is_hidden = |column: ColumnRef| Some(column.relation) == place && column.column >= base.visible;
        let is_read = self.expressions().flat_map(Scalar::columns).any(is_hidden);
        if is_read && !block::is_part(&base.base.table) { &base.storage } else { &base.base.table }
    }

    /// Without its limit, and with one more column.
    pub(crate) fn select(&self, also: Option<&Output>) -> String {
        let names = Render(self);
        let outputs: Vec<String> = self
            .outputs
            .iter()
            .chain(also)
            .map(|output| format!("{} AS {}", render(&output.expr, &names), quote(&output.name)))
            .collect();
        let distinct = if self.distinct { "DISTINCT " } else { "" };
        let from = self.tables_clause(|joined| quote(self.readable(joined)));
        format!("SELECT {distinct}{}{from}{}", outputs.join(", "), self.grouping_clause())
    }
}

/// Name of the row's number in its partition.
const NUMBER: &str = "__deltamesh_number";

/// `a AND b`, or nothing.
pub(crate) fn conjunction<'a>(
    conditions: impl Iterator<Item = &'a Scalar>,
    names: &dyn Names,
) -> Option<String> {
    let conditions: Vec<String> = conditions.map(|condition| render(condition, names)).collect();
    (!conditions.is_empty()).then(|| conditions.join(" AND "))
}
