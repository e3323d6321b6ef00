//! Counts and sums by group: the signed rows are summed per group and added to what is stored.
//!
//! Beside the visible columns the storage holds what they cannot give back: the number of rows of the group, for each
//! argument the number of values that are not NULL, and its sum. A group without rows leaves. A least or greatest value is
//! kept too: what comes can only move it outwards, and when it goes itself, the next one is looked up in the bases. For
//! the number of different values, a table of its own holds how often each occurs (`distinct.rs`).

use deltamesh_change::ColumnType;

use super::delta::{Indexes, Signed, from_group, signed};
use super::distinct::Counts;
use super::layout::{Layout, Role, Stored, affinity};
use super::select::{Names, Render};
use super::{Parts, postgres, quote, render};
use crate::query::{Aggregate, AggregateFunction, ColumnRef, Scalar, SelectQuery};
use crate::{Action, Dialect, Step, facts, kinds, strategy};

/// A number that is kept per group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Rows.
    Rows,
    /// Values of an argument that are not NULL.
    Values(usize),
    /// Sum of an argument.
    Sum(usize),
    /// Least value of an argument.
    Least(usize),
    /// Greatest value of an argument.
    Greatest(usize),
    /// Number of different values of an argument.
    Different(usize),
}

impl State {
    fn name(self) -> String {
        match self {
            Self::Rows => "n".to_owned(),
            Self::Values(argument) => format!("c{argument}"),
            Self::Sum(argument) => format!("s{argument}"),
            Self::Least(argument) => format!("lo{argument}"),
            Self::Greatest(argument) => format!("hi{argument}"),
            Self::Different(argument) => format!("d{argument}"),
        }
    }

    /// What the signed rows of a group say of it: names and values.
    fn deltas(self, rule: &Rule<'_>) -> Vec<(String, String)> {
        let change = match self {
            Self::Rows => "sum(w)".to_owned(),
            Self::Values(argument) => {
                format!("sum(CASE WHEN a{argument} IS NOT NULL THEN w ELSE 0 END)")
            }
            Self::Sum(argument) => format!("coalesce(sum(w * a{argument}), 0)"),
            Self::Different(argument) => format!("sum(d{argument})"),
            Self::Least(argument) => return self.extremes("min", argument, rule),
            Self::Greatest(argument) => return self.extremes("max", argument, rule),
        };
        vec![(self.name(), change)]
    }

    /// The extremes of what comes and of what goes.
    fn extremes(self, function: &str, argument: usize, rule: &Rule<'_>) -> Vec<(String, String)> {
        let of = |sign: &str| {
            rule.extreme_of(function, argument, &format!("CASE WHEN w {sign} 0 THEN a{argument} END"))
        };
        vec![(self.name(), of(">")), (format!("{}_gone", self.name()), of("<"))]
    }

    fn is_extreme(self) -> bool {
        matches!(self, Self::Least(_) | Self::Greatest(_))
    }

    /// Whether a change of this value is a change of the group.
    fn moved(self, rule: &Rule<'_>) -> Vec<String> {
        let changed = |(_, value): (String, String)| {
            if self.is_extreme() { format!("{value} IS NOT NULL") } else { format!("{value} <> 0") }
        };
        self.deltas(rule).into_iter().map(changed).collect()
    }
}

pub(super) struct Rule<'a> {
    pub(super) query: &'a SelectQuery,
    pub(super) group: Vec<Scalar>,
    pub(super) arguments: Vec<Scalar>,
    /// Each state with the storage column that holds it.
    states: Vec<(State, usize)>,
}

