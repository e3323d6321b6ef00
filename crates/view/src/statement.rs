//! `CREATE MATERIALIZED VIEW` and `DROP MATERIALIZED VIEW`.

use datafusion_sql::sqlparser::ast::{
    CreateTableOptions, Expr, ObjectName, Query, SqlOption, Statement as Parsed, Value,
};
use datafusion_sql::sqlparser::dialect::Dialect;
use datafusion_sql::sqlparser::parser::{Parser, ParserError};
use datafusion_sql::sqlparser::tokenizer::{Location as Place, Token, TokenWithSpan, Tokenizer};

use crate::{Error, Indexes, Location, Retain, Stored, ViewOptions};

mod check;
mod depth;
mod migration;

pub use migration::{MigrationAction, MigrationStep, OwnIndex, OwnKind, parse_migration};

/// One statement of a text.
#[derive(Debug, Clone)]
pub enum Statement {
    /// `CREATE MATERIALIZED VIEW`.
    Create(Box<CreateView>),
    /// `DROP MATERIALIZED VIEW`.
    Drop(DropView),
}

/// `CREATE [OR REPLACE] MATERIALIZED VIEW [IF NOT EXISTS] name [WITH (…)] AS SELECT …`.
#[derive(Debug, Clone)]
pub struct CreateView {
    /// Name of the view.
    pub name: String,
    /// Name of which those of its tables are made, where that is another one.
    pub stem: Option<String>,
    /// Whether an existing view of that name is replaced.
    pub replace: bool,
    /// Whether an existing view of that name is left alone.
    pub if_not_exists: bool,
    /// Options of the `WITH` clause.
    pub options: ViewOptions,
    /// The statement's own text, without a trailing semicolon. It parses again to the same statement.
    pub sql: String,
    pub(crate) query: Box<Query>,
    pub(crate) location: Option<Location>,
}

impl CreateView {
    /// Name of which those of the tables are made.
    pub(crate) fn stem(&self) -> &str {
        self.stem.as_deref().unwrap_or(&self.name)
    }
}

/// `DROP MATERIALIZED VIEW [IF EXISTS] name`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DropView {
    /// Name of the view.
    pub name: String,
    /// Whether a missing view is not an error.
    pub if_exists: bool,
}

/// Reads the statements of a text.
///
/// # Errors
/// The first thing that is not one of the two statements, with line and column.
pub fn parse_statements(sql: &str) -> Result<Vec<Statement>, Error> {
    split(sql)?.iter().map(|tokens| parse_statement(sql, tokens)).collect()
}

/// The tokens of each statement, without white space.
fn split(sql: &str) -> Result<Vec<Vec<TokenWithSpan>>, Error> {
    let tokens = Tokenizer::new(&ViewDialect, sql)
        .tokenize_with_location()
        .map_err(|error| Error::syntax(error.message, Location::at(error.location)))?;
    let tokens: Vec<_> =
        tokens.into_iter().filter(|token| !matches!(token.token, Token::Whitespace(_))).collect();
    depth::check(&tokens)?;
    let statements = tokens.split(|token| token.token == Token::SemiColon);
    Ok(statements.filter(|tokens| !tokens.is_empty()).map(<[_]>::to_vec).collect())
}

/// The user's dialect: double-quoted names, and no keyword that takes a relation's name (`user`) away.
#[derive(Debug)]
struct ViewDialect;

impl Dialect for ViewDialect {
    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        ch == '"'
    }

    fn is_identifier_start(&self, ch: char) -> bool {
        ch.is_alphabetic() || ch == '_'
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        ch.is_alphanumeric() || ch == '_'
    }

    fn supports_filter_during_aggregation(&self) -> bool {
        true
    }

    fn supports_group_by_expr(&self) -> bool {
        true
    }
}

/// Reads a query that this crate has written.
pub(crate) fn parse_query(sql: &str) -> Result<Box<Query>, Error> {
    Parser::new(&ViewDialect).try_with_sql(sql).and_then(|mut parser| parser.parse_query()).map_err(syntax)
}

/// Reads an expression that this crate has written.
pub(crate) fn parse_expression(sql: &str) -> Result<Expr, Error> {
    Parser::new(&ViewDialect).try_with_sql(sql).and_then(|mut parser| parser.parse_expr()).map_err(syntax)
}

