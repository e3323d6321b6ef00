//! A resolved `SELECT`: every name stands for a column of a base, every construct is one that has a maintenance rule.

use crate::catalog::CatalogRelation;
use crate::sql::quote_text;
use crate::{Dialect, Location, Order};

/// A column of one of the query's relations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ColumnRef {
    /// Index into [`SelectQuery::relations`].
    pub(crate) relation: usize,
    /// Index into the relation's columns.
    pub(crate) column: usize,
}

/// An expression over the relations' columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Scalar {
    Column(ColumnRef),
    /// Number, `'text'`, `TRUE`, `FALSE` or `NULL`, as SQL.
    Literal(String),
    /// Operator with its SQL spelling.
    Unary(&'static str, Box<Scalar>),
    Binary(Box<Scalar>, &'static str, Box<Scalar>),
    /// `expr IS NULL` and its kin: the words behind the operand.
    Postfix(Box<Scalar>, &'static str),
    Between {
        operand: Box<Scalar>,
        negated: bool,
        low: Box<Scalar>,
        high: Box<Scalar>,
    },
    InList {
        operand: Box<Scalar>,
        negated: bool,
        list: Vec<Scalar>,
    },
    Like {
        operand: Box<Scalar>,
        negated: bool,
        pattern: Box<Scalar>,
        escape: Option<String>,
    },
    Case {
        operand: Option<Box<Scalar>>,
        branches: Vec<(Scalar, Scalar)>,
        otherwise: Option<Box<Scalar>>,
    },
    Cast(Box<Scalar>, &'static str),
    Call(&'static str, Vec<Scalar>),
    Aggregate(Box<Aggregate>),
    Window(Box<Window>),
}

/// A window function call; a `FILTER` clause has become a `CASE` in the argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) function: WindowFunction,
    /// Nothing is `count(*)`, or a function of the order alone.
    pub(crate) arguments: Vec<Scalar>,
    pub(crate) partition: Vec<Scalar>,
    pub(crate) order: Vec<Sort>,
    /// The frame as SQL; that of the standard if there is none.
    pub(crate) frame: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WindowFunction {
    Aggregate(AggregateFunction),
    /// A function of the row's place.
    Place(&'static Place),
}

/// A window function that is no aggregate.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) name: &'static str,
    pub(crate) arguments: std::ops::RangeInclusive<usize>,
    pub(crate) ties: Ties,
    pub(crate) result: PlaceResult,
}

/// What a window function makes of rows that its order leaves equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ties {
    /// They have one result.
    Alike,
    /// Each its own: the order must go on.
    Apart,
    /// The first of them decides.
    First,
    /// The last of the frame decides, which ends with the last of them or with the row, as the frame says.
    Frame,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PlaceResult {
    Integer,
    Real,
    /// A value of the first argument, or NULL.
    Argument,
}

/// Window functions of place, as SQL:2003 and SQLite have them.
pub(crate) const PLACES: &[Place] = &[
    place("row_number", 0, 0, Ties::Apart, PlaceResult::Integer),
    place("rank", 0, 0, Ties::Alike, PlaceResult::Integer),
    place("dense_rank", 0, 0, Ties::Alike, PlaceResult::Integer),
    place("percent_rank", 0, 0, Ties::Alike, PlaceResult::Real),
    place("cume_dist", 0, 0, Ties::Alike, PlaceResult::Real),
    place("ntile", 1, 1, Ties::Apart, PlaceResult::Integer),
    place("lag", 1, 3, Ties::Apart, PlaceResult::Argument),
    place("lead", 1, 3, Ties::Apart, PlaceResult::Argument),
    place("first_value", 1, 1, Ties::First, PlaceResult::Argument),
    place("last_value", 1, 1, Ties::Frame, PlaceResult::Argument),
    place("nth_value", 2, 2, Ties::Frame, PlaceResult::Argument),
];

const fn place(name: &'static str, fewest: usize, most: usize, ties: Ties, result: PlaceResult) -> Place {
    Place { name, arguments: fewest..=most, ties, result }
}

/// One item of an `ORDER BY`. NULL is the smallest value where nothing else is said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sort {
    pub(crate) expr: Scalar,
    pub(crate) descending: bool,
    pub(crate) nulls_first: Option<bool>,
}

/// The first rows of each partition, or of all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Top {
    pub(crate) partition: Vec<Scalar>,
    /// Decides every two rows.
    pub(crate) order: Vec<Sort>,
    /// How many rows.
    pub(crate) limit: u64,
    /// Rows in front of them that are left out.
    pub(crate) offset: u64,
}

/// An aggregate call; a `FILTER` clause has become a `CASE` in the argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Aggregate {
    pub(crate) function: AggregateFunction,
    pub(crate) distinct: bool,
    /// `None` is `count(*)`.
    pub(crate) argument: Option<Scalar>,
    /// How [`AggregateFunction::Join`] joins its texts.
    pub(crate) joining: Option<Joining>,
}

/// What stands between joined texts, and their order, which the texts themselves decide at last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Joining {
    /// A text literal, as SQL.
    pub(crate) separator: String,
    pub(crate) order: Vec<Sort>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AggregateFunction {
    Count,
    Sum,
    Avg,
    Min,
    Max,
    /// `string_agg`.
    Join,
}

impl Aggregate {
    pub(crate) fn of(function: AggregateFunction, argument: Scalar) -> Self {
        Self { function, distinct: false, argument: Some(argument), joining: None }
    }

    /// The argument and what it is ordered by.
    pub(crate) fn children(&self) -> impl Iterator<Item = &Scalar> {
        let order = self.joining.iter().flat_map(|joining| &joining.order);
        self.argument.iter().chain(order.map(|sort| &sort.expr))
    }

    fn children_mut(&mut self) -> impl Iterator<Item = &mut Scalar> {
        let order = self.joining.iter_mut().flat_map(|joining| &mut joining.order);
        self.argument.iter_mut().chain(order.map(|sort| &mut sort.expr))
    }

    /// The same over other expressions.
    pub(crate) fn lifted(&self, mut lift: impl FnMut(&Scalar) -> Scalar) -> Self {
        let mut copy = self.clone();
        copy.children_mut().for_each(|child| *child = lift(child));
        copy
    }
}

impl AggregateFunction {
    pub(crate) const ALL: [(&'static str, Self); 6] = [
        ("count", Self::Count),
        ("sum", Self::Sum),
        ("avg", Self::Avg),
        ("min", Self::Min),
        ("max", Self::Max),
        ("string_agg", Self::Join),
    ];

    pub(crate) fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, function)| *function == self).map_or("", |(name, _)| name)
    }
}