pub(crate) fn plan(query: &SelectQuery, mut layout: Layout) -> Parts {
    let group = query.group.clone().unwrap_or_default();
    let mut rule = Rule { query, group, arguments: vec![], states: vec![] };
    rule.keep_states(&mut layout);
    let (delta, groups) = (layout.scratch("delta"), layout.scratch("groups"));
    let mut indexes = Indexes::default();
    let exprs: Vec<Scalar> = rule.group.iter().chain(&rule.arguments).cloned().collect();
    let Signed { steps: mut maintain, minus, .. } = signed(query, &delta, &exprs, &mut indexes);
    let counts: Vec<Counts> =
        rule.different().map(|argument| Counts::new(&rule, argument, &mut layout)).collect();
    let over = |table: &String, sql| Action::over(std::slice::from_ref(table), sql);
    let finish = [
        over(&delta, rule.sum_groups(&delta, &groups, &counts)).filling(&groups),
        over(&groups, rule.old_images(&layout, &groups)).filling(&layout.old_images()),
        over(&groups, rule.new_images(&layout, &groups, &mut indexes)).filling(&layout.new_images()),
    ];
    maintain.extend(counts.iter().map(|count| Step::finish(count.net(&delta))));
    maintain.extend(finish.map(Step::finish));
    maintain.extend(counts.iter().flat_map(|count| count.apply(&minus)).map(Step::finish));
    layout.gone_by = Some(minus);
    let mut connect = layout.connect();
    connect.push(query.dialect.create_scratch(&delta, &rule.delta_columns()));
    connect.push(query.dialect.create_scratch(&groups, &rule.group_columns()));
    connect.extend(counts.iter().map(|count| count.connect(query.dialect)));
    let fill = std::iter::once(rule.fill(&layout)).chain(counts.iter().map(|count| count.fill(&rule)));
    let scratch = [delta, groups].into_iter().chain(counts.iter().map(|count| count.scratch.clone()));
    Parts {
        fill: fill.collect(),
        scratch: scratch.collect(),
        layout,
        connect,
        maintain,
        indexes: indexes.into_vec(),
        notes: rule.notes(),
    }
}

