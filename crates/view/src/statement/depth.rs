//! How many operators may follow one another: each is a level of the expression's tree, and whoever walks over it needs
//! room for all levels at once.

use datafusion_sql::sqlparser::keywords::Keyword;
use datafusion_sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use crate::{Error, Location};

/// Most operators in a row.
const MOST: usize = 100;

/// A run of operators on one level of parentheses.
#[derive(Default, Clone, Copy)]
struct Run {
    /// `AND` and `OR` since the expression began.
    connected: usize,
    /// Others since the last of those.
    calculated: usize,
}

/// Refuses a statement with a longer run.
pub(super) fn check(tokens: &[TokenWithSpan]) -> Result<(), Error> {
    let mut runs = vec![Run::default()];
    for token in tokens {
        match &token.token {
            Token::LParen => runs.push(Run::default()),
            Token::SemiColon => runs = vec![Run::default()],
            Token::RParen if runs.len() > 1 => {
                runs.pop();
            }
            other => {
                if let Some(run) = runs.last_mut() {
                    run.step(other);
                }
            }
        }
        if runs.last().is_some_and(|run| run.connected.max(run.calculated) > MOST) {
            let message = format!(
                "more than {MOST} operators in a row: write x IN (…), or calculate in a subquery in FROM"
            );
            return Err(Error::unsupported(message, Location::at(token.span.start)));
        }
    }
    Ok(())
}

impl Run {
    fn step(&mut self, token: &Token) {
        match token {
            Token::Comma => *self = Self::default(),
            Token::Word(word) => match word.keyword {
                Keyword::AND | Keyword::OR => *self = Self { connected: self.connected + 1, calculated: 0 },
                Keyword::LIKE | Keyword::ILIKE | Keyword::IS | Keyword::NOT => self.calculated += 1,
                Keyword::SELECT
                | Keyword::FROM
                | Keyword::WHERE
                | Keyword::ON
                | Keyword::WHEN
                | Keyword::UNION => {
                    *self = Self::default();
                }
                _ => {}
            },
            Token::Number(..) | Token::SingleQuotedString(_) | Token::Period | Token::Whitespace(_) => {}
            _ => self.calculated += 1,
        }
    }
}
