//! Migrations of a module: their names, and that what may be applied does not change.

use deltamesh_module::{Error, ModuleDefinition, SourceFile};
use expect_test::{Expect, expect};

fn compile(files: &[(&str, &str)]) -> Result<ModuleDefinition, Error> {
    let files: Vec<_> = files.iter().map(|(path, text)| SourceFile::new(*path, *text)).collect();
    ModuleDefinition::compile("m", &[], &files)
}

fn check(files: &[(&str, &str)], expected: Expect) {
    let said = match compile(files) {
        Ok(module) => {
            let again = ModuleDefinition::from_wire(&module.to_wire(1)).unwrap();
            assert_eq!((&again.migrations, &again.sql), (&module.migrations, &module.sql));
            let paths = module.migrations.iter().map(|file| file.path.as_str());
            format!("{} views, {}", module.sql.len(), paths.collect::<Vec<_>>().join(" "))
        }
        Err(error) => error.to_string(),
    };
    expected.assert_eq(&said);
}

#[test]
fn they_are_numbered_without_a_gap() {
    let ten = (1..=10).map(|number| format!("migrations/{number}_a.sql")).collect::<Vec<_>>();
    let ten = ten.iter().map(|path| (path.as_str(), "")).collect::<Vec<_>>();
    assert_eq!(compile(&ten).unwrap().migrations[9].path, "migrations/10_a.sql");
    check(
        &[("migrations/0002_b.sql", ""), ("views.sql", ""), ("migrations/0001_a_b.sql", "")],
        expect!["1 views, migrations/0001_a_b.sql migrations/0002_b.sql"],
    );
    check(
        &[("migrations/0001_a.sql", ""), ("migrations/0003_c.sql", "")],
        expect!["migrations/0003_c.sql:1:1: migration 2 is missing: number them without a gap"],
    );
    check(
        &[("migrations/0001_a.sql", ""), ("migrations/01_b.sql", "")],
        expect!["migrations/01_b.sql:1:1: number 1 is taken by another migration"],
    );
    for bad in ["migrations/a.sql", "migrations/0_a.sql", "migrations/1a.sql", "migrations/1_a/2_b.sql"] {
        let error = compile(&[(bad, "")]).unwrap_err().to_string();
        assert!(error.contains("is called NUMBER_NAME.sql"), "{error}");
    }
}

#[test]
fn those_of_the_version_before_stay() {
    let former = compile(&[("migrations/1_a.sql", "one"), ("migrations/2_b.sql", "two")]).unwrap();
    let successor = |files: &[(&str, &str)]| compile(files).unwrap().check_successor_of(&former);
    let (one, two) = (("migrations/1_a.sql", "one"), ("migrations/2_renamed.sql", "two"));
    assert_eq!(successor(&[one, two, ("migrations/3_c.sql", "three")]), Ok(()));
    expect!["migrations/1_a.sql:1:1: the version before has it with another text: put that back, and write the change as a further migration"]
        .assert_eq(&successor(&[("migrations/1_a.sql", "changed"), two]).unwrap_err().to_string());
    expect!["migrations/2_b.sql:1:1: the version before has it, and it may be applied: put it back"]
        .assert_eq(&successor(&[one]).unwrap_err().to_string());
}
