//! `ingest-genji inspect`: what is in a Genji directory, without opening it for writing.
//!
//! The directory may be held open by its engine: files are only read, `LOCK` is not touched. Results go to stdout as they
//! are read, progress and faults to stderr.

use std::io::{self, BufWriter};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Args;
use deltamesh_genji::{Error, History, LoggedTransaction, ReadOptions, Snapshot, StoredRow, StoredTable};

mod json;
mod progress;
mod text;

use progress::Progress;

/// Everything was read, but some rows or definitions could not be decoded.
const EXIT_FAULTS: u8 = 2;

/// Print what is in a Genji directory. The engine may have it open; nothing is written there.
///
/// Exit code: 0 all was read; 1 the directory cannot be read, the reason with file and offset is on stderr; 2 all was read,
/// but rows or definitions do not decode, each named on stderr; 64 wrong arguments.
#[derive(Debug, Clone, Args)]
pub(crate) struct InspectOptions {
    /// Directory of the database.
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
    /// The tables with their definitions and rows, at one position (the default).
    #[arg(long)]
    pub(crate) snapshot: bool,
    /// The transactions that the logs still hold.
    #[arg(long)]
    pub(crate) log: bool,
    /// One JSON object with `tables` and `changes`, in typed values.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Why an inspection ended early.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Read(#[from] Error),
    #[error("cannot write the result")]
    Write(#[from] io::Error),
}

/// What is told to a form of output.
trait Form {
    fn begin_tables(&mut self, snapshot: &Snapshot) -> io::Result<()>;
    fn table(&mut self, table: &StoredTable) -> io::Result<()>;
    fn row(&mut self, row: &StoredRow) -> io::Result<()>;
    fn end_tables(&mut self) -> io::Result<()>;
    fn begin_changes(&mut self, history: &History) -> io::Result<()>;
    fn transaction(&mut self, transaction: &LoggedTransaction) -> io::Result<()>;
    fn end_changes(&mut self) -> io::Result<()>;
    fn finish(&mut self) -> io::Result<()>;
}

/// Runs the sub-command.
#[must_use]
pub(crate) fn inspect(options: &InspectOptions) -> ExitCode {
    let mut progress = Progress::new(io::stderr());
    let out = BufWriter::new(io::stdout().lock());
    let read = if options.json {
        read(options, json::Json::new(out), &mut progress)
    } else {
        read(options, text::Text::new(out), &mut progress)
    };
    match read {
        Ok(()) if progress.faults() == 0 => ExitCode::SUCCESS,
        Ok(()) => ExitCode::from(EXIT_FAULTS),
        // Who reads the result has seen enough.
        Err(Failure::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(failure) => {
            progress.failure(&failure);
            ExitCode::FAILURE
        }
    }
}

fn read(options: &InspectOptions, mut form: impl Form, progress: &mut Progress) -> Result<(), Failure> {
    if options.snapshot || !options.log {
        tables(options, &mut form, progress)?;
    }
    if options.log {
        changes(options, &mut form, progress)?;
    }
    Ok(form.finish()?)
}

fn tables(options: &InspectOptions, form: &mut impl Form, progress: &mut Progress) -> Result<(), Failure> {
    let snapshot = Snapshot::open(&options.directory, &ReadOptions { read_ahead: 0 })?;
    let mut begun = Instant::now();
    form.begin_tables(&snapshot)?;
    for fault in snapshot.faults() {
        progress.fault(&fault.relation, &fault.reason);
    }
    for table in snapshot.stored_tables()? {
        form.table(&table)?;
        let asked = Instant::now();
        let rows = snapshot.stored_rows(&table)?;
        // To find the order of the keys says nothing of the pace.
        begun += asked.elapsed();
        for row in rows {
            let row = row?;
            if let Err(error) = &row.document {
                progress.row_fault(&table.entry.name, error);
            }
            form.row(&row)?;
            progress.read("rows", || snapshot.time_left(begun.elapsed()));
        }
    }
    progress.end();
    Ok(form.end_tables()?)
}

fn changes(options: &InspectOptions, form: &mut impl Form, progress: &mut Progress) -> Result<(), Failure> {
    let mut history = History::open(&options.directory, &ReadOptions::default())?;
    form.begin_changes(&history)?;
    while let Some(transaction) = history.next_transaction()? {
        for change in &transaction.changes {
            for error in
                [&change.before, &change.after].into_iter().flatten().filter_map(|it| it.as_ref().err())
            {
                progress.row_fault(change.table.as_deref().unwrap_or("no table"), error);
            }
        }
        form.transaction(&transaction)?;
        progress.read("transactions", || None);
    }
    progress.end();
    Ok(form.end_changes()?)
}
