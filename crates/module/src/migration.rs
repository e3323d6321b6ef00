//! The migrations of a module: `migrations/<number>_<name>.sql`, numbered from 1 without a gap.

use crate::{Error, ModuleDefinition, SourceFile};

/// Folder of a module that holds its migrations.
const FOLDER: &str = "migrations/";

/// Splits SQL files into those of views, by path, and migrations, by number.
pub(crate) fn split(sql: &[SourceFile]) -> Result<(Vec<SourceFile>, Vec<SourceFile>), Error> {
    let (migrations, mut views): (Vec<SourceFile>, Vec<SourceFile>) =
        sql.iter().cloned().partition(|file| file.path.starts_with(FOLDER));
    views.sort_by(|a, b| a.path.cmp(&b.path));
    let numbered = migrations.into_iter().map(|file| number(&file).map(|number| (number, file)));
    let mut numbered = numbered.collect::<Result<Vec<_>, _>>()?;
    numbered.sort_by(|(a, one), (b, other)| a.cmp(b).then_with(|| one.path.cmp(&other.path)));
    for (expected, (number, file)) in (1..).zip(&numbered) {
        if *number < expected {
            return Err(at(file, format!("number {number} is taken by another migration")));
        }
        if *number > expected {
            return Err(at(file, format!("migration {expected} is missing: number them without a gap")));
        }
    }
    Ok((views, numbered.into_iter().map(|(_, file)| file).collect()))
}

fn number(file: &SourceFile) -> Result<u32, Error> {
    let name = file.path.strip_prefix(FOLDER).and_then(|name| name.strip_suffix(".sql"));
    let number = name.and_then(|name| name.split_once('_')).filter(|(_, name)| !name.contains('/'));
    let number = number.and_then(|(number, _)| number.parse().ok()).filter(|number| *number > 0);
    number
        .ok_or_else(|| at(file, "a migration is called NUMBER_NAME.sql, as in migrations/0001_countries.sql"))
}

fn at(file: &SourceFile, reason: impl Into<String>) -> Error {
    Error::new(&file.path, Some((1, 1)), reason)
}

impl ModuleDefinition {
    /// Checks that the migrations of a former version, which may be applied, are there unchanged.
    pub(crate) fn check_migrations(&self, former: &Self) -> Result<(), Error> {
        for (number, before) in (1..).zip(&former.migrations) {
            match self.migrations.get(number - 1) {
                Some(after) if after.text == before.text => {}
                Some(after) => {
                    let reason = "the version before has it with another text: put that back, and write the change as a further migration";
                    return Err(at(after, reason));
                }
                None => {
                    let reason = "the version before has it, and it may be applied: put it back";
                    return Err(at(before, reason));
                }
            }
        }
        Ok(())
    }
}
