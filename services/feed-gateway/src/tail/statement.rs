//! The statements of a cursor: `DECLARE name CURSOR FOR TAIL view …`, `FETCH n FROM name`, `CLOSE name`.

use std::time::Duration;

use deltamesh_nats_grpc::Status;
use serde_json::{Number, Value as Json};
use sqlparser::dialect::SQLiteDialect;
use sqlparser::tokenizer::{Token, Tokenizer, Whitespace};

/// A FETCH waits no longer; who wants to wait asks again.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// One statement.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Statement {
    Declare { name: String, tail: Tail },
    Fetch { from: Named, count: usize, wait: Duration },
    Close(Named),
}

/// What a cursor follows.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tail {
    pub(super) view: String,
    pub(super) start: Start,
    /// Column, or column and names within its document; and the value that must stand there.
    pub(super) conditions: Vec<(String, Json)>,
}

/// Where a cursor begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Start {
    /// With a snapshot.
    Rows,
    /// With the next change.
    Now,
    /// Behind a feed position.
    Position(u64),
    /// Behind a cursor that was given out.
    Cursor(String),
}

/// A cursor: by the name that this request gave it, or by its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Named {
    Name(String),
    Text(String),
}

/// The statements of a request; nothing where it does not begin with one of them.
pub(super) fn parse(sql: &str, parameters: &[Json]) -> Result<Option<Vec<Statement>>, Status> {
    let first = sql.trim_start().split(|letter: char| !letter.is_ascii_alphabetic()).next();
    if !first.is_some_and(|first| is_any(first, &["DECLARE", "FETCH", "CLOSE", "TAIL"])) {
        return Ok(None);
    }
    let tokens = Tokenizer::new(&SQLiteDialect {}, sql).tokenize();
    let tokens = tokens.map_err(|error| Status::invalid_argument(error.to_string()))?;
    let tokens = tokens.into_iter().filter(|token| {
        !matches!(
            token,
            Token::Whitespace(
                Whitespace::Space
                    | Whitespace::Newline
                    | Whitespace::Tab
                    | Whitespace::SingleLineComment { .. }
                    | Whitespace::MultiLineComment(_)
            )
        )
    });
    let mut parser = Parser { tokens: tokens.collect::<Vec<_>>().into_iter().peekable(), parameters };
    let mut statements = Vec::new();
    while parser.tokens.peek().is_some() {
        if parser.tokens.next_if_eq(&Token::SemiColon).is_none() {
            statements.push(parser.statement()?);
        }
    }
    Ok(Some(statements))
}

fn is_any(word: &str, words: &[&str]) -> bool {
    words.iter().any(|known| known.eq_ignore_ascii_case(word))
}

struct Parser<'a> {
    tokens: std::iter::Peekable<std::vec::IntoIter<Token>>,
    parameters: &'a [Json],
}

