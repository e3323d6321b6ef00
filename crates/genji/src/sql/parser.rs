//! Parses statements.

use super::SqlError;
use super::expression::Expression;
use super::scanner::{Position, Token, is_keyword, scan};
use super::statement::{Change, Insert, Object, OnConflict, Rows, Statement};
use crate::Error;
use crate::catalog::{Path, PathSegment};

/// Nesting beyond this is refused, so that hostile text cannot exhaust the stack.
const MAX_DEPTH: usize = 100;

/// Parses exactly one statement; a semicolon may end it.
///
/// # Errors
/// [`crate::ErrorKind::Syntax`] with line, column and reason.
pub fn parse(sql: &str) -> Result<Statement, Error> {
    let mut parser = Parser::new(sql)?;
    let statement = parser.statement()?;
    parser.take_symbol(";");
    parser.expect_end()?;
    Ok(statement)
}

/// Parses statements separated by semicolons.
///
/// # Errors
/// [`crate::ErrorKind::Syntax`] with line, column and reason.
pub fn parse_statements(sql: &str) -> Result<Vec<Statement>, Error> {
    let mut parser = Parser::new(sql)?;
    let mut statements = Vec::new();
    loop {
        while parser.take_symbol(";") {}
        if *parser.peek() == Token::End {
            return Ok(statements);
        }
        statements.push(parser.statement()?);
        if *parser.peek() != Token::End {
            parser.expect_symbol(";")?;
        }
    }
}

/// Parses an expression that stands alone, such as a DEFAULT of the catalog.
pub(crate) fn parse_expression(sql: &str) -> Result<Expression, SqlError> {
    let mut parser = Parser::new(sql)?;
    let expression = parser.expression()?;
    parser.expect_end()?;
    Ok(expression)
}

/// Tokens and how far they were read.
pub(crate) struct Parser {
    tokens: Vec<(Token, Position)>,
    at: usize,
    parameters: usize,
    has_named: bool,
    depth: usize,
    /// Operators of the expression that is being parsed.
    pub(crate) operators: usize,
}

impl Parser {
    pub(crate) fn new(sql: &str) -> Result<Self, SqlError> {
        Ok(Self { tokens: scan(sql)?, at: 0, parameters: 0, has_named: false, depth: 0, operators: 0 })
    }

    pub(crate) fn peek(&self) -> &Token {
        self.tokens.get(self.at).map_or(&Token::End, |(token, _)| token)
    }

    pub(crate) fn position(&self) -> Position {
        self.tokens.get(self.at).or(self.tokens.last()).map(|(_, position)| *position).unwrap_or_default()
    }

    pub(crate) fn advance(&mut self) -> Token {
        let token = self.peek().clone();
        self.at += 1;
        token
    }

    pub(crate) fn error(&self, reason: impl Into<String>) -> SqlError {
        SqlError::new(self.position(), reason)
    }

    /// Goes on by some tokens.
    pub(crate) fn skip(&mut self, tokens: usize) {
        self.at += tokens;
    }

    /// Index of the next positional parameter.
    pub(crate) fn next_parameter(&mut self, position: Position) -> Result<usize, SqlError> {
        if self.has_named {
            return Err(SqlError::new(position, "? and $name cannot be mixed"));
        }
        self.parameters += 1;
        Ok(self.parameters - 1)
    }

    /// Notes a parameter with a name.
    pub(crate) fn named_parameter(&mut self, position: Position) -> Result<(), SqlError> {
        self.has_named = true;
        if self.parameters > 0 {
            return Err(SqlError::new(position, "? and $name cannot be mixed"));
        }
        Ok(())
    }

    /// Whether nothing encloses what is being parsed.
    pub(crate) fn is_outermost(&self) -> bool {
        self.depth == 0
    }

