//! Replacing a view beside the flow of changes (ADR 18).
//!
//! Where a view over a large relation gets another definition, the *next* view is recorded, filled and maintained beside the one
//! that is there, under a name of its own and with tables whose names are made of another *stem*. So are the views over it: they
//! read the next one. When the last of them is complete, one transaction records what differs and puts them in the place of the
//! former ones. Until then readers and feeds have these.

use deltamesh_view::{CreateView, Dialect, Program};

use super::Maintainer;
use super::cell::Cell;
use super::compare::is_comparable;
use super::database::Database;
use super::delta::{Failure, Stamp, of_view};
use super::fed;
use super::mirror::durable;
use super::state::{State, View, names, plan_as};
use super::views::refused_over;
use crate::error::Result;
use crate::replica::Replacement;

/// Name under which the next view is recorded.
pub(super) fn next_name(view: &str) -> String {
    format!("__deltamesh_next_{view}")
}

/// What a view over a replaced one is to be.
struct Wanted {
    name: String,
    module: String,
    sql: String,
    /// Whether it was made over the next view and has no former one.
    is_new: bool,
}

impl State {
    /// What is to take the place of a view.
    pub(super) fn next_of(&self, name: &str) -> Option<&View> {
        self.view(&next_name(name))
    }

    /// The same, as readers are told.
    pub(super) fn replacement(&self, view: &View) -> Option<Replacement> {
        let next = self.next_of(&view.name)?;
        Some(Replacement { filling: self.filling(next), fault: next.fault.clone() })
    }

    /// Names of the views over one, as it is and as it is to be, each behind those that it reads.
    pub(super) fn over(&self, name: &str) -> Vec<String> {
        let both = [self.view(name), self.next_of(name)];
        let tables: Vec<String> = both.iter().flatten().map(|view| view.table().to_owned()).collect();
        let mut over: Vec<String> = Vec::new();
        for name in self.dependents(&tables) {
            let shown = self.view(&name).map(|view| &view.definition.name);
            over.extend(shown.filter(|shown| !over.contains(shown)).cloned());
        }
        over
    }

    /// A view with all that it waits for: those that it reads, and those that are replaced in one transaction with one of these.
    pub(super) fn awaited_views<'a>(&'a self, view: &'a View) -> Vec<&'a View> {
        let mut found = vec![view];
        let mut index = 0;
        while let Some(view) = found.get(index).copied() {
            let is_known = |other: &View| found.iter().any(|known| known.name == other.name);
            let others = self.views.iter().filter(|other| !is_known(other));
            let awaited = others.filter(|other| view.reads(other) || self.are_replaced_together(view, other));
            let awaited: Vec<&View> = awaited.collect();
            found.extend(awaited);
            index += 1;
        }
        found
    }

    /// Whether one reads the other, as they are or as they are to be.
    fn are_replaced_together(&self, one: &View, other: &View) -> bool {
        let reads = |one: &View, other: &View| one.reads(other) || other.reads(one);
        let former = |next: &View| self.view(&next.definition.name);
        one.is_next()
            && other.is_next()
            && (reads(one, other)
                || former(one).zip(former(other)).is_some_and(|(one, other)| reads(one, other)))
    }

    /// Names of next views that are complete, with all that have to be replaced with them; none where they wait.
    fn complete_next(&self, dialect: Dialect) -> Vec<String> {
        let is_ready = |view: &View| view.is_filled() && (!view.is_next() || self.is_compared(view, dialect));
        for next in self.views.iter().filter(|view| view.is_next()) {
            let awaited = self.awaited_views(next);
            if awaited.iter().all(|view| is_ready(view)) {
                // In order of creation.
                let together =
                    |view: &&View| view.is_next() && awaited.iter().any(|known| known.name == view.name);
                return self.views.iter().filter(together).map(|view| view.name.clone()).collect();
            }
        }
        vec![]
    }

    /// Whether a view was made over a next one.
    fn is_over_next(&self, view: &View) -> bool {
        let mut read = self.views.iter().filter(|other| view.reads(other));
        !view.is_next() && read.any(|other| other.is_next() || self.is_over_next(other))
    }

