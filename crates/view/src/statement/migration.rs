//! What a migration of a replica may say: statements about tables, views and indexes of the user's own, and materialised
//! views. Anything else is refused, above all what would write rows that the replica maintains.

use datafusion_sql::sqlparser::ast::{
    AlterTableOperation, ColumnOption, CreateIndex, CreateTable, CreateView as PlainView, Delete, FromTable,
    ObjectName, ObjectType, Statement as Parsed, TableConstraint, TableFactor, TableObject, TableWithJoins,
};
use datafusion_sql::sqlparser::parser::Parser;
use datafusion_sql::sqlparser::tokenizer::TokenWithSpan;

use super::check::{indexable, reading, writing};
use super::{Statement, ViewDialect, parse_statement, split, syntax};
use crate::{Error, Location};

/// Longest name of an object: one that every replica takes.
const NAME_BYTES: usize = 60;

/// One statement of a migration.
#[derive(Debug, Clone)]
pub struct MigrationStep {
    /// Where it begins.
    pub location: Location,
    /// What it does.
    pub action: MigrationAction,
}

/// What a statement of a migration does. Its SQL is the text of what was understood.
#[derive(Debug, Clone)]
pub enum MigrationAction {
    /// Creates or drops a materialised view.
    View(Statement),
    /// Creates a table or a plain view.
    Create {
        /// Which of them.
        object: OwnKind,
        /// Its name.
        name: String,
        /// The statement.
        sql: String,
    },
    /// Creates an index.
    Index(OwnIndex),
    /// Drops a table, plain view or index.
    Drop {
        /// Which of them.
        object: OwnKind,
        /// Its name.
        name: String,
        /// Whether a missing one is not an error.
        if_exists: bool,
    },
    /// Changes the rows or the columns of a table.
    Change {
        /// The table: one that a migration has created.
        table: String,
        /// The statement.
        sql: String,
    },
}

/// Kind of an object that migrations create.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnKind {
    /// A table.
    Table,
    /// A plain view.
    View,
    /// An index.
    Index,
}

impl OwnKind {
    /// Its word in SQL.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Table => "TABLE",
            Self::View => "VIEW",
            Self::Index => "INDEX",
        }
    }
}

/// `CREATE INDEX`, on a table of the user's own, a mirror or a materialised view.
#[derive(Debug, Clone)]
pub struct OwnIndex {
    /// Name of the index.
    pub name: String,
    /// Table, as it was named.
    pub table: String,
    /// Why it cannot stand on a table that the replica maintains: it could refuse rows.
    pub only_own: Option<&'static str>,
    statement: Box<CreateIndex>,
}

impl OwnIndex {
    /// The statement, for the table that holds the rows.
    #[must_use]
    pub fn on(&self, table: &str) -> String {
        let name = datafusion_sql::sqlparser::ast::Ident::with_quote('"', table);
        CreateIndex { table_name: ObjectName::from(vec![name]), ..(*self.statement).clone() }.to_string()
    }
}

/// Reads the statements of a migration.
///
/// # Errors
/// The first one that a migration may not have, with its place, the reason, and what to write instead.
pub fn parse_migration(sql: &str) -> Result<Vec<MigrationStep>, Error> {
    split(sql)?.iter().map(|tokens| step(sql, tokens)).collect()
}

fn step(sql: &str, tokens: &[TokenWithSpan]) -> Result<MigrationStep, Error> {
    let location = tokens.first().and_then(|token| Location::of(token.span));
    let location = location.unwrap_or(Location { line: 1, column: 1 });
    let words = tokens.iter().take(4).map(|token| token.token.to_string().to_uppercase());
    let words = words.collect::<Vec<_>>();
    let is_materialized = words.iter().any(|word| word == "MATERIALIZED" || word == "MATERIALISED");
    let action = if is_materialized {
        MigrationAction::View(parse_statement(sql, tokens)?)
    } else {
        if let Some(reason) = refusal(&words) {
            return Err(Error::unsupported(reason, Some(location)));
        }
        let mut parser = Parser::new(&ViewDialect).with_tokens_with_locations(tokens.to_vec());
        let parsed = parser.parse_statement().map_err(|error| placed(syntax(error), location))?;
        let rest = parser.peek_token();
        if rest.token != datafusion_sql::sqlparser::tokenizer::Token::EOF {
            let message = format!("expected the end of the statement, found {}", rest.token);
            return Err(Error::syntax(message, Location::of(rest.span)));
        }
        action(parsed).map_err(|reason| Error::unsupported(reason, Some(location)))?
    };
    Ok(MigrationStep { location, action })
}

