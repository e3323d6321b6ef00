//! Definitions: what creating, altering and dropping tables and indexes writes (format description §5.2).

use std::collections::BTreeSet;
use std::sync::Arc;

use super::schema::{Index, Schema, Table};
use super::sequence;
use super::transaction::{Write, WriteTransaction};
use crate::catalog::{
    CatalogEntry, ConstraintKind, DocumentDefinition, EntryKind, FieldDefinition, FieldType, IndexDefinition,
    Owner, Path, PathSegment, SequenceDefinition, TableConstraint, TableDefinition,
};
use crate::sql::evaluate::Scope;
use crate::sql::render::joined;
use crate::sql::{Parameters, parse_expression};
use crate::{Error, ErrorKind};

impl WriteTransaction<'_> {
    pub(super) fn schema_mut(&mut self) -> &mut Schema {
        self.schema_changed = true;
        Arc::make_mut(&mut self.schema)
    }

    fn require_free(&self, name: &str) -> Result<(), Error> {
        if self.schema.contains(name) {
            return Err(Error::new(ErrorKind::AlreadyExists, format!("{name} exists already")));
        }
        Ok(())
    }

    pub(super) fn take_namespace(&mut self, writes: &mut Vec<Write>) -> Result<i64, Error> {
        let namespace = self.schema_mut().next_namespace()?;
        // Genji stores one less, and after a kill gives the namespace to a second table.
        let value = sequence::row_value(sequence::STORE, Some(namespace));
        writes.push(Write::Set(sequence::row_key(sequence::STORE), value));
        Ok(namespace)
    }

    /// Creates a table, its docid sequence if it has no primary key, and an index for each UNIQUE constraint. Constraints
    /// with an empty name get Genji's own.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] for a name in use; [`ErrorKind::Unsupported`] for names that Genji could not read
    /// back; [`ErrorKind::NotFound`] for a constraint on an undeclared field; [`ErrorKind::Type`] for a DEFAULT of another
    /// type.
    pub fn create_table(&mut self, definition: &TableDefinition) -> Result<(), Error> {
        let definition = complete(definition)?;
        self.require_free(&definition.name)?;
        self.whole(|this| this.create_completed(&definition))
    }

    fn create_completed(&mut self, definition: &TableDefinition) -> Result<(), Error> {
        let name = definition.name.clone();
        let mut writes = Vec::new();
        let mut docid_sequence = None;
        if definition.primary_key().is_none() {
            let entry = docid_entry(self.schema.free_name(&format!("{name}_seq")), &name);
            writes.push(set_entry(&entry));
            let row = sequence::row_value(&entry.name, None);
            writes.push(Write::Set(sequence::row_key(&entry.name), row));
            docid_sequence = Some(entry.name.clone());
            self.renew_sequence(&entry.name, Some(sequence::Position::default()));
            self.schema_mut().put_sequence(entry);
        }
        let namespace = self.take_namespace(&mut writes)?;
        let entry = CatalogEntry {
            name: name.clone(),
            kind: EntryKind::Table,
            namespace: Some(namespace),
            sql: definition.to_string(),
            docid_sequence,
            owner: None,
        };
        writes.push(set_entry(&entry));
        self.schema_mut().put_table(entry)?;
        for constraint in &definition.constraints {
            if let ConstraintKind::Unique(paths) = &constraint.kind {
                self.put_unique_index(&name, paths, &mut writes)?;
            }
        }
        self.write(writes)
    }

    /// The index of a UNIQUE constraint; returns its name.
    fn put_unique_index(
        &mut self,
        table: &str,
        paths: &[Path],
        writes: &mut Vec<Write>,
    ) -> Result<String, Error> {
        let name = self.schema.free_name(&format!("{table}_{}_idx", joined(paths)));
        let index = IndexDefinition {
            name: name.clone(),
            table: table.to_owned(),
            unique: true,
            paths: paths.to_vec(),
        };
        let owned = Some(paths.iter().map(Path::to_string).collect());
        self.put_new_index(&index, owned, writes)?;
        Ok(name)
    }

    /// Creates a sequence.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] for a name in use.
    pub fn create_sequence(&mut self, definition: &SequenceDefinition) -> Result<(), Error> {
        require_name(&definition.name)?;
        self.require_free(&definition.name)?;
        let entry = CatalogEntry {
            name: definition.name.clone(),
            kind: EntryKind::Sequence,
            namespace: None,
            sql: definition.to_string(),
            docid_sequence: None,
            owner: None,
        };
        let row = sequence::row_value(&entry.name, None);
        self.write(vec![set_entry(&entry), Write::Set(sequence::row_key(&entry.name), row)])?;
        self.renew_sequence(&entry.name, Some(sequence::Position::default()));
        self.schema_mut().put_sequence(entry);
        Ok(())
    }

    /// Drops a sequence. Tables whose defaults take its values refuse rows from then on, as in Genji.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`]; [`ErrorKind::Constraint`] if a table owns it.
    pub fn drop_sequence(&mut self, name: &str) -> Result<(), Error> {
        let missing = || Error::new(ErrorKind::NotFound, format!("no sequence {name}"));
        let entry = self.schema.sequence(name).cloned().ok_or_else(missing)?;
        if let Some(owner) = &entry.owner {
            let reason = format!("table {} needs sequence {name}", owner.table);
            return Err(Error::new(ErrorKind::Constraint, reason));
        }
        self.write(vec![Write::Delete(sequence::row_key(name)), Write::Delete(entry.key())])?;
        self.schema_mut().remove_sequence(name);
        self.renew_sequence(name, None);
        Ok(())
    }

    fn put_new_index(
        &mut self,
        definition: &IndexDefinition,
        paths: Option<Vec<String>>,
        writes: &mut Vec<Write>,
    ) -> Result<(), Error> {
        let namespace = self.take_namespace(writes)?;
        let entry = CatalogEntry {
            name: definition.name.clone(),
            kind: EntryKind::Index,
            namespace: Some(namespace),
            sql: definition.to_string(),
            docid_sequence: None,
            owner: Some(Owner { table: definition.table.clone(), paths }),
        };
        writes.push(set_entry(&entry));
        self.schema_mut().put_index(entry)
    }

    /// Creates an index over the rows that exist and those to come. An empty name gets Genji's own.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] for an unknown table or undeclared field, [`ErrorKind::AlreadyExists`] for a name in use,
    /// [`ErrorKind::Constraint`] when a unique index finds equal rows.
    pub fn create_index(&mut self, definition: &IndexDefinition) -> Result<(), Error> {
        let table = self.schema.user_table(&definition.table)?;
        for path in &definition.paths {
            require_declared(&table.definition, path)?;
        }
        let mut definition = definition.clone();
        if definition.name.is_empty() {
            definition.name =
                self.schema.free_name(&format!("{}_{}_idx", definition.table, joined(&definition.paths)));
        }
        require_name(&definition.name)?;
        self.require_free(&definition.name)?;
        self.whole(|this| this.fill_index(&definition))
    }

    fn fill_index(&mut self, definition: &IndexDefinition) -> Result<(), Error> {
        let mut writes = Vec::new();
        self.put_new_index(definition, None, &mut writes)?;
        self.write(writes)?;
        let (table, index) = self.schema.index(&definition.name)?;
        self.write_entries(&table, &index)
    }

    /// Drops an index with its entries.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`]; [`ErrorKind::Constraint`] if it implements a UNIQUE constraint.
    pub fn drop_index(&mut self, name: &str) -> Result<(), Error> {
        let (_, index) = self.schema.index(name)?;
        if index.entry.owner.as_ref().is_some_and(|owner| owner.paths.is_some()) {
            return Err(Error::new(ErrorKind::Constraint, format!("a unique constraint needs index {name}")));
        }
        self.whole(|this| {
            this.delete_index(&index)?;
            this.schema_mut().remove_index(name);
            Ok(())
        })
    }

    /// Writes the entries of indexes anew: of one, of all of a table, or of all there are.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] for what is neither a table nor an index, [`ErrorKind::Constraint`] when a unique index finds
    /// equal rows.
    pub fn reindex(&mut self, name: Option<&str>) -> Result<(), Error> {
        let all = |table: &Arc<Table>| -> Vec<_> {
            table.indexes.iter().map(|index| (table.clone(), index.clone())).collect()
        };
        let indexes = match name {
            None => self.schema.tables().flat_map(all).collect(),
            Some(name) => match self.schema.user_table(name) {
                Ok(table) => all(&table),
                Err(_) => vec![self.schema.index(name)?],
            },
        };
        self.whole(|this| {
            for (table, index) in &indexes {
                this.delete_all(index.namespace)?;
                this.write_entries(table, index)?;
            }
            Ok(())
        })
    }

    fn delete_index(&mut self, index: &Index) -> Result<(), Error> {
        self.delete_all(index.namespace)?;
        self.write(vec![Write::Delete(index.entry.key())])
    }

    /// Drops a table with its rows, indexes and docid sequence.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] for an unknown table, or what reading its keys meets.
    pub fn drop_table(&mut self, name: &str) -> Result<(), Error> {
        let table = self.schema.user_table(name)?;
        self.whole(|this| this.drop_rows_and_definition(&table))?;
        if let Some(sequence) = table.entry.docid_sequence.as_deref() {
            self.renew_sequence(sequence, None);
        }
        Ok(())
    }

    fn drop_rows_and_definition(&mut self, table: &Table) -> Result<(), Error> {
        for index in &table.indexes {
            self.delete_index(index)?;
        }
        self.write(vec![Write::Delete(table.entry.key())])?;
        self.delete_all(table.namespace)?;
        if let Some(sequence) = table.entry.docid_sequence.as_deref()
            && let Some(entry) = self.schema.sequence(sequence).cloned()
        {
            self.write(vec![Write::Delete(sequence::row_key(sequence)), Write::Delete(entry.key())])?;
            self.schema_mut().remove_sequence(sequence);
        }
        self.schema_mut().remove_table(&table.definition.name);
        Ok(())
    }

    /// Gives a table another name; rows, indexes and sequences stay as they are.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], [`ErrorKind::AlreadyExists`].
    pub fn rename_table(&mut self, from: &str, to: &str) -> Result<(), Error> {
        let table = self.schema.user_table(from)?;
        require_name(to)?;
        self.require_free(to)?;
        let definition = TableDefinition { name: to.to_owned(), ..table.definition.clone() };
        let entry = CatalogEntry { name: to.to_owned(), sql: definition.to_string(), ..table.entry.clone() };
        let mut writes = vec![Write::Delete(table.entry.key()), set_entry(&entry)];
        let owned = |owner: &Option<Owner>| owner.as_ref().is_some_and(|owner| owner.table == from);
        let sequences: Vec<CatalogEntry> =
            self.schema.sequences().filter(|entry| owned(&entry.owner)).cloned().collect();
        let schema = self.schema_mut();
        schema.remove_table(from);
        schema.put_table(entry)?;
        for index in &table.indexes {
            let definition = IndexDefinition { table: to.to_owned(), ..index.definition.clone() };
            let paths = index.entry.owner.as_ref().and_then(|owner| owner.paths.clone());
            let owner = Some(Owner { table: to.to_owned(), paths });
            let entry = CatalogEntry { sql: definition.to_string(), owner, ..index.entry.clone() };
            writes.push(set_entry(&entry));
            schema.put_index(entry)?;
        }
        for sequence in sequences {
            let owner = sequence
                .owner
                .as_ref()
                .map(|owner| Owner { table: to.to_owned(), paths: owner.paths.clone() });
            let entry = CatalogEntry { owner, ..sequence };
            writes.push(set_entry(&entry));
            schema.put_sequence(entry);
        }
        self.write(writes)
    }

    /// Adds a declared field to a table and rewrites its rows, which Genji itself could not read otherwise.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] for a declared field; [`ErrorKind::Constraint`] when rows exist that NOT NULL without
    /// a default refuses; [`ErrorKind::Type`] when the default, or an undeclared field of that name, does not fit.
    pub fn add_field(&mut self, table: &str, field: &FieldDefinition) -> Result<(), Error> {
        self.add_field_with(table, field, &[])
    }

    /// As [`Self::add_field`], with CHECK and UNIQUE constraints, which must hold for the rows that exist.
    ///
    /// # Errors
    /// As [`Self::add_field`]; [`ErrorKind::Constraint`] when a row violates one of the constraints.
    pub fn add_field_with(
        &mut self,
        table: &str,
        field: &FieldDefinition,
        constraints: &[TableConstraint],
    ) -> Result<(), Error> {
        // Values that it took from sequences are not given back.
        self.whole(|this| this.add_field_to(table, field, constraints))
    }

    fn add_field_to(
        &mut self,
        table: &str,
        field: &FieldDefinition,
        constraints: &[TableConstraint],
    ) -> Result<(), Error> {
        let table = self.schema.user_table(table)?;
        let mut definition = table.definition.clone();
        definition.document.fields.push(field.clone());
        definition.constraints.extend_from_slice(constraints);
        let definition = complete(&definition)?;
        let entry = CatalogEntry { sql: definition.to_string(), ..table.entry.clone() };
        let mut writes = vec![set_entry(&entry)];
        self.schema_mut().put_table(entry)?;
        let mut indexes = Vec::new();
        for constraint in constraints {
            if let ConstraintKind::Unique(paths) = &constraint.kind {
                indexes.push(self.put_unique_index(&definition.name, paths, &mut writes)?);
            }
        }
        self.write(writes)?;
        self.rewrite_rows(&table, &definition.name, &indexes)
    }
}

