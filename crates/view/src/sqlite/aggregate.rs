//! Counts and sums by group: the signed rows are summed per group and added to what is stored.
//!
//! Beside the visible columns the storage holds what they cannot give back: the number of rows of the group, for each
//! argument the number of values that are not NULL, and its sum. A group without rows leaves.

use super::delta::{Indexes, signed};
use super::layout::{Layout, Role, Stored, affinity};
use super::select::{Names, Render};
use super::{Parts, quote, render};
use crate::query::{Aggregate, AggregateFunction, ColumnRef, Scalar, SelectQuery};
use crate::{Phase, Step, facts, strategy};

/// A number that is kept per group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Rows.
    Rows,
    /// Values of an argument that are not NULL.
    Values(usize),
    /// Sum of an argument.
    Sum(usize),
}

impl State {
    fn name(self) -> String {
        match self {
            Self::Rows => "n".to_owned(),
            Self::Values(argument) => format!("c{argument}"),
            Self::Sum(argument) => format!("s{argument}"),
        }
    }

    /// Its change, over the signed rows of a group.
    fn delta(self) -> String {
        match self {
            Self::Rows => "sum(w)".to_owned(),
            Self::Values(argument) => format!("sum(w * (a{argument} IS NOT NULL))"),
            Self::Sum(argument) => format!("coalesce(sum(w * a{argument}), 0)"),
        }
    }
}

struct Rule<'a> {
    query: &'a SelectQuery,
    group: Vec<Scalar>,
    arguments: Vec<Scalar>,
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
    let mut maintain = signed(query, &delta, &exprs, &mut indexes);
    let finish = [
        rule.sum_groups(&delta, &groups),
        rule.old_images(&layout, &groups),
        rule.new_images(&layout, &groups),
    ];
    maintain.extend(finish.into_iter().map(|sql| Step { phase: Phase::Finish, sql }));
    let mut connect = layout.connect();
    let arguments = (0..rule.arguments.len()).map(|index| format!("a{index}"));
    let delta_columns: Vec<String> =
        std::iter::once("w".to_owned()).chain(rule.group_names()).chain(arguments).collect();
    connect.push(format!("CREATE TABLE IF NOT EXISTS {delta} ({})", delta_columns.join(", ")));
    let state_names = rule.states.iter().map(|(state, _)| state.name());
    let group_columns: Vec<String> = rule.group_names().chain(state_names).collect();
    connect.push(format!("CREATE TABLE IF NOT EXISTS {groups} ({})", group_columns.join(", ")));
    Parts {
        fill: vec![rule.fill(&layout)],
        scratch: vec![delta, groups],
        layout,
        connect,
        maintain,
        indexes: indexes.into_vec(),
        notes: vec![],
    }
}

