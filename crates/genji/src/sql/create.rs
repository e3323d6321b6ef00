//! Parses definitions: tables with their fields and constraints, indexes, and what alters them.

use super::expression::{Expression, Operator};
use super::parser::Parser;
use super::scanner::{Position, Token};
use super::statement::Statement;
use super::{SqlError, render};
use crate::catalog::{
    ConstraintKind, DocumentDefinition, FieldDefinition, FieldType, IndexDefinition, Path, PathSegment,
    TableConstraint, TableDefinition,
};

/// A constraint and where it stands. Without a name of its own it gets one when the table is created.
struct Met {
    constraint: TableConstraint,
    position: Position,
}

impl Parser {
    /// Parses what follows CREATE.
    pub(crate) fn create(&mut self) -> Result<Statement, SqlError> {
        if self.take_keyword("table") {
            return self.create_table();
        }
        if self.take_keyword("sequence") {
            let if_not_exists = self.if_not_exists()?;
            return Ok(Statement::CreateSequence { if_not_exists, definition: self.sequence()? });
        }
        let unique = self.take_keyword("unique");
        if !self.take_keyword("index") {
            return Err(self.error(if unique {
                "expected INDEX"
            } else {
                "expected TABLE, INDEX or SEQUENCE"
            }));
        }
        let if_not_exists = self.if_not_exists()?;
        let name = if self.at_keyword("on") { String::new() } else { self.identifier()? };
        self.expect_keyword("on")?;
        let table = self.identifier()?;
        let paths = self.paths()?;
        Ok(Statement::CreateIndex {
            if_not_exists,
            definition: IndexDefinition { name, table, unique, paths },
        })
    }

    /// Parses what follows ALTER.
    pub(crate) fn alter(&mut self) -> Result<Statement, SqlError> {
        self.expect_keyword("table")?;
        let table = self.identifier()?;
        if self.take_keyword("rename") {
            self.expect_keyword("to")?;
            return Ok(Statement::RenameTable { from: table, to: self.identifier()? });
        }
        self.expect_keyword("add")?;
        self.expect_keyword("field")?;
        let mut met = Vec::new();
        let field = self.field(&[], &mut met)?;
        if let Some(key) = met.iter().find(|met| matches!(met.constraint.kind, ConstraintKind::PrimaryKey(_)))
        {
            return Err(SqlError::new(key.position, "an added field cannot be the primary key"));
        }
        let constraints = met.into_iter().map(|met| met.constraint).collect();
        Ok(Statement::AddField { table, field, constraints })
    }

    fn if_not_exists(&mut self) -> Result<bool, SqlError> {
        let found = self.take_keyword("if");
        if found {
            self.expect_keyword("not")?;
            self.expect_keyword("exists")?;
        }
        Ok(found)
    }

    fn paths(&mut self) -> Result<Vec<Path>, SqlError> {
        self.expect_symbol("(")?;
        let position = self.position();
        let paths = self.list(")", Self::path)?;
        if paths.is_empty() { Err(SqlError::new(position, "expected a path")) } else { Ok(paths) }
    }

    fn create_table(&mut self) -> Result<Statement, SqlError> {
        let if_not_exists = self.if_not_exists()?;
        let name = self.identifier()?;
        let mut document = DocumentDefinition::default();
        let mut met = Vec::new();
        if self.take_symbol("(") {
            loop {
                if self.take_symbol("...") {
                    document.extra = true;
                    break;
                }
                if self.at_table_constraint() {
                    met.push(self.table_constraint()?);
                } else {
                    let field = self.field(&[], &mut met)?;
                    add_field(&mut document, field, self.position())?;
                }
                if !self.take_symbol(",") {
                    break;
                }
            }
            self.expect_symbol(")")?;
        }
        // A table without declared fields takes any.
        document.extra |= document.fields.is_empty();
        let constraints = met.into_iter().map(|met| met.constraint).collect();
        let definition = TableDefinition { name, document, constraints };
        Ok(Statement::CreateTable { if_not_exists, definition })
    }

    fn at_table_constraint(&self) -> bool {
        ["constraint", "primary", "unique", "check"].into_iter().any(|keyword| self.at_keyword(keyword))
    }

    fn table_constraint(&mut self) -> Result<Met, SqlError> {
        let position = self.position();
        let name = if self.take_keyword("constraint") {
            let position = self.position();
            match self.advance() {
                Token::Word(name) | Token::Quoted(name) | Token::Text(name) => name,
                _ => return Err(SqlError::new(position, "expected a constraint name")),
            }
        } else {
            String::new()
        };
        let kind = if self.take_keyword("primary") {
            self.expect_keyword("key")?;
            ConstraintKind::PrimaryKey(self.paths()?)
        } else if self.take_keyword("unique") {
            ConstraintKind::Unique(self.paths()?)
        } else {
            self.expect_keyword("check")?;
            self.check()?
        };
        Ok(Met { constraint: TableConstraint { name, kind }, position })
    }

