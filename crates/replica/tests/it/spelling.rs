//! Changes are spelled alike in both databases.

use deltamesh_change::{ColumnType, Item, Value};

use crate::fixture::*;
use crate::written::Numbers;

const COLUMNS: [(&str, ColumnType); 9] = [
    ("id", ColumnType::Int),
    ("o", ColumnType::Bool),
    ("n", ColumnType::Int),
    ("f", ColumnType::Float),
    ("t", ColumnType::Text),
    ("d", ColumnType::Decimal),
    ("b", ColumnType::Bytes),
    ("j", ColumnType::Json),
    ("a", ColumnType::Any),
];

const FLOATS: [f64; 22] = [
    0.0,
    1.0,
    -1.5,
    0.1,
    1e15,
    1.5e15,
    1_234_567_890_123_456.7,
    9_007_199_254_740_993.0,
    9.999e15,
    1e16,
    1.25e16,
    1e17,
    -1.25e-5,
    1e-5,
    1e-6,
    1.2e-7,
    5e-324,
    f64::MAX,
    f64::NAN,
    f64::INFINITY,
    f64::NEG_INFINITY,
    123_456.789,
];

const TEXTS: [&str; 9] = [
    "",
    "plain-1_A",
    "two words",
    "a.b*c>",
    "\"\\/\u{8}\u{c}\n\r\t\u{1}\u{1f}\u{7f}",
    "žluť 🐎",
    "%",
    "a\n",
    "null",
];

fn float(numbers: &mut Numbers) -> f64 {
    let known = numbers.below(2) == 0;
    let bits = (numbers.below(1 << 31) as u64) << 33 ^ (numbers.below(1 << 31) as u64) << 2;
    if known { numbers.one(&FLOATS) } else { f64::from_bits(bits) }
}

fn text(numbers: &mut Numbers) -> String {
    numbers.one(&TEXTS).repeat(1 + 40 * (numbers.below(4) / 3))
}

fn int(numbers: &mut Numbers) -> i64 {
    let edges = [0, -7, 1 << 53, (1 << 53) + 1, -(1 << 53), -(1 << 53) - 1, i64::MAX, i64::MIN];
    numbers.one(&edges)
}

fn document(numbers: &mut Numbers) -> Value {
    let list = vec![Value::Null, Value::Bool(true), Value::Int(int(numbers)), Value::Array(vec![])];
    Value::Document(vec![
        ("\"é".into(), Value::Text(text(numbers))),
        ("aa".into(), Value::Float(FLOATS[numbers.below(18)])),
        ("b".into(), Value::Array(list)),
        ("c".into(), Value::Document(vec![])),
    ])
}

fn row(id: i64, numbers: &mut Numbers) -> Vec<Value> {
    let any = [Value::Text(text(numbers)), Value::Float(1.5), Value::Int(int(numbers))];
    let row = [
        Value::Int(id),
        Value::Bool(numbers.below(2) == 0),
        Value::Int(int(numbers)),
        Value::Float(float(numbers)),
        Value::Text(text(numbers)),
        Value::Decimal("12.500".into()),
        Value::Bytes(vec![b'x'; numbers.below(200)]),
        document(numbers),
        numbers.one(&any),
    ];
    let keep = |(index, value)| if index > 0 && numbers.below(6) == 0 { Value::Null } else { value };
    row.into_iter().enumerate().map(keep).collect()
}

/// View, operation, key, row, former values and subject of each change.
fn changes(fixture: &Fixture) -> Vec<String> {
    let changes = fixture.reader().changes_after(0, None, usize::MAX).unwrap();
    let lines = changes.into_iter().map(|change| {
        let before = change.before.unwrap_or_default();
        let end = change.transaction_end;
        format!(
            "{} {} {} {} {before} {} {end}",
            change.view, change.operation, change.key, change.row, change.subject
        )
    });
    let mut lines: Vec<String> = lines.collect();
    lines.sort();
    lines
}

#[test]
fn both_databases_spell_alike() {
    let mut fixtures = [Fixture::new(), Fixture::on_postgres()];
    let of_each = fixtures.each_mut().map(|fixture| {
        let mut numbers = Numbers::new(11);
        let sample = schema("sample", 1, &COLUMNS, &[0]);
        fixture.apply(vec![define(&sample)]);
        for (column, _) in &COLUMNS[1..] {
            let create = format!(
                "CREATE MATERIALIZED VIEW by_{column} WITH (subject = '{column}') AS SELECT id, {column} FROM app.sample"
            );
            fixture.replica().execute(&create).unwrap();
        }
        for _ in 0..4 {
            let rows = (0..60).map(|id| upsert(&sample, row(id, &mut numbers)));
            fixture.apply(rows.collect::<Vec<Item>>());
        }
        changes(fixture)
    });
    assert!(of_each[0].len() > 1_500, "{}", of_each[0].len());
    for (sqlite, postgres) in of_each[0].iter().zip(&of_each[1]) {
        assert_eq!(sqlite, postgres);
    }
    assert_eq!(of_each[0].len(), of_each[1].len());
}
