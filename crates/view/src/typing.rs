//! Types of a view's columns, by planning its `SELECT` with datafusion-sql.
//!
//! The text that is planned is the resolved one, so that names and places in it are settled; what can still be wrong is the
//! types. The plan itself is not used further: no rewriting of the user's expressions ever reaches a replica.

use std::sync::Arc;

use datafusion_common::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion_common::config::ConfigOptions;
use datafusion_common::{DataFusionError, Result as PlanResult, TableReference, plan_err};
use datafusion_expr::planner::{ContextProvider, ExprPlanner, PlannerResult};
use datafusion_expr::{AggregateUDF, Expr, HigherOrderUDF, ScalarUDF, TableSource, WindowUDF};
use datafusion_sql::planner::{ParserOptions, SqlToRel};
use datafusion_sql::sqlparser::dialect::SQLiteDialect;
use datafusion_sql::sqlparser::parser::Parser;
use deltamesh_change::{Column, ColumnType};

use crate::catalog::CatalogRelation;
use crate::query::{Aggregate, AggregateFunction, PlaceResult, Scalar, SelectQuery, WindowFunction};
use crate::{Dialect, Error, facts, functions, kinds};

/// The view's columns: names, types, and whether NULL can occur.
pub(crate) fn columns(query: &SelectQuery) -> Result<Vec<Column>, Error> {
    let types = plan(query).map_err(|error| {
        let said = message(&error);
        let is_named =
            ["Int64", "Utf8", "Float64", "Boolean", "Binary"].iter().any(|name| said.contains(name));
        let reason = is_named.then(|| kinds::reason(query)).flatten();
        Error::types_at(reason.unwrap_or(said), query.location)
    })?;
    let typed = query.outputs.iter().zip(types).map(|(output, planned)| {
        let column_type =
            exact_type(query, &output.expr).unwrap_or_else(|| planned_type(query, &output.expr, &planned));
        let column_type = certain(query, &output.expr, column_type);
        Column::new(output.name.clone(), column_type, facts::nullable(query, &output.expr))
    });
    Ok(typed.collect())
}

/// Where every column has one type, each expression has one.
fn certain(query: &SelectQuery, expr: &Scalar, planned: ColumnType) -> ColumnType {
    match (query.dialect, planned) {
        (Dialect::Postgres, ColumnType::Any) => kinds::known(query, expr).unwrap_or(planned),
        _ => planned,
    }
}

/// The type of an output that repeats a base column, or an extreme of one.
fn exact_type(query: &SelectQuery, expr: &Scalar) -> Option<ColumnType> {
    match expr {
        Scalar::Column(column) => Some(query.column(*column).column_type),
        Scalar::Call("json_value", _) => Some(ColumnType::Json),
        Scalar::Aggregate(aggregate)
            if matches!(aggregate.function, AggregateFunction::Min | AggregateFunction::Max) =>
        {
            exact_type(query, aggregate.argument.as_ref()?)
        }
        Scalar::Window(window) => match window.function {
            WindowFunction::Place(place) if place.result == PlaceResult::Argument => {
                exact_type(query, window.arguments.first()?)
            }
            WindowFunction::Aggregate(AggregateFunction::Min | AggregateFunction::Max) => {
                exact_type(query, window.arguments.first()?)
            }
            _ => None,
        },
        _ => None,
    }
}

fn planned_type(query: &SelectQuery, expr: &Scalar, planned: &DataType) -> ColumnType {
    let undecided =
        |column_type| matches!(column_type, ColumnType::Any | ColumnType::Json | ColumnType::Decimal);
    match planned {
        DataType::Boolean => ColumnType::Bool,
        kind if kind.is_integer() => ColumnType::Int,
        _ if expr.columns().iter().any(|column| undecided(query.column(*column).column_type)) => {
            ColumnType::Any
        }
        kind if kind.is_numeric() => ColumnType::Float,
        DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 => ColumnType::Text,
        DataType::Binary | DataType::BinaryView | DataType::LargeBinary => ColumnType::Bytes,
        _ => ColumnType::Any,
    }
}

/// Levels of expressions: more than the statement's own operators make, with what functions become.
const LEVELS: usize = 300;
/// Room for the planner's walk over so many.
const STACK: usize = 64 << 20;

/// The types of the outputs, by a thread that has room for deep expressions.
fn plan(query: &SelectQuery) -> PlanResult<Vec<DataType>> {
    std::thread::scope(|scope| {
        let planner = std::thread::Builder::new().name("view types".to_owned()).stack_size(STACK);
        let planned = planner.spawn_scoped(scope, || plan_here(query))?;
        planned.join().unwrap_or_else(|_| plan_err!("the types of the expressions cannot be found"))
    })
}

