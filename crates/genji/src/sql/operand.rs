//! Parses operands: literals, parameters, paths, functions and what stands in brackets.

use deltamesh_change::Value;

use super::SqlError;
use super::expression::{Aggregate, Expression, Function};
use super::math::MathFunction;
use super::parser::Parser;
use super::scanner::{Position, Token, is_keyword};

impl Parser {
    /// Parses what an operator takes.
    pub(crate) fn operand(&mut self) -> Result<Expression, SqlError> {
        let position = self.position();
        let token = self.advance();
        match token {
            Token::Integer(value) => Ok(Expression::Literal(Value::Int(value))),
            Token::Number(value) => Ok(Expression::Literal(Value::Float(value))),
            Token::Text(text) => text_literal(text, position).map(Expression::Literal),
            Token::Parameter => Ok(Expression::Parameter(self.next_parameter(position)?, position)),
            Token::Named(name) => {
                self.named_parameter(position)?;
                Ok(Expression::Named(name, position))
            }
            Token::Symbol(symbol) => self.symbol_operand(symbol, position),
            Token::Word(word) => self.word_operand(word, position),
            Token::Quoted(name) => self.path_after(name, position),
            Token::End => Err(SqlError::new(position, "expected an expression")),
        }
    }

    fn symbol_operand(&mut self, symbol: &str, position: Position) -> Result<Expression, SqlError> {
        if matches!(symbol, "-" | "+") {
            return self.signed(symbol == "-", position);
        }
        self.enter(position)?;
        let operand = match symbol {
            "[" => Expression::Array(self.list("]", Self::expression)?),
            "{" => Expression::Document(self.list("}", Self::document_field)?),
            "(" => self.group()?,
            _ => return Err(SqlError::new(position, "expected an expression")),
        };
        self.leave();
        Ok(operand)
    }

    /// One expression in parentheses is itself, several are an array.
    fn group(&mut self) -> Result<Expression, SqlError> {
        let first = self.expression()?;
        if self.take_symbol(",") {
            let mut items = vec![first];
            items.extend(self.list(")", Self::expression)?);
            return Ok(Expression::Array(items));
        }
        self.expect_symbol(")")?;
        Ok(Expression::Group(Box::new(first)))
    }

    fn signed(&mut self, negative: bool, position: Position) -> Result<Expression, SqlError> {
        let value = match self.advance() {
            Token::Integer(value) => Value::Int(if negative { -value } else { value }),
            // The smallest integer has no positive counterpart.
            Token::Number(value) if negative && value == 9_223_372_036_854_775_808.0 => Value::Int(i64::MIN),
            Token::Number(value) => Value::Float(if negative { -value } else { value }),
            _ => return Err(SqlError::new(position, "expected a number after the sign")),
        };
        Ok(Expression::Literal(value))
    }

    fn document_field(&mut self) -> Result<(String, Expression), SqlError> {
        let position = self.position();
        let name = match self.advance() {
            Token::Word(name) | Token::Quoted(name) | Token::Text(name) => name,
            _ => return Err(SqlError::new(position, "expected a field name")),
        };
        self.expect_symbol(":")?;
        Ok((name, self.expression()?))
    }

    fn word_operand(&mut self, word: String, position: Position) -> Result<Expression, SqlError> {
        match word.to_ascii_lowercase().as_str() {
            "true" => Ok(Expression::Literal(Value::Bool(true))),
            "false" => Ok(Expression::Literal(Value::Bool(false))),
            "null" => Ok(Expression::Literal(Value::Null)),
            "not" => {
                self.enter(position)?;
                let inner = self.expression()?;
                self.leave();
                Ok(Expression::Not(Box::new(inner)))
            }
            "cast" => self.cast(position),
            "next" => {
                self.expect_keyword("value")?;
                self.expect_keyword("for")?;
                Ok(Expression::NextValue(self.identifier()?, position))
            }
            lower if is_keyword(lower) => Err(SqlError::new(position, "expected an expression")),
            lower if self.take_symbol("(") => self.call(lower, position),
            "math" if self.at_method() => self.math(position),
            _ => self.path_after(word, position),
        }
    }

