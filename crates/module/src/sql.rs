//! As much of SQL as a module needs: the names of the views that it creates, and the `:field` parameters of a query.

use crate::SourceFile;

/// A piece of SQL text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token<'a> {
    /// Keyword, identifier or number; a quoted identifier without its quotes.
    Word(&'a str),
    /// `:name`, without the colon.
    Parameter(&'a str),
    /// String literal, comment, white space or punctuation.
    Other(&'a str),
}

struct Tokens<'a>(&'a str);

impl<'a> Tokens<'a> {
    fn take(&mut self, length: usize) -> &'a str {
        let (taken, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// Length of a quoted piece that begins the text; a doubled quote does not end it.
    fn quoted(&self, quote: char) -> usize {
        let mut rest = self.0.char_indices().skip(1).peekable();
        while let Some((index, character)) = rest.next() {
            if character == quote && rest.next_if(|&(_, next)| next == quote).is_none() {
                return index + quote.len_utf8();
            }
        }
        self.0.len()
    }

    fn word_end(&self, from: usize) -> usize {
        let word = |character: char| character.is_alphanumeric() || character == '_';
        self.0[from..].find(|character| !word(character)).map_or(self.0.len(), |length| from + length)
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        let first = self.0.chars().next()?;
        let to = |end: Option<usize>, width: usize, all: usize| end.map_or(all, |end| end + width);
        let all = self.0.len();
        Some(match first {
            '-' if self.0.starts_with("--") => Token::Other(self.take(to(self.0.find('\n'), 1, all))),
            '/' if self.0.starts_with("/*") => Token::Other(self.take(to(self.0.find("*/"), 2, all))),
            '\'' => Token::Other(self.take(self.quoted('\''))),
            '"' | '`' => {
                let text = self.take(self.quoted(first));
                Token::Word(text.trim_matches(first))
            }
            ':' if self.0.starts_with("::") => Token::Other(self.take(2)),
            ':' => match self.word_end(1) {
                1 => Token::Other(self.take(1)),
                end => Token::Parameter(&self.take(end)[1..]),
            },
            _ => match self.word_end(0) {
                0 => Token::Other(self.take(first.len_utf8())),
                end => Token::Word(self.take(end)),
            },
        })
    }
}

/// Names of the materialised views that the texts create.
pub(crate) fn view_names(files: &[SourceFile]) -> Vec<String> {
    let mut names = Vec::new();
    for file in files {
        let words: Vec<&str> = Tokens(&file.text)
            .filter_map(|token| match token {
                Token::Word(word) => Some(word),
                Token::Parameter(_) | Token::Other(_) => None,
            })
            .collect();
        names.extend((2..words.len()).filter_map(|at| created(&words[..at], &words[at..])));
    }
    names
}

/// The view that `CREATE [OR REPLACE] MATERIALIZED VIEW [IF NOT EXISTS] name` creates, cut behind its word `VIEW`.
fn created(before: &[&str], after: &[&str]) -> Option<String> {
    let is = |word: Option<&&str>, keywords: &[&str]| {
        word.is_some_and(|word| keywords.iter().any(|keyword| word.eq_ignore_ascii_case(keyword)))
    };
    let mut before = before.iter().rev();
    let create = is(before.next(), &["view"])
        && is(before.next(), &["materialized", "materialised"])
        && is(before.next(), &["create", "replace"]);
    let name = if is(after.first(), &["if"]) { after.get(3) } else { after.first() };
    name.filter(|_| create).map(|name| (*name).to_owned())
}

/// A query with `?1`, `?2` … in place of its `:field` parameters, and the fields in that order.
pub(crate) fn bind_parameters(sql: &str) -> (String, Vec<String>) {
    let mut text = String::with_capacity(sql.len());
    let mut fields: Vec<String> = Vec::new();
    let mut tokens = Tokens(sql);
    loop {
        let before = tokens.0;
        match tokens.next() {
            None => return (text, fields),
            Some(Token::Parameter(name)) => {
                let index = fields.iter().position(|field| field == name).unwrap_or_else(|| {
                    fields.push(name.to_owned());
                    fields.len() - 1
                });
                text.push_str(&format!("?{}", index + 1));
            }
            Some(_) => text.push_str(&before[..before.len() - tokens.0.len()]),
        }
    }
}

/// Whether the text is a single identifier: the name of a view, and not a statement.
pub(crate) fn is_name(sql: &str) -> bool {
    let mut tokens = Tokens(sql.trim());
    matches!(tokens.next(), Some(Token::Word(_))) && tokens.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_views() {
        let file = SourceFile::new(
            "views.sql",
            "-- create materialized view no\ncreate materialized view a as select ';', \"materialized view b\" from t;\n\
             /* CREATE MATERIALIZED VIEW c */ CREATE MATERIALISED VIEW \"d\" WITH (key='a') AS SELECT 1;\n\
             CREATE OR REPLACE MATERIALIZED VIEW IF NOT EXISTS f AS SELECT 1; DROP MATERIALIZED VIEW e",
        );
        assert_eq!(view_names(&[file]), ["a", "d", "f"]);
    }

    #[test]
    fn binds_parameters() {
        let (sql, fields) =
            bind_parameters("SELECT a::text, ':no' FROM v WHERE b = :b AND c = :c_1 -- :no\n AND d > :b");
        assert_eq!(sql, "SELECT a::text, ':no' FROM v WHERE b = ?1 AND c = ?2 -- :no\n AND d > ?1");
        assert_eq!(fields, ["b", "c_1"]);
    }

    #[test]
    fn tells_names_from_statements() {
        assert!(is_name(" chat_feed ") && is_name("\"chat feed\""));
        assert!(!is_name("SELECT 1") && !is_name("") && !is_name("a;"));
    }
}