impl Rule<'_> {
    fn group_names(&self) -> impl Iterator<Item = String> + use<> {
        (0..self.group.len()).map(|index| format!("g{index}"))
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
                    other.function == function && other.argument.as_ref() == Some(&argument)
                }
            };
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
        let visible = self.query.outputs.iter().position(
            |output| matches!(&output.expr, Scalar::Aggregate(call) if !call.distinct && is_output(call)),
        );
        let column = visible.unwrap_or_else(|| {
            layout.columns.push(Stored::state(format!("__deltamesh_{}", state.name())));
            layout.columns.len() - 1
        });
        self.states.push((state, column));
    }

    /// Sums the signed rows; groups in which nothing moves are left out.
    fn sum_groups(&self, delta: &str, groups: &str) -> String {
        let deltas: Vec<String> = self.states.iter().map(|(state, _)| state.delta()).collect();
        let moved: Vec<String> = deltas.iter().map(|delta| format!("{delta} <> 0")).collect();
        let group: Vec<String> = self.group_names().collect();
        let by = if group.is_empty() { String::new() } else { format!(" GROUP BY {}", group.join(", ")) };
        let select: Vec<String> = group.into_iter().chain(deltas).collect();
        format!(
            "INSERT INTO {groups} SELECT {} FROM {delta}{by} HAVING {}",
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
                let operator = if layout.nullable_key() { "IS" } else { "=" };
                Some(format!("{table}.{} {operator} g.g{index}", layout.name(column)))
            })
            .collect();
        if pairs.is_empty() { "TRUE".to_owned() } else { pairs.join(" AND ") }
    }

    fn group_column(&self, layout: &Layout, expr: &Scalar) -> Option<usize> {
        let hidden = &self.group;
        (0..layout.columns.len()).find(|index| {
            layout.columns[*index].role != Role::State
                && super::keys::stored_expr(layout, self.query, *index, hidden).as_ref() == Some(expr)
        })
    }

    fn old_images(&self, layout: &Layout, groups: &str) -> String {
        format!(
            "INSERT INTO {old} ({all}) SELECT {of_s} FROM {groups} AS g CROSS JOIN {storage} AS s WHERE {same}",
            old = layout.old(),
            all = layout.all(""),
            of_s = layout.all("s."),
            storage = quote(&layout.storage()),
            same = self.same_group(layout, "s"),
        )
    }

    fn new_images(&self, layout: &Layout, groups: &str) -> String {
        let totals: Vec<String> = self
            .group_names()
            .map(|name| format!("g.{name} AS {name}"))
            .chain(self.states.iter().map(|(state, column)| {
                let name = state.name();
                format!("coalesce(o.{}, 0) + g.{name} AS {name}", layout.name(*column))
            }))
            .collect();
        let values: Vec<String> =
            (0..layout.columns.len()).map(|index| self.value(layout, index).unwrap_or_default()).collect();
        let alive = if self.group.is_empty() { "" } else { " WHERE t.n > 0" };
        format!(
            "INSERT INTO {new} ({all}) SELECT {values} FROM (SELECT {totals} FROM {groups} AS g LEFT JOIN {old} AS o ON {same}) AS t{alive}",
            new = layout.new(),
            all = layout.all(""),
            values = values.join(", "),
            totals = totals.join(", "),
            old = layout.old(),
            same = self.same_group(layout, "o"),
        )
    }

    /// SQL of a storage column over the group's totals.
    fn value(&self, layout: &Layout, index: usize) -> Option<String> {
        if let Some((state, _)) = self
            .states
            .iter()
            .find(|(_, column)| *column == index && layout.columns[index].role == Role::State)
        {
            return Some(format!("t.{}", state.name()));
        }
        let expr = super::keys::stored_expr(layout, self.query, index, &self.group)?;
        if let Some(group) = self.group.iter().position(|group| *group == expr) {
            return Some(format!("t.g{group}"));
        }
        Some(render(&expr, &Totals(self)))
    }

    /// Fills the empty storage.
    fn fill(&self, layout: &Layout) -> String {
        let names = Render(self.query);
        let argument = |index: usize| self.arguments.get(index).map(|argument| render(argument, &names));
        let values: Vec<String> = (0..layout.columns.len())
            .filter_map(|index| {
                let state = self.states.iter().find(|(_, column)| *column == index);
                match (layout.columns[index].role, state) {
                    (Role::State, Some((State::Rows, _))) => Some("count(*)".to_owned()),
                    (Role::State, Some((State::Values(of), _))) => Some(format!("count({})", argument(*of)?)),
                    (Role::State, Some((State::Sum(of), _))) => {
                        Some(format!("coalesce(sum({}), 0)", argument(*of)?))
                    }
                    _ => {
                        let expr = super::keys::stored_expr(layout, self.query, index, &self.group)?;
                        Some(render(&expr, &names))
                    }
                }
            })
            .collect();
        let from = self.query.from_clause(|joined| quote(&joined.base.storage));
        format!(
            "INSERT INTO {} ({}) SELECT {}{from}{}",
            quote(&layout.storage()),
            layout.all(""),
            values.join(", "),
            self.query.grouping_clause()
        )
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
        let seen = self.seen(argument);
        let sum = format!("t.{}", State::Sum(argument).name());
        match call.function {
            AggregateFunction::Count => Some(seen),
            AggregateFunction::Sum => Some(format!("CASE WHEN {seen} > 0 THEN {sum} END")),
            AggregateFunction::Avg => {
                Some(format!("CASE WHEN {seen} > 0 THEN CAST({sum} AS REAL) / {seen} END"))
            }
            AggregateFunction::Min | AggregateFunction::Max => None,
        }
    }
}

impl Names for Totals<'_> {
    /// Only group expressions hold columns, and those are known as a whole.
    fn column(&self, column: ColumnRef) -> String {
        Render(self.0.query).column(column)
    }

    fn known(&self, scalar: &Scalar) -> Option<String> {
        if let Scalar::Aggregate(call) = scalar {
            return self.aggregate(call);
        }
        let group = self.0.group.iter().position(|group| group == scalar)?;
        // The base column's affinity takes part in comparisons around it.
        Some(match affinity(self.0.query, scalar) {
            Some(affinity) => format!("CAST(t.g{group} AS {affinity})"),
            None => format!("t.g{group}"),
        })
    }
}