impl Rule<'_> {
    pub(super) fn group_names(&self) -> impl Iterator<Item = String> + use<> {
        (0..self.group.len()).map(|index| format!("g{index}"))
    }

    pub(super) fn typed_groups(&self) -> impl Iterator<Item = (String, ColumnType)> {
        let kind = |expr: &Scalar| kinds::known(self.query, expr).unwrap_or(ColumnType::Text);
        self.group_names().zip(self.group.iter().map(kind))
    }

    pub(super) fn argument_kind(&self, argument: usize) -> ColumnType {
        let argument = self.arguments.get(argument);
        argument.and_then(|expr| kinds::known(self.query, expr)).unwrap_or(ColumnType::Text)
    }

    /// Arguments whose different values are counted.
    pub(super) fn different(&self) -> impl Iterator<Item = usize> {
        self.states.iter().filter_map(|(state, _)| match state {
            State::Different(argument) => Some(*argument),
            _ => None,
        })
    }

    /// Columns of the signed rows.
    fn delta_columns(&self) -> Vec<(String, ColumnType)> {
        let arguments =
            (0..self.arguments.len()).map(|index| (format!("a{index}"), self.argument_kind(index)));
        std::iter::once(("w".to_owned(), ColumnType::Int))
            .chain(self.typed_groups())
            .chain(arguments)
            .collect()
    }

    /// Columns of what the signed rows say of each group.
    fn group_columns(&self) -> Vec<(String, ColumnType)> {
        let states = self.states.iter().flat_map(|(state, _)| {
            let kind = match state {
                State::Least(argument) | State::Greatest(argument) => self.argument_kind(*argument),
                _ => ColumnType::Int,
            };
            state.deltas(self).into_iter().map(move |(name, _)| (name, kind))
        });
        self.typed_groups().chain(states).collect()
    }

    /// `min` or `max` of values of an argument.
    fn extreme_of(&self, function: &str, argument: usize, value: &str) -> String {
        match self.query.dialect {
            Dialect::Sqlite => format!("{function}({value})"),
            Dialect::Postgres => postgres::extreme(function, Some(self.argument_kind(argument)), value),
        }
    }

    fn notes(&self) -> Vec<String> {
        let extreme = self.states.iter().any(|(state, _)| state.is_extreme());
        let note = "min and max: when the row that has the value goes, the next one is looked up";
        let different = self.states.iter().any(|(state, _)| matches!(state, State::Different(_)));
        let counts = "count(DISTINCT): a table holds how often each value occurs";
        [(extreme, note), (different, counts)]
            .into_iter()
            .filter(|(is, _)| *is)
            .map(|(_, note)| note.to_owned())
            .collect()
    }

    /// Finds a storage column for each state; a visible one where an output is just that.
    fn keep_states(&mut self, layout: &mut Layout) {
        self.keep(layout, State::Rows, |call| {
            call.function == AggregateFunction::Count && call.argument.is_none()
        });
        for call in strategy::aggregates(self.query) {
            let Some(argument) = call.argument else { continue };
            let index = self.arguments.iter().position(|known| *known == argument).unwrap_or_else(|| {
                self.arguments.push(argument.clone());
                self.arguments.len() - 1
            });
            let same = |function: AggregateFunction| {
                let argument = argument.clone();
                move |other: &Aggregate| {
                    other.function == function
                        && other.distinct == call.distinct
                        && other.argument.as_ref() == Some(&argument)
                }
            };
            if call.distinct {
                self.keep(layout, State::Different(index), same(call.function));
                continue;
            }
            let extreme = match call.function {
                AggregateFunction::Min => Some(State::Least(index)),
                AggregateFunction::Max => Some(State::Greatest(index)),
                _ => None,
            };
            if let Some(extreme) = extreme {
                self.keep(layout, extreme, same(call.function));
                continue;
            }
            if facts::nullable(self.query, &argument) {
                self.keep(layout, State::Values(index), same(AggregateFunction::Count));
            }
            if call.function != AggregateFunction::Count {
                self.keep(layout, State::Sum(index), same(AggregateFunction::Sum));
            }
        }
    }

    fn keep(&mut self, layout: &mut Layout, state: State, is_output: impl Fn(&Aggregate) -> bool) {
        if self.states.iter().any(|(known, _)| *known == state) {
            return;
        }
        let visible = self
            .query
            .outputs
            .iter()
            .position(|output| matches!(&output.expr, Scalar::Aggregate(call) if is_output(call)));
        let column = visible.unwrap_or_else(|| {
            let name = format!("__deltamesh_{}", state.name());
            layout.columns.push(match state {
                State::Least(argument) | State::Greatest(argument) => {
                    Stored::extreme(name, layout.dialect, self.argument_kind(argument))
                }
                _ => Stored::state(name),
            });
            layout.columns.len() - 1
        });
        self.states.push((state, column));
    }

    /// Sums the signed rows; groups in which nothing moves are left out.
    fn sum_groups(&self, delta: &str, groups: &str, counts: &[Counts]) -> String {
        let deltas = self.states.iter().flat_map(|(state, _)| state.deltas(self)).map(|(_, value)| value);
        let moved: Vec<String> = self.states.iter().flat_map(|(state, _)| state.moved(self)).collect();
        let group: Vec<String> = self.group_names().collect();
        let by = if group.is_empty() { String::new() } else { format!(" GROUP BY {}", group.join(", ")) };
        let select: Vec<String> = group.iter().cloned().chain(deltas).collect();
        let rows = if self.states.iter().any(|(state, _)| state.is_extreme()) {
            // Only what is left of the signed rows came or went.
            let arguments = (0..self.arguments.len()).map(|index| format!("a{index}"));
            let all = group.iter().cloned().chain(arguments).collect::<Vec<_>>().join(", ");
            format!("(SELECT {all}, sum(w) AS w FROM {delta} GROUP BY {all} HAVING sum(w) <> 0) AS netted")
        } else {
            delta.to_owned()
        };
        let rows = if counts.is_empty() { rows } else { self.with_crossings(&rows, counts) };
        format!(
            "INSERT INTO {groups} SELECT {} FROM {rows}{by} HAVING {}",
            select.join(", "),
            moved.join(" OR ")
        )
    }

    /// `table.key = g.group`, for the storage columns of the group.
    fn same_group(&self, layout: &Layout, table: &str) -> String {
        let pairs: Vec<String> = self
            .group
            .iter()
            .enumerate()
            .filter_map(|(index, expr)| {
                let column = self.group_column(layout, expr)?;
                let (stored, group) = (format!("{table}.{}", layout.name(column)), format!("g.g{index}"));
                Some(layout.same(&stored, &group))
            })
            .collect();
        if pairs.is_empty() { "TRUE".to_owned() } else { pairs.join(" AND ") }
    }

    fn group_column(&self, layout: &Layout, expr: &Scalar) -> Option<usize> {
        layout.columns.iter().position(|stored| stored.expr.as_ref() == Some(expr))
    }

    fn old_images(&self, layout: &Layout, groups: &str) -> String {
        format!(
            "INSERT INTO {old} ({all}) SELECT {of_s} FROM {groups} AS g CROSS JOIN {storage} AS s WHERE {same}",
            old = layout.old_images(),
            all = layout.all(""),
            of_s = layout.all("s."),
            storage = quote(&layout.storage()),
            same = self.same_group(layout, "s"),
        )
    }

    fn new_images(&self, layout: &Layout, groups: &str, indexes: &mut Indexes) -> String {
        let states = self.states.iter().map(|(state, column)| {
            let (name, stored) = (state.name(), format!("o.{}", layout.name(*column)));
            match state {
                State::Least(argument) => self.extreme("min", "<", *argument, &name, &stored, indexes),
                State::Greatest(argument) => self.extreme("max", ">", *argument, &name, &stored, indexes),
                _ => format!("coalesce({stored}, 0) + g.{name} AS {name}"),
            }
        });
        let states: Vec<String> = states.collect();
        let totals: Vec<String> =
            self.group_names().map(|name| format!("g.{name} AS {name}")).chain(states).collect();
        let values: Vec<String> =
            (0..layout.columns.len()).filter_map(|index| self.value(layout, index)).collect();
        let alive = if self.group.is_empty() { "" } else { " WHERE t.n > 0" };
        format!(
            "INSERT INTO {new} ({all}) SELECT {values} FROM (SELECT {totals} FROM {groups} AS g LEFT JOIN {old} AS o ON {same}) AS t{alive}",
            new = layout.new_images(),
            all = layout.all(""),
            values = values.join(", "),
            totals = totals.join(", "),
            old = layout.old_images(),
            same = self.same_group(layout, "o"),
        )
    }

    /// The new extreme of a group: looked up if the stored one went, else the outer one of the stored and what came.
    fn extreme(
        &self,
        function: &str,
        outer: &str,
        argument: usize,
        name: &str,
        stored: &str,
        indexes: &mut Indexes,
    ) -> String {
        let values: Vec<String> = self.group_names().map(|name| format!("g.{name}")).collect();
        let expr = &self.arguments[argument];
        self.index_extreme(expr, indexes);
        let from = from_group(self.query, &self.group, &values, indexes);
        let found = self.extreme_of(function, argument, &render(expr, &Render(self.query)));
        format!(
            "CASE WHEN g.{name}_gone {outer}= {stored} THEN (SELECT {found}{from}) WHEN {stored} IS NULL OR g.{name} {outer} {stored} THEN g.{name} ELSE {stored} END AS {name}"
        )
    }

    /// With an index on group and value one seek finds the extreme.
    fn index_extreme(&self, expr: &Scalar, indexes: &mut Indexes) {
        let columns: Option<Vec<usize>> = self
            .group
            .iter()
            .chain([expr])
            .map(|part| part.as_column().map(|column| column.column))
            .collect();
        if let (Some(columns), [joined]) = (columns, self.query.relations.as_slice()) {
            indexes.make(joined, &columns);
        }
    }

    /// SQL of a storage column over the group's totals.
    fn value(&self, layout: &Layout, index: usize) -> Option<String> {
        if let Some(state) = self.hidden_state(layout, index) {
            return Some(format!("t.{}", state.name()));
        }
        let expr = layout.columns[index].expr.as_ref()?;
        if let Some(group) = self.group.iter().position(|group| group == expr) {
            return Some(format!("t.g{group}"));
        }
        Some(render(expr, &Totals(self)))
    }

    /// Fills the empty storage.
    fn fill(&self, layout: &Layout) -> String {
        let names = Render(self.query);
        let argument = |index: usize| {
            self.arguments.get(index).map_or_else(String::new, |argument| render(argument, &names))
        };
        let total = |state: State| match state {
            State::Rows => "count(*)".to_owned(),
            State::Values(of) => format!("count({})", argument(of)),
            State::Sum(of) => format!("coalesce(sum({}), 0)", argument(of)),
            State::Least(of) => self.extreme_of("min", of, &argument(of)),
            State::Greatest(of) => self.extreme_of("max", of, &argument(of)),
            State::Different(of) => format!("count(DISTINCT {})", argument(of)),
        };
        let value = |index: usize| match self.hidden_state(layout, index) {
            Some(state) => Some(total(state)),
            None => layout.columns[index].expr.as_ref().map(|expr| render(expr, &names)),
        };
        let values: Vec<String> = (0..layout.columns.len()).filter_map(value).collect();
        let from = self.query.tables_clause(|joined| quote(&joined.base.storage));
        format!(
            "INSERT INTO {} ({}) SELECT {}{from}{}",
            quote(&layout.storage()),
            layout.all(""),
            values.join(", "),
            self.query.grouping_clause()
        )
    }

    /// The state that a hidden column holds.
    fn hidden_state(&self, layout: &Layout, index: usize) -> Option<State> {
        let hidden = layout.columns[index].role == Role::State;
        self.states.iter().find(|(_, column)| hidden && *column == index).map(|(state, _)| *state)
    }
}