fn set_entry(entry: &CatalogEntry) -> Write {
    Write::Set(entry.key(), entry.encode())
}

fn docid_entry(name: String, table: &str) -> CatalogEntry {
    let definition = sequence::docid_definition(name.clone());
    CatalogEntry {
        name,
        kind: EntryKind::Sequence,
        namespace: None,
        sql: definition.to_string(),
        docid_sequence: None,
        owner: Some(Owner { table: table.to_owned(), paths: None }),
    }
}

/// Checks a definition and adds what follows from it: Genji's names for constraints without one, NOT NULL for the fields of
/// the primary key, and that a table without fields takes any.
fn complete(definition: &TableDefinition) -> Result<TableDefinition, Error> {
    let mut definition = definition.clone();
    require_name(&definition.name)?;
    require_field_names(&definition.document)?;
    definition.document.extra |= definition.document.fields.is_empty();
    require_defaults(&definition.document)?;
    name_constraints(&mut definition);
    let mut names = BTreeSet::new();
    let mut primary_keys = 0;
    for constraint in definition.constraints.clone() {
        if !names.insert(constraint.name.clone()) {
            return Err(Error::new(
                ErrorKind::AlreadyExists,
                format!("constraint {} is declared twice", constraint.name),
            ));
        }
        let paths = match &constraint.kind {
            ConstraintKind::PrimaryKey(paths) | ConstraintKind::Unique(paths) => paths.clone(),
            ConstraintKind::Check(text) => parse_expression(text)?.paths(),
        };
        let mut distinct = BTreeSet::new();
        for path in &paths {
            require_declared(&definition, path)?;
            if !distinct.insert(path.to_string()) {
                let reason = format!("field {path} is constrained twice");
                return Err(Error::new(ErrorKind::AlreadyExists, reason));
            }
            if matches!(constraint.kind, ConstraintKind::PrimaryKey(_)) {
                set_not_null(&mut definition.document, &path.0);
            }
        }
        primary_keys += usize::from(matches!(constraint.kind, ConstraintKind::PrimaryKey(_)));
    }
    if primary_keys > 1 {
        return Err(Error::new(ErrorKind::Unsupported, "table has two primary keys"));
    }
    Ok(definition)
}