    fn wanted(&self, name: &str) -> Option<Wanted> {
        let known = self.view(name)?;
        let View { module, sql, .. } = self.next_of(name).unwrap_or(known);
        let is_new = self.is_over_next(known);
        Some(Wanted { name: known.name.clone(), module: module.clone(), sql: sql.clone(), is_new })
    }
}

impl<D: Database> Maintainer<D> {
    /// Whether a view is replaced beside the flow: where that has begun already, or it or one over it would be filled so if it
    /// were new. What is small is replaced at once.
    pub(super) fn is_replaced_beside(&self, name: &str, program: &Program, over: &[String]) -> Result<bool> {
        let has_next = |name: &str| self.state.next_of(name).is_some();
        let bases = program.definition.bases.iter().filter(|base| base.source.is_none());
        let mut read = bases.filter_map(|base| self.state.by_table(&base.table));
        if has_next(name) || over.iter().any(|name| has_next(name)) || read.any(View::is_next) {
            return Ok(true);
        }
        let over = over.iter().filter_map(|name| self.state.view(name));
        // PostgreSQL would take the beginning of a long name for the whole.
        if fed::longest_names(name).any(|name| D::DIALECT.is_too_long(&name)) {
            return Ok(false);
        }
        for program in std::iter::once(program).chain(over.filter_map(|view| view.program.as_ref())) {
            if self.relation_to_feed(program)?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Begins to replace a view, and those over it except what will be replaced anyway. With the definition that it has, what was
    /// begun before is given up.
    pub(super) fn replace_beside(
        &mut self,
        module: &str,
        create: &CreateView,
        over: &[String],
        replaced_anyway: &[String],
    ) -> std::result::Result<(), Failure> {
        let kept = over.iter().filter(|name| !names(replaced_anyway, name));
        let wanted: Vec<Wanted> = kept.filter_map(|name| self.state.wanted(name)).collect();
        for name in over.iter().rev().chain([&create.name]) {
            self.discard_next(name)?;
        }
        let own = Wanted {
            name: create.name.clone(),
            module: module.to_owned(),
            sql: create.sql.clone(),
            is_new: false,
        };
        self.add_wanted(&own)?.map_err(Failure::Other)?;
        for wanted in &wanted {
            let added = self.add_wanted(wanted)?;
            added.map_err(|error| refused_over(&create.name, &wanted.name, &error))?;
        }
        Ok(())
    }

    /// Has a view replaced that is to be another one, or reads one that is replaced. The inner error is a refusal of the planner.
    fn add_wanted(&mut self, wanted: &Wanted) -> std::result::Result<Result<()>, Failure> {
        if wanted.is_new {
            let stamp = self.own_stamp();
            return self.rebuild(&wanted.name, &stamp);
        }
        let program = match self.plan_next(&wanted.name, &wanted.sql, false) {
            Ok(program) => program,
            Err(error) => return Ok(Err(error)),
        };
        let known = self.state.view(&wanted.name);
        let is_same = known.is_some_and(|known| known.sql == wanted.sql && known.fault.is_none());
        let bases = program.definition.bases.iter().filter(|base| base.source.is_none());
        let mut read = bases.filter_map(|base| self.state.by_table(&base.table));
        if is_same && !read.any(View::is_next) {
            return Ok(Ok(()));
        }
        self.install_next(wanted, program)?;
        Ok(Ok(()))
    }

    /// Plans the next view, with the rows in a table where `stored` says so.
    fn plan_next(&self, name: &str, sql: &str, stored: bool) -> Result<Program> {
        let over = self.state.over(name);
        let without = [vec![name.to_owned()], over.clone()].concat();
        let mut catalog = self.state.catalog(&[], &without);
        if stored || !over.is_empty() {
            catalog.keep_rows(name);
        }
        let known = self.state.view(name).map(|view| view.definition.stem());
        let stems = fed::stems(name);
        let stem = stems.into_iter().find(|stem| known != Some(stem));
        plan_as(sql, stem, &catalog, D::DIALECT)
    }

    /// Makes the tables of a next view, and fills them or begins to.
    fn install_next(&mut self, wanted: &Wanted, program: Program) -> std::result::Result<(), Failure> {
        let name = next_name(&wanted.name);
        self.store_bases(&program, &self.own_stamp())?;
        of_view(&name, self.make_tables(&name, &program))?;
        let fed = self.relation_to_feed(&program)?;
        if fed.is_none() {
            of_view(&name, self.database.define(&name, &program.fill))?;
        }
        self.record_view(&name, &wanted.module, &wanted.sql, program)?;
        match fed {
            Some((table, column)) => self.begin_feeding(&name, &table, column.as_deref())?,
            None => self.mark_filling(&name)?,
        }
        Ok(())
    }

    /// Begins a next view again. The inner error is a refusal of the planner: nothing was changed.
    pub(super) fn rebuild_next(
        &mut self,
        name: &str,
        stored: bool,
    ) -> std::result::Result<Result<()>, Failure> {
        let Some(wanted) = self.state.wanted(name) else { return Ok(Ok(())) };
        let program = match self.plan_next(name, &wanted.sql, stored) {
            Ok(program) => program,
            Err(error) => return Ok(Err(error)),
        };
        self.discard_next(name)?;
        self.install_next(&wanted, program)?;
        Ok(Ok(()))
    }

    /// Gives the next view of that name up, if there is one.
    pub(super) fn discard_next(&mut self, name: &str) -> Result<()> {
        let Some(next) = self.state.next_of(name) else { return Ok(()) };
        let name = next.name.clone();
        if let Some(program) = &next.program {
            self.drop_tables(&name, program)?;
        }
        self.end_feeding(&name)?;
        self.end_comparison(&name)?;
        self.forget(&name)
    }

    /// Puts complete next views in their places; gives their names.
    pub(super) fn replace_complete(&mut self) -> std::result::Result<Vec<String>, Failure> {
        let mut replaced = vec![];
        loop {
            let together = self.state.complete_next(D::DIALECT);
            if together.is_empty() {
                return Ok(replaced);
            }
            let stamp = self.own_stamp();
            self.release_owned()?;
            for name in &together {
                of_view(name, self.record_replacement(name, &stamp))?;
            }
            for name in together.iter().rev() {
                of_view(name, self.drop_replaced(name))?;
            }
            for name in &together {
                replaced.extend(self.take_place(name)?);
            }
        }
    }

    /// Records what differs between a view and what takes its place.
    fn record_replacement(&self, next: &str, stamp: &Stamp) -> Result<()> {
        let Some(View { definition, program: Some(program), compared, .. }) = self.state.view(next) else {
            return Ok(());
        };
        let Some(former) = self.state.view(&definition.name) else { return Ok(()) };
        if let Some(noted) = compared {
            return self.record_noted(program, &former.definition, noted, stamp);
        }
        if is_comparable(&former.definition, definition) {
            return self.record_difference(next, program, Some(&former.definition.storage), stamp);
        }
        match &former.program {
            Some(program) => self.record_all(program, &program.images[0], stamp)?,
            None => self.record_deletes(&former.definition, stamp)?,
        }
        self.record_difference(next, program, None, stamp)
    }

    /// Removes the view whose place a next one takes, with its tables.
    fn drop_replaced(&mut self, next: &str) -> Result<()> {
        let former = self.state.view(next).and_then(|next| self.state.view(&next.definition.name));
        let Some(View { name, definition, program, .. }) = former else { return Ok(()) };
        let name = name.clone();
        self.hide(&name, definition)?;
        let rows = format!("DROP TABLE IF EXISTS {}", durable(D::DIALECT, &definition.storage));
        let drop = program.as_ref().map_or_else(|| vec![rows], |program| program.drop.clone());
        self.database.define(&name, &drop)?;
        self.end_feeding(&name)?;
        self.forget(&name)
    }

    /// Records a next view as the view itself.
    fn take_place(&mut self, next: &str) -> Result<Option<String>> {
        self.end_comparison(next)?;
        let Some(view) = self.state.views.iter_mut().find(|view| view.name == next) else { return Ok(None) };
        let name = view.definition.name.clone();
        view.name.clone_from(&name);
        let definition = view.definition.clone();
        self.show(&name, &definition)?;
        let sql = "UPDATE __deltamesh_views SET name = $1, fault = NULL WHERE name = $2";
        let names = [name.as_str(), next].map(|name| Cell::Text(name.to_owned()));
        self.database.execute(&format!("view {name}"), sql, &names)?;
        tracing::info!(view = %name, "view is replaced");
        Ok(Some(name))
    }
}
