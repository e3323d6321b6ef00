//! A module as a folder.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use deltamesh_module::{ModuleDefinition, SourceFile};
use deltamesh_view::{parse_migration, parse_statements};

/// Reads and compiles the module in `dir`; it is called like the folder.
pub(crate) fn compile(dir: &Path) -> Result<ModuleDefinition> {
    let full = fs::canonicalize(dir).with_context(|| format!("open module {}", dir.display()))?;
    let name = full.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if !is_valid(name) {
        bail!("a module is called like its folder, with letters, digits, _ and - only, not {name:?}");
    }
    let files = read(&full)?;
    let of = |extension: &str| -> Vec<SourceFile> {
        files.iter().filter(|file| file.path.ends_with(extension)).cloned().collect()
    };
    let (protos, sql) = (of(".proto"), of(".sql"));
    if protos.is_empty() && sql.is_empty() {
        bail!("no *.proto and no *.sql in {}", dir.display());
    }
    let module = ModuleDefinition::compile(name, &protos, &sql)
        .map_err(|error| anyhow!("{}", in_folder(dir, &error.to_string())))?;
    check_sql(dir, &module)?;
    Ok(module)
}

/// Checks what can be known of the SQL without a replica: that it is of statements that may stand there.
fn check_sql(dir: &Path, module: &ModuleDefinition) -> Result<()> {
    let views = module.sql.iter().map(|file| (file, parse_statements(&file.text).err()));
    let migrations = module.migrations.iter().map(|file| (file, parse_migration(&file.text).err()));
    match views.chain(migrations).find_map(|(file, error)| Some((file, error?))) {
        Some((file, error)) => {
            let at = if error.location.is_some() { ":" } else { ":1:1: " };
            bail!("{}", in_folder(dir, &format!("{}{at}{error}", file.path)))
        }
        None => Ok(()),
    }
}

/// An error of a file of the module, with the folder in front, so that an editor finds it.
pub(super) fn in_folder(dir: &Path, error: &str) -> String {
    let file = error.split(':').next().unwrap_or_default();
    if !file.is_empty() && dir.join(file).is_file() {
        return dir.join(error).display().to_string();
    }
    error.to_owned()
}

/// Whether a module may be called so: it is a key of a bucket.
pub(crate) fn is_valid(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

/// The module's files, also those in sub-folders, in order of their paths.
fn read(root: &Path) -> Result<Vec<SourceFile>> {
    let mut files = Vec::new();
    let mut dirs: Vec<PathBuf> = vec![root.to_path_buf()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).with_context(|| format!("read {}", dir.display()))? {
            let entry = entry?;
            let path = entry.path();
            if entry.file_type()?.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|extension| extension == "proto" || extension == "sql") {
                let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
                let relative = path.strip_prefix(root).unwrap_or(&path);
                files.push(SourceFile::new(relative.to_string_lossy(), text));
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::compile;

    #[test]
    fn errors_name_file_line_and_column() {
        let temporary = tempfile::tempdir().unwrap();
        let dir = temporary.path().join("notes");
        let error = |text: &str| {
            fs::write(dir.join("notes.proto"), text).unwrap();
            let error = compile(&dir).unwrap_err().to_string();
            error.replace(temporary.path().to_str().unwrap(), "")
        };
        assert!(compile(&dir).unwrap_err().to_string().starts_with("open module"));
        fs::create_dir(&dir).unwrap();
        assert!(compile(&dir).unwrap_err().to_string().starts_with("no *.proto"));
        let wrong = error("syntax = \"proto3\";\nmessage Note {\n  strin text = 1;\n}\n");
        assert!(wrong.starts_with("/notes/notes.proto:3:3: "), "{wrong}");
        fs::write(dir.join("notes.proto"), "syntax = \"proto3\";").unwrap();
        fs::create_dir(dir.join("migrations")).unwrap();
        let sql = |path: &str, text: &str| {
            fs::write(dir.join(path), text).unwrap();
            let said = compile(&dir).unwrap_err().to_string();
            fs::remove_file(dir.join(path)).unwrap();
            said.replace(temporary.path().to_str().unwrap(), "")
        };
        let wrong = sql("views.sql", "\n  CREATE TABLE t (a INTEGER)");
        assert!(wrong.starts_with("/notes/views.sql:2:3: expected CREATE MATERIALIZED VIEW"), "{wrong}");
        let wrong = sql("migrations/1_a.sql", "CREATE TABLE t (a INTEGER);\nDROP TABLE app__note");
        assert!(
            wrong.starts_with("/notes/migrations/1_a.sql:2:1: app__note is named like a mirror"),
            "{wrong}"
        );
        let wrong = sql("migrations/2_a.sql", "");
        assert!(wrong.starts_with("/notes/migrations/2_a.sql:1:1: migration 1 is missing"), "{wrong}");
    }

    #[test]
    fn the_name_is_the_folders() {
        let temporary = tempfile::tempdir().unwrap();
        let dir = temporary.path().join("notes");
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("a.sql"), "CREATE MATERIALIZED VIEW v AS SELECT * FROM t;").unwrap();
        assert_eq!(compile(&dir).unwrap().name, "notes");
        let bad = temporary.path().join("no tes");
        fs::create_dir(&bad).unwrap();
        assert!(compile(&bad).unwrap_err().to_string().starts_with("a module is called like its folder"));
    }
}
