//! An application with the real engine: mixed statements at full speed, its own deaths and restarts.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use deltamesh_testkit::{GenjiHost, Random};
use rustix::process::Signal;

use crate::mesh::signal;

/// A spilled transaction is one above this many bytes. Updates and deletes of the load stay below: real Genji's rollback
/// of those is defective.
const SPILLS: [&str; 2] = ["-maxbatch", "200000"];
/// Rows that table `bulk` keeps, about.
const BULK: i64 = 100_000;

/// The application.
pub(super) struct Load {
    dir: PathBuf,
    pub(super) host: GenjiHost,
    random: Random,
    next: i64,
    oldest: i64,
    pub(super) statements: usize,
    pub(super) refused: usize,
    pub(super) kills: usize,
    pub(super) rows: i64,
}

impl Load {
    pub(super) fn open(dir: &Path, seed: u64) -> Option<Self> {
        let host = GenjiHost::start_with(dir, &SPILLS).expect("engine")?;
        let (dir, random) = (dir.to_owned(), Random(seed));
        let mut load =
            Self { dir, host, random, next: 1, oldest: 1, statements: 0, refused: 0, kills: 0, rows: 0 };
        for line in [
            "CREATE TABLE single(id INT PRIMARY KEY, pad TEXT)",
            "CREATE TABLE bulk(id INT PRIMARY KEY, pad TEXT)",
            "CREATE TABLE uniq(id INT PRIMARY KEY, name TEXT UNIQUE, n INT)",
            "CREATE TABLE docs(name TEXT, n INT)",
            "CREATE TABLE shape(id INT PRIMARY KEY)",
        ] {
            load.host.execute(line).expect(line);
        }
        load.burn_namespace();
        Some(load)
    }

    /// Runs a statement; says whether the engine took it. One that dies is opened again.
    fn run(&mut self, line: &str) -> bool {
        self.statements += 1;
        match self.host.execute(line) {
            Ok(()) => true,
            Err(error) => {
                self.refused += 1;
                if !error.to_string().starts_with("err") && is_dead(self.host.pid()) {
                    self.reopen();
                }
                false
            }
        }
    }

    fn reopen(&mut self) {
        self.kills += 1;
        self.host = GenjiHost::start_with(&self.dir, &SPILLS).expect("engine").expect("present");
    }

    /// After a kill Genji gives the last namespace out again: let it be one that is free.
    fn burn_namespace(&mut self) {
        self.run("CREATE TABLE scratch(id INT PRIMARY KEY)");
        self.run("DROP TABLE scratch");
    }

    fn fill(&mut self, table: &str, rows: i64, per_transaction: i64) {
        let first = self.next;
        self.next += rows;
        self.rows += rows;
        self.run(&format!(".fill {table} {first} {rows} 90 {per_transaction}"));
    }

    fn uniq(&mut self) {
        for _ in 0..20 {
            let (id, name) = (self.random.below(500), self.random.below(700));
            match self.random.below(4) {
                0 => self.run(&format!("DELETE FROM uniq WHERE id = {id}")),
                1 => self.run(&format!("UPDATE uniq SET n = n + 1 WHERE id = {id}")),
                _ => self.run(&format!("INSERT INTO uniq(id, name, n) VALUES ({id}, 'n{name}', 0)")),
            };
        }
    }

    fn docs(&mut self) {
        let n = self.next;
        self.run(&format!("INSERT INTO docs(name, n) VALUES ('d', {n}), ('e', {n}), ('f', {n})"));
        if self.random.below(20) == 0 {
            self.run(&format!("DELETE FROM docs WHERE n < {}", n - 5000));
        }
    }

    fn transaction(&mut self, statements: i64) {
        if !self.run("BEGIN") {
            return;
        }
        let pad = "t".repeat(90);
        for _ in 0..statements {
            let rows: Vec<_> = (0..100).map(|row| format!("({}, '{pad}')", self.next + row)).collect();
            self.next += 100;
            self.rows += 100;
            let began = self.kills;
            self.run(&format!("INSERT INTO bulk(id, pad) VALUES {}", rows.join(", ")));
            if self.kills > began {
                return;
            }
        }
        let end = if self.random.below(2) == 0 { "COMMIT" } else { "ROLLBACK" };
        self.run(end);
    }

