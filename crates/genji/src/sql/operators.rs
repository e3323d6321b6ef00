//! Parses expressions: operators by precedence, left to right.

use super::SqlError;
use super::expression::{Expression, Operator};
use super::parser::Parser;
use super::scanner::Token;

/// Operators of one expression beyond this are refused: each deepens the tree that evaluation descends.
const MAX_OPERATORS: usize = 1000;
/// The precedence of BETWEEN and its siblings.
const COMPARISON: u8 = 4;

/// What stands between two operands.
enum Infix {
    Operator(Operator),
    Between,
}

impl Infix {
    fn precedence(&self) -> u8 {
        match self {
            Self::Operator(operator) => operator.precedence(),
            Self::Between => COMPARISON,
        }
    }
}

impl Parser {
    /// Parses an expression.
    pub(crate) fn expression(&mut self) -> Result<Expression, SqlError> {
        if self.is_outermost() {
            self.operators = 0;
        }
        self.expression_from(0)
    }

    /// Parses an expression as far as its operators bind at least so tightly.
    pub(crate) fn expression_from(&mut self, precedence: u8) -> Result<Expression, SqlError> {
        let mut left = self.operand()?;
        while let Some((infix, tokens)) = self.infix() {
            if infix.precedence() < precedence {
                break;
            }
            self.operators += 1;
            if self.operators > MAX_OPERATORS {
                return Err(self.error(format!("more than {MAX_OPERATORS} operators in an expression")));
            }
            self.skip(tokens);
            left = match infix {
                Infix::Operator(operator) => {
                    let right = self.expression_from(operator.precedence() + 1)?;
                    Expression::Binary(Box::new(left), operator, Box::new(right))
                }
                Infix::Between => {
                    let low = self.expression_from(COMPARISON)?;
                    self.expect_keyword("and")?;
                    let high = self.expression_from(COMPARISON + 1)?;
                    Expression::Between(Box::new([left, low, high]))
                }
            };
        }
        Ok(left)
    }

    /// The operator that is next, and how many tokens it takes.
    fn infix(&self) -> Option<(Infix, usize)> {
        let operator = match self.peek() {
            Token::Symbol(symbol) => match *symbol {
                "=" | "==" => Operator::Equal,
                "!=" | "<>" => Operator::NotEqual,
                "<" => Operator::Less,
                "<=" => Operator::LessOrEqual,
                ">" => Operator::Greater,
                ">=" => Operator::GreaterOrEqual,
                "&" => Operator::BitAnd,
                "|" => Operator::BitOr,
                "^" => Operator::BitXor,
                "+" => Operator::Add,
                "-" => Operator::Subtract,
                "*" => Operator::Multiply,
                "/" => Operator::Divide,
                "%" => Operator::Remainder,
                "||" => Operator::Concatenate,
                _ => return None,
            },
            Token::Word(_) => return self.word_infix(),
            _ => return None,
        };
        Some((Infix::Operator(operator), 1))
    }

    fn word_infix(&self) -> Option<(Infix, usize)> {
        let operator = if self.at_keyword("and") {
            (Operator::And, 1)
        } else if self.at_keyword("or") {
            (Operator::Or, 1)
        } else if self.at_keyword("in") {
            (Operator::In, 1)
        } else if self.at_keyword("like") {
            (Operator::Like, 1)
        } else if self.at_keywords("not", "in") {
            (Operator::NotIn, 2)
        } else if self.at_keywords("not", "like") {
            (Operator::NotLike, 2)
        } else if self.at_keywords("is", "not") {
            (Operator::IsNot, 2)
        } else if self.at_keyword("is") {
            (Operator::Is, 1)
        } else if self.at_keyword("between") {
            return Some((Infix::Between, 1));
        } else {
            return None;
        };
        Some((Infix::Operator(operator.0), operator.1))
    }
}
