//! The workspace as cargo sees it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// Root folder and the cargo that runs this task.
pub(crate) struct Workspace {
    root: PathBuf,
    cargo: PathBuf,
}

/// One package of the workspace.
pub(crate) struct Package {
    pub(crate) id: String,
    pub(crate) dir: PathBuf,
    /// Names of its `[[bench]]` targets.
    pub(crate) benches: Vec<String>,
}

/// What `cargo metadata` says of the workspace and of everything it depends on.
pub(crate) struct Graph {
    /// Workspace packages by name.
    pub(crate) members: BTreeMap<String, Package>,
    /// Where cargo puts what it builds.
    pub(crate) target: PathBuf,
    /// Package id → ids of its normal dependencies.
    normal: BTreeMap<String, Vec<String>>,
    /// Package id → name.
    names: BTreeMap<String, String>,
}

impl Workspace {
    /// The workspace that this task was compiled in.
    pub(crate) fn find() -> Result<Self> {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = manifest.parent().context("xtask has no parent folder")?.to_path_buf();
        let cargo = std::env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from);
        Ok(Self { root, cargo })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Where fetched programs live.
    pub(crate) fn tools_dir(&self) -> PathBuf {
        self.root.join(".tools/bin")
    }

    /// A cargo command in the root folder.
    pub(crate) fn cargo(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.cargo);
        command.args(arguments).current_dir(&self.root);
        command
    }

    /// Packages and their dependencies.
    pub(crate) fn graph(&self) -> Result<Graph> {
        let out = self.cargo(&["metadata", "--format-version", "1", "--locked"]).output()?;
        if !out.status.success() {
            bail!("cargo metadata: {}", String::from_utf8_lossy(&out.stderr).trim());
        }
        Graph::read(&serde_json::from_slice(&out.stdout)?).context("read cargo metadata")
    }
}

impl Graph {
    fn read(metadata: &Value) -> Option<Self> {
        let members: Vec<&str> =
            metadata["workspace_members"].as_array()?.iter().filter_map(Value::as_str).collect();
        let target = PathBuf::from(metadata["target_directory"].as_str()?);
        let mut graph =
            Self { members: BTreeMap::new(), target, normal: BTreeMap::new(), names: BTreeMap::new() };
        for package in metadata["packages"].as_array()? {
            let (id, name) = (package["id"].as_str()?.to_owned(), package["name"].as_str()?.to_owned());
            if members.contains(&id.as_str()) {
                let dir = Path::new(package["manifest_path"].as_str()?).parent()?.to_path_buf();
                let benches = bench_targets(package)?;
                graph.members.insert(name.clone(), Package { id: id.clone(), dir, benches });
            }
            graph.names.insert(id, name);
        }
        for node in metadata["resolve"]["nodes"].as_array()? {
            let dependencies = node["deps"].as_array()?.iter().filter(|dependency| is_normal(dependency));
            let ids = dependencies.filter_map(|dependency| dependency["pkg"].as_str().map(str::to_owned));
            graph.normal.insert(node["id"].as_str()?.to_owned(), ids.collect());
        }
        Some(graph)
    }

    /// Names of the normal dependencies that package `id` names itself.
    pub(crate) fn direct(&self, id: &str) -> Vec<&str> {
        let ids = self.normal.get(id).into_iter().flatten();
        let mut names: Vec<&str> = ids.filter_map(|id| self.names.get(id)).map(String::as_str).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The first way, as package names, by which `id` reaches a package called one of `names`.
    pub(crate) fn way_to(&self, id: &str, names: &[&str]) -> Option<Vec<&str>> {
        let mut ways = vec![vec![id]];
        let mut seen = vec![id];
        while let Some(way) = ways.pop() {
            let last = *way.last()?;
            if way.len() > 1 && names.contains(&self.names.get(last)?.as_str()) {
                return Some(way.iter().filter_map(|id| self.names.get(*id)).map(String::as_str).collect());
            }
            for next in self.normal.get(last).into_iter().flatten() {
                if !seen.contains(&next.as_str()) {
                    seen.push(next);
                    ways.push(way.iter().copied().chain([next.as_str()]).collect());
                }
            }
        }
        None
    }
}

fn is_normal(dependency: &Value) -> bool {
    let kinds = dependency["dep_kinds"].as_array();
    kinds.is_some_and(|kinds| kinds.iter().any(|kind| kind["kind"].is_null()))
}

fn bench_targets(package: &Value) -> Option<Vec<String>> {
    let targets = package["targets"].as_array()?.iter();
    let benches = targets.filter(|target| target["kind"][0] == "bench");
    Some(benches.filter_map(|target| target["name"].as_str().map(str::to_owned)).collect())
}
