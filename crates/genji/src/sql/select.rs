//! Parses SELECT and the clauses that it shares with other statements.

use super::SqlError;
use super::expression::Expression;
use super::parser::Parser;
use super::render;
use super::statement::{Compound, Projection, Select, Window};

impl Parser {
    /// Parses what follows SELECT.
    pub(crate) fn select(&mut self) -> Result<Select, SqlError> {
        let mut select = self.select_core()?;
        while self.take_keyword("union") {
            let all = self.take_keyword("all");
            self.expect_keyword("select")?;
            select.compound.push(Compound { all, select: self.select_core()? });
        }
        select.window = self.window()?;
        Ok(select)
    }

    /// Parses a query up to its order.
    fn select_core(&mut self) -> Result<Select, SqlError> {
        let distinct = self.take_keyword("distinct");
        let projections = self.projections()?;
        let table = if self.take_keyword("from") { Some(self.identifier()?) } else { None };
        let filter = self.filter()?;
        let group = if self.take_keyword("group") {
            self.expect_keyword("by")?;
            Some(self.expression()?)
        } else {
            None
        };
        let (compound, window) = (Vec::new(), Window::default());
        Ok(Select { distinct, projections, table, filter, group, compound, window })
    }

    /// Parses WHERE, if it is there.
    pub(crate) fn filter(&mut self) -> Result<Option<Expression>, SqlError> {
        if !self.take_keyword("where") {
            return Ok(None);
        }
        let position = self.position();
        let filter = self.expression()?;
        if filter.any(&mut |part| matches!(part, Expression::Aggregate(..))) {
            return Err(SqlError::new(position, "WHERE holds a function over rows"));
        }
        Ok(Some(filter))
    }

    /// Parses what to return, separated by commas.
    pub(crate) fn projections(&mut self) -> Result<Vec<Projection>, SqlError> {
        let mut projections = Vec::new();
        loop {
            if self.take_symbol("*") {
                projections.push(Projection::All);
            } else {
                let position = self.position();
                let expression = self.expression()?;
                let is_aggregate = |part: &Expression| matches!(part, Expression::Aggregate(..));
                if !is_aggregate(&expression) && expression.any(&mut |part| is_aggregate(part)) {
                    return Err(SqlError::new(position, "a function over rows must stand alone"));
                }
                let name =
                    if self.take_keyword("as") { self.identifier()? } else { render::name(&expression) };
                projections.push(Projection::Named(name, expression));
            }
            if !self.take_symbol(",") {
                return Ok(projections);
            }
        }
    }

    /// Parses ORDER BY, LIMIT and OFFSET, as far as they are there.
    pub(crate) fn window(&mut self) -> Result<Window, SqlError> {
        let mut window = Window::default();
        if self.take_keyword("order") {
            self.expect_keyword("by")?;
            window.order = Some(self.path()?);
            window.descending = self.take_keyword("desc");
            if !window.descending {
                self.take_keyword("asc");
            }
        }
        if self.take_keyword("limit") {
            window.limit = Some(self.expression()?);
        }
        if self.take_keyword("offset") {
            window.offset = Some(self.expression()?);
        }
        Ok(window)
    }
}
