//! Random schemas, and what the test knows of them.

use deltamesh_testkit::Random;

/// The type of a declared field.
#[derive(Clone, PartialEq)]
pub(super) enum Kind {
    Any,
    Integer,
    Double,
    Text,
    Blob,
    Bool,
    Array,
    /// Without declared fields of its own it takes any.
    Document(Vec<Field>),
}

#[derive(Clone, PartialEq)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) kind: Kind,
    constraints: String,
    default: String,
}

#[derive(Clone)]
pub(super) struct Index {
    pub(super) name: String,
    pub(super) paths: Vec<String>,
}

#[derive(Clone)]
pub(super) struct Table {
    pub(super) name: String,
    pub(super) fields: Vec<Field>,
    /// Whether it takes undeclared fields.
    pub(super) is_open: bool,
    /// Paths of the primary key; none for docids.
    pub(super) key: Vec<String>,
    /// Paths of its unique constraints and indexes.
    pub(super) unique: Vec<Vec<String>>,
    pub(super) indexes: Vec<Index>,
    /// Whether a default takes values of a sequence.
    pub(super) takes_values: bool,
}

/// What stands in the catalog of both engines.
#[derive(Clone, Default)]
pub(super) struct Schema {
    pub(super) tables: Vec<Table>,
    pub(super) sequences: Vec<String>,
    names: usize,
}

const NAMES: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];

impl Kind {
    fn random(random: &mut Random, depth: usize) -> Self {
        match random.below(if depth == 0 { 16 } else { 12 }) {
            0..3 => Self::Integer,
            3..5 => Self::Double,
            5..8 => Self::Text,
            8 => Self::Blob,
            9 => Self::Bool,
            10 => Self::Array,
            11..13 => Self::Any,
            13 => Self::Document(Vec::new()),
            _ => Self::Document(
                (0..random.below(3) + 1).map(|at| Field::random(random, NAMES[at], depth + 1)).collect(),
            ),
        }
    }

    fn sql(&self) -> String {
        match self {
            Self::Any => "ANY".to_owned(),
            Self::Integer => "INTEGER".to_owned(),
            Self::Double => "DOUBLE".to_owned(),
            Self::Text => "TEXT".to_owned(),
            Self::Blob => "BLOB".to_owned(),
            Self::Bool => "BOOL".to_owned(),
            Self::Array => "ARRAY".to_owned(),
            Self::Document(fields) if fields.is_empty() => "DOCUMENT".to_owned(),
            Self::Document(fields) => format!("DOCUMENT({})", list(fields.iter().map(Field::sql))),
        }
    }

    /// A literal of this type, short enough for keys.
    pub(super) fn literal(&self, random: &mut Random) -> String {
        const TEXTS: [&str; 10] =
            ["''", "'a'", "'ab'", "'b'", "'Ann'", "'7'", "'x%y'", "'_'", "'ünïcode'", "'a\"b'"];
        const BLOBS: [&str; 5] = ["'YWJj'", "''", "'AAEC'", "'\\x00ff'", "'\\x616263'"];
        const ARRAYS: [&str; 6] = ["[1]", "[1, 'a']", "[2.5, [true]]", "['a']", "[NULL, 1]", "[1, 2]"];
        const LARGE: [&str; 10] =
            ["127", "128", "255", "256", "65536", "-33", "-129", "-32769", "4294967296", "-2147483649"];
        match self {
            Self::Integer if random.chance(10) => (*random.pick(&LARGE)).to_owned(),
            Self::Integer => (random.below(14) as i64 - 3).to_string(),
            Self::Double => format!("{}.{}", random.below(9) as i64 - 2, random.pick(&["0", "5", "25"]))
                .replace("-0.", "-1."),
            Self::Text => (*random.pick(&TEXTS)).to_owned(),
            Self::Blob => (*random.pick(&BLOBS)).to_owned(),
            Self::Bool => (*random.pick(&["true", "false"])).to_owned(),
            Self::Array => (*random.pick(&ARRAYS)).to_owned(),
            Self::Any => {
                let kinds = [Self::Integer, Self::Double, Self::Text, Self::Bool, Self::Array];
                random.pick(&kinds).literal(random)
            }
            Self::Document(fields) if fields.is_empty() => {
                format!("{{p: {}, q: {}}}", Self::Any.literal(random), Self::Text.literal(random))
            }
            Self::Document(fields) => {
                let mut given = Vec::new();
                for field in fields {
                    if random.chance(85) {
                        given.push(format!("{}: {}", field.name, field.kind.literal(random)));
                    }
                }
                format!("{{{}}}", given.join(", "))
            }
        }
    }