fn plan_here(query: &SelectQuery) -> PlanResult<Vec<DataType>> {
    let mut query = SelectQuery { dialect: Dialect::Sqlite, ..query.clone() };
    // Joined texts are a text, as the least of them is; a document is planned as its text.
    for expr in query.expressions_mut() {
        *expr = expr.replaced(&mut |expr| match expr {
            Scalar::Aggregate(call) if call.function == AggregateFunction::Join => {
                let least = Aggregate::of(AggregateFunction::Min, call.argument.clone()?);
                Some(Scalar::Aggregate(Box::new(least)))
            }
            Scalar::Call("json_value", place) => Some(Scalar::Call("json_extract", place.clone())),
            _ => None,
        });
    }
    let sql = query.select(None);
    let statement = Parser::new(&SQLiteDialect {})
        .with_recursion_limit(LEVELS)
        .try_with_sql(&sql)
        .and_then(|mut parser| parser.parse_statement())
        .map_err(|error| DataFusionError::Plan(error.to_string()))?;
    let provider = Provider { query: &query, options: ConfigOptions::default(), syntax: [Arc::new(Syntax)] };
    let options = ParserOptions {
        enable_ident_normalization: false,
        map_string_types_to_utf8view: false,
        ..ParserOptions::default()
    };
    let plan = SqlToRel::new_with_options(&provider, options).sql_statement_to_plan(statement)?;
    Ok(plan.schema().fields().iter().map(|field| field.data_type().clone()).collect())
}

/// The planner's own words, without its error class.
fn message(error: &DataFusionError) -> String {
    let text = error.strip_backtrace();
    let text = text.rsplit_once("caused by\n").map_or(text.as_str(), |(_, cause)| cause);
    text.trim_start_matches("Error during planning: ").lines().next().unwrap_or_default().to_owned()
}

struct Provider<'a> {
    query: &'a SelectQuery,
    options: ConfigOptions,
    syntax: [Arc<dyn ExprPlanner>; 1],
}

/// Functions that the parser reads as syntax of their own.
#[derive(Debug)]
struct Syntax;

impl ExprPlanner for Syntax {
    fn plan_substring(&self, arguments: Vec<Expr>) -> PlanResult<PlannerResult<Vec<Expr>>> {
        Ok(match functions::scalar("substr") {
            Some(function) => PlannerResult::Planned(function.call(arguments)),
            None => PlannerResult::Original(arguments),
        })
    }
}

#[derive(Debug)]
struct Table(SchemaRef);

impl TableSource for Table {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.0)
    }
}

fn arrow_type(column_type: ColumnType) -> DataType {
    match column_type {
        ColumnType::Bool => DataType::Boolean,
        ColumnType::Int => DataType::Int64,
        ColumnType::Float => DataType::Float64,
        ColumnType::Bytes => DataType::Binary,
        ColumnType::Decimal | ColumnType::Text | ColumnType::Json | ColumnType::Any => DataType::Utf8,
    }
}

impl ContextProvider for Provider<'_> {
    fn get_table_source(&self, name: TableReference) -> PlanResult<Arc<dyn TableSource>> {
        let is_meant =
            |base: &CatalogRelation| [&base.base.table, &base.storage].contains(&&name.table().to_owned());
        let joined = self.query.relations.iter().find(|joined| is_meant(&joined.base));
        let Some(joined) = joined else {
            return plan_err!("no relation {}", name.table());
        };
        let fields: Vec<Field> = joined
            .base
            .columns
            .iter()
            .map(|column| Field::new(&column.name, arrow_type(column.column_type), column.nullable))
            .collect();
        Ok(Arc::new(Table(Arc::new(Schema::new(fields)))))
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        &self.syntax
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        functions::scalar(name)
    }

    fn get_higher_order_meta(&self, _name: &str) -> Option<Arc<HigherOrderUDF>> {
        None
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        functions::aggregate(name)
    }

    fn get_window_meta(&self, name: &str) -> Option<Arc<WindowUDF>> {
        functions::window(name)
    }

    fn get_variable_type(&self, _names: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        &self.options
    }

    fn udf_names(&self) -> Vec<String> {
        vec![]
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        vec![]
    }

    fn udaf_names(&self) -> Vec<String> {
        vec![]
    }

    fn udwf_names(&self) -> Vec<String> {
        vec![]
    }
}
