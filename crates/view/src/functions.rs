//! Signatures of the functions that SQL may use, for type checking alone: nothing is ever evaluated here.

use std::sync::Arc;

use datafusion_common::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion_common::{Result, not_impl_err, plan_err};
use datafusion_expr::function::{AccumulatorArgs, PartitionEvaluatorArgs, WindowUDFFieldArgs};
use datafusion_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, ColumnarValue, PartitionEvaluator, ScalarFunctionArgs,
    ScalarUDF, ScalarUDFImpl, Signature, Volatility, WindowUDF, WindowUDFImpl,
};

use crate::query::{PLACES, PlaceResult};

/// Result type of a function, from the types of its arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Rule {
    /// An integer, whatever the arguments.
    Integer,
    /// A double, whatever the arguments.
    Double,
    /// A double, of a number.
    Real,
    /// The kind of number that the first argument is.
    Number,
    Text,
    /// The type of the first argument.
    First,
    /// The one type of all arguments.
    Common,
}

impl Rule {
    fn result(self, name: &str, arguments: &[DataType]) -> Result<DataType> {
        match self {
            Self::Integer => Ok(DataType::Int64),
            Self::Double => Ok(DataType::Float64),
            Self::Real => number(name, arguments).map(|_| DataType::Float64),
            Self::Number => number(name, arguments),
            Self::Text => text(name, arguments),
            Self::First => {
                arguments.first().cloned().map_or_else(|| plan_err!("{name} takes an argument"), Ok)
            }
            Self::Common => common(name, arguments),
        }
    }
}

/// A function known by name and typing rule.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Typed {
    name: &'static str,
    signature: Signature,
    rule: Rule,
}

impl Typed {
    fn new(name: &'static str, rule: Rule) -> Self {
        Self { name, signature: Signature::user_defined(Volatility::Immutable), rule }
    }
}

impl ScalarUDFImpl for Typed {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        self.rule.result(self.name, arguments)
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        Ok(arguments.to_vec())
    }

    fn invoke_with_args(&self, _arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        not_impl_err!("{} is only typed here", self.name)
    }
}

impl AggregateUDFImpl for Typed {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        self.rule.result(self.name, arguments)
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        Ok(arguments.to_vec())
    }

    fn accumulator(&self, _arguments: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        not_impl_err!("{} is only typed here", self.name)
    }
}

impl WindowUDFImpl for Typed {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn partition_evaluator(
        &self,
        _arguments: PartitionEvaluatorArgs<'_>,
    ) -> Result<Box<dyn PartitionEvaluator>> {
        not_impl_err!("{} is only typed here", self.name)
    }

    fn field(&self, arguments: WindowUDFFieldArgs<'_>) -> Result<FieldRef> {
        let kinds: Vec<DataType> =
            arguments.input_fields().iter().map(|field| field.data_type().clone()).collect();
        let result = self.rule.result(self.name, &kinds)?;
        Ok(Arc::new(Field::new(arguments.name(), result, true)))
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        Ok(arguments.to_vec())
    }
}

/// The window function of that name that is no aggregate.
pub(crate) fn window(name: &str) -> Option<Arc<WindowUDF>> {
    let place = PLACES.iter().find(|place| place.name == name)?;
    let rule = match place.result {
        PlaceResult::Integer => Rule::Integer,
        PlaceResult::Real => Rule::Double,
        PlaceResult::Argument => Rule::First,
    };
    Some(Arc::new(WindowUDF::new_from_impl(Typed::new(place.name, rule))))
}

/// The scalar function of that name.
pub(crate) fn scalar(name: &str) -> Option<Arc<ScalarUDF>> {
    let typed = match name {
        "abs" => Typed::new("abs", Rule::Number),
        "ceil" => Typed::new("ceil", Rule::Number),
        "coalesce" => Typed::new("coalesce", Rule::Common),
        "date" => Typed::new("date", Rule::Text),
        "datetime" => Typed::new("datetime", Rule::Text),
        "floor" => Typed::new("floor", Rule::Number),
        "instr" => Typed::new("instr", Rule::Integer),
        "json_array_length" => Typed::new("json_array_length", Rule::Integer),
        "json_extract" => Typed::new("json_extract", Rule::Text),
        "json_type" => Typed::new("json_type", Rule::Text),
        "length" => Typed::new("length", Rule::Integer),
        "lower" => Typed::new("lower", Rule::Text),
        "ltrim" => Typed::new("ltrim", Rule::Text),
        "nullif" => Typed::new("nullif", Rule::First),
        "replace" => Typed::new("replace", Rule::Text),
        "round" => Typed::new("round", Rule::Real),
        "rtrim" => Typed::new("rtrim", Rule::Text),
        "sqrt" => Typed::new("sqrt", Rule::Real),
        "substr" => Typed::new("substr", Rule::Text),
        "trim" | "btrim" => Typed::new("trim", Rule::Text),
        "trunc" => Typed::new("trunc", Rule::Number),
        "unixepoch" => Typed::new("unixepoch", Rule::Integer),
        "upper" => Typed::new("upper", Rule::Text),
        _ => return None,
    };
    Some(Arc::new(ScalarUDF::new_from_impl(typed)))
}

/// The aggregate function of that name.
pub(crate) fn aggregate(name: &str) -> Option<Arc<AggregateUDF>> {
    let typed = match name {
        "avg" => Typed::new("avg", Rule::Real),
        "count" => Typed::new("count", Rule::Integer),
        "max" => Typed::new("max", Rule::First),
        "min" => Typed::new("min", Rule::First),
        "sum" => Typed::new("sum", Rule::Number),
        _ => return None,
    };
    Some(Arc::new(AggregateUDF::new_from_impl(typed)))
}

fn number(name: &str, arguments: &[DataType]) -> Result<DataType> {
    match arguments.first() {
        Some(kind) if kind.is_integer() => Ok(DataType::Int64),
        Some(kind) if kind.is_numeric() || kind.is_null() => Ok(DataType::Float64),
        Some(DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8) => {
            plan_err!("{name} of a text: write {name}(CAST(column AS INTEGER)) or AS REAL")
        }
        Some(DataType::Boolean) => {
            plan_err!("{name} of a truth value: write {name}(CASE WHEN column THEN 1 ELSE 0 END)")
        }
        _ => plan_err!("{name} takes a number"),
    }
}

fn text(name: &str, arguments: &[DataType]) -> Result<DataType> {
    match arguments.first() {
        Some(DataType::Boolean) => plan_err!("{name} of a truth value"),
        Some(_) => Ok(DataType::Utf8),
        None => plan_err!("{name} takes a text"),
    }
}

/// One type if all arguments that are not NULL have it, a number if all are numbers.
fn common(name: &str, arguments: &[DataType]) -> Result<DataType> {
    let mut known = arguments.iter().filter(|kind| !kind.is_null());
    let Some(first) = known.next() else {
        return Ok(DataType::Null);
    };
    let mut result = first.clone();
    for kind in known {
        result = match (&result, kind) {
            (a, b) if a == b => continue,
            (a, b) if a.is_integer() && b.is_integer() => DataType::Int64,
            (a, b) if a.is_numeric() && b.is_numeric() => DataType::Float64,
            (a, b) => return plan_err!("{name} of {a} and {b}: CAST them to one type"),
        };
    }
    Ok(result)
}
