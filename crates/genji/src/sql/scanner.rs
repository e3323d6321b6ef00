//! Splits SQL text into tokens, by Genji's rules.

use super::SqlError;

/// Where a token starts, both from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    /// Line of the text.
    pub line: u32,
    /// Character in the line.
    pub column: u32,
}

/// One token.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Token {
    /// A bare word: a keyword or an identifier, as written.
    Word(String),
    /// An identifier in backquotes: never a keyword.
    Quoted(String),
    /// A string in single or double quotes.
    Text(String),
    /// A number without fraction or exponent that fits 64 bits.
    Integer(i64),
    /// Any other number.
    Number(f64),
    /// A positional parameter.
    Parameter,
    /// A parameter with a name.
    Named(String),
    /// An operator or punctuation.
    Symbol(&'static str),
    /// Behind the last token.
    End,
}

/// Longest first, so that the first match is the right one.
const SYMBOLS: [&str; 28] = [
    "...", "==", "!=", "<>", ">=", "<=", "||", "=", "<", ">", "(", ")", "{", "}", "[", "]", ",", ";", ":",
    ".", "+", "-", "*", "/", "%", "|", "&", "^",
];

/// All tokens of the text with their positions; the last is [`Token::End`].
pub(crate) fn scan(text: &str) -> Result<Vec<(Token, Position)>, SqlError> {
    let mut scanner = Scanner { rest: text, position: Position { line: 1, column: 1 } };
    let mut tokens = Vec::new();
    loop {
        scanner.skip_blank()?;
        let position = scanner.position;
        let token = scanner.token()?;
        let end = token == Token::End;
        tokens.push((token, position));
        if end {
            return Ok(tokens);
        }
    }
}

struct Scanner<'a> {
    rest: &'a str,
    position: Position,
}

impl Scanner<'_> {
    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn bump(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.rest = self.rest.get(next.len_utf8()..).unwrap_or_default();
        if next == '\n' {
            self.position = Position { line: self.position.line + 1, column: 1 };
        } else {
            self.position.column += 1;
        }
        Some(next)
    }

    fn skip(&mut self, count: usize) {
        for _ in 0..count {
            self.bump();
        }
    }

    fn error(&self, reason: &str) -> SqlError {
        SqlError::new(self.position, reason)
    }

    /// Skips white space and comments.
    fn skip_blank(&mut self) -> Result<(), SqlError> {
        loop {
            if self.rest.starts_with("--") {
                while self.peek().is_some_and(|next| next != '\n') {
                    self.bump();
                }
            } else if self.rest.starts_with("/*") {
                self.skip(2);
                while !self.rest.starts_with("*/") {
                    self.bump().ok_or_else(|| self.error("comment without an end"))?;
                }
                self.skip(2);
            } else if self.peek().is_some_and(char::is_whitespace) {
                self.bump();
            } else {
                return Ok(());
            }
        }
    }

    fn token(&mut self) -> Result<Token, SqlError> {
        let Some(next) = self.peek() else { return Ok(Token::End) };
        let second = self.rest.chars().nth(1);
        match next {
            '`' => Ok(Token::Quoted(self.quoted('`')?)),
            '\'' | '"' => Ok(Token::Text(self.quoted(next)?)),
            '?' => {
                self.bump();
                Ok(Token::Parameter)
            }
            '$' if second.is_some_and(|second| second == '_' || second.is_ascii_alphanumeric()) => {
                self.bump();
                Ok(Token::Named(self.word()))
            }
            '0'..='9' => self.number(),
            '.' if second.is_some_and(|second| second.is_ascii_digit()) => self.number(),
            _ if next == '_' || next.is_ascii_alphabetic() => Ok(Token::Word(self.word())),
            _ => {
                let symbol = SYMBOLS.iter().find(|symbol| self.rest.starts_with(**symbol));
                let symbol = symbol.ok_or_else(|| self.error("unexpected character"))?;
                self.skip(symbol.len());
                Ok(Token::Symbol(symbol))
            }
        }
    }

    fn word(&mut self) -> String {
        let word: String =
            self.rest.chars().take_while(|&next| next == '_' || next.is_ascii_alphanumeric()).collect();
        self.skip(word.len());
        word
    }

    /// A quoted text with backslash escapes. A doubled quote is not an escape in Genji.
    fn quoted(&mut self, quote: char) -> Result<String, SqlError> {
        let start = self.position;
        self.bump();
        let mut text = String::new();
        loop {
            let unfinished = || SqlError::new(start, "quoted text without an end");
            match self.bump().ok_or_else(unfinished)? {
                '\n' => return Err(unfinished()),
                '\\' => match self.bump().ok_or_else(unfinished)? {
                    'n' => text.push('\n'),
                    'r' => text.push('\r'),
                    't' => text.push('\t'),
                    escaped @ ('\\' | '"' | '\'' | '`') => text.push(escaped),
                    // Introduces a blob in hexadecimal digits.
                    'x' if text.is_empty() => text.push_str("\\x"),
                    _ => return Err(self.error("unknown escape")),
                },
                next if next == quote => return Ok(text),
                next => text.push(next),
            }
        }
    }

    fn number(&mut self) -> Result<Token, SqlError> {
        let start = self.position;
        let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
        let whole = digits(self.rest);
        let mut length = whole;
        let tail = |length: usize| self.rest.get(length..).unwrap_or_default();
        if tail(length).starts_with('.') && !tail(length).starts_with("...") {
            length += 1 + digits(tail(length + 1));
        }
        if tail(length).starts_with(['e', 'E']) {
            let sign = usize::from(tail(length + 1).starts_with(['+', '-']));
            let exponent = digits(tail(length + 1 + sign));
            if exponent > 0 {
                length += 1 + sign + exponent;
            }
        }
        let literal = self.rest.get(..length).unwrap_or_default().to_owned();
        self.skip(length);
        if length == whole
            && let Ok(value) = literal.parse()
        {
            return Ok(Token::Integer(value));
        }
        literal.parse().map(Token::Number).map_err(|_| SqlError::new(start, "malformed number"))
    }
}

