//! Programs of a few views, as text.

use crate::database::Database;
use crate::oracle::{VIEWS, relations};

#[test]
fn plans() {
    let mut database = Database::new(relations());
    for view in VIEWS {
        database.create(view);
    }
    for program in &database.programs {
        println!("== {} {:?}", program.definition.name, program.explain.tier);
        for scan in database.scans(&program.definition.name) {
            println!("   {scan}");
        }
    }
}