/// Gives Genji's names to the constraints that have none.
fn name_constraints(definition: &mut TableDefinition) {
    let mut checks = 0;
    for constraint in &mut definition.constraints {
        let name = match &constraint.kind {
            ConstraintKind::Unique(paths) => format!("{}_{}_unique", definition.name, joined(paths)),
            ConstraintKind::PrimaryKey(_) => format!("{}_pk", definition.name),
            ConstraintKind::Check(_) => {
                checks += 1;
                let number = if checks > 1 { (checks - 1).to_string() } else { String::new() };
                format!("{}_check{number}", definition.name)
            }
        };
        if constraint.name.is_empty() {
            constraint.name = name;
        }
    }
}

/// A DEFAULT that is a constant must fit the type; one that takes values of a sequence is an integer.
fn require_defaults(document: &DocumentDefinition) -> Result<(), Error> {
    for field in &document.fields {
        if let Some(text) = &field.default {
            let default = parse_expression(text)?;
            let fits = if default.takes_values() {
                matches!(
                    field.field_type,
                    FieldType::Any
                        | FieldType::Integer
                        | FieldType::Double
                        | FieldType::Text
                        | FieldType::Boolean
                )
            } else {
                let value = default.evaluate(&mut Scope::constant(Parameters::Positional(&[])))?;
                super::cast::to(&value, &field.field_type).is_some()
            };
            if !fits {
                let reason = format!("default of field {} is of another type", field.name);
                return Err(Error::new(ErrorKind::Type, reason));
            }
        }
        if let FieldType::Document(nested) = &field.field_type {
            require_defaults(nested)?;
        }
    }
    Ok(())
}

