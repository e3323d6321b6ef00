//! Nexmark's queries without windows of time as views: while bids come, auctions change, and all of them may go again.
//!
//! Not here: q5, q7, q8, q11, q12 and q13, which are about windows of time or a table beside the stream, q10, which writes files, and q22,
//! which splits a text.

use std::sync::Arc;

use deltamesh_change::{ColumnType, Item, RelationSchema, Value};

use crate::fixture::*;
use crate::written::{Numbers, Written};

macro_rules! queries {
    ($($number:literal)*) => { [$((concat!("q", $number), include_str!(concat!("../nexmark/q", $number, ".sql")))),*] };
}

const QUERIES: [(&str, &str); 15] =
    queries!("0" "1" "2" "3" "4" "6" "9" "14" "15" "16" "17" "18" "19" "20" "21");

const SPELLINGS: [(&str, &str); 4] = [
    ("mod(auction, 123)", "auction % 123"),
    ("extract(hour FROM date_time)", "CAST(substr(date_time, 12, 2) AS INTEGER)"),
    ("substring(date_time FROM 12 FOR 5)", "substr(date_time, 12, 5)"),
    ("position('channel_id=' IN url)", "instr(url, 'channel_id=')"),
];

fn relations() -> [Arc<RelationSchema>; 3] {
    use ColumnType::{Int, Text};
    let person =
        [("id", Int), ("name", Text), ("email", Text), ("city", Text), ("state", Text), ("date_time", Text)];
    let auction = [
        ("id", Int),
        ("item_name", Text),
        ("initial_bid", Int),
        ("reserve", Int),
        ("date_time", Text),
        ("expires", Text),
        ("seller", Int),
        ("category", Int),
    ];
    let bid = [
        ("id", Int),
        ("auction", Int),
        ("bidder", Int),
        ("price", Int),
        ("channel", Text),
        ("url", Text),
        ("date_time", Text),
        ("extra", Text),
    ];
    [schema("person", 1, &person, &[0]), schema("auction", 2, &auction, &[0]), schema("bid", 3, &bid, &[0])]
}

/// The events of the benchmark, with keys that come again.
struct Market {
    relations: [Arc<RelationSchema>; 3],
    numbers: Numbers,
}

impl Market {
    fn number(&mut self, limit: usize) -> Value {
        Value::Int(i64::try_from(self.numbers.below(limit)).unwrap())
    }

    fn time(&mut self, month: &str) -> Value {
        let (day, hour, minute) = (self.numbers.below(3) + 1, self.numbers.below(24), self.numbers.below(60));
        format!("2024-{month}-{day:02} {hour:02}:{minute:02}:00").into()
    }

    /// 1 of 8 events is a person, 2 are auctions, the others bids; some take an earlier one's place, some remove it.
    fn event(&mut self) -> Item {
        let of = [0, 1, 1, 2, 2, 2, 2, 2][self.numbers.below(8)];
        let key = self.number([12, 40, 400][of]);
        let relation = self.relations[of].clone();
        if self.numbers.below(8) == 0 {
            return delete(&relation, vec![key]);
        }
        let row = match of {
            0 => {
                let (name, state) =
                    (self.numbers.one(&["ann", "bob", "cyd"]), self.numbers.one(&["OR", "ID", "CA", "NY"]));
                vec![key, name.into(), "a@b.c".into(), "Town".into(), state.into(), self.time("01")]
            }
            1 => {
                let reserve = self.number(9_000);
                let (opened, closed) = (self.time("01"), self.time("02"));
                let (seller, category) = (self.number(12), self.number(4));
                let category = if category == Value::Int(3) { category } else { Value::Int(10) };
                vec![key, "thing".into(), Value::Int(1), reserve, opened, closed, seller, category]
            }
            _ => self.bid(key),
        };
        upsert(&relation, row)
    }

    fn bid(&mut self, key: Value) -> Vec<Value> {
        let auction = if self.numbers.below(9) == 0 { Value::Int(123) } else { self.number(40) };
        let bidder = self.number(12);
        let price = match self.numbers.below(3) {
            0 => self.number(10_000),
            1 => self.number(60_000),
            _ => self.number(3_000_000),
        };
        let channel = self.numbers.one(&["Google", "apple", "Facebook", "channel-7"]);
        let url = self.numbers.one(&["https://a.b/item?channel_id=7", "https://a.b/item"]);
        let extra = self.numbers.one(&["cab", "abcc", ""]);
        vec![key, auction, bidder, price, channel.into(), url.into(), self.time("02"), extra.into()]
    }
}

/// Makes every query a view, none of which is computed as a whole.
fn create(fixture: &mut Fixture) {
    for (name, sql) in QUERIES {
        let create = format!("CREATE MATERIALIZED VIEW {name} AS {sql}");
        fixture.replica().execute(&create).unwrap_or_else(|error| panic!("{name}: {error:?}"));
        let explained = fixture.replica().explain(name).unwrap().to_string();
        let full = explained.lines().find(|line| line.contains("(tier F)") || line.ends_with("[F]"));
        assert_eq!(full, None, "{name} is computed as a whole");
    }
}

/// Events, and a check after each batch of them.
fn trade(mut fixture: Fixture, mut check: impl FnMut(&mut Fixture, &str)) {
    let mut market = Market { relations: relations(), numbers: Numbers::new(11) };
    fixture.apply(market.relations.iter().map(define).collect());
    let events = |market: &mut Market, count: usize| (0..count).map(|_| market.event()).collect::<Vec<_>>();
    fixture.apply(events(&mut market, 300));
    create(&mut fixture);
    for (batch, size) in [0, 1, 1, 5, 20, 100, 400, 1, 30].into_iter().enumerate() {
        let events = events(&mut market, size);
        fixture.apply(events);
        fixture.verify();
        check(&mut fixture, &format!("batch {batch}"));
    }
}

#[test]
fn every_query_is_kept() {
    let relations = relations();
    let mut written = None;
    let mut seen = [0; QUERIES.len()];
    trade(Fixture::new(), |fixture, batch| {
        let names = relations.iter().map(|schema| schema.relation.as_str());
        let written = written.get_or_insert_with(|| Written::open(fixture, names, &SPELLINGS));
        for (number, (name, sql)) in QUERIES.iter().enumerate() {
            seen[number] = seen[number].max(written.check(name, sql, batch));
        }
    });
    let empty = QUERIES.iter().zip(seen).filter(|(_, rows)| *rows == 0).map(|((name, _), _)| *name);
    assert_eq!(empty.collect::<Vec<_>>(), [""; 0], "had rows");
}

#[test]
fn every_query_is_kept_on_postgres() {
    trade(Fixture::on_postgres(), |_, _| {});
}
