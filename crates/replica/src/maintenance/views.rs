//! Views come, change and go; each in one transaction, with the difference in the change log.

use deltamesh_view::{CreateView, Index, Program, Statement, ViewDefinition, parse_statements};

use super::Maintainer;
use super::cell::Cell;
use super::database::{Database, Object};
use super::delta::{Failure, Stamp, of_view};
use super::mirror::{durable, quote};
use super::replace::next_name;
use super::state::{View, fingerprint, names, plan_as, plan_error, plan_view};
use crate::error::{Error, ErrorKind, Result};
use crate::group::Group;

/// What is to become of a view.
struct Build<'a> {
    name: &'a str,
    module: &'a str,
    sql: &'a str,
    program: Program,
}

impl<D: Database> Maintainer<D> {
    /// Runs `CREATE` and `DROP` statements in order; gives the names of the views that changed.
    pub(super) fn run_statements(&mut self, sql: &str) -> std::result::Result<Vec<String>, Failure> {
        let statements = parse_statements(sql).map_err(|error| plan_error("statement", &error))?;
        let mut names = Vec::new();
        for statement in &statements {
            names.extend(self.run_statement(statement)?);
        }
        Ok(names)
    }

    /// Runs a statement about a view of no module; gives the name of the view where it changed.
    pub(super) fn run_statement(
        &mut self,
        statement: &Statement,
    ) -> std::result::Result<Option<String>, Failure> {
        let (name, changed) = match statement {
            Statement::Create(create) => (&create.name, self.create_view("", create, &[])?),
            Statement::Drop(drop) => (&drop.name, self.drop_view("", &drop.name, drop.if_exists)?),
        };
        Ok(changed.then(|| name.clone()))
    }

    /// Makes the views of a module those of its SQL; gives the names of the views that changed.
    pub(super) fn replace_module(
        &mut self,
        module: &str,
        sql: &str,
    ) -> std::result::Result<Vec<String>, Failure> {
        let statements = parse_statements(sql).map_err(|error| plan_error("module", &error))?;
        let mut creates = Vec::new();
        for statement in statements {
            match statement {
                Statement::Create(create) => creates.push(*create),
                Statement::Drop(drop) => {
                    let reason = "a module's SQL drops a view by leaving it out";
                    return Err(Error::new(ErrorKind::Plan, format!("view {}", drop.name), reason).into());
                }
            }
        }
        let mut names = Vec::new();
        let is_wanted = |name: &str| creates.iter().any(|create| create.name.eq_ignore_ascii_case(name));
        let views = self.state.views.iter().rev().filter(|view| !view.is_next());
        let unwanted = views.filter(|view| view.module == module);
        let unwanted = unwanted.map(|view| view.name.clone()).filter(|name| !is_wanted(name));
        for name in unwanted.collect::<Vec<_>>() {
            self.drop_view(module, &name, false)?;
            names.push(name);
        }
        let mut changes = vec![];
        for create in &creates {
            if self.is_to_change(module, create)? {
                changes.push(create.name.clone());
            }
        }
        for create in &creates {
            if self.create_view(module, create, &changes)? {
                names.push(create.name.clone());
            }
        }
        Ok(names)
    }

    /// Creates or replaces one view and what stands over it, except those that will be replaced anyway.
    fn create_view(
        &mut self,
        module: &str,
        create: &CreateView,
        replaced_anyway: &[String],
    ) -> std::result::Result<bool, Failure> {
        self.check_free(&create.name)?;
        if !self.is_to_change(module, create)? {
            return Ok(false);
        }
        let over = self.state.over(&create.name);
        let without = [std::slice::from_ref(&create.name), over.as_slice()].concat();
        let mut catalog = self.state.catalog(&[], &without);
        if !over.is_empty() {
            catalog.keep_rows(&create.name);
        }
        let program = plan_view(create, &catalog, D::DIALECT)?;
        let build = Build { name: &create.name, module, sql: &create.sql, program };
        if over.is_empty() && self.state.view(&create.name).is_some_and(|view| view.fed.is_some()) {
            // Nobody has seen it.
            self.remove(&create.name)?;
        }
        if self.state.view(&create.name).is_none() {
            self.begin(build)?;
        } else if self.is_replaced_beside(&create.name, &build.program, &over)? {
            self.replace_beside(module, create, &over, replaced_anyway)?;
        } else {
            self.replace_at_once(build, &over, replaced_anyway)?;
        }
        Ok(true)
    }

