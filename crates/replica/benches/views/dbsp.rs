//! The dbsp crate, in the program of `benches/dbsp`: it is told what to do line by line and answers each with a number.
//! It makes the same changes itself and takes its own times, so that nothing between the processes is measured.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::Plan;
use crate::log::Batch;
use crate::rival::Rival;

/// See the module.
pub(crate) struct Dbsp {
    name: &'static str,
    child: Child,
    /// Closed, it ends the program.
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Dbsp {
    /// Starts the program over a new file; with the outbox, it commits what changed in the views for subscribers too.
    pub(crate) fn start(plan: &Plan, program: &Path, path: &Path, outbox: bool) -> Result<Self> {
        let mut command = Command::new(program);
        command.arg(path).args([plan.renames.to_string(), plan.dbsp_workers.to_string()]);
        if outbox {
            command.arg("outbox");
        }
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("start {}", program.display()))?;
        let orders = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().context("dbsp has no stdout")?);
        let name = if outbox { "dbsp, outbox" } else { "dbsp" };
        Ok(Self { name, child, orders, answers })
    }

    fn ask(&mut self, order: &str) -> Result<u64> {
        let orders = self.orders.as_mut().context("dbsp has no stdin")?;
        writeln!(orders, "{order}").with_context(|| format!("tell dbsp to {order}"))?;
        orders.flush()?;
        let mut answer = String::new();
        if self.answers.read_line(&mut answer)? == 0 {
            bail!("dbsp ended at {order} ({})", self.child.wait()?);
        }
        answer.trim().parse().with_context(|| format!("answer of dbsp to {order}"))
    }
}

impl Rival for Dbsp {
    fn name(&self) -> &'static str {
        self.name
    }

    fn apply(&mut self, batch: &Batch) -> Result<()> {
        self.timed(batch).map(drop)
    }

    fn timed(&mut self, batch: &Batch) -> Result<Duration> {
        Ok(Duration::from_nanos(self.ask(&format!("apply {}", batch.order))?))
    }

    fn create_views(&mut self) -> Result<()> {
        self.ask("fill").map(drop)
    }

    fn check(&mut self) -> Result<()> {
        self.ask("check").map(drop)
    }

    fn restart(&mut self, batch: &Batch) -> Result<Option<Duration>> {
        Ok(Some(Duration::from_nanos(self.ask(&format!("restart {}", batch.order))?)))
    }

    fn memory(&mut self) -> Result<Option<u64>> {
        self.ask("memory").map(Some)
    }
}

impl Drop for Dbsp {
    fn drop(&mut self) {
        drop(self.orders.take());
        // What it did has been answered.
        let _ended = self.child.wait();
    }
}