    fn path_after(&mut self, first: String, position: Position) -> Result<Expression, SqlError> {
        Ok(Expression::Path(self.path_from(first)?, position))
    }

    fn cast(&mut self, position: Position) -> Result<Expression, SqlError> {
        self.expect_symbol("(")?;
        self.enter(position)?;
        let inner = self.expression()?;
        self.expect_keyword("as")?;
        let place = self.position();
        let named = self.named_type()?.ok_or_else(|| SqlError::new(place, "expected a type"))?;
        self.expect_symbol(")")?;
        self.leave();
        Ok(Expression::Cast(Box::new(inner), named, position))
    }

    /// A function whose opening parenthesis was taken.
    fn call(&mut self, name: &str, position: Position) -> Result<Expression, SqlError> {
        let aggregate = match name {
            "pk" => {
                self.expect_symbol(")")?;
                return Ok(Expression::Key(position));
            }
            "typeof" => {
                return self.argument(position).map(|inner| Expression::Call(Function::TypeOf, inner));
            }
            "len" => return self.argument(position).map(|inner| Expression::Call(Function::Length, inner)),
            "count" => Aggregate::Count,
            "min" => Aggregate::Min,
            "max" => Aggregate::Max,
            "sum" => Aggregate::Sum,
            "avg" => Aggregate::Average,
            _ => return Err(SqlError::new(position, "unknown function")),
        };
        if aggregate == Aggregate::Count && self.take_symbol("*") {
            self.expect_symbol(")")?;
            return Ok(Expression::Aggregate(aggregate, None, position));
        }
        let inner = self.argument(position)?;
        Ok(Expression::Aggregate(aggregate, Some(inner), position))
    }

    /// A function of the package `math`, whose name was taken.
    fn math(&mut self, position: Position) -> Result<Expression, SqlError> {
        self.skip(1);
        let function = match self.advance() {
            Token::Word(name) => MathFunction::named(&name.to_ascii_lowercase()),
            _ => None,
        };
        let function = function.ok_or_else(|| SqlError::new(position, "unknown function of math"))?;
        self.expect_symbol("(")?;
        self.enter(position)?;
        let mut arguments = self.list(")", Self::expression)?;
        self.leave();
        let wanted = if function == MathFunction::Atan2 { 2 } else { 1 };
        if arguments.len() != wanted {
            let reason =
                format!("math.{} takes {wanted} arguments, not {}", function.name(), arguments.len());
            return Err(SqlError::new(position, reason));
        }
        let argument = match arguments.pop() {
            Some(argument) if arguments.is_empty() => argument,
            last => Expression::Array(arguments.into_iter().chain(last).collect()),
        };
        Ok(Expression::Call(Function::Math(function), Box::new(argument)))
    }

    fn argument(&mut self, position: Position) -> Result<Box<Expression>, SqlError> {
        self.enter(position)?;
        let inner = self.expression()?;
        self.expect_symbol(")")?;
        self.leave();
        Ok(Box::new(inner))
    }
}

/// A text literal; one that begins with `\x` is a blob in hexadecimal digits.
fn text_literal(text: String, position: Position) -> Result<Value, SqlError> {
    let Some(digits) = text.strip_prefix("\\x") else { return Ok(Value::Text(text)) };
    let malformed = || SqlError::new(position, "malformed hexadecimal blob");
    if !digits.len().is_multiple_of(2) || !digits.is_ascii() {
        return Err(malformed());
    }
    (0..digits.len())
        .step_by(2)
        .map(|at| {
            digits.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok()).ok_or_else(malformed)
        })
        .collect::<Result<_, _>>()
        .map(Value::Bytes)
}