    fn shape(&mut self) {
        let field = self.random.below(1000);
        for line in [
            "DROP TABLE shape".to_owned(),
            "CREATE TABLE shape(id INT PRIMARY KEY, a TEXT)".to_owned(),
            "INSERT INTO shape(id, a) VALUES (1, 'x'), (2, 'y')".to_owned(),
            "DELETE FROM shape".to_owned(),
            format!("ALTER TABLE shape ADD FIELD f{field} INT"),
            format!("INSERT INTO shape(id, a, f{field}) VALUES (3, 'z', {field})"),
            "ALTER TABLE shape RENAME TO formed".to_owned(),
            "INSERT INTO formed(id) VALUES (4)".to_owned(),
            "BEGIN".to_owned(),
            "DROP TABLE formed".to_owned(),
            "CREATE TABLE shape(id INT PRIMARY KEY, b DOUBLE)".to_owned(),
            format!("INSERT INTO shape(id, b) VALUES ({field}, 1.5)"),
            "COMMIT".to_owned(),
        ] {
            self.run(&line);
        }
        self.burn_namespace();
    }

    fn index(&mut self) {
        self.run("CREATE INDEX uniq_by_n ON uniq(n)");
        self.uniq();
        self.run("DROP INDEX uniq_by_n");
        self.burn_namespace();
    }

    /// Runs into a SIGKILL.
    fn die(&mut self) {
        let (pid, after) = (self.host.pid(), self.random.below(150_u64));
        let killer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(after));
            signal(pid, Signal::KILL);
        });
        let kills = self.kills;
        while self.kills == kills {
            if self.random.below(2) == 0 { self.transaction(40) } else { self.fill("bulk", 3000, 1000) }
        }
        killer.join().expect("killer");
    }

    fn close(&mut self) {
        let pid = self.host.pid();
        // The program ends by itself; its answer is the end of its output.
        assert!(self.host.execute(".exit").is_err());
        while !is_dead(pid) {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.reopen();
    }

    fn trim(&mut self) {
        while self.next - self.oldest > BULK {
            let to = self.oldest + 800;
            self.run(&format!("DELETE FROM bulk WHERE id >= {} AND id < {to}", self.oldest));
            self.run(&format!("DELETE FROM single WHERE id >= {} AND id < {to}", self.oldest));
            self.oldest = to;
        }
    }

    fn step(&mut self) {
        match self.random.below(60) {
            0..=14 => {
                let rows = 50 + self.random.below(300);
                self.fill("single", rows, 1);
            }
            15..=26 => {
                let rows = 1000 + self.random.below(8000);
                self.fill("bulk", rows, 1000);
            }
            27..=33 => {
                let at = self.oldest + self.random.below(BULK);
                self.run(&format!("UPDATE bulk SET pad = 'u{at}' WHERE id >= {at} AND id < {}", at + 500));
            }
            34..=40 => self.uniq(),
            41..=46 => self.docs(),
            47 | 48 => self.transaction(40),
            49 | 50 => self.transaction(2),
            51 | 52 => self.shape(),
            53 => self.index(),
            54 => drop(self.run(".flush")),
            55 => drop(self.run(".compact")),
            56 => self.die(),
            57 if self.random.below(3) == 0 => self.close(),
            _ => self.trim(),
        }
    }

    /// Goes on for so long. Its last statement makes the table `finished`.
    pub(super) fn run_for(mut self, time: Duration) -> Self {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.step();
        }
        self.run("CREATE TABLE finished(id INT PRIMARY KEY)");
        self
    }
}

/// Whether the process has ended, waited for or not.
fn is_dead(pid: u32) -> bool {
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    state.rsplit(')').next().is_none_or(|rest| rest.trim_start().starts_with('Z') || rest.is_empty())
}