    /// A literal for a comparison. A text that is a blob in base64 is none to an expression, but is one to Genji's ranges of
    /// keys.
    pub(super) fn bound(&self, random: &mut Random) -> String {
        match self {
            Self::Blob => (*random.pick(&["'\\x616263'", "'\\x'", "'\\x000102'", "'\\x00ff'"])).to_owned(),
            other => other.literal(random),
        }
    }

    /// A type whose literals are all of one.
    pub(super) fn narrowed(self, random: &mut Random) -> Self {
        match self {
            Self::Any => {
                random.pick(&[Self::Integer, Self::Double, Self::Text, Self::Bool, Self::Array]).clone()
            }
            other => other,
        }
    }

    /// A literal that was never used before and is the only one of its number; none where the type is too small.
    pub(super) fn fresh(&self, number: usize) -> Option<String> {
        match self {
            Self::Integer | Self::Any => Some((1000 + number).to_string()),
            Self::Double => Some(format!("{}.5", 1000 + number)),
            Self::Text => Some(format!("'t{number}'")),
            Self::Blob => Some(format!("'\\x{number:08x}'")),
            Self::Array => Some(format!("[{number}]")),
            Self::Bool | Self::Document(_) => None,
        }
    }
}

impl Field {
    fn random(random: &mut Random, name: &str, depth: usize) -> Self {
        let kind = Kind::random(random, depth);
        let (mut constraints, mut default) = (String::new(), String::new());
        if random.chance(15) && depth == 0 {
            constraints += " NOT NULL";
        }
        let is_plain = !matches!(kind, Kind::Document(_) | Kind::Blob | Kind::Array);
        if is_plain && random.chance(15) {
            default = format!(" DEFAULT {}", kind.literal(random));
        }
        if depth == 0 && kind == Kind::Integer && random.chance(15) {
            constraints += &format!(" CHECK ({name} > {})", random.below(4) as i64 - 4);
        }
        Self { name: name.to_owned(), kind, constraints, default }
    }

    /// Takes the default away if the path is one of these, also inside.
    fn clear_default(&mut self, path: &str, paths: &[String]) {
        if paths.iter().any(|other| other == path) {
            self.default.clear();
        }
        if let Kind::Document(fields) = &mut self.kind {
            for field in fields {
                field.clear_default(&format!("{path}.{}", field.name), paths);
            }
        }
    }

    fn sql(&self) -> String {
        format!("{} {}{}{}", self.name, self.kind.sql(), self.constraints, self.default)
    }
}

impl Table {
    fn random(random: &mut Random, name: String, sequence: Option<&str>) -> Self {
        let count = random.below(6) + 1;
        let mut fields: Vec<Field> =
            NAMES[..count].iter().map(|name| Field::random(random, name, 0)).collect();
        let mut takes_values = false;
        if let (Some(sequence), Some(field)) =
            (sequence, fields.iter_mut().find(|field| field.kind == Kind::Integer))
        {
            field.default = format!(" DEFAULT NEXT VALUE FOR {sequence}");
            takes_values = true;
        }
        let mut table = Self {
            name,
            fields,
            is_open: random.chance(25),
            key: Vec::new(),
            unique: Vec::new(),
            indexes: Vec::new(),
            takes_values,
        };
        let paths: Vec<String> = table
            .leaves()
            .into_iter()
            .filter(|(_, kind)| !matches!(kind, Kind::Bool | Kind::Document(_)))
            .map(|(path, _)| path)
            .collect();
        if !paths.is_empty() {
            if random.chance(75) {
                let count = if random.chance(30) { 2 } else { 1 };
                table.key = some_of(random, &paths, count);
            }
            while random.chance(30) && table.unique.len() < 2 {
                let count = random.below(2) + 1;
                let unique = some_of(random, &paths, count);
                if unique != table.key && !table.unique.contains(&unique) {
                    table.unique.push(unique);
                }
            }
        }
        // UPDATE does not check UNIQUE, also not where a DEFAULT fills in what it finds absent.
        let unique = table.unique.concat();
        for field in &mut table.fields {
            field.clear_default(&field.name.clone(), &unique);
        }
        table
    }

    fn sql(&self) -> String {
        let mut items: Vec<String> = self.fields.iter().map(Field::sql).collect();
        if !self.key.is_empty() {
            items.push(format!("PRIMARY KEY ({})", self.key.join(", ")));
        }
        items.extend(self.unique.iter().map(|paths| format!("UNIQUE ({})", paths.join(", "))));
        if self.is_open {
            items.push("...".to_owned());
        }
        format!("CREATE TABLE {} ({})", self.name, items.join(", "))
    }

