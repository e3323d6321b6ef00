//! Parses CREATE SEQUENCE.

use super::SqlError;
use super::parser::Parser;
use super::scanner::{Position, Token};
use crate::catalog::SequenceDefinition;

/// The options as they were written, before those left out are filled in.
#[derive(Default)]
struct Options {
    has_type: bool,
    increment: Option<i64>,
    /// `Some(None)` is NO MINVALUE.
    min: Option<Option<i64>>,
    max: Option<Option<i64>>,
    start: Option<i64>,
    cache: Option<i64>,
    cycle: Option<bool>,
}

impl Parser {
    /// Parses what follows SEQUENCE.
    pub(crate) fn sequence(&mut self) -> Result<SequenceDefinition, SqlError> {
        let position = self.position();
        let name = self.identifier()?;
        let mut options = Options::default();
        while self.sequence_option(&mut options)? {}
        options.definition(name, position)
    }

    /// Takes one option; false where there is none.
    fn sequence_option(&mut self, options: &mut Options) -> Result<bool, SqlError> {
        let position = self.position();
        let fresh = if self.take_keyword("as") {
            if self.named_type()? != Some(crate::catalog::FieldType::Integer) {
                return Err(SqlError::new(position, "a sequence is of integers"));
            }
            !std::mem::replace(&mut options.has_type, true)
        } else if self.take_keyword("increment") {
            self.take_keyword("by");
            options.increment.replace(self.signed_integer()?).is_none()
        } else if self.take_keyword("minvalue") {
            options.min.replace(Some(self.signed_integer()?)).is_none()
        } else if self.take_keyword("maxvalue") {
            options.max.replace(Some(self.signed_integer()?)).is_none()
        } else if self.take_keyword("start") {
            self.take_keyword("with");
            options.start.replace(self.signed_integer()?).is_none()
        } else if self.take_keyword("cache") {
            options.cache.replace(self.signed_integer()?).is_none()
        } else if self.take_keyword("cycle") {
            options.cycle.replace(true).is_none()
        } else if self.take_keyword("no") {
            if self.take_keyword("minvalue") {
                options.min.replace(None).is_none()
            } else if self.take_keyword("maxvalue") {
                options.max.replace(None).is_none()
            } else {
                self.expect_keyword("cycle")?;
                options.cycle.replace(false).is_none()
            }
        } else {
            return Ok(false);
        };
        if fresh { Ok(true) } else { Err(SqlError::new(position, "option is given twice")) }
    }

    fn signed_integer(&mut self) -> Result<i64, SqlError> {
        let position = self.position();
        let negative = self.take_symbol("-");
        if !negative {
            self.take_symbol("+");
        }
        match self.advance() {
            Token::Integer(value) => Ok(if negative { -value } else { value }),
            Token::Number(value) if negative && value == 9_223_372_036_854_775_808.0 => Ok(i64::MIN),
            _ => Err(SqlError::new(position, "expected an integer")),
        }
    }
}

impl Options {
    /// The definition with what Genji leaves out of its text left out.
    fn definition(self, name: String, position: Position) -> Result<SequenceDefinition, SqlError> {
        let refuse = |reason: &str| Err(SqlError::new(position, reason));
        let increment = self.increment.unwrap_or(1);
        if increment == 0 {
            return refuse("INCREMENT must not be zero");
        }
        if self.cache.is_some_and(i64::is_negative) {
            return refuse("CACHE must not be negative");
        }
        let kept = |value: Option<i64>, usual: i64| value.filter(|value| *value != usual);
        let definition = SequenceDefinition {
            name,
            increment: kept(Some(increment), 1),
            min: kept(self.min.flatten(), if increment > 0 { 1 } else { i64::MIN }),
            max: kept(self.max.flatten(), if increment > 0 { i64::MAX } else { -1 }),
            start: self.start,
            cache: kept(self.cache, 1),
            cycle: self.cycle.unwrap_or_default(),
        };
        let (min, max) = definition.bounds();
        if min > max {
            return refuse("MINVALUE is above MAXVALUE");
        }
        let start = definition.first();
        if start < min || start > max {
            return refuse("START is outside of MINVALUE and MAXVALUE");
        }
        let usual = if increment > 0 { min } else { max };
        Ok(SequenceDefinition { start: kept(Some(start), usual), ..definition })
    }
}

impl SequenceDefinition {
    /// Step from one value to the next; never zero.
    #[must_use]
    pub fn step(&self) -> i64 {
        self.increment.filter(|step| *step != 0).unwrap_or(1)
    }

    /// Lowest and highest value.
    #[must_use]
    pub fn bounds(&self) -> (i64, i64) {
        if self.step() > 0 {
            (self.min.unwrap_or(1), self.max.unwrap_or(i64::MAX))
        } else {
            (self.min.unwrap_or(i64::MIN), self.max.unwrap_or(-1))
        }
    }

    /// First value.
    #[must_use]
    pub fn first(&self) -> i64 {
        let (min, max) = self.bounds();
        self.start.unwrap_or(if self.step() > 0 { min } else { max })
    }
}

#[cfg(test)]
mod tests {
    use crate::sql::{Statement, parse};

    fn check(options: &str, expected: &str) {
        let text = match parse(&format!("CREATE SEQUENCE s {options}")) {
            Ok(Statement::CreateSequence { definition, .. }) => definition.to_string(),
            other => other.map(|other| format!("{other:?}")).unwrap_or_else(|error| error.to_string()),
        };
        assert_eq!(text, expected, "{options}");
    }

    #[test]
    fn options_and_their_text() {
        check("", "CREATE SEQUENCE s");
        check("AS INT INCREMENT 1 MINVALUE 1 NO MAXVALUE START 1 CACHE 1 NO CYCLE", "CREATE SEQUENCE s");
        check(
            "INCREMENT BY -2 MINVALUE -9 START WITH -3 CYCLE",
            "CREATE SEQUENCE s INCREMENT BY -2 MINVALUE -9 START WITH -3 CYCLE",
        );
        check("MINVALUE 5 CACHE 10", "CREATE SEQUENCE s MINVALUE 5 CACHE 10");
        check("INCREMENT 0", "INCREMENT must not be zero at line 1, column 17");
        check("CACHE 1 CACHE 1", "option is given twice at line 1, column 27");
        check("START 0", "START is outside of MINVALUE and MAXVALUE at line 1, column 17");
        check("MINVALUE 3 MAXVALUE 2", "MINVALUE is above MAXVALUE at line 1, column 17");
    }
}