impl Parser<'_> {
    fn statement(&mut self) -> Result<Statement, Status> {
        let statement = match self.keyword(&["DECLARE", "FETCH", "CLOSE", "TAIL"])? {
            "DECLARE" => self.declare()?,
            "FETCH" => self.fetch()?,
            "CLOSE" => Statement::Close(self.cursor()?),
            _ => return Err(bad("TAIL is read through a cursor: DECLARE name CURSOR FOR TAIL view")),
        };
        match self.tokens.peek() {
            None | Some(Token::SemiColon) => Ok(statement),
            Some(token) => Err(bad(&format!("{token} is not expected here"))),
        }
    }

    fn declare(&mut self) -> Result<Statement, Status> {
        let name = self.name("a name of the cursor")?;
        for word in ["CURSOR", "FOR", "TAIL"] {
            self.keyword(&[word])?;
        }
        let view = self.name("a view")?;
        let start = if self.accepts("AS") {
            self.keyword(&["OF"])?;
            if self.accepts("NOW") { Start::Now } else { Start::Position(self.position()?) }
        } else if self.accepts("FROM") {
            Start::Cursor(self.text("a cursor")?)
        } else {
            Start::Rows
        };
        let mut conditions = Vec::new();
        if self.accepts("WHERE") {
            loop {
                conditions.push(self.condition()?);
                if !self.accepts("AND") {
                    break;
                }
            }
        }
        Ok(Statement::Declare { name, tail: Tail { view, start, conditions } })
    }

    fn condition(&mut self) -> Result<(String, Json), Status> {
        let mut column = self.name("a column")?;
        while self.tokens.next_if_eq(&Token::Period).is_some() {
            column = format!("{column}.{}", self.name("a name within the column")?);
        }
        self.expect(&Token::Eq)?;
        Ok((column, self.value()?))
    }

    fn fetch(&mut self) -> Result<Statement, Status> {
        self.accepts("FORWARD");
        let count = if self.accepts("ALL") {
            usize::MAX
        } else if matches!(self.tokens.peek(), Some(Token::Number(..) | Token::Placeholder(_))) {
            usize::try_from(self.position()?).unwrap_or(usize::MAX)
        } else {
            self.accepts("NEXT");
            1
        };
        if count == 0 {
            return Err(bad("FETCH takes at least one change"));
        }
        if !self.accepts("FROM") {
            self.accepts("IN");
        }
        let from = self.cursor()?;
        let wait = if self.accepts("WITH") { self.wait()? } else { Duration::ZERO };
        Ok(Statement::Fetch { from, count, wait })
    }

    /// `(timeout = '5s')`.
    fn wait(&mut self) -> Result<Duration, Status> {
        self.expect(&Token::LParen)?;
        self.keyword(&["TIMEOUT"])?;
        self.expect(&Token::Eq)?;
        let text = self.text("a time")?;
        self.expect(&Token::RParen)?;
        let wait = duration(&text).ok_or_else(|| bad("timeout is a time like '500ms', '5s' or '1m'"))?;
        if wait > LONGEST_WAIT {
            return Err(bad(&format!("timeout is {} s at most", LONGEST_WAIT.as_secs())));
        }
        Ok(wait)
    }

    fn cursor(&mut self) -> Result<Named, Status> {
        match self.tokens.peek() {
            Some(Token::Word(_)) => self.name("a cursor").map(Named::Name),
            _ => self.text("a cursor").map(Named::Text),
        }
    }

    /// Takes one of these words.
    fn keyword(&mut self, words: &[&'static str]) -> Result<&'static str, Status> {
        let token = self.tokens.next();
        let found = match &token {
            Some(Token::Word(word)) if word.quote_style.is_none() => {
                words.iter().find(|known| known.eq_ignore_ascii_case(&word.value))
            }
            _ => None,
        };
        found.copied().ok_or_else(|| expected(&words.join(" or "), token.as_ref()))
    }

    fn accepts(&mut self, word: &str) -> bool {
        let is_it = |token: &Token| matches!(token, Token::Word(found) if found.quote_style.is_none() && found.value.eq_ignore_ascii_case(word));
        self.tokens.next_if(is_it).is_some()
    }

    fn expect(&mut self, wanted: &Token) -> Result<(), Status> {
        let token = self.tokens.next();
        if token.as_ref() == Some(wanted) {
            Ok(())
        } else {
            Err(expected(&wanted.to_string(), token.as_ref()))
        }
    }

    fn name(&mut self, what: &str) -> Result<String, Status> {
        match self.tokens.next() {
            Some(Token::Word(word)) => Ok(word.value),
            token => Err(expected(what, token.as_ref())),
        }
    }

    fn text(&mut self, what: &str) -> Result<String, Status> {
        match self.value()? {
            Json::String(text) => Ok(text),
            _ => Err(bad(&format!("{what} is a text"))),
        }
    }

    fn position(&mut self) -> Result<u64, Status> {
        self.value()?.as_u64().ok_or_else(|| bad("a number is expected, not below 0"))
    }

    /// A literal or a parameter.
    fn value(&mut self) -> Result<Json, Status> {
        let token = self.tokens.next();
        let value = match &token {
            Some(Token::SingleQuotedString(text)) => Some(Json::String(text.clone())),
            Some(Token::Number(text, _)) => number(text),
            Some(Token::Minus) => match self.tokens.next() {
                Some(Token::Number(text, _)) => number(&format!("-{text}")),
                _ => None,
            },
            Some(Token::Placeholder(text)) => Some(self.parameter(text)?),
            Some(Token::Word(word)) if word.quote_style.is_none() => match &word.value {
                value if value.eq_ignore_ascii_case("true") => Some(Json::Bool(true)),
                value if value.eq_ignore_ascii_case("false") => Some(Json::Bool(false)),
                value if value.eq_ignore_ascii_case("null") => Some(Json::Null),
                _ => None,
            },
            _ => None,
        };
        value.ok_or_else(|| expected("a value", token.as_ref()))
    }

    fn parameter(&self, text: &str) -> Result<Json, Status> {
        let number = text.trim_start_matches(['?', '$']).parse::<usize>().ok();
        let value = number.and_then(|number| self.parameters.get(number.checked_sub(1)?));
        value.cloned().ok_or_else(|| bad(&format!("parameter {text} was not given")))
    }
}

fn number(text: &str) -> Option<Json> {
    let whole = text.parse::<i64>().ok().map(Json::from);
    whole.or_else(|| text.parse().ok().and_then(Number::from_f64).map(Json::Number))
}

fn duration(text: &str) -> Option<Duration> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let number = digits.parse::<u32>().ok()?;
    let unit = match &text[digits.len()..] {
        "ms" => Duration::from_millis(1),
        "s" => Duration::from_secs(1),
        "m" => Duration::from_secs(60),
        _ => return None,
    };
    unit.checked_mul(number)
}