/// How a relation is joined to those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JoinKind {
    /// Inner join, cross join, or the first relation.
    Inner,
    /// Left outer join: the relation's columns may be missing.
    Left,
}

/// One entry of the `FROM` clause.
#[derive(Debug, Clone)]
pub(crate) struct Joined {
    /// Name that the query's columns are qualified with; unique without case.
    pub(crate) alias: String,
    pub(crate) base: CatalogRelation,
    pub(crate) kind: JoinKind,
    /// Conjuncts of its `ON` clause.
    pub(crate) on: Vec<Scalar>,
}

/// One column of the result.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    pub(crate) name: String,
    pub(crate) expr: Scalar,
}

/// A resolved `SELECT`.
#[derive(Debug, Clone)]
pub(crate) struct SelectQuery {
    pub(crate) dialect: Dialect,
    pub(crate) relations: Vec<Joined>,
    /// Conjuncts of the `WHERE` clause.
    pub(crate) filter: Vec<Scalar>,
    /// `GROUP BY` expressions; `Some` of nothing is an aggregate over everything.
    pub(crate) group: Option<Vec<Scalar>>,
    pub(crate) having: Option<Scalar>,
    /// Condition on window functions.
    pub(crate) qualify: Option<Scalar>,
    pub(crate) distinct: bool,
    pub(crate) outputs: Vec<Output>,
    pub(crate) top: Option<Top>,
    /// In which order the view is read.
    pub(crate) order_by: Vec<Order>,
    /// Where the `SELECT` begins.
    pub(crate) location: Option<Location>,
}