    /// Goes one level deeper into a nested expression or definition.
    pub(crate) fn enter(&mut self, position: Position) -> Result<(), SqlError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH { Err(SqlError::new(position, "nested too deep")) } else { Ok(()) }
    }

    pub(crate) fn leave(&mut self) {
        self.depth -= 1;
    }

    pub(crate) fn at_keyword(&self, keyword: &str) -> bool {
        matches!(self.peek(), Token::Word(word) if word.eq_ignore_ascii_case(keyword))
    }

    pub(crate) fn at_keywords(&self, first: &str, second: &str) -> bool {
        let is = |ahead: usize, keyword: &str| matches!(self.tokens.get(self.at + ahead), Some((Token::Word(word), _)) if word.eq_ignore_ascii_case(keyword));
        is(0, first) && is(1, second)
    }

    /// Whether `.name(` follows.
    pub(crate) fn at_method(&self) -> bool {
        let ahead = |tokens: usize| self.tokens.get(self.at + tokens).map(|(token, _)| token);
        let is = |token: Option<&Token>, symbol: &str| matches!(token, Some(Token::Symbol(next)) if *next == symbol);
        is(ahead(0), ".") && matches!(ahead(1), Some(Token::Word(_))) && is(ahead(2), "(")
    }

    pub(crate) fn take_keyword(&mut self, keyword: &str) -> bool {
        let found = self.at_keyword(keyword);
        self.at += usize::from(found);
        found
    }

    pub(crate) fn expect_keyword(&mut self, keyword: &str) -> Result<(), SqlError> {
        if self.take_keyword(keyword) {
            Ok(())
        } else {
            Err(self.error(format!("expected {}", keyword.to_ascii_uppercase())))
        }
    }

    pub(crate) fn take_symbol(&mut self, symbol: &str) -> bool {
        let found = matches!(self.peek(), Token::Symbol(next) if *next == symbol);
        self.at += usize::from(found);
        found
    }

    pub(crate) fn expect_symbol(&mut self, symbol: &str) -> Result<(), SqlError> {
        if self.take_symbol(symbol) { Ok(()) } else { Err(self.error(format!("expected {symbol}"))) }
    }

    fn expect_end(&self) -> Result<(), SqlError> {
        if *self.peek() == Token::End {
            Ok(())
        } else {
            Err(self.error("unexpected text after the statement"))
        }
    }

    /// Takes a name; a bare keyword is none.
    pub(crate) fn identifier(&mut self) -> Result<String, SqlError> {
        let position = self.position();
        match self.advance() {
            Token::Quoted(name) => Ok(name),
            Token::Word(word) if !is_keyword(&word) => Ok(word),
            Token::Word(_) => Err(SqlError::new(position, "expected a name, found a keyword")),
            _ => Err(SqlError::new(position, "expected a name")),
        }
    }

    /// Takes a path of names and array indexes.
    pub(crate) fn path(&mut self) -> Result<Path, SqlError> {
        let first = self.identifier()?;
        self.path_from(first)
    }

    /// Takes the rest of a path whose first name was taken.
    pub(crate) fn path_from(&mut self, first: String) -> Result<Path, SqlError> {
        let mut segments = vec![PathSegment::Field(first)];
        loop {
            if self.take_symbol(".") {
                segments.push(PathSegment::Field(self.identifier()?));
            } else if self.take_symbol("[") {
                let position = self.position();
                let index = match self.advance() {
                    Token::Integer(index) => usize::try_from(index).ok(),
                    _ => None,
                };
                let index = index.ok_or_else(|| SqlError::new(position, "expected an array index"))?;
                segments.push(PathSegment::Index(index));
                self.expect_symbol("]")?;
            } else {
                return Ok(Path(segments));
            }
        }
    }

    /// Takes items separated by commas up to the closing symbol; there may be none.
    pub(crate) fn list<T>(
        &mut self,
        close: &str,
        item: impl Fn(&mut Self) -> Result<T, SqlError>,
    ) -> Result<Vec<T>, SqlError> {
        let mut items = Vec::new();
        if self.take_symbol(close) {
            return Ok(items);
        }
        loop {
            items.push(item(self)?);
            if self.take_symbol(close) {
                return Ok(items);
            }
            if !self.take_symbol(",") {
                return Err(self.error(format!("expected , or {close}")));
            }
        }
    }

    fn statement(&mut self) -> Result<Statement, SqlError> {
        let Token::Word(word) = self.peek().clone() else {
            return Err(self.error("expected a statement"));
        };
        self.at += 1;
        match word.to_ascii_lowercase().as_str() {
            "create" => self.create(),
            "alter" => self.alter(),
            "drop" => self.drop_object(),
            "select" => self.select().map(Statement::Select),
            "insert" => {
                self.expect_keyword("into")?;
                self.insert().map(Statement::Insert)
            }
            "update" => self.update(),
            "delete" => {
                self.expect_keyword("from")?;
                let table = self.identifier()?;
                Ok(Statement::Delete { table, filter: self.filter()?, window: self.window()? })
            }
            "reindex" => {
                let name = if matches!(self.peek(), Token::Word(_) | Token::Quoted(_)) {
                    Some(self.identifier()?)
                } else {
                    None
                };
                Ok(Statement::Reindex { name })
            }
            "explain" => Err(self.error("EXPLAIN is not supported")),
            "begin" => self.begin(),
            "commit" => {
                self.take_keyword("transaction");
                Ok(Statement::Commit)
            }
            "rollback" => {
                self.take_keyword("transaction");
                Ok(Statement::Rollback)
            }
            _ => {
                self.at -= 1;
                Err(self.error("expected a statement"))
            }
        }
    }

    fn begin(&mut self) -> Result<Statement, SqlError> {
        self.take_keyword("transaction");
        let mut read_only = false;
        if self.take_keyword("read") {
            read_only = self.take_keyword("only");
            if !read_only {
                self.expect_keyword("write")?;
            }
        }
        Ok(Statement::Begin { read_only })
    }

    fn drop_object(&mut self) -> Result<Statement, SqlError> {
        let object = if self.take_keyword("table") {
            Object::Table
        } else if self.take_keyword("sequence") {
            Object::Sequence
        } else if self.take_keyword("index") {
            Object::Index
        } else {
            return Err(self.error("expected TABLE, INDEX or SEQUENCE"));
        };
        let if_exists = self.take_keyword("if");
        if if_exists {
            self.expect_keyword("exists")?;
        }
        Ok(Statement::Drop { object, if_exists, name: self.identifier()? })
    }

    fn insert(&mut self) -> Result<Insert, SqlError> {
        let table = self.identifier()?;
        let fields = if self.take_symbol("(") { Some(self.list(")", Self::identifier)?) } else { None };
        let rows = if self.take_keyword("select") {
            Rows::Query(Box::new(self.select()?), fields)
        } else {
            self.expect_keyword("values")?;
            self.rows(fields.as_deref())?
        };
        let on_conflict = self.on_conflict()?;
        let returning = if self.take_keyword("returning") { self.projections()? } else { Vec::new() };
        Ok(Insert { table, rows, on_conflict, returning })
    }

    fn rows(&mut self, fields: Option<&[String]>) -> Result<Rows, SqlError> {
        let is_list = matches!(self.peek(), Token::Symbol("("));
        if fields.is_none() && is_list {
            let mut lists = Vec::new();
            loop {
                self.expect_symbol("(")?;
                lists.push(self.list(")", Self::expression)?);
                if !self.take_symbol(",") {
                    return Ok(Rows::Lists(lists));
                }
            }
        }
        let mut documents = Vec::new();
        loop {
            documents.push(self.document_row(fields)?);
            if !self.take_symbol(",") {
                return Ok(Rows::Documents(documents));
            }
        }
    }

    /// A document, a parameter that holds one, or a list of values for the named fields.
    fn document_row(&mut self, fields: Option<&[String]>) -> Result<Expression, SqlError> {
        let position = self.position();
        let Some(fields) = fields else {
            return match self.expression()? {
                row @ (Expression::Document(_) | Expression::Parameter(..) | Expression::Named(..)) => {
                    Ok(row)
                }
                _ => Err(SqlError::new(position, "expected a document or a list of values")),
            };
        };
        self.expect_symbol("(")?;
        let values = self.list(")", Self::expression)?;
        if values.len() != fields.len() {
            return Err(SqlError::new(
                position,
                format!("{} values for {} fields", values.len(), fields.len()),
            ));
        }
        Ok(Expression::Document(fields.iter().cloned().zip(values).collect()))
    }

    fn on_conflict(&mut self) -> Result<Option<OnConflict>, SqlError> {
        if !self.take_keyword("on") {
            return Ok(None);
        }
        self.expect_keyword("conflict")?;
        let with_do = self.take_keyword("do");
        if self.take_keyword("replace") {
            Ok(Some(OnConflict::Replace))
        } else if self.take_keyword(if with_do { "nothing" } else { "ignore" }) {
            Ok(Some(OnConflict::Nothing))
        } else {
            Err(self.error("expected DO NOTHING or DO REPLACE"))
        }
    }

    fn update(&mut self) -> Result<Statement, SqlError> {
        let table = self.identifier()?;
        let unset = self.take_keyword("unset");
        if !unset {
            self.expect_keyword("set")?;
        }
        let mut changes = Vec::new();
        loop {
            changes.push(if unset {
                Change::Unset(self.identifier()?)
            } else {
                let path = self.path()?;
                self.expect_symbol("=")?;
                Change::Set(path, self.expression()?)
            });
            if !self.take_symbol(",") {
                break;
            }
        }
        Ok(Statement::Update { table, changes, filter: self.filter()? })
    }
}