    /// The paths of declared fields with their types, nested ones too.
    pub(super) fn leaves(&self) -> Vec<(String, Kind)> {
        let mut leaves = Vec::new();
        for field in &self.fields {
            leaves.push((field.name.clone(), field.kind.clone()));
            if let Kind::Document(nested) = &field.kind {
                leaves.extend(
                    nested.iter().map(|inner| (format!("{}.{}", field.name, inner.name), inner.kind.clone())),
                );
            }
        }
        leaves
    }

    /// Whether a unique constraint or the key covers this path, or what is inside it.
    pub(super) fn is_unique(&self, path: &str) -> bool {
        let covers = |covered: &String| covered == path || covered.starts_with(&format!("{path}."));
        self.unique.iter().flatten().any(covers)
    }

    /// The paths of the key, of each index and of each unique constraint.
    pub(super) fn lookups(&self) -> impl Iterator<Item = &Vec<String>> {
        self.indexes.iter().map(|index| &index.paths).chain(&self.unique).chain([&self.key])
    }

    /// Whether this path is part of the key, an index or a unique constraint.
    pub(super) fn is_found_by(&self, path: &str) -> bool {
        self.lookups().flatten().any(|indexed| indexed == path)
    }

    pub(super) fn is_key(&self, path: &str) -> bool {
        self.key.iter().any(|key| key == path || key.starts_with(&format!("{path}.")))
    }
}

impl Schema {
    pub(super) fn name(&mut self, prefix: &str) -> String {
        self.names += 1;
        format!("{prefix}{}", self.names)
    }

    /// A number not given out before.
    pub(super) fn number(&mut self) -> usize {
        self.names += 1;
        self.names
    }

    /// A statement that creates a table, and the schema after it.
    pub(super) fn create_table(&mut self, random: &mut Random) -> String {
        let name = self.name("t");
        let sequence = if self.sequences.is_empty() || random.chance(60) {
            None
        } else {
            Some(random.pick(&self.sequences).clone())
        };
        let table = Table::random(random, name, sequence.as_deref());
        let sql = table.sql();
        self.tables.push(table);
        sql
    }

    /// A statement that creates an index, and the schema after it; none where there are many.
    pub(super) fn create_index(&mut self, random: &mut Random, at: usize) -> Option<String> {
        let table = &self.tables[at];
        if table.indexes.len() > 3 {
            return None;
        }
        let leaves = table.leaves();
        let count = random.below(2) + 1;
        let paths: Vec<String> = leaves.iter().map(|(path, _)| path.clone()).collect();
        let mut paths = some_of(random, &paths, count);
        // Genji makes a unique index of rows that are equal in it: here none are, as the key is part of it.
        let unique = random.chance(15) && table.key.len() == 1;
        if unique {
            paths = vec![paths.swap_remove(0), table.key[0].clone()];
            let is_plain = |(path, kind): &(String, Kind)| {
                *path == paths[0] && !matches!(kind, Kind::Document(_) | Kind::Bool)
            };
            if table.is_key(&paths[0]) || !leaves.iter().any(is_plain) {
                return None;
            }
        }
        let name = self.name("i");
        let table = &mut self.tables[at];
        if unique {
            table.unique.push(paths.clone());
        }
        let word = if unique { "UNIQUE INDEX" } else { "INDEX" };
        let sql = format!("CREATE {word} {name} ON {} ({})", table.name, paths.join(", "));
        table.indexes.push(Index { name, paths });
        Some(sql)
    }

    pub(super) fn create_sequence(&mut self, random: &mut Random) -> String {
        let name = self.name("s");
        let options = [
            "",
            " INCREMENT BY 3",
            " INCREMENT BY -2 MINVALUE -500 START WITH 0 CYCLE",
            " MAXVALUE 7 CYCLE",
            " MAXVALUE 9",
            " CACHE 5",
            " CACHE 3 MAXVALUE 20 CYCLE",
            " MAXVALUE 2 CACHE 5",
        ];
        let sql = format!("CREATE SEQUENCE {name}{}", random.pick(&options));
        self.sequences.push(name);
        sql
    }
}

/// Up to `count` different ones.
fn some_of(random: &mut Random, paths: &[String], count: usize) -> Vec<String> {
    let mut chosen: Vec<String> = Vec::new();
    for _ in 0..count {
        let path = random.pick(paths);
        // Neither the same nor one inside the other.
        let is_near = |other: &String| other.starts_with(path.as_str()) || path.starts_with(other.as_str());
        if !chosen.iter().any(is_near) {
            chosen.push(path.clone());
        }
    }
    chosen
}

pub(super) fn list(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<_>>().join(", ")
}