    /// Whether a statement changes what is to be; refuses it where it must not.
    fn is_to_change(&self, module: &str, create: &CreateView) -> Result<bool> {
        let Some(known) = self.state.view(&create.name) else { return Ok(true) };
        let conflict = |reason| Err(Error::new(ErrorKind::Conflict, format!("view {}", create.name), reason));
        if known.module != module {
            return conflict(format!("exists already in {}", owner(&known.module)));
        }
        if known.name != create.name {
            return conflict(format!("exists already, written {}", known.name));
        }
        let single = module.is_empty();
        if single && !create.replace && !create.if_not_exists {
            return conflict("exists already".to_owned());
        }
        let wanted = self.state.next_of(&create.name).unwrap_or(known);
        let same = wanted.sql == create.sql && wanted.fault.is_none();
        Ok(!(same || single && create.if_not_exists))
    }

    /// Begins a view: over a large relation it is filled beside the flow.
    fn begin(&mut self, build: Build<'_>) -> std::result::Result<(), Failure> {
        let stamp = self.own_stamp();
        let Some((table, column)) = self.relation_to_feed(&build.program)? else {
            return self.install(build, &stamp);
        };
        let Build { name, module, sql, program } = build;
        self.store_bases(&program, &stamp)?;
        self.make_tables(name, &program)?;
        self.record_view(name, module, sql, program)?;
        Ok(self.begin_feeding(name, &table, column.as_deref())?)
    }

    /// Replaces a view and builds those over it again, in this transaction.
    fn replace_at_once(
        &mut self,
        build: Build<'_>,
        over: &[String],
        replaced_anyway: &[String],
    ) -> std::result::Result<(), Failure> {
        let (replaced, stamp) = (build.name.to_owned(), self.own_stamp());
        self.install(build, &stamp)?;
        for name in over.iter().filter(|name| !names(replaced_anyway, name)) {
            if let Err(error) = self.rebuild(name, &stamp)? {
                return Err(refused_over(&replaced, name, &error).into());
            }
        }
        Ok(())
    }

    fn drop_view(&mut self, module: &str, name: &str, if_exists: bool) -> std::result::Result<bool, Failure> {
        let place = || format!("view {name}");
        let Some(view) = self.state.view(name) else {
            if if_exists {
                return Ok(false);
            }
            return Err(Error::new(ErrorKind::NotFound, place(), "does not exist").into());
        };
        if view.module != module {
            let reason = format!("belongs to {}", owner(&view.module));
            return Err(Error::new(ErrorKind::Conflict, place(), reason).into());
        }
        let name = view.name.clone();
        if let Some(dependent) = self.state.over(&name).first() {
            let reason = format!("view {dependent} depends on it");
            return Err(Error::new(ErrorKind::Conflict, place(), reason).into());
        }
        self.discard_next(&name)?;
        self.remove(&name)?;
        Ok(true)
    }

    /// Removes a view that none reads.
    fn remove(&mut self, name: &str) -> Result<()> {
        let stamp = self.own_stamp();
        let former = self.set_aside(name, &stamp, None)?;
        self.drop_former(name, former.is_some())?;
        self.forget(name)
    }

    /// Takes a view out of the record.
    pub(super) fn forget(&mut self, name: &str) -> Result<()> {
        let sql = "DELETE FROM __deltamesh_views WHERE name = $1";
        self.database.execute(&format!("view {name}"), sql, &[Cell::Text(name.to_owned())])?;
        if let Some(index) = self.state.views.iter().position(|view| view.name == name) {
            let view = self.state.views.remove(index);
            self.state.unsettled.extend(view.definition.indexes);
        }
        Ok(())
    }

    /// Has the rows of the views that a program reads in tables: its steps need them as they were, and indexes on them.
    pub(super) fn store_bases(
        &mut self,
        program: &Program,
        stamp: &Stamp,
    ) -> std::result::Result<(), Failure> {
        let bases = program.definition.bases.iter().filter(|base| base.source.is_none());
        let unstored = bases.filter_map(|base| self.state.by_table(&base.table));
        let unstored = unstored.filter(|view| view.program.is_some() && !view.definition.stored);
        for name in unstored.map(|view| view.name.clone()).collect::<Vec<_>>() {
            self.rebuild_stored(&name, true, stamp)??;
        }
        Ok(())
    }

    /// Builds a recorded view from its own SQL again. The inner error is a refusal of the planner: nothing was changed.
    pub(super) fn rebuild(&mut self, name: &str, stamp: &Stamp) -> std::result::Result<Result<()>, Failure> {
        let stored = self.state.view(name).is_some_and(|view| view.definition.stored);
        self.rebuild_stored(name, stored, stamp)
    }

