//! The real engine holding a database open, driven by statements.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, anyhow, bail};

use crate::reference;

/// The reference program `genjihost` with a database open. Dropping it kills the process.
#[derive(Debug)]
pub struct GenjiHost {
    child: Child,
    answers: BufReader<ChildStdout>,
}

impl GenjiHost {
    /// Opens (or creates) the database in `dir`; `None` where the program is absent, which
    /// [`reference`] has then said.
    ///
    /// # Errors
    /// The program does not start or does not open the database.
    pub fn start(dir: &Path) -> Result<Option<Self>> {
        Self::start_with(dir, &[])
    }

    /// As [`GenjiHost::start`], with further arguments such as `-maxbatch 1000`.
    ///
    /// # Errors
    /// As [`GenjiHost::start`].
    pub fn start_with(dir: &Path, arguments: &[&str]) -> Result<Option<Self>> {
        Self::start_program("genjihost", dir, arguments)
    }

    /// As [`GenjiHost::start_with`], with the engine's successor Chai: the reference program `chaihost`.
    ///
    /// # Errors
    /// As [`GenjiHost::start`].
    pub fn start_chai(dir: &Path, arguments: &[&str]) -> Result<Option<Self>> {
        Self::start_program("chaihost", dir, arguments)
    }

    fn start_program(name: &str, dir: &Path, arguments: &[&str]) -> Result<Option<Self>> {
        let Some(program) = reference(name) else { return Ok(None) };
        let mut child = Command::new(&program)
            .arg("-db")
            .arg(dir)
            .arg("-stdin")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {}", program.display()))?;
        let answers = BufReader::new(child.stdout.take().context("genjihost has no stdout")?);
        let mut host = Self { child, answers };
        match host.line()?.as_str() {
            "ready" => Ok(Some(host)),
            other => bail!("genjihost did not open the database: {other}"),
        }
    }

    /// Process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Runs one statement or host command and waits for its answer.
    ///
    /// # Errors
    /// The engine refuses the statement; the text is the engine's own.
    pub fn execute(&mut self, line: &str) -> Result<()> {
        self.ask(line).map(drop)
    }

    /// Rows of a SELECT, one JSON text each.
    ///
    /// # Errors
    /// As [`GenjiHost::execute`].
    pub fn query(&mut self, select: &str) -> Result<Vec<String>> {
        self.ask(&format!(".query {select}"))
    }

    /// Closes the database in the engine's own way and waits for the end of the process.
    ///
    /// # Errors
    /// The process ends with an error.
    pub fn close(mut self) -> Result<()> {
        // It closes the database at the end of its input, which waiting brings about; `.exit` would leave the sequences as
        // after a kill.
        let status = self.child.wait()?;
        if !status.success() {
            let mut last = String::new();
            self.answers.read_to_string(&mut last)?;
            // A statement at which the engine panicked leaves some; all else is closed.
            if !last.contains("leaked iterators") {
                bail!("genjihost ended with {status}: {}", last.trim_end());
            }
        }
        Ok(())
    }

    /// Kills the engine with SIGKILL and waits for its end.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    fn ask(&mut self, line: &str) -> Result<Vec<String>> {
        if line.contains('\n') {
            bail!("a statement must be one line");
        }
        let statements = self.child.stdin.as_mut().context("genjihost has no stdin")?;
        writeln!(statements, "{line}")?;
        statements.flush()?;
        let mut rows = Vec::new();
        loop {
            let answer = self.line()?;
            if answer == "ok" {
                return Ok(rows);
            }
            if let Some(reason) = answer.strip_prefix("err: ") {
                return Err(anyhow!("{reason}"));
            }
            rows.push(answer);
        }
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            bail!("genjihost ended: {}", self.child.wait()?);
        }
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for GenjiHost {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
