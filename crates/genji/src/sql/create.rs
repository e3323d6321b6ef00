//! Parses definitions: tables with their fields and constraints, indexes, and what alters them.

use super::SqlError;
use super::parser::Parser;
use super::scanner::{Position, Token};
use super::statement::Statement;
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
        let unique = self.take_keyword("unique");
        if !self.take_keyword("index") {
            return Err(self.error(if unique { "expected INDEX" } else { "expected TABLE or INDEX" }));
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
        let mut constraints = Vec::new();
        let field = self.field(&[], &mut constraints)?;
        if let Some(constraint) = constraints.first() {
            return Err(SqlError::new(constraint.position, "an added field cannot carry this constraint"));
        }
        Ok(Statement::AddField { table, field })
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
            return Err(self.error("CHECK constraints are not supported"));
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
                field.not_null = true;
            } else if self.take_keyword("default") {
                let value = self.operand()?;
                let text = super::render::literal(&value);
                field.default =
                    Some(text.ok_or_else(|| SqlError::new(position, "DEFAULT must be a literal"))?);
            } else if self.at_keyword("check") {
                return Err(self.error("CHECK constraints are not supported"));
            } else {
                return Ok(field);
            }
        }
    }

    fn field_type(&mut self, path: &[PathSegment], met: &mut Vec<Met>) -> Result<FieldType, SqlError> {
        let Token::Word(word) = self.peek().clone() else {
            return if self.take_symbol("(") { self.document_type(path, met) } else { Ok(FieldType::Any) };
        };
        let field_type = match word.to_ascii_lowercase().as_str() {
            "any" => FieldType::Any,
            "integer" | "int" | "int2" | "int8" | "tinyint" | "smallint" | "mediumint" | "bigint" => {
                FieldType::Integer
            }
            "double" | "real" => FieldType::Double,
            "text" | "varchar" | "character" => FieldType::Text,
            "blob" | "bytes" => FieldType::Blob,
            "bool" | "boolean" => FieldType::Boolean,
            "array" => FieldType::Array,
            "document" => {
                self.advance();
                let any = DocumentDefinition { fields: Vec::new(), extra: true };
                return if self.take_symbol("(") {
                    self.document_type(path, met)
                } else {
                    Ok(FieldType::Document(any))
                };
            }
            // No type: a constraint or the end of the field follows.
            _ => return Ok(FieldType::Any),
        };
        self.advance();
        if word.eq_ignore_ascii_case("double") {
            self.take_keyword("precision");
        } else if word.eq_ignore_ascii_case("varchar") || word.eq_ignore_ascii_case("character") {
            self.expect_symbol("(")?;
            let position = self.position();
            if !matches!(self.advance(), Token::Integer(_)) {
                return Err(SqlError::new(position, "expected a length"));
            }
            self.expect_symbol(")")?;
        }
        Ok(field_type)
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
