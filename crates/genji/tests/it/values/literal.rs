//! Genji's literals of all types, and random statements made of them.

use base64::Engine as _;

/// Both sides of each width.
pub(super) const INTEGERS: [&str; 27] = [
    "0",
    "1",
    "-1",
    "127",
    "128",
    "-32",
    "-33",
    "-128",
    "-129",
    "255",
    "256",
    "65535",
    "65536",
    "-32768",
    "-32769",
    "2147483647",
    "2147483648",
    "4294967295",
    "4294967296",
    "-2147483648",
    "-2147483649",
    "9007199254740992",
    "9007199254740993",
    "-9007199254740993",
    "9223372036854775807",
    "-9223372036854775807",
    "-9223372036854775807 - 1",
];

/// Zeros, the smallest and largest, infinities (made by arithmetic), and what has no exact decimal.
pub(super) const DOUBLES: [&str; 16] = [
    "0.0",
    "-0.0",
    "1.0",
    "-1.0",
    "1.5",
    "-1.5",
    "0.1",
    "1e15",
    "1e308",
    "-1e308",
    "1.7976931348623157e308",
    "-1.7976931348623157e308",
    "4.9e-324",
    "2.2250738585072014e-308",
    "1e308 * 10.0",
    "-1e308 * 10.0",
];

/// Lengths of texts and blobs around the widths of their length.
pub(super) const LENGTHS: [usize; 12] = [0, 1, 2, 127, 128, 129, 255, 256, 2048, 16383, 16384, 40_000];

/// A text of so many bytes, most of them one-byte characters.
pub(super) fn text(length: usize) -> String {
    let start = if length >= 9 { "ä€😀" } else { "" };
    format!("\"{start}{}\"", "t".repeat(length - start.len()))
}

/// A blob of so many bytes: the engine takes base64.
pub(super) fn blob(length: usize) -> String {
    let bytes: Vec<u8> = (0..length).map(|at| (at * 7) as u8).collect();
    format!("\"{}\"", base64::engine::general_purpose::STANDARD.encode(bytes))
}