/// Words that Genji's parser takes for itself: as names they need backquotes.
const KEYWORDS: &[&str] = &[
    "add",
    "all",
    "alter",
    "and",
    "any",
    "array",
    "as",
    "asc",
    "begin",
    "between",
    "bigint",
    "blob",
    "bool",
    "boolean",
    "by",
    "bytes",
    "cache",
    "cast",
    "character",
    "check",
    "commit",
    "conflict",
    "constraint",
    "create",
    "cycle",
    "default",
    "delete",
    "desc",
    "distinct",
    "do",
    "document",
    "double",
    "drop",
    "exists",
    "explain",
    "false",
    "field",
    "for",
    "from",
    "group",
    "if",
    "ignore",
    "in",
    "increment",
    "index",
    "insert",
    "int",
    "int2",
    "int8",
    "integer",
    "into",
    "is",
    "key",
    "like",
    "limit",
    "maxvalue",
    "mediumint",
    "minvalue",
    "next",
    "no",
    "not",
    "nothing",
    "null",
    "offset",
    "on",
    "only",
    "or",
    "order",
    "precision",
    "primary",
    "read",
    "real",
    "reindex",
    "rename",
    "replace",
    "returning",
    "rollback",
    "select",
    "sequence",
    "set",
    "smallint",
    "start",
    "table",
    "text",
    "tinyint",
    "to",
    "transaction",
    "true",
    "union",
    "unique",
    "unset",
    "update",
    "value",
    "values",
    "varchar",
    "where",
    "with",
    "write",
];

/// Whether the word is a keyword of Genji's, in any case.
pub(crate) fn is_keyword(word: &str) -> bool {
    KEYWORDS.binary_search(&word.to_ascii_lowercase().as_str()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[Token]) {
        let tokens: Vec<Token> = scan(text).unwrap().into_iter().map(|(token, _)| token).collect();
        assert_eq!(tokens.split_last().unwrap().1, expected);
    }

    #[test]
    fn tokens() {
        check(
            "a `b c` 'it\\'s' -- x\n ? /* y */ 1.5e3 7 .5",
            &[
                Token::Word("a".into()),
                Token::Quoted("b c".into()),
                Token::Text("it's".into()),
                Token::Parameter,
                Token::Number(1500.0),
                Token::Integer(7),
                Token::Number(0.5),
            ],
        );
        check(
            "(a,...)<>1",
            &[
                Token::Symbol("("),
                Token::Word("a".into()),
                Token::Symbol(","),
                Token::Symbol("..."),
                Token::Symbol(")"),
                Token::Symbol("<>"),
                Token::Integer(1),
            ],
        );
    }

    #[test]
    fn errors_have_a_place() {
        let error = scan("a\n  'b").unwrap_err();
        assert_eq!(error.to_string(), "quoted text without an end at line 2, column 3");
    }

    #[test]
    fn keywords_are_sorted() {
        assert!(KEYWORDS.is_sorted());
        assert!(is_keyword("Order") && !is_keyword("name"));
    }
}