    fn field(&mut self, parent: &[PathSegment], met: &mut Vec<Met>) -> Result<FieldDefinition, SqlError> {
        let name = self.identifier()?;
        let mut path = parent.to_vec();
        path.push(PathSegment::Field(name.clone()));
        let field_type = self.field_type(&path, met)?;
        let mut field = FieldDefinition { name, field_type, not_null: false, default: None };
        loop {
            let position = self.position();
            let constraint =
                |kind| Met { constraint: TableConstraint { name: String::new(), kind }, position };
            if self.take_keyword("primary") {
                self.expect_keyword("key")?;
                met.push(constraint(ConstraintKind::PrimaryKey(vec![Path(path.clone())])));
            } else if self.take_keyword("unique") {
                met.push(constraint(ConstraintKind::Unique(vec![Path(path.clone())])));
            } else if self.take_keyword("not") {
                self.expect_keyword("null")?;
                if std::mem::replace(&mut field.not_null, true) {
                    return Err(SqlError::new(position, "constraint is given twice"));
                }
            } else if self.take_keyword("default") {
                if field.default.replace(self.default_expression()?).is_some() {
                    return Err(SqlError::new(position, "constraint is given twice"));
                }
            } else if self.take_keyword("check") {
                let kind = self.check()?;
                met.push(constraint(kind));
            } else {
                return Ok(field);
            }
        }
    }

    /// Takes the expression of a CHECK, whose keyword was taken.
    fn check(&mut self) -> Result<ConstraintKind, SqlError> {
        self.expect_symbol("(")?;
        let position = self.position();
        let expression = self.expression()?;
        self.expect_symbol(")")?;
        let refused = expression.any(&mut |part| {
            matches!(
                part,
                Expression::Parameter(..)
                    | Expression::Named(..)
                    | Expression::Aggregate(..)
                    | Expression::NextValue(..)
            )
        });
        if refused || !render::reads_back(&expression) {
            return Err(SqlError::new(position, "CHECK cannot hold this"));
        }
        Ok(ConstraintKind::Check(render::expression(&expression)))
    }

    /// Takes the expression of a DEFAULT, which may stand in parentheses. Its text does not keep them.
    fn default_expression(&mut self) -> Result<String, SqlError> {
        let enclosed = self.take_symbol("(");
        let position = self.position();
        // Looser operators begin the next constraint, as Genji reads it.
        let expression = self.expression_from(Operator::Equal.precedence())?;
        if enclosed {
            self.expect_symbol(")")?;
        }
        if expression.any(&mut is_refused_in_default) || !render::reads_back(&expression) {
            return Err(SqlError::new(position, "DEFAULT cannot hold this"));
        }
        Ok(render::expression(&expression))
    }

    fn field_type(&mut self, path: &[PathSegment], met: &mut Vec<Met>) -> Result<FieldType, SqlError> {
        let is_document = self.at_keyword("document");
        let named = self.named_type()?;
        match named {
            Some(other) if !is_document => Ok(other),
            // No type: a constraint or the end of the field follows.
            _ if self.take_symbol("(") => self.document_type(path, met),
            other => Ok(other.unwrap_or(FieldType::Any)),
        }
    }

    /// Takes the name of a type, if it is one.
    pub(crate) fn named_type(&mut self) -> Result<Option<FieldType>, SqlError> {
        let Token::Word(word) = self.peek().clone() else { return Ok(None) };
        let word = word.to_ascii_lowercase();
        let field_type = match word.as_str() {
            "any" => FieldType::Any,
            "integer" | "int" | "int2" | "int8" | "tinyint" | "smallint" | "mediumint" | "bigint" => {
                FieldType::Integer
            }
            "double" | "real" => FieldType::Double,
            "text" | "varchar" | "character" => FieldType::Text,
            "blob" | "bytes" => FieldType::Blob,
            "bool" | "boolean" => FieldType::Boolean,
            "array" => FieldType::Array,
            "document" => FieldType::Document(DocumentDefinition { fields: Vec::new(), extra: true }),
            _ => return Ok(None),
        };
        self.advance();
        if word == "double" {
            self.take_keyword("precision");
        } else if word == "varchar" || word == "character" {
            self.expect_symbol("(")?;
            let position = self.position();
            if !matches!(self.advance(), Token::Integer(_)) {
                return Err(SqlError::new(position, "expected a length"));
            }
            self.expect_symbol(")")?;
        }
        Ok(Some(field_type))
    }

    fn document_type(&mut self, path: &[PathSegment], met: &mut Vec<Met>) -> Result<FieldType, SqlError> {
        self.enter(self.position())?;
        let mut document = DocumentDefinition::default();
        loop {
            if self.take_symbol("...") {
                document.extra = true;
                break;
            }
            let field = self.field(path, met)?;
            add_field(&mut document, field, self.position())?;
            if !self.take_symbol(",") {
                break;
            }
        }
        self.expect_symbol(")")?;
        self.leave();
        Ok(FieldType::Document(document))
    }
}

/// A DEFAULT holds literals, arithmetic, comparisons and NEXT VALUE FOR: no row is there to refer to.
fn is_refused_in_default(part: &Expression) -> bool {
    let loose = |operator: Operator| operator.precedence() < Operator::Equal.precedence();
    match part {
        Expression::Literal(_)
        | Expression::Document(_)
        | Expression::Group(_)
        | Expression::NextValue(..) => false,
        Expression::Binary(_, operator, _) => {
            loose(*operator)
                || matches!(
                    operator,
                    Operator::Is
                        | Operator::IsNot
                        | Operator::In
                        | Operator::NotIn
                        | Operator::Like
                        | Operator::NotLike
                )
        }
        _ => true,
    }
}

fn add_field(
    document: &mut DocumentDefinition,
    field: FieldDefinition,
    position: Position,
) -> Result<(), SqlError> {
    if document.field(&field.name).is_some() {
        return Err(SqlError::new(position, "field is declared twice"));
    }
    document.fields.push(field);
    Ok(())
}