    /// [`Self::rebuild`] of a view whose rows are kept in a table if `stored` says so.
    fn rebuild_stored(
        &mut self,
        name: &str,
        stored: bool,
        stamp: &Stamp,
    ) -> std::result::Result<Result<()>, Failure> {
        let Some(view) = self.state.view(name) else { return Ok(Ok(())) };
        if view.is_next() {
            return self.rebuild_next(&view.definition.name.clone(), stored);
        }
        let (name, module, sql) = (view.name.clone(), view.module.clone(), view.sql.clone());
        let without = [vec![name.clone()], self.state.over(&name)].concat();
        let mut catalog = self.state.catalog(&view.definition.bases, &without);
        if stored {
            catalog.keep_rows(&name);
        }
        let program = match plan_as(&sql, view.definition.stem.clone(), &catalog, D::DIALECT) {
            Ok(program) => program,
            Err(error) => return Ok(Err(error)),
        };
        self.install(Build { name: &name, module: &module, sql: &sql, program }, stamp)?;
        Ok(Ok(()))
    }

    /// Builds the views over changed tables again, and tries those that are faulted. One that cannot be planned any more is
    /// faulted; its rows stay as they are.
    pub(super) fn follow_schema(
        &mut self,
        tables: &[String],
        group: &Group,
    ) -> std::result::Result<(), Failure> {
        let dependents = self.state.dependents(tables);
        let stamp = self.stamp(group);
        let names = self.state.views.iter().filter(|view| {
            let retry = view.fault.is_some() && !self.refused.contains(&view.name);
            retry || dependents.contains(&view.name)
        });
        for name in names.map(|view| view.name.clone()).collect::<Vec<_>>() {
            if self.refused.contains(&name) {
                continue;
            }
            if let Err(error) = self.rebuild(&name, &stamp)? {
                self.set_fault(&name, error.reason())?;
            }
        }
        Ok(())
    }

    /// Tries every faulted view again, each in this transaction; gives the names of those that are maintained now.
    pub(super) fn rebuild_faulted(&mut self, also: &[String]) -> std::result::Result<Vec<String>, Failure> {
        let stamp = self.own_stamp();
        let mut mended = Vec::new();
        let names = self.state.views.iter().filter(|view| view.fault.is_some() || also.contains(&view.name));
        for name in names.map(|view| view.name.clone()).collect::<Vec<_>>() {
            if self.refused.contains(&name) {
                continue;
            }
            match self.rebuild(&name, &stamp)? {
                Ok(()) => mended.extend(self.state.shown(&name)),
                Err(error) => self.set_fault(&name, error.reason())?,
            }
        }
        Ok(mended)
    }

    /// Stops maintaining a view, and the views over it. Its rows stay readable.
    pub(super) fn set_fault(&mut self, name: &str, reason: &str) -> Result<()> {
        let Some(view) = self.state.view(name) else { return Ok(()) };
        let shown = view.definition.name.clone();
        let mut names = self.state.dependents(&[view.table().to_owned()]);
        names.insert(0, name.to_owned());
        for stopped in names {
            let reason = if stopped == name {
                reason.to_owned()
            } else {
                format!("view {shown} is faulted: {reason}")
            };
            let Some(view) = self.state.views.iter_mut().find(|view| view.name == stopped) else { continue };
            if view.fault.as_ref() == Some(&reason) && view.program.is_none() {
                continue;
            }
            tracing::warn!(view = %view.definition.name, is_next = view.is_next(), %reason, "view is faulted");
            view.fault = Some(reason.clone());
            let (program, is_next) = (view.program.take(), view.is_next());
            let indexes = view.definition.indexes.clone();
            match program {
                Some(program) if is_next => self.drop_tables(&stopped, &program)?,
                Some(program) => self.keep_rows(&stopped, &program)?,
                None => {}
            }
            self.state.unsettled.extend(indexes);
            self.end_feeding(&stopped)?;
            let sql = "UPDATE __deltamesh_views SET fault = $1 WHERE name = $2";
            self.database.execute("record fault", sql, &[Cell::Text(reason), Cell::Text(stopped)])?;
        }
        Ok(())
    }

    /// Removes what a program made, except the view's rows under the view's name.
    fn keep_rows(&self, name: &str, program: &Program) -> Result<()> {
        let definition = &program.definition;
        self.freeze_readers(definition.stem())?;
        self.hide(name, definition)?;
        let kept = self.rename_storage(name, &definition.storage)?;
        self.database.define(name, &program.drop)?;
        if kept {
            self.restore_storage(name, &definition.storage)?;
            self.show(name, definition)?;
        }
        Ok(())
    }

