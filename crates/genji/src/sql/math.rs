//! The functions of Genji's package `math`.

use deltamesh_change::Value;

use crate::catalog::FieldType;
use crate::write::cast;
use crate::{Error, ErrorKind};

/// The first double above all integers.
const INTEGERS_END: f64 = 9_223_372_036_854_775_808.0;

/// A function of the package `math`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MathFunction {
    /// The largest whole number that is not above.
    Floor,
    /// The distance from zero.
    Abs,
    /// The arc cosine, in radians.
    Acos,
    /// The inverse hyperbolic cosine.
    Acosh,
    /// The arc sine, in radians.
    Asin,
    /// The inverse hyperbolic sine.
    Asinh,
    /// The arc tangent, in radians.
    Atan,
    /// The angle of a point given by its height and distance, in radians; its arguments are an array.
    Atan2,
}

const NAMES: [(&str, MathFunction); 8] = [
    ("floor", MathFunction::Floor),
    ("abs", MathFunction::Abs),
    ("acos", MathFunction::Acos),
    ("acosh", MathFunction::Acosh),
    ("asin", MathFunction::Asin),
    ("asinh", MathFunction::Asinh),
    ("atan", MathFunction::Atan),
    ("atan2", MathFunction::Atan2),
];

impl MathFunction {
    pub(crate) fn named(name: &str) -> Option<Self> {
        NAMES.iter().find(|(own, _)| *own == name).map(|(_, function)| *function)
    }

    pub(crate) fn name(self) -> &'static str {
        NAMES.iter().find(|(_, function)| *function == self).map_or("", |(name, _)| name)
    }

    /// The result; NULL of NULL, but for the floor.
    pub(crate) fn call(self, value: &Value) -> Result<Value, Error> {
        match (self, value) {
            (Self::Floor, Value::Int(_)) => Ok(value.clone()),
            (Self::Floor, Value::Float(number)) => Ok(Value::Float(number.floor())),
            (Self::Floor, _) => Err(self.refuse("takes a number")),
            (Self::Abs, Value::Int(number)) => {
                // By way of a double, as in Genji.
                let distance = (*number as f64).abs();
                if distance >= INTEGERS_END {
                    return Err(self.refuse("has no integer for this"));
                }
                Ok(Value::Int(distance as i64))
            }
            (Self::Atan2, Value::Array(arguments)) => match arguments.as_slice() {
                [height, distance] => {
                    let Some(height) = self.number(height)? else { return Ok(Value::Null) };
                    let Some(distance) = self.number(distance)? else { return Ok(Value::Null) };
                    Ok(Value::Float(height.atan2(distance)))
                }
                _ => Err(self.refuse("takes two numbers")),
            },
            _ => {
                let Some(number) = self.number(value)? else { return Ok(Value::Null) };
                self.of(number).map(Value::Float)
            }
        }
    }

    fn of(self, number: f64) -> Result<f64, Error> {
        match self {
            Self::Floor => Ok(number.floor()),
            Self::Abs => Ok(number.abs()),
            Self::Acos | Self::Asin if !(-1.0..=1.0).contains(&number) => {
                Err(self.refuse("takes a number from -1 to 1"))
            }
            Self::Acos => Ok(number.acos()),
            Self::Asin => Ok(number.asin()),
            Self::Acosh if number < 1.0 => Err(self.refuse("takes a number from 1 on")),
            Self::Acosh => Ok(number.acosh()),
            Self::Asinh => Ok(number.asinh()),
            Self::Atan => Ok(number.atan()),
            Self::Atan2 => Err(self.refuse("takes two numbers")),
        }
    }

    /// The argument as a double, also out of a text; `None` for NULL.
    fn number(self, value: &Value) -> Result<Option<f64>, Error> {
        match cast::to(value, &FieldType::Double) {
            Some(Value::Float(number)) => Ok(Some(number)),
            Some(Value::Null) => Ok(None),
            _ => Err(self.refuse("takes a number")),
        }
    }

    fn refuse(self, reason: &str) -> Error {
        Error::new(ErrorKind::Type, format!("math.{} {reason}", self.name()))
    }
}