fn parse_statement(sql: &str, tokens: &[TokenWithSpan]) -> Result<Statement, Error> {
    let words: Vec<String> =
        tokens.iter().take(5).map(|token| token.token.to_string().to_uppercase()).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["CREATE", "MATERIALIZED" | "MATERIALISED", "VIEW", ..]
        | ["CREATE", "OR", "REPLACE", "MATERIALIZED" | "MATERIALISED", ..] => create(sql, tokens),
        ["DROP", "MATERIALIZED" | "MATERIALISED", "VIEW", ..] => drop(tokens),
        _ => Err(Error::syntax(refusal(&words), tokens.first().and_then(|token| Location::of(token.span)))),
    }
}

fn refusal(words: &[&str]) -> String {
    match words {
        ["CREATE" | "ALTER" | "DROP", "POLICY", ..] => {
            "policies are not supported yet; remove the statement, and do not serve the view where it must be restricted"
                .to_owned()
        }
        ["CREATE", "VIEW", ..] => "write CREATE MATERIALIZED VIEW: a plain view has no feed".to_owned(),
        ["DROP", "VIEW", ..] => "write DROP MATERIALIZED VIEW".to_owned(),
        _ => format!(
            "expected CREATE MATERIALIZED VIEW or DROP MATERIALIZED VIEW, found {}",
            words.first().unwrap_or(&"nothing")
        ),
    }
}

fn create(sql: &str, tokens: &[TokenWithSpan]) -> Result<Statement, Error> {
    let mut tokens = tokens.to_vec();
    let (first, last) = (tokens.first().map(|token| token.span), tokens.last().map(|token| token.span));
    let text = match (first, last) {
        (Some(first), Some(last)) => slice(sql, first.start, last.end),
        _ => "",
    };
    for token in tokens.iter_mut().take(4) {
        if token.token.to_string().eq_ignore_ascii_case("materialised") {
            token.token = Token::make_keyword("MATERIALIZED");
        }
    }
    let mut parser = Parser::new(&ViewDialect).with_tokens_with_locations(tokens);
    let parsed = parser.parse_statement().map_err(syntax)?;
    let rest = parser.peek_token();
    if rest.token != Token::EOF {
        let message = format!("expected the end of the statement, found {}", rest.token);
        return Err(Error::syntax(message, Location::of(rest.span)));
    }
    let Parsed::CreateView(view) = parsed else {
        return Err(Error::syntax("expected CREATE MATERIALIZED VIEW", first.and_then(Location::of)));
    };
    let (name, location) = view_name(&view.name)?;
    if !view.columns.is_empty() {
        return Err(Error::unsupported("name the columns in the SELECT: expression AS name", location));
    }
    let options = match view.options {
        CreateTableOptions::None => ViewOptions::default(),
        CreateTableOptions::With(options) => view_options(&options)?,
        _ => return Err(Error::syntax("write the options as WITH (name = value)", location)),
    };
    Ok(Statement::Create(Box::new(CreateView {
        name,
        stem: None,
        replace: view.or_replace,
        if_not_exists: view.if_not_exists,
        options,
        sql: text.to_owned(),
        query: view.query,
        location,
    })))
}

fn drop(tokens: &[TokenWithSpan]) -> Result<Statement, Error> {
    let mut parser = Parser::new(&ViewDialect).with_tokens_with_locations(tokens[3..].to_vec());
    let if_exists = parser.parse_keywords(&[
        datafusion_sql::sqlparser::keywords::Keyword::IF,
        datafusion_sql::sqlparser::keywords::Keyword::EXISTS,
    ]);
    let (name, _) = view_name(&parser.parse_object_name(false).map_err(syntax)?)?;
    let rest = parser.peek_token();
    if rest.token != Token::EOF {
        let message =
            format!("expected the end of the statement, found {}; drop one view at a time", rest.token);
        return Err(Error::syntax(message, Location::of(rest.span)));
    }
    Ok(Statement::Drop(DropView { name, if_exists }))
}