/// What is missing at the end has no place of its own.
fn placed(error: Error, location: Location) -> Error {
    Error { location: error.location.or(Some(location)), ..error }
}

/// Why a statement that begins so is refused, where the reason is worth more than its absence from the list.
fn refusal(words: &[String]) -> Option<&'static str> {
    let has = |word: &str| words.iter().any(|other| other == word);
    match words.first()?.as_str() {
        "BEGIN" | "START" | "COMMIT" | "ROLLBACK" | "SAVEPOINT" | "RELEASE" | "END" => {
            Some("a migration is one transaction already; leave the statement out")
        }
        "CREATE" if has("TRIGGER") => Some(
            "a trigger could stop the replica's transactions; make a materialized view, or read __deltamesh_changes",
        ),
        "CREATE" if has("FUNCTION") || has("PROCEDURE") => {
            Some("what a function does cannot be checked; write the expression in a view")
        }
        "GRANT" | "REVOKE" => Some(
            "rights are given by the owner of the database: ALTER DEFAULT PRIVILEGES covers what comes later",
        ),
        "SET" | "RESET" | "PRAGMA" | "VACUUM" | "ANALYZE" | "ATTACH" | "DETACH" => {
            Some("settings of the database are not those of a migration; leave the statement out")
        }
        _ => None,
    }
}

/// What a parsed statement does, or why it may not.
fn action(parsed: Parsed) -> Result<MigrationAction, String> {
    match parsed {
        Parsed::CreateTable(table) => create_table(&table),
        Parsed::CreateView(view) => create_view(&view),
        Parsed::CreateIndex(index) => create_index(index),
        Parsed::Drop { object_type, if_exists, names, cascade, .. } => {
            let object = match object_type {
                ObjectType::Table => OwnKind::Table,
                ObjectType::View => OwnKind::View,
                ObjectType::Index => OwnKind::Index,
                other => return Err(format!("a migration drops tables, views and indexes, not {other}")),
            };
            let [name] = names.as_slice() else { return Err("write one DROP for each name".to_owned()) };
            if cascade {
                return Err("CASCADE drops what is not named; write a DROP for each name".to_owned());
            }
            Ok(MigrationAction::Drop { object, name: own_name(name)?, if_exists })
        }
        Parsed::AlterTable(alter) => {
            alter.operations.iter().try_for_each(alteration)?;
            let table = own_name(&alter.name)?;
            change(table, &Parsed::AlterTable(alter))
        }
        Parsed::Insert(insert) => {
            let TableObject::TableName(name) = &insert.table else {
                return Err("name the table".to_owned());
            };
            let table = own_name(name)?;
            change(table, &Parsed::Insert(insert))
        }
        Parsed::Update(update) => {
            let table = own_name(named(std::slice::from_ref(&update.table))?)?;
            change(table, &Parsed::Update(update))
        }
        Parsed::Delete(delete) => {
            let table = own_name(deleted(&delete)?)?;
            change(table, &Parsed::Delete(delete))
        }
        _ => Err("a migration creates, changes and drops tables, views and indexes of its own, and materialized views"
            .to_owned()),
    }
}

fn change(table: String, parsed: &Parsed) -> Result<MigrationAction, String> {
    writing(parsed)?;
    Ok(MigrationAction::Change { table, sql: parsed.to_string() })
}

fn create_table(table: &CreateTable) -> Result<MigrationAction, String> {
    once(table.or_replace, table.if_not_exists, table.temporary)?;
    if table.like.is_some()
        || table.clone.is_some()
        || table.inherits.is_some()
        || table.partition_of.is_some()
    {
        return Err("write the columns of the table".to_owned());
    }
    let is_reference = |constraint: &TableConstraint| matches!(constraint, TableConstraint::ForeignKey(_));
    let options = table.columns.iter().flat_map(|column| &column.options);
    if table.constraints.iter().any(is_reference) || options.map(|option| &option.option).any(refers) {
        return Err(REFERENCE.to_owned());
    }
    let parsed = Parsed::CreateTable(table.clone());
    writing(&parsed)?;
    let name = own_name(&table.name)?;
    Ok(MigrationAction::Create { object: OwnKind::Table, name, sql: parsed.to_string() })
}

const REFERENCE: &str =
    "a reference could refuse changes of the rows that it points to; leave it out, or check it in a view";