fn expected(what: &str, found: Option<&Token>) -> Status {
    match found {
        Some(token) => bad(&format!("{what} is expected, not {token}")),
        None => bad(&format!("{what} is expected at the end")),
    }
}

fn bad(reason: &str) -> Status {
    Status::invalid_argument(reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(sql: &str) -> Statement {
        parse(sql, &["given".into(), 7.into()]).unwrap().unwrap().remove(0)
    }

    #[test]
    fn statements() {
        let declare = |start: Start, conditions: &[(&str, Json)]| Statement::Declare {
            name: "c".into(),
            tail: Tail {
                view: "v".into(),
                start,
                conditions: conditions
                    .iter()
                    .map(|(name, value)| ((*name).to_owned(), value.clone()))
                    .collect(),
            },
        };
        assert_eq!(one("declare c cursor for tail v;"), declare(Start::Rows, &[]));
        assert_eq!(one("DECLARE c CURSOR FOR TAIL \"v\" AS OF NOW"), declare(Start::Now, &[]));
        assert_eq!(one("DECLARE c CURSOR FOR TAIL v AS OF ?2"), declare(Start::Position(7), &[]));
        let conditions = [("a", "x".into()), ("b.c", Json::from(-1)), ("d", Json::Bool(true))];
        assert_eq!(
            one("DECLARE c CURSOR FOR TAIL v FROM ?1 WHERE a = 'x' AND b.c = -1 AND d = TRUE"),
            declare(Start::Cursor("given".into()), &conditions)
        );
        let fetch = |from: Named, count: usize, milliseconds: u64| Statement::Fetch {
            from,
            count,
            wait: Duration::from_millis(milliseconds),
        };
        assert_eq!(one("FETCH c"), fetch(Named::Name("c".into()), 1, 0));
        assert_eq!(one("FETCH ALL IN c"), fetch(Named::Name("c".into()), usize::MAX, 0));
        let text = Named::Text("given".into());
        assert_eq!(one("FETCH FORWARD 10 FROM ?1 WITH (timeout = '1500ms')"), fetch(text.clone(), 10, 1500));
        assert_eq!(one("CLOSE 'given' -- done"), Statement::Close(text));
        assert_eq!(parse("SELECT 'FETCH'", &[]).unwrap(), None);
        assert_eq!(parse("FETCH c; ; CLOSE c", &[]).unwrap().unwrap().len(), 2);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let check = |sql: &str, reason: &str| {
            assert_eq!(parse(sql, &[]).unwrap_err().message, reason, "{sql}");
        };
        check("TAIL v", "TAIL is read through a cursor: DECLARE name CURSOR FOR TAIL view");
        check("DECLARE c CURSOR FOR SELECT 1", "TAIL is expected, not SELECT");
        check("DECLARE c CURSOR FOR TAIL", "a view is expected at the end");
        check("FETCH 0 FROM c", "FETCH takes at least one change");
        check("FETCH 1 FROM c WITH (timeout = '2h')", "timeout is a time like '500ms', '5s' or '1m'");
        check("FETCH 1 FROM c WITH (timeout = '2m')", "timeout is 60 s at most");
        check("FETCH 1 FROM ?1", "parameter ?1 was not given");
        check("CLOSE c d", "d is not expected here");
    }
}