/// A small generator of numbers: runs repeat from their seed.
pub(super) struct Random(deltamesh_testkit::Random);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(deltamesh_testkit::Random(seed))
    }

    fn below(&mut self, limit: usize) -> usize {
        self.0.below(limit)
    }

    fn one_of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len())]
    }

    /// A literal for a field of that type, at times of another. Short where it is for a key: longer ones have no order.
    fn value(&mut self, field_type: &str, is_key: bool, depth: usize) -> String {
        if self.below(12) == 0 {
            return "NULL".to_owned();
        }
        let types = ["INT", "DOUBLE", "TEXT", "BOOL", "ARRAY", "DOCUMENT"];
        let field_type = match field_type {
            "" | "ANY" => types[self.below(if depth == 0 { 5 } else { types.len() })],
            _ if self.below(20) == 0 => types[self.below(types.len())],
            other => other,
        };
        let longest = if is_key { 2 } else { LENGTHS.len() };
        match field_type {
            "INT" if self.below(2) == 0 => self.one_of(&INTEGERS).to_owned(),
            "INT" => self.below(20).to_string(),
            "DOUBLE" => self.one_of(&DOUBLES).to_owned(),
            "TEXT" if self.below(2) == 0 => {
                self.one_of(&[r#""a""#, r#""b\"c""#, r#""ü€""#, r#""1""#]).to_owned()
            }
            "TEXT" => text(LENGTHS[self.below(longest)]),
            "BLOB" => blob(LENGTHS[self.below(longest)]),
            "BOOL" => self.one_of(&["true", "false"]).to_owned(),
            "ARRAY" => {
                let length = if depth > 2 { 0 } else { self.below(4) };
                let values: Vec<_> = (0..length).map(|_| self.value("ANY", is_key, depth + 1)).collect();
                format!("[{}]", values.join(", "))
            }
            _ => self.document(is_key, depth),
        }
    }

    fn document(&mut self, is_key: bool, depth: usize) -> String {
        let mut fields = Vec::new();
        let count = if depth > 2 { 0 } else { self.below(4) };
        for (name, field_type) in [("x", "INT"), ("y", "TEXT"), ("z", "DOCUMENT"), ("w", "ANY")] {
            if fields.len() < count && self.below(3) > 0 {
                fields.push(format!("{name}: {}", self.value(field_type, is_key, depth + 1)));
            }
        }
        format!("{{{}}}", fields.join(", "))
    }
}

struct Table {
    name: String,
    /// Names and types.
    fields: Vec<(String, &'static str)>,
    /// How many of the first fields are the primary key.
    key: usize,
    has_rows: bool,
    takes_more: bool,
}

/// The tables that the statements so far should have left.
#[derive(Default)]
pub(super) struct Tables {
    tables: Vec<Table>,
    made: usize,
    is_open: bool,
}

impl Tables {
    /// The next statement. Some the engine refuses.
    pub(super) fn statement(&mut self, random: &mut Random) -> String {
        if self.tables.len() < 3 {
            return self.create(random);
        }
        let at = random.below(self.tables.len());
        match random.below(40) {
            0 if self.tables.len() < 8 => self.create(random),
            1 => format!("DROP TABLE {}", self.tables.swap_remove(at).name),
            2 if !self.is_open => {
                let from = std::mem::replace(&mut self.tables[at].name, format!("t{}", self.made));
                self.made += 1;
                format!("ALTER TABLE {from} RENAME TO {}", self.tables[at].name)
            }
            // The engine cannot read rows that are older than a field.
            3 if !self.tables[at].has_rows => {
                let (name, field_type) = (format!("g{}", self.made), random.one_of(&TYPES));
                self.made += 1;
                self.tables[at].fields.push((name.clone(), field_type));
                format!("ALTER TABLE {} ADD FIELD {name} {field_type}", self.tables[at].name)
            }
            4 | 5 => {
                self.is_open = !self.is_open;
                if self.is_open { "BEGIN" } else { random.one_of(&["COMMIT", "COMMIT", "ROLLBACK"]) }
                    .to_owned()
            }
            6 if !self.is_open => random.one_of(&[".flush", ".compact"]).to_owned(),
            7..=9 => self.tables[at].delete(random),
            10..=16 => self.tables[at].update(random),
            _ => self.tables[at].insert(random),
        }
    }

    fn create(&mut self, random: &mut Random) -> String {
        let fields: Vec<_> =
            (0..random.below(6)).map(|index| (format!("f{index}"), random.one_of(&TYPES))).collect();
        let key = random.below(3).min(fields.len());
        let name = format!("t{}", self.made);
        self.made += 1;
        let takes_more = random.below(3) == 0 || fields.is_empty();
        let mut items: Vec<_> =
            fields.iter().map(|(name, field_type)| format!("{name} {field_type}")).collect();
        if key > 0 {
            let names: Vec<_> = fields[..key].iter().map(|(name, _)| name.as_str()).collect();
            items.push(format!("PRIMARY KEY({})", names.join(", ")));
        }
        if takes_more {
            items.push("...".to_owned());
        }
        let sql = format!("CREATE TABLE {name} ({})", items.join(", "));
        self.tables.push(Table { name, fields, key, has_rows: false, takes_more });
        sql
    }
}

const TYPES: [&str; 9] = [
    "INT",
    "DOUBLE",
    "TEXT",
    "BLOB",
    "BOOL",
    "ARRAY",
    "ANY",
    "DOCUMENT",
    "DOCUMENT(x INT, y TEXT, z DOCUMENT(w ANY, ...))",
];

impl Table {
    fn field(&self, random: &mut Random) -> (usize, String, &'static str) {
        let extra = usize::from(self.takes_more || self.fields.is_empty());
        let index = random.below(self.fields.len() + extra);
        let (name, field_type) = self.fields.get(index).cloned().unwrap_or(("extra".to_owned(), "ANY"));
        (index, name, field_type)
    }

    fn assigned(&self, random: &mut Random) -> (String, String) {
        let (index, name, field_type) = self.field(random);
        (name, random.value(field_type, index < self.key, 0))
    }

    fn insert(&mut self, random: &mut Random) -> String {
        self.has_rows = true;
        let mut chosen = Vec::new();
        for (index, (name, field_type)) in self.fields.iter().enumerate() {
            if index < self.key || random.below(4) > 0 {
                chosen.push((name.clone(), random.value(field_type, index < self.key, 0)));
            }
        }
        if self.takes_more {
            for name in ["extra", "more"] {
                chosen.push((name.to_owned(), random.value("DOCUMENT", false, 0)));
            }
        }
        let (names, values): (Vec<_>, Vec<_>) = chosen.into_iter().unzip();
        format!("INSERT INTO {}({}) VALUES ({})", self.name, names.join(", "), values.join(", "))
    }

    fn condition(&self, random: &mut Random) -> String {
        let (name, value) = self.assigned(random);
        let operator = random.one_of(&["=", ">", "<=", "!="]);
        if random.below(8) == 0 { String::new() } else { format!(" WHERE {name} {operator} {value}") }
    }

    fn update(&self, random: &mut Random) -> String {
        let (name, value) = self.assigned(random);
        format!("UPDATE {} SET {name} = {value}{}", self.name, self.condition(random))
    }

    fn delete(&self, random: &mut Random) -> String {
        format!("DELETE FROM {}{}", self.name, self.condition(random))
    }
}
