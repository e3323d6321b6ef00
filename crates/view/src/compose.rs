//! The programs of a view's blocks as one.
//!
//! A part changes only with the view, and only the view's other blocks read it. So its turn in a batch needs no phases of its
//! own: what the batch protocol does with an upstream view stands, in the same order, in the view's `Finish` steps.

use crate::explain::{Operator, Sections, statements};
use crate::sql::{in_order, quote};
use crate::{Action, Dialect, Index, Phase, Program, Step, slices};

/// Adds the programs of parts, each behind those that it reads, to the program of the view. What nobody reads is left out.
pub(crate) fn compose(parts: Vec<Program>, main: Program, dialect: Dialect) -> Program {
    let parts = read(parts, &main);
    if parts.is_empty() {
        let slices = slices::compose([&main].into_iter());
        return Program { slices, ..main };
    }
    let names: Vec<String> = parts.iter().map(|part| part.definition.name.clone()).collect();
    let maintain = maintain(&parts, &main);
    let oracle = oracle(&parts, &main);
    let slices = slices::compose(parts.iter().chain([&main]));
    let mut whole = Program { maintain, oracle, slices, ..main };
    let definition = &mut whole.definition;
    let bases = parts.iter().map(|part| &part.definition).flat_map(|part| &part.bases);
    let bases = definition.bases.iter().chain(bases).filter(|base| !names.contains(&base.table));
    definition.bases = in_order(bases);
    definition.indexes.extend(parts.iter().flat_map(|part| part.definition.indexes.iter().cloned()));
    let storages: Vec<&str> = parts.iter().map(|part| part.definition.storage.as_str()).collect();
    let indexes = std::mem::take(&mut definition.indexes).into_iter();
    let (own, on_bases): (Vec<Index>, Vec<Index>) =
        indexes.partition(|index| storages.contains(&index.table.as_str()));
    definition.indexes = on_bases;
    fn all<T: Clone>(parts: &[Program], list: fn(&Program) -> &Vec<T>, last: &[T]) -> Vec<T> {
        parts.iter().flat_map(list).chain(last).cloned().collect()
    }
    let own = Index::serving(&own).into_iter().map(|index| index.create(dialect));
    whole.create = own.chain(whole.create).collect();
    whole.create = all(&parts, |part| &part.create, &whole.create);
    whole.connect = all(&parts, |part| &part.connect, &whole.connect);
    whole.fill = all(&parts, |part| &part.fill, &whole.fill);
    whole.empty = all(&parts, |part| &part.empty, &whole.empty);
    whole.clear = all(&parts, |part| &part.clear, &whole.clear);
    whole.drop.extend(parts.iter().rev().flat_map(|part| part.drop.iter().cloned()));
    explain(parts, &mut whole);
    whole
}

/// The parts that the view reads, directly or through others.
fn read(parts: Vec<Program>, main: &Program) -> Vec<Program> {
    let tables = |program: &Program| -> Vec<String> {
        program.definition.bases.iter().map(|base| base.table.clone()).collect()
    };
    let mut needed = tables(main);
    let mut kept = vec![];
    for part in parts.into_iter().rev() {
        if needed.contains(&part.definition.name) {
            needed.extend(tables(&part));
            kept.insert(0, part);
        }
    }
    kept
}

/// The steps around bases as they are; the turn of each part within those of `Finish`.
fn maintain(parts: &[Program], main: &Program) -> Vec<Step> {
    let mut blocks: Vec<&Program> = parts.iter().collect();
    blocks.push(main);
    let is_inner = |phase: &Phase| match phase {
        Phase::Before(table) | Phase::After(table) => parts.iter().any(|part| part.definition.name == *table),
        Phase::Finish => true,
    };
    let steps = blocks.iter().flat_map(|block| &block.maintain);
    let mut maintain: Vec<Step> = steps.filter(|step| !is_inner(&step.phase)).cloned().collect();
    let of = |blocks: &[&Program], phase: &Phase| -> Vec<Action> {
        let steps = blocks.iter().flat_map(|block| &block.maintain);
        steps.filter(|step| step.phase == *phase).map(|step| step.action.clone()).collect()
    };
    let mut finish = vec![];
    for (index, block) in blocks.iter().enumerate() {
        finish.extend(of(&[*block], &Phase::Finish));
        if index < parts.len() {
            let name = &block.definition.name;
            let behind = &blocks[index + 1..];
            finish.extend(of(behind, &Phase::Before(name.clone())));
            finish.extend(block.apply.iter().cloned());
            finish.extend(of(behind, &Phase::After(name.clone())));
        }
    }
    maintain.extend(finish.into_iter().map(Step::finish));
    maintain
}

/// The view's `SELECT` with its parts as a `WITH` clause, whose names hide the parts' tables.
fn oracle(parts: &[Program], main: &Program) -> String {
    let parts: Vec<String> =
        parts.iter().map(|part| format!("{} AS ({})", quote(&part.definition.name), part.oracle)).collect();
    format!("WITH {} {}", parts.join(", "), main.oracle)
}

fn explain(parts: Vec<Program>, whole: &mut Program) {
    let sections = Sections { maintain: &whole.maintain, apply: &whole.apply, record: &whole.record };
    let shown = statements(&sections);
    let explain = &mut whole.explain;
    explain.bases.clone_from(&whole.definition.bases);
    explain.statements = shown;
    let mut known: Vec<(String, Operator)> = vec![];
    let mut costs = vec![];
    for Program { definition, explain: mut part, .. } in parts {
        insert(&mut part.root, &known);
        explain.tier = explain.tier.max(part.tier);
        explain.indexes.extend(part.indexes);
        costs.extend(part.costs);
        explain.notes.extend(part.notes.into_iter().map(|note| format!("{}: {note}", definition.name)));
        known.push((definition.name, part.root));
    }
    costs.append(&mut explain.costs);
    explain.costs = costs;
    explain.indexes.sort_unstable();
    explain.indexes.dedup();
    insert(&mut explain.root, &known);
}

/// Shows the operators of a part where it is read.
fn insert(operator: &mut Operator, parts: &[(String, Operator)]) {
    for input in &mut operator.inputs {
        insert(input, parts);
    }
    let read = parts.iter().find(|(name, _)| {
        operator.name.strip_prefix("read ").is_some_and(|read| read.split(' ').next() == Some(name))
    });
    if let Some((_, root)) = read {
        operator.inputs.push(root.clone());
    }
}