    /// Removes what the program of a next view made.
    pub(super) fn drop_tables(&self, name: &str, program: &Program) -> Result<()> {
        let ViewDefinition { storage, stored, .. } = &program.definition;
        self.freeze_readers(program.definition.stem())?;
        // Its rows were read from the mirrors, and a new schema has made them a table.
        if !stored && self.database.object(storage)? == Some(Object::Table) {
            self.database.define(name, &[format!("DROP TABLE {}", durable(D::DIALECT, storage))])?;
        }
        self.database.define(name, &program.drop)
    }

    /// Makes the SQL views over the table of a view's rows.
    pub(super) fn show(&self, name: &str, definition: &ViewDefinition) -> Result<()> {
        self.database.define(name, &definition.show(D::DIALECT, name == definition.name))
    }

    /// Removes the SQL views over the table of a view's rows.
    pub(super) fn hide(&self, name: &str, definition: &ViewDefinition) -> Result<()> {
        // That of a next view's own name is the former one's.
        let mut shown: Vec<&str> = vec![name, definition.stem()];
        shown.dedup();
        for shown in shown.into_iter().filter(|shown| *shown != definition.storage) {
            if self.database.object(shown)? == Some(Object::View) {
                self.database.define(name, &[format!("DROP VIEW {}", durable(D::DIALECT, shown))])?;
            }
        }
        Ok(())
    }

    /// Makes a view's tables, fills them, and records the difference to the rows that it had.
    fn install(&mut self, build: Build<'_>, stamp: &Stamp) -> std::result::Result<(), Failure> {
        let Build { name, module, sql, program } = build;
        self.store_bases(&program, stamp)?;
        // Rows change that no batch notes.
        self.end_comparison(&next_name(name))?;
        let started = std::time::Instant::now();
        let former = of_view(name, self.set_aside(name, stamp, Some(&program.definition)))?;
        of_view(name, self.make_tables(name, &program))?;
        of_view(name, self.database.define(name, &program.fill))?;
        let compared = (former == Some(true)).then(|| former_table(name));
        of_view(name, self.record_difference(name, &program, compared.as_deref(), stamp))?;
        of_view(name, self.show(name, &program.definition))?;
        self.drop_former(name, former.is_some())?;
        self.record_view(name, module, sql, program)?;
        let elapsed = started.elapsed();
        if elapsed.as_secs() >= 2 {
            tracing::info!(view = %name, seconds = elapsed.as_secs(), "view was filled");
        }
        Ok(())
    }

    pub(super) fn make_tables(&self, name: &str, program: &Program) -> Result<()> {
        for statements in [&program.drop, &program.create, &program.connect] {
            self.database.define(name, statements)?;
        }
        let at_once = |index: &&Index| index.is_made_at_once();
        let known = self.state.views.iter().flat_map(|view| &view.definition.indexes).filter(at_once);
        let own = &program.definition.indexes;
        let serving = Index::serving(known.chain(own.iter().filter(at_once)));
        for index in serving.into_iter().filter(|index| own.contains(index)) {
            self.database.define(&index.name, &[index.create(D::DIALECT)])?;
        }
        Ok(())
    }

    /// Sets the rows of a view aside under another table name and removes everything else of it. `Some(true)`: there are
    /// rows, and of the shape that is wanted now; for rows of another shape (`Some(false)`) deletes have been recorded.
    fn set_aside(
        &mut self,
        name: &str,
        stamp: &Stamp,
        wanted: Option<&ViewDefinition>,
    ) -> Result<Option<bool>> {
        let Some(view) = self.state.view(name) else { return Ok(None) };
        let definition = view.definition.clone();
        let same_shape = wanted.is_some_and(|wanted| same_shape(&definition, wanted));
        if !same_shape {
            match &view.program {
                Some(program) => self.record_all(program, &program.images[0], stamp)?,
                None => self.record_deletes(&definition, stamp)?,
            };
        }
        let view_name = view.name.clone();
        let drop = view.program.as_ref().map(|program| program.drop.clone()).unwrap_or_default();
        self.freeze_readers(definition.stem())?;
        self.hide(&view_name, &definition)?;
        let kept = self.rename_storage(&view_name, &definition.storage)?;
        self.database.define(&view_name, &drop)?;
        self.end_feeding(&view_name)?;
        Ok(kept.then_some(same_shape))
    }

