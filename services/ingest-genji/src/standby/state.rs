//! What a directory knows of its own part in the source's history: the file DELTAMESH in it.
//!
//! The engine passes over files that it does not know. The file names the directory's history, because engine positions
//! mean something in one directory only, and says how far a standby has applied the change log.

use std::io::Write as _;
use std::path::Path;

use deltamesh_change::{RelationSchema, SourcePosition};
use serde::{Deserialize, Serialize};

const FILE: &str = "DELTAMESH";

/// Part of a directory in the source's history.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct State {
    /// Name of the history that a host of this directory has written; absent for one that only ever followed.
    pub(crate) directory: Option<String>,
    /// How far the change log is applied; absent where the directory is the source.
    pub(crate) follows: Option<Follows>,
}

/// How far a directory has applied the change log. It may be further: what is behind is applied again, with the same
/// result.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Follows {
    /// Position behind the last group; absent before the first.
    pub(crate) position: Option<SourcePosition>,
    /// The directory that it is a position in.
    pub(crate) directory: Option<String>,
    /// Stream sequence of that group's last message.
    pub(crate) sequence: u64,
    /// Whether only a snapshot makes the directory equal to the source.
    pub(crate) awaits_snapshot: bool,
    /// Schemas in force there.
    pub(crate) schemas: Vec<RelationSchema>,
}

impl State {
    /// Reads the state of a directory; that of an unknown one where there is no file.
    pub(crate) fn load(dir: &Path) -> Result<Self, String> {
        let path = dir.join(FILE);
        match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map_err(|error| format!("cannot read {FILE}: {error}")),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(format!("cannot read {FILE}: {error}")),
        }
    }

    /// Replaces the state on disk, whole or not at all.
    pub(crate) fn save(&self, dir: &Path) -> Result<(), String> {
        self.write(dir).map_err(|error| format!("cannot write {FILE}: {error}"))
    }

    fn write(&self, dir: &Path) -> std::io::Result<()> {
        std::fs::create_dir_all(dir)?;
        let new = dir.join(format!("{FILE}.new"));
        let mut file = std::fs::File::create(&new)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.sync_data()?;
        std::fs::rename(&new, dir.join(FILE))?;
        std::fs::File::open(dir)?.sync_all()
    }
}

/// Whether there is a database in the directory.
pub(crate) fn holds_database(dir: &Path) -> bool {
    dir.join("CURRENT").exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_back() {
        let dir = tempfile::tempdir().expect("folder");
        assert_eq!(State::load(dir.path()), Ok(State::default()));
        let follows = Follows { sequence: 7, awaits_snapshot: true, ..Follows::default() };
        let state = State { directory: Some("d".into()), follows: Some(follows) };
        state.save(dir.path()).expect("saved");
        assert_eq!(State::load(dir.path()), Ok(state));
        std::fs::write(dir.path().join(FILE), "{").expect("damage");
        assert!(State::load(dir.path()).is_err());
    }
}