#[cfg(test)]
mod tests {
    use deltamesh_change::Value;

    use super::*;
    use crate::sql::evaluate::Scope;
    use crate::sql::expression::Parameters;

    #[test]
    fn statements_and_their_parameters() {
        let statements = parse_statements(
            "DELETE FROM t WHERE a = ? AND b.c = 'x'; ;
             INSERT INTO t VALUES {a: [1, -2.5], b: ?}, ?",
        )
        .unwrap();
        let [Statement::Delete { filter: Some(filter), .. }, Statement::Insert(insert)] =
            statements.as_slice()
        else {
            panic!("{statements:?}")
        };
        assert!(matches!(filter, Expression::Binary(..)));
        let parameters = [Value::Null, Value::Int(7), Value::Document(Vec::new())];
        let mut scope = Scope::constant(Parameters::Positional(&parameters));
        let Rows::Documents(rows) = &insert.rows else { panic!("{insert:?}") };
        let rows: Vec<Value> = rows.iter().map(|row| row.evaluate(&mut scope).unwrap()).collect();
        let list = Value::Array(vec![Value::Int(1), Value::Float(-2.5)]);
        let first = Value::Document(vec![("a".into(), list), ("b".into(), Value::Int(7))]);
        assert_eq!(rows, [first, Value::Document(Vec::new())]);
    }

    fn check_error(sql: &str, expected: &str) {
        assert_eq!(parse(sql).unwrap_err().to_string(), expected, "{sql}");
    }

    #[test]
    fn errors_name_their_place() {
        check_error("EXPLAIN 1", "EXPLAIN is not supported at line 1, column 9");
        check_error("SELECT ?, $a", "? and $name cannot be mixed at line 1, column 11");
        check_error(
            "SELECT a FROM t WHERE COUNT(*) = 1",
            "WHERE holds a function over rows at line 1, column 23",
        );
        check_error("DROP TABLE t u", "unexpected text after the statement at line 1, column 14");
        check_error("UPDATE t\nSET a 1", "expected = at line 2, column 7");
        check_error("INSERT INTO t VALUES 1", "expected a document or a list of values at line 1, column 22");
        check_error("CREATE TABLE t (a DEFAULT b)", "DEFAULT cannot hold this at line 1, column 27");
        check_error("CREATE TABLE t (a INTEGER, a TEXT)", "field is declared twice at line 1, column 34");
        let deep = format!("INSERT INTO t VALUES {{a: {}1", "[".repeat(1000));
        assert!(parse(&deep).unwrap_err().to_string().starts_with("nested too deep"));
    }
}