/// Expressions over the totals `t` of a group.
struct Totals<'a>(&'a Rule<'a>);

impl Totals<'_> {
    /// Number of values that an aggregate of this argument saw.
    fn seen(&self, argument: usize) -> String {
        let counted = self.0.states.iter().any(|(state, _)| *state == State::Values(argument));
        format!("t.{}", if counted { State::Values(argument).name() } else { State::Rows.name() })
    }

    fn aggregate(&self, call: &Aggregate) -> Option<String> {
        let Some(argument) = &call.argument else {
            return Some("t.n".to_owned());
        };
        let argument = self.0.arguments.iter().position(|known| known == argument)?;
        if call.distinct {
            return Some(format!("t.{}", State::Different(argument).name()));
        }
        let seen = self.seen(argument);
        let sum = format!("t.{}", State::Sum(argument).name());
        match call.function {
            AggregateFunction::Count => Some(seen),
            AggregateFunction::Sum => Some(format!("CASE WHEN {seen} > 0 THEN {sum} END")),
            AggregateFunction::Avg => {
                let sum = self.0.query.dialect.double(&sum);
                Some(format!("CASE WHEN {seen} > 0 THEN {sum} / {seen} END"))
            }
            AggregateFunction::Min => Some(format!("t.{}", State::Least(argument).name())),
            AggregateFunction::Max => Some(format!("t.{}", State::Greatest(argument).name())),
            // Never among linear ones.
            AggregateFunction::Join => None,
        }
    }
}

impl Names for Totals<'_> {
    /// Only group expressions hold columns, and those are known as a whole.
    fn column(&self, column: ColumnRef) -> String {
        Render(self.0.query).column(column)
    }

    fn query(&self) -> &SelectQuery {
        self.0.query
    }

    fn known(&self, scalar: &Scalar) -> Option<String> {
        if let Scalar::Aggregate(call) = scalar {
            return self.aggregate(call);
        }
        let group = self.0.group.iter().position(|group| group == scalar)?;
        // In SQLite the base column's affinity takes part in comparisons around it.
        Some(match affinity(self.0.query, scalar).filter(|_| self.0.query.dialect == Dialect::Sqlite) {
            Some(affinity) => format!("CAST(t.g{group} AS {affinity})"),
            None => format!("t.g{group}"),
        })
    }
}