/// The name of a view: also a table name and a subject token, so it is kept simple.
fn view_name(name: &ObjectName) -> Result<(String, Option<Location>), Error> {
    let ident = match name.0.as_slice() {
        [part] => part.as_ident(),
        _ => None,
    };
    let Some(ident) = ident else {
        return Err(Error::definition(format!("a view's name has one part, not {name}"), None));
    };
    let location = Location::of(ident.span);
    let text = &ident.value;
    let simple = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if text.is_empty() || text.len() > 64 || !simple || text.starts_with(|first: char| first.is_ascii_digit())
    {
        let message = "a view's name is up to 64 letters, digits and _, and does not begin with a digit";
        return Err(Error::definition(message, location));
    }
    let lower = text.to_ascii_lowercase();
    if lower.starts_with("sqlite_") || lower.starts_with("__deltamesh") || lower.contains("__") {
        return Err(Error::definition(
            format!("the name {text} is reserved; avoid sqlite_ and double _"),
            location,
        ));
    }
    Ok((text.clone(), location))
}

fn view_options(options: &[SqlOption]) -> Result<ViewOptions, Error> {
    let mut read = ViewOptions::default();
    for option in options {
        let SqlOption::KeyValue { key, value } = option else {
            return Err(Error::syntax(format!("write the option {option} as name = value"), None));
        };
        let location = Location::of(key.span);
        let text = match value {
            Expr::Identifier(ident) => ident.value.clone(),
            Expr::Value(value) => match &value.value {
                Value::SingleQuotedString(text) => text.clone(),
                other => {
                    return Err(Error::definition(format!("option {key} is a text, not {other}"), location));
                }
            },
            other => return Err(Error::definition(format!("option {key} is a text, not {other}"), location)),
        };
        let choice = |allowed: &str| {
            Error::definition(format!("option {key} is one of {allowed}, not {text}"), location)
        };
        match key.value.to_ascii_lowercase().as_str() {
            "key" => read.key = column_list(&text),
            "subject" => read.subject = column_list(&text),
            "stored" => {
                read.stored = match text.to_ascii_lowercase().as_str() {
                    "auto" => Stored::Auto,
                    "always" => Stored::Always,
                    "never" => Stored::Never,
                    _ => return Err(choice("auto, always, never")),
                }
            }
            "retain" => {
                read.retain = match text.to_ascii_lowercase().as_str() {
                    "changes" => Retain::Changes,
                    "last" => Retain::Last,
                    _ => return Err(choice("changes, last")),
                }
            }
            "indexes" => {
                read.indexes = match text.to_ascii_lowercase().as_str() {
                    "auto" => Indexes::Auto,
                    "now" => Indexes::Now,
                    _ => return Err(choice("auto, now")),
                }
            }
            _ => {
                let message = format!("no option {key}; there are key, subject, stored, retain, indexes");
                return Err(Error::definition(message, location));
            }
        }
    }
    Ok(read)
}

fn column_list(text: &str) -> Vec<String> {
    text.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect()
}

/// The parser puts the place at the end of its message.
fn syntax(error: ParserError) -> Error {
    let (ParserError::ParserError(message) | ParserError::TokenizerError(message)) = error else {
        return Error::syntax("the expression is nested too deeply", None);
    };
    let Some((text, place)) = message.split_once(" at Line: ") else {
        return Error::syntax(message, None);
    };
    let mut numbers = place.split(", Column: ").map(|number| number.trim().parse().unwrap_or(0));
    let location = Place { line: numbers.next().unwrap_or(0), column: numbers.next().unwrap_or(0) };
    Error::syntax(text.to_lowercase(), Location::at(location))
}

/// The part of the text from one place to another (exclusive); columns count characters.
fn slice(sql: &str, start: Place, end: Place) -> &str {
    let offset = |place: Place| {
        let line = usize::try_from(place.line.saturating_sub(1)).unwrap_or(usize::MAX);
        let column = usize::try_from(place.column.saturating_sub(1)).unwrap_or(usize::MAX);
        let line_start: usize = sql.split_inclusive('\n').take(line).map(str::len).sum();
        let rest = sql.get(line_start..).unwrap_or("");
        line_start + rest.char_indices().nth(column).map_or(rest.len(), |(offset, _)| offset)
    };
    sql.get(offset(start)..offset(end)).unwrap_or(sql).trim_end()
}

#[cfg(test)]
mod tests;
