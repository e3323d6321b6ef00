//! Expressions: what may stand for a value.

use deltamesh_change::Value;

use super::SqlError;
use super::parser::Parser;
use super::scanner::{Position, Token};
use crate::catalog::Path;

/// An expression with the place of each part that can fail.
#[derive(Debug, Clone, PartialEq)]
pub enum Expression {
    /// A value as written.
    Literal(Value),
    /// The positional parameter of that index, from 0.
    Parameter(usize, Position),
    /// A field of the row.
    Path(Path, Position),
    /// The key of the row, `pk()`: an array of its values, or the docid.
    Key(Position),
    /// `[a, b]`
    Array(Vec<Expression>),
    /// `{name: a}`
    Document(Vec<(String, Expression)>),
    /// `left operator right`
    Binary(Box<Expression>, Operator, Box<Expression>, Position),
}

/// A binary operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// `AND`
    And,
    /// `=`
    Equal,
}

impl Expression {
    /// The value, where no row is at hand.
    ///
    /// # Errors
    /// A parameter that was not given, or a part that needs a row.
    pub(crate) fn constant(&self, parameters: &[Value]) -> Result<Value, SqlError> {
        match self {
            Self::Literal(value) => Ok(value.clone()),
            Self::Parameter(index, position) => parameters
                .get(*index)
                .cloned()
                .ok_or_else(|| SqlError::new(*position, "parameter was not given")),
            Self::Array(items) => {
                items.iter().map(|item| item.constant(parameters)).collect::<Result<_, _>>().map(Value::Array)
            }
            Self::Document(fields) => fields
                .iter()
                .map(|(name, field)| Ok((name.clone(), field.constant(parameters)?)))
                .collect::<Result<_, _>>()
                .map(Value::Document),
            Self::Path(_, position) | Self::Key(position) | Self::Binary(_, _, _, position) => {
                Err(SqlError::new(*position, "expected a constant"))
            }
        }
    }
}

impl Parser {
    /// Parses an expression of comparisons joined by AND.
    pub(crate) fn expression(&mut self) -> Result<Expression, SqlError> {
        let mut left = self.comparison()?;
        loop {
            let position = self.position();
            if !self.take_keyword("and") {
                return Ok(left);
            }
            let right = self.comparison()?;
            left = Expression::Binary(Box::new(left), Operator::And, Box::new(right), position);
        }
    }

    fn comparison(&mut self) -> Result<Expression, SqlError> {
        let left = self.operand()?;
        let position = self.position();
        if !self.take_symbol("=") && !self.take_symbol("==") {
            return Ok(left);
        }
        let right = self.operand()?;
        Ok(Expression::Binary(Box::new(left), Operator::Equal, Box::new(right), position))
    }

    /// Parses a literal, parameter, path, array or document.
    pub(crate) fn operand(&mut self) -> Result<Expression, SqlError> {
        let position = self.position();
        let token = self.advance();
        match token {
            Token::Integer(value) => Ok(Expression::Literal(Value::Int(value))),
            Token::Number(value) => Ok(Expression::Literal(Value::Float(value))),
            Token::Text(text) => text_literal(text, position).map(Expression::Literal),
            Token::Parameter => Ok(Expression::Parameter(self.next_parameter(), position)),
            Token::Symbol(symbol) => self.symbol_operand(symbol, position),
            Token::Word(word) => self.word_operand(word, position),
            Token::Quoted(name) => self.path_after(name, position),
            Token::End => Err(SqlError::new(position, "expected an expression")),
        }
    }

    fn symbol_operand(&mut self, symbol: &str, position: Position) -> Result<Expression, SqlError> {
        match symbol {
            "-" | "+" => self.signed(symbol == "-", position),
            "[" => {
                self.enter(position)?;
                let items = self.list("]", Self::operand)?;
                self.leave();
                Ok(Expression::Array(items))
            }
            "{" => {
                self.enter(position)?;
                let fields = self.list("}", Self::document_field)?;
                self.leave();
                Ok(Expression::Document(fields))
            }
            "(" => {
                self.enter(position)?;
                let inner = self.expression()?;
                self.expect_symbol(")")?;
                self.leave();
                Ok(inner)
            }
            _ => Err(SqlError::new(position, "expected an expression")),
        }
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
        Ok((name, self.operand()?))
    }

    fn word_operand(&mut self, word: String, position: Position) -> Result<Expression, SqlError> {
        match word.to_ascii_lowercase().as_str() {
            "true" => Ok(Expression::Literal(Value::Bool(true))),
            "false" => Ok(Expression::Literal(Value::Bool(false))),
            "null" => Ok(Expression::Literal(Value::Null)),
            "pk" if self.take_symbol("(") => {
                self.expect_symbol(")")?;
                Ok(Expression::Key(position))
            }
            word if super::scanner::is_keyword(word) => {
                Err(SqlError::new(position, "expected an expression"))
            }
            _ => self.path_after(word, position),
        }
    }

    fn path_after(&mut self, first: String, position: Position) -> Result<Expression, SqlError> {
        Ok(Expression::Path(self.path_from(first)?, position))
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
