//! `string_agg` and `group_concat`: the texts of a group as one.
//!
//! Without an order, and where it leaves rows equal, the texts themselves are the order: equal ones cannot be told apart, so
//! that the result is decided.

use datafusion_sql::sqlparser::ast::{
    DuplicateTreatment, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentClause,
    FunctionArguments, OrderByExpr, Spanned, Value,
};
use deltamesh_change::ColumnType;

use super::clause::ordinal;
use super::window;
use crate::query::{AggregateFunction, Joined, Joining, Scalar, Sort};
use crate::{Error, Location};

const NAMES: [&str; 2] = ["string_agg", "group_concat"];

pub(super) fn is_joining(name: &str) -> bool {
    NAMES.contains(&name)
}

/// A call as it is written.
pub(super) struct Call<'a> {
    name: &'a str,
    pub(super) argument: &'a FunctionArg,
    distinct: bool,
    separator: String,
    order: &'a [OrderByExpr],
    location: Option<Location>,
}

impl<'a> Call<'a> {
    pub(super) fn read(name: &'a str, function: &'a Function) -> Result<Self, Error> {
        let location = Location::of(function.span());
        let form = || {
            let message = format!("{name}: write string_agg(text, ', ' ORDER BY column)");
            Error::types_at(message, location)
        };
        let FunctionArguments::List(list) = &function.args else { return Err(form()) };
        let (mut order, mut separator) = (function.within_group.as_slice(), None);
        for clause in &list.clauses {
            match clause {
                FunctionArgumentClause::OrderBy(items) => order = items,
                _ => return Err(form()),
            }
        }
        let argument = match list.args.as_slice() {
            [argument] => argument,
            [argument, FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(text)))] => {
                separator = literal(&text.value);
                argument
            }
            _ => return Err(form()),
        };
        if separator.is_none() && name == "group_concat" && list.args.len() == 1 {
            separator = Some("','".to_owned());
        }
        let separator = separator.ok_or_else(|| {
            Error::types_at(format!("{name}: the separator is a text in single quotes"), location)
        })?;
        let distinct = list.duplicate_treatment == Some(DuplicateTreatment::Distinct);
        Ok(Self { name, argument, distinct, separator, order, location })
    }

    /// The aggregate, given its argument as one of [`AggregateFunction::Join`].
    pub(super) fn join(
        self,
        aggregate: Scalar,
        resolve: &dyn Fn(&Expr) -> Result<Scalar, Error>,
        relations: &[Joined],
    ) -> Result<Scalar, Error> {
        let Scalar::Aggregate(mut aggregate) = aggregate else { return Ok(aggregate) };
        let Some(written) = aggregate.argument.take() else { return Ok(Scalar::Aggregate(aggregate)) };
        let text = as_text(written.clone(), relations);
        let mut order = vec![];
        for item in self.order {
            let sort = window::sort(item, resolve(&item.expr)?)?;
            if ordinal(&item.expr).is_some() {
                let message = format!("{} ORDER BY a number: write the expression", self.name);
                return Err(Error::unsupported(message, Location::of(item.expr.span())));
            }
            order.push(sort);
        }
        let kept = match &written {
            Scalar::Case { branches, otherwise: None, .. } => branches.first().map(|(_, kept)| kept),
            _ => None,
        };
        let is_itself = |sort: &Sort| sort.expr == written || sort.expr == text || kept == Some(&sort.expr);
        if self.distinct && (order.len() > 1 || !order.iter().all(is_itself)) {
            let message =
                format!("{}(DISTINCT …) is in the order of its texts: order by the text, or not", self.name);
            return Err(Error::unsupported(message, self.location));
        }
        if self.distinct {
            order.iter_mut().for_each(|sort| sort.expr = text.clone());
        }
        if !order.iter().any(|sort| sort.expr == text) {
            order.push(Sort { expr: text.clone(), descending: false, nulls_first: None });
        }
        aggregate.function = AggregateFunction::Join;
        aggregate.distinct = self.distinct;
        aggregate.argument = Some(text);
        aggregate.joining = Some(Joining { separator: self.separator, order });
        Ok(Scalar::Aggregate(aggregate))
    }
}

fn literal(value: &Value) -> Option<String> {
    match value {
        Value::SingleQuotedString(text) => Some(crate::sql::quote_text(text)),
        _ => None,
    }
}

/// The argument as a text; with a `FILTER` it is a `CASE`.
fn as_text(argument: Scalar, relations: &[Joined]) -> Scalar {
    let is_text = argument.as_column().is_some_and(|column| {
        relations[column.relation].base.columns[column.column].column_type == ColumnType::Text
    });
    if is_text { argument } else { Scalar::Cast(Box::new(argument), "TEXT") }
}