fn refers(option: &ColumnOption) -> bool {
    matches!(option, ColumnOption::ForeignKey(_))
}

fn alteration(operation: &AlterTableOperation) -> Result<(), String> {
    match operation {
        AlterTableOperation::AddColumn { column_def, .. } => {
            let refers = column_def.options.iter().any(|option| refers(&option.option));
            if refers { Err(REFERENCE.to_owned()) } else { Ok(()) }
        }
        AlterTableOperation::DropColumn { .. } | AlterTableOperation::RenameColumn { .. } => Ok(()),
        _ => {
            Err("a table can be given, lose and rename columns; for anything else create another one"
                .to_owned())
        }
    }
}

fn create_view(view: &PlainView) -> Result<MigrationAction, String> {
    once(view.or_replace || view.or_alter, view.if_not_exists, view.temporary)?;
    let parsed = Parsed::CreateView(view.clone());
    reading(&parsed)?;
    let name = own_name(&view.name)?;
    Ok(MigrationAction::Create { object: OwnKind::View, name, sql: parsed.to_string() })
}

fn create_index(index: CreateIndex) -> Result<MigrationAction, String> {
    once(false, index.if_not_exists, false)?;
    if index.concurrently {
        return Err("CONCURRENTLY cannot stand in a transaction, and a migration is one".to_owned());
    }
    let name = index.name.as_ref().ok_or("give the index a name")?;
    let name = own_name(name)?;
    let table = alone(&index.table_name)?.value.clone();
    let only_own = indexable(&index).err();
    if table.contains("__") {
        is_replicas(&table)?;
        if let Some(reason) = only_own {
            return Err(reason.to_owned());
        }
    }
    writing(&Parsed::CreateIndex(index.clone()))?;
    Ok(MigrationAction::Index(OwnIndex { name, table, only_own, statement: Box::new(index) }))
}

/// A mirror may be indexed; what the replica keeps for itself may not.
fn is_replicas(table: &str) -> Result<(), String> {
    let reserved = ["__deltamesh", "old__", "new__", "delta__", "groups__", "affected__", "seen__"];
    if reserved.iter().any(|start| table.to_ascii_lowercase().starts_with(start)) {
        return Err(format!("{table} is the replica's own"));
    }
    Ok(())
}

/// A migration is applied once, and what it creates stays.
fn once(or_replace: bool, if_not_exists: bool, temporary: bool) -> Result<(), String> {
    if or_replace {
        return Err("drop the former one with DROP … IF EXISTS, and leave OR REPLACE out".to_owned());
    }
    if if_not_exists {
        return Err("a migration is applied once; leave IF NOT EXISTS out".to_owned());
    }
    if temporary {
        return Err("what is temporary ends with the migration; leave TEMPORARY out".to_owned());
    }
    Ok(())
}

fn deleted(delete: &Delete) -> Result<&ObjectName, String> {
    let (FromTable::WithFromKeyword(from) | FromTable::WithoutKeyword(from)) = &delete.from;
    if !delete.tables.is_empty() {
        return Err("write DELETE FROM and one table".to_owned());
    }
    named(from)
}

fn named(tables: &[TableWithJoins]) -> Result<&ObjectName, String> {
    match tables {
        [TableWithJoins { relation: TableFactor::Table { name, .. }, joins }] if joins.is_empty() => Ok(name),
        _ => Err("name one table, without joins".to_owned()),
    }
}

fn alone(name: &ObjectName) -> Result<&datafusion_sql::sqlparser::ast::Ident, String> {
    match name.0.as_slice() {
        [part] => part.as_ident().ok_or_else(|| format!("{name} is not a name")),
        _ => Err(format!("write the last part of {name} alone")),
    }
}

/// The name of an object of the user's own. What the replica maintains has others: its mirrors have a double `_`.
fn own_name(name: &ObjectName) -> Result<String, String> {
    let text = &alone(name)?.value;
    if text.to_ascii_lowercase().starts_with("__deltamesh") {
        return Err(format!("{text} is the replica's own; only the view-builder writes it"));
    }
    if text.contains("__") {
        return Err(format!("{text} is named like a mirror, which has the rows of its source and no others"));
    }
    let simple = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    let begins = text.starts_with(|first: char| first.is_ascii_lowercase());
    if !begins || text.len() > NAME_BYTES || !text.bytes().all(simple) || text.starts_with("sqlite_") {
        return Err(format!("{text}: a name has up to {NAME_BYTES} lower-case letters, digits and _"));
    }
    Ok(text.clone())
}
