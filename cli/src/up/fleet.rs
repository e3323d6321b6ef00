//! All children of `up`.

use anyhow::Result;
use futures::future::join_all;
use tracing::info;

use super::child::{Child, Program};

/// The programs that are kept running, in the order of their start.
#[derive(Debug, Default)]
pub(super) struct Fleet {
    children: Vec<Child>,
}

impl Fleet {
    /// Starts a program and keeps it running.
    pub(super) fn add(&mut self, program: Program) -> Result<()> {
        info!(program = program.name, "starting");
        self.children.push(Child::keep(program)?);
        Ok(())
    }

    /// The child that was added last.
    pub(super) fn last(&self) -> Option<&Child> {
        self.children.last()
    }

    /// Stops the child that was added last.
    pub(super) async fn drop_last(&mut self) {
        if let Some(child) = self.children.pop() {
            child.drain().await;
        }
    }

    pub(super) fn children(&self) -> &[Child] {
        &self.children
    }

    /// Stops everything, stage by stage.
    pub(super) async fn drain(&mut self) {
        let mut children = std::mem::take(&mut self.children);
        children.sort_by_key(|child| child.stage);
        while let Some(stage) = children.first().map(|child| child.stage) {
            let later = children.split_off(children.partition_point(|child| child.stage == stage));
            join_all(children.into_iter().map(Child::drain)).await;
            children = later;
        }
    }
}