/// Genji stores names of fields without quotes, so an odd name makes its catalog unreadable.
fn require_field_names(document: &DocumentDefinition) -> Result<(), Error> {
    let mut names = BTreeSet::new();
    for field in &document.fields {
        let plain = field.name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let begins = field.name.bytes().next().is_some_and(|byte| !byte.is_ascii_digit());
        if !plain || !begins {
            let reason = format!("field name {} is not plain", field.name);
            return Err(Error::new(ErrorKind::Unsupported, reason));
        }
        if !names.insert(&field.name) {
            return Err(Error::new(
                ErrorKind::AlreadyExists,
                format!("field {} is declared twice", field.name),
            ));
        }
        if let FieldType::Document(nested) = &field.field_type {
            require_field_names(nested)?;
        }
    }
    Ok(())
}

fn require_name(name: &str) -> Result<(), Error> {
    if name.is_empty() || name.chars().any(char::is_control) {
        return Err(Error::new(ErrorKind::Unsupported, "name is empty or holds a control character"));
    }
    if name.starts_with("__genji_") {
        return Err(Error::new(ErrorKind::Unsupported, format!("name {name} belongs to the engine")));
    }
    Ok(())
}

fn require_declared(table: &TableDefinition, path: &Path) -> Result<(), Error> {
    let mut document = Some(&table.document);
    for segment in &path.0 {
        let field = match (segment, document) {
            (PathSegment::Field(name), Some(document)) => document.field(name),
            _ => None,
        };
        let Some(field) = field else {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!("table {} declares no field {path}", table.name),
            ));
        };
        document = match &field.field_type {
            FieldType::Document(nested) => Some(nested),
            _ => None,
        };
    }
    Ok(())
}

fn set_not_null(document: &mut DocumentDefinition, path: &[PathSegment]) {
    let Some((PathSegment::Field(name), rest)) = path.split_first() else { return };
    let Some(field) = document.fields.iter_mut().find(|field| field.name == *name) else { return };
    if rest.is_empty() {
        field.not_null = true;
    } else if let FieldType::Document(nested) = &mut field.field_type {
        set_not_null(nested, rest);
    }
}