impl Scalar {
    pub(crate) fn children(&self) -> Vec<&Self> {
        match self {
            Self::Column(_) | Self::Literal(_) => vec![],
            Self::Unary(_, operand) | Self::Postfix(operand, _) | Self::Cast(operand, _) => vec![operand],
            Self::Binary(left, _, right) => vec![left, right],
            Self::Between { operand, low, high, .. } => vec![operand, low, high],
            Self::InList { operand, list, .. } => std::iter::once(&**operand).chain(list).collect(),
            Self::Like { operand, pattern, .. } => vec![operand, pattern],
            Self::Case { operand, branches, otherwise } => operand
                .as_deref()
                .into_iter()
                .chain(branches.iter().flat_map(|(when, then)| [when, then]))
                .chain(otherwise.as_deref())
                .collect(),
            Self::Call(_, arguments) => arguments.iter().collect(),
            Self::Aggregate(aggregate) => aggregate.children().collect(),
            Self::Window(window) => window.children().collect(),
        }
    }

    /// Every window function call in the expression.
    pub(crate) fn windows(&self) -> Vec<&Window> {
        match self {
            Self::Window(window) => vec![window],
            _ => self.children().into_iter().flat_map(Self::windows).collect(),
        }
    }

    /// The expression with every column, aggregate or larger part that `replace` knows replaced.
    pub(crate) fn replaced(&self, replace: &mut dyn FnMut(&Self) -> Option<Self>) -> Self {
        if let Some(replacement) = replace(self) {
            return replacement;
        }
        let mut copy = self.clone();
        for child in copy.children_mut() {
            *child = child.replaced(replace);
        }
        copy
    }

    fn children_mut(&mut self) -> Vec<&mut Self> {
        match self {
            Self::Column(_) | Self::Literal(_) => vec![],
            Self::Unary(_, operand) | Self::Postfix(operand, _) | Self::Cast(operand, _) => vec![operand],
            Self::Binary(left, _, right) => vec![left, right],
            Self::Between { operand, low, high, .. } => vec![operand, low, high],
            Self::InList { operand, list, .. } => std::iter::once(&mut **operand).chain(list).collect(),
            Self::Like { operand, pattern, .. } => vec![operand, pattern],
            Self::Case { operand, branches, otherwise } => operand
                .as_deref_mut()
                .into_iter()
                .chain(branches.iter_mut().flat_map(|(when, then)| [when, then]))
                .chain(otherwise.as_deref_mut())
                .collect(),
            Self::Call(_, arguments) => arguments.iter_mut().collect(),
            Self::Aggregate(aggregate) => aggregate.children_mut().collect(),
            Self::Window(window) => window.children_mut().collect(),
        }
    }

    /// About how many parts the expression has where it is spelled: databases lack some functions, and what stands for
    /// them repeats their arguments.
    pub(crate) fn size(&self) -> usize {
        let times = match self {
            Self::Call("days" | "substr", _) => 4,
            Self::Call("date_of" | "moment_of" | "round" | "sqrt", _) => 3,
            Self::Call("add_months", _) => 8,
            _ => 1,
        };
        let parts = self.children().into_iter().fold(0_usize, |sum, part| sum.saturating_add(part.size()));
        parts.saturating_mul(times).saturating_add(1)
    }

    /// The column that the expression is.
    pub(crate) fn as_column(&self) -> Option<ColumnRef> {
        match self {
            Self::Column(column) => Some(*column),
            _ => None,
        }
    }

    /// Every column in the expression.
    pub(crate) fn columns(&self) -> Vec<ColumnRef> {
        match self {
            Self::Column(column) => vec![*column],
            _ => self.children().into_iter().flat_map(Self::columns).collect(),
        }
    }

    /// Every aggregate in the expression.
    pub(crate) fn aggregates(&self) -> Vec<&Aggregate> {
        match self {
            Self::Aggregate(aggregate) => vec![aggregate],
            _ => self.children().into_iter().flat_map(Self::aggregates).collect(),
        }
    }

    /// Splits at `AND`; what both sides of an `OR` ask for stands before it.
    pub(crate) fn conjuncts(self) -> Vec<Self> {
        match self {
            Self::Binary(left, "AND", right) => {
                let mut conjuncts = left.conjuncts();
                conjuncts.extend(right.conjuncts());
                conjuncts
            }
            Self::Binary(left, "OR", right) => {
                let (left, right) = (left.conjuncts(), right.conjuncts());
                let (mut conjuncts, left): (Vec<_>, Vec<_>) =
                    left.into_iter().partition(|condition| right.contains(condition));
                let right = right.into_iter().filter(|condition| !conjuncts.contains(condition));
                if let (Some(left), Some(right)) = (Self::all(left), Self::all(right)) {
                    conjuncts.push(Self::Binary(Box::new(left), "OR", Box::new(right)));
                }
                conjuncts
            }
            other => vec![other],
        }
    }

