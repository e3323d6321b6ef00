//! A scanner over the SQL text of a catalog row.

use crate::{Error, ErrorKind};

/// What is left of a statement.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scanner<'a> {
    rest: &'a str,
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

impl<'a> Scanner<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { rest: text.trim_start() }
    }

    pub(crate) fn rest(&self) -> &'a str {
        self.rest
    }

    pub(crate) fn advance(&mut self, bytes: usize) {
        self.rest = self.rest.get(bytes..).unwrap_or_default().trim_start();
    }

    /// Takes a punctuation mark if it is next.
    pub(crate) fn take(&mut self, mark: &str) -> bool {
        let found = self.rest.starts_with(mark);
        if found {
            self.advance(mark.len());
        }
        found
    }

    pub(crate) fn expect(&mut self, mark: &str) -> Result<(), Error> {
        if self.take(mark) { Ok(()) } else { Err(syntax("unexpected text in catalog sql")) }
    }

    /// Takes these words, whatever their case, if they are next.
    pub(crate) fn take_words(&mut self, words: &str) -> bool {
        let mut ahead = *self;
        for word in words.split(' ') {
            let length = ahead.rest.find(|character| !is_word(character)).unwrap_or(ahead.rest.len());
            if !ahead.rest[..length].eq_ignore_ascii_case(word) {
                return false;
            }
            ahead.advance(length);
        }
        *self = ahead;
        true
    }

    /// Takes an identifier: plain, or in backquotes or double quotes with `\` as escape.
    pub(crate) fn identifier(&mut self) -> Result<String, Error> {
        match self.rest.chars().next() {
            Some(quote @ ('`' | '"')) => self.quoted(quote),
            _ => {
                let length = self.rest.find(|character| !is_word(character)).unwrap_or(self.rest.len());
                let name = self.rest[..length].to_owned();
                self.advance(length);
                if name.is_empty() { Err(syntax("identifier expected in catalog sql")) } else { Ok(name) }
            }
        }
    }

    fn quoted(&mut self, quote: char) -> Result<String, Error> {
        let mut name = String::new();
        let mut characters = self.rest.char_indices().skip(1);
        while let Some((index, character)) = characters.next() {
            match character {
                '\\' => name.extend(characters.next().map(|(_, escaped)| escaped)),
                _ if character == quote => {
                    self.advance(index + character.len_utf8());
                    return Ok(name);
                }
                _ => name.push(character),
            }
        }
        Err(syntax("quote is not closed in catalog sql"))
    }

    pub(crate) fn integer(&mut self) -> Result<i64, Error> {
        let length = self.rest.find(|c: char| !c.is_ascii_digit() && c != '-').unwrap_or(self.rest.len());
        let number = self.rest[..length].parse().map_err(|_| syntax("number expected in catalog sql"))?;
        self.advance(length);
        Ok(number)
    }

    /// Takes an expression: everything up to the next `,` or `)` outside parentheses, brackets and quotes.
    pub(crate) fn expression(&mut self) -> Result<String, Error> {
        let mut depth = 0usize;
        let mut quote = None;
        let mut escaped = false;
        for (index, character) in self.rest.char_indices() {
            match (quote, character) {
                (Some(_), _) if escaped => escaped = false,
                (Some(_), '\\') => escaped = true,
                (Some(open), _) if open == character => quote = None,
                (Some(_), _) => {}
                (None, '\'' | '"' | '`') => quote = Some(character),
                (None, '(' | '[' | '{') => depth += 1,
                (None, ')' | ',') if depth == 0 => {
                    let expression = self.rest[..index].trim_end().to_owned();
                    self.advance(index);
                    return Ok(expression);
                }
                (None, ')' | ']' | '}') => depth = depth.saturating_sub(1),
                _ => {}
            }
        }
        Err(syntax("expression is not closed in catalog sql"))
    }
}

pub(crate) fn syntax(reason: &'static str) -> Error {
    Error::new(ErrorKind::Syntax, reason)
}