    /// Renames the table of a view's rows; says whether there is one. Its indexes go: the next build makes its own.
    pub(super) fn rename_storage(&self, name: &str, storage: &str) -> Result<bool> {
        let former = former_table(name);
        let [from, to] = [storage, former.as_str()].map(|table| durable(D::DIALECT, table));
        self.database.define(name, &[format!("DROP TABLE IF EXISTS {to}")])?;
        match self.database.object(storage)? {
            Some(Object::Table) => {
                self.drop_indexes(storage)?;
                self.database.define(name, &[format!("ALTER TABLE {from} RENAME TO {}", quote(&former))])?;
            }
            Some(Object::View) => {
                let copy = format!("CREATE TABLE {to} AS SELECT * FROM {from}");
                self.database.define(name, &[copy, format!("DROP VIEW {from}")])?;
            }
            None => return Ok(false),
        }
        Ok(true)
    }

    /// Gives the rows that were set aside their table's name back.
    pub(super) fn restore_storage(&self, name: &str, storage: &str) -> Result<()> {
        let former = durable(D::DIALECT, &former_table(name));
        self.database.define(name, &[format!("ALTER TABLE {former} RENAME TO {}", quote(storage))])
    }

    fn drop_former(&self, name: &str, exists: bool) -> Result<()> {
        if exists {
            let former = durable(D::DIALECT, &former_table(name));
            self.database.define(name, &[format!("DROP TABLE {former}")])?;
        }
        Ok(())
    }

    pub(super) fn record_view(
        &mut self,
        name: &str,
        module: &str,
        sql: &str,
        program: Program,
    ) -> Result<()> {
        let place = || format!("record view {name}");
        let definition = serde_json::to_string(&program.definition).map_err(|error| {
            Error::new(ErrorKind::Plan, place(), "definition cannot be written as JSON").caused_by(error)
        })?;
        let position = self.build_position(name, &program.definition);
        let statement = "INSERT INTO __deltamesh_views VALUES ($1, $2, $3, $4, $5, $6, NULL)
            ON CONFLICT (name) DO UPDATE SET position = excluded.position, module = excluded.module,
                sql = excluded.sql, definition = excluded.definition, program = excluded.program, fault = NULL";
        let text = |text: &str| Cell::Text(text.to_owned());
        let values = [
            text(name),
            Cell::Integer(position),
            text(module),
            text(sql),
            Cell::Text(definition),
            Cell::Text(fingerprint(&program)),
        ];
        self.database.execute(&place(), statement, &values)?;
        let indexes = program.definition.indexes.clone();
        let view = View {
            name: name.to_owned(),
            position,
            module: module.to_owned(),
            sql: sql.to_owned(),
            definition: program.definition.clone(),
            program: Some(program),
            fault: None,
            fed: None,
            compared: None,
        };
        let former = self.state.views.iter().position(|view| view.name == name);
        let former = former.map(|index| self.state.views.remove(index));
        let index = self.state.views.partition_point(|other| other.position < position);
        self.state.views.insert(index, view);
        self.state.unsettled.extend(former.into_iter().flat_map(|former| former.definition.indexes));
        self.state.unsettled.extend(indexes);
        Ok(())
    }

    /// A view keeps its place in the order unless it now reads one that stands behind it.
    fn build_position(&self, name: &str, definition: &ViewDefinition) -> i64 {
        let last = self.state.views.last().map_or(0, |view| view.position);
        let known = self.state.view(name).map(|view| view.position);
        let bases = definition.bases.iter().filter(|base| base.source.is_none());
        let behind =
            bases.filter_map(|base| self.state.by_table(&base.table)).map(|view| view.position).max();
        match known {
            Some(position) if behind.is_none_or(|behind| behind < position) => position,
            _ => last + 1,
        }
    }

    /// The stamp of changes that no group caused.
    pub(super) fn own_stamp(&self) -> Stamp {
        Stamp { position: self.state.positions(), dsid: 0, captured_us: 0 }
    }
}

fn owner(module: &str) -> String {
    if module.is_empty() { "no module".to_owned() } else { format!("module {module}") }
}

pub(super) fn former_table(name: &str) -> String {
    format!("__deltamesh_former_{name}")
}

/// The error of a view over one that is replaced.
pub(super) fn refused_over(replaced: &str, name: &str, error: &Error) -> Error {
    let reason = format!("view {name} depends on it: {}", error.reason());
    Error::new(ErrorKind::Conflict, format!("view {replaced}"), reason)
}

/// Whether the rows of one definition can stand for rows of the other.
pub(super) fn same_shape(known: &ViewDefinition, wanted: &ViewDefinition) -> bool {
    (&known.columns, &known.hidden, &known.key, &known.subject)
        == (&wanted.columns, &wanted.hidden, &wanted.key, &wanted.subject)
}