    /// `a AND b`, or nothing.
    fn all(conditions: impl IntoIterator<Item = Self>) -> Option<Self> {
        conditions.into_iter().reduce(Self::and)
    }

    pub(crate) fn and(self, other: Self) -> Self {
        Self::binary(self, "AND", other)
    }

    pub(crate) fn binary(left: Self, operator: &'static str, right: Self) -> Self {
        Self::Binary(Box::new(left), operator, Box::new(right))
    }

    pub(crate) fn integer(value: i64) -> Self {
        Self::Literal(value.to_string())
    }

    /// A text literal.
    pub(crate) fn text(value: &str) -> Self {
        Self::Literal(quote_text(value))
    }

    /// Indexes of the relations that the expression reads.
    pub(crate) fn relations(&self) -> Vec<usize> {
        let mut relations: Vec<usize> = self.columns().iter().map(|column| column.relation).collect();
        relations.sort_unstable();
        relations.dedup();
        relations
    }
}

impl Window {
    fn children(&self) -> impl Iterator<Item = &Scalar> {
        let order = self.order.iter().map(|sort| &sort.expr);
        self.arguments.iter().chain(&self.partition).chain(order)
    }

    fn children_mut(&mut self) -> impl Iterator<Item = &mut Scalar> {
        let order = self.order.iter_mut().map(|sort| &mut sort.expr);
        self.arguments.iter_mut().chain(&mut self.partition).chain(order)
    }

    /// The condition that the number is one.
    pub(crate) fn first(self) -> Scalar {
        Scalar::binary(Scalar::Window(Box::new(self)), "<=", Scalar::integer(1))
    }

    pub(crate) fn is_row_number(&self) -> bool {
        matches!(self.function, WindowFunction::Place(place) if place.name == "row_number")
    }
}

impl WindowFunction {
    pub(crate) fn row_number() -> Self {
        Self::Place(&PLACES[0])
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Aggregate(function) => function.name(),
            Self::Place(place) => place.name,
        }
    }
}

impl SelectQuery {
    /// Every expression of the query.
    pub(crate) fn expressions(&self) -> impl Iterator<Item = &Scalar> {
        let top = self.top.iter();
        let top = top.flat_map(|top| top.partition.iter().chain(top.order.iter().map(|sort| &sort.expr)));
        self.relations
            .iter()
            .flat_map(|joined| &joined.on)
            .chain(&self.filter)
            .chain(self.group.iter().flatten())
            .chain(&self.having)
            .chain(&self.qualify)
            .chain(self.outputs.iter().map(|output| &output.expr))
            .chain(top)
    }

    /// The same, to change them.
    pub(crate) fn expressions_mut(&mut self) -> impl Iterator<Item = &mut Scalar> {
        let top = self.top.iter_mut();
        let top = top
            .flat_map(|top| top.partition.iter_mut().chain(top.order.iter_mut().map(|sort| &mut sort.expr)));
        self.relations
            .iter_mut()
            .flat_map(|joined| &mut joined.on)
            .chain(&mut self.filter)
            .chain(self.group.iter_mut().flatten())
            .chain(&mut self.having)
            .chain(&mut self.qualify)
            .chain(self.outputs.iter_mut().map(|output| &mut output.expr))
            .chain(top)
    }

    /// Every window function call of the select list and of `QUALIFY`.
    pub(crate) fn windows(&self) -> impl Iterator<Item = &Window> {
        self.outputs.iter().map(|output| &output.expr).chain(&self.qualify).flat_map(Scalar::windows)
    }

    pub(crate) fn column(&self, column: ColumnRef) -> &deltamesh_change::Column {
        &self.relations[column.relation].base.columns[column.column]
    }

    /// Every `ON` and `WHERE` conjunct of an inner join.
    pub(crate) fn conditions(&self) -> impl Iterator<Item = &Scalar> {
        self.relations.iter().flat_map(|joined| &joined.on).chain(&self.filter)
    }

    /// Columns of a relation that identify its rows.
    pub(crate) fn key_of(&self, relation: usize) -> Vec<ColumnRef> {
        let base = &self.relations[relation].base;
        base.key.iter().map(|&column| ColumnRef { relation, column }).collect()
    }
}
