//! The chat workload: messages, users, chats; what changes and which views look at it. `benches/dbsp` makes the same
//! changes from this file.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Error, Result, bail};

/// Chats; the first has about 1.4 % of the messages.
pub(crate) const CHATS: i64 = 5_000;
/// Users; each has written about a thousandth of the messages.
pub(crate) const USERS: i64 = 1_000;
/// Messages that count as new: half of the updates and deletes hit them.
const NEWEST: i64 = 10_000;

/// Filter, groups, join.
pub(crate) const VIEWS: [(&str, &str); 3] = [
    ("visible", "SELECT id, chat, usr, body, sent FROM msg WHERE body <> '' AND del = 0"),
    (
        "chats",
        "SELECT chat, count(*) AS n, max(sent) AS last, count(DISTINCT usr) AS users
           FROM msg WHERE body <> '' AND del = 0 GROUP BY chat",
    ),
    (
        "feed",
        "SELECT m.id, m.body, m.sent, u.name, c.topic
           FROM msg m JOIN usr u ON u.id = m.usr JOIN chat c ON c.id = m.chat",
    ),
];

/// A row of `msg`.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) id: i64,
    pub(crate) chat: i64,
    pub(crate) usr: i64,
    pub(crate) body: String,
    pub(crate) sent: i64,
    pub(crate) del: i64,
}

/// One change of a row.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    /// A new message, or a new body of one.
    Message(Message),
    /// A message is gone.
    Delete(i64),
    /// A user has another name.
    User(i64, String),
    /// A chat has a topic.
    Chat(i64, String),
}

/// What the application is asked for; as text, the name and the number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// All users and chats.
    First,
    /// So many new messages.
    Load(u64),
    /// So many changes: 80 % new messages, 15 % new bodies, 5 % deleted, and the renames.
    Changes(u64),
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::First => write!(f, "first 1"),
            Self::Load(rows) => write!(f, "load {rows}"),
            Self::Changes(changes) => write!(f, "changes {changes}"),
        }
    }
}

impl FromStr for Order {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, number) = text.split_once(' ').with_context(|| format!("`{text}` has no number"))?;
        let number = number.parse()?;
        Ok(match name {
            "first" => Self::First,
            "load" => Self::Load(number),
            "changes" => Self::Changes(number),
            _ => bail!("`{name}` is nothing to ask for"),
        })
    }
}

/// What the application does, the same for everybody who starts with the same numbers.
#[derive(Clone)]
pub(crate) struct Chat {
    random: u64,
    /// Whether the message of that number is there.
    there: Vec<bool>,
    /// Changes of a thousand that are renames of users.
    renames: u64,
}

impl Chat {
    pub(crate) fn new(renames: u64) -> Self {
        Self { random: 7, there: Vec::new(), renames }
    }

    /// The next changes.
    pub(crate) fn make(&mut self, order: Order) -> Vec<Change> {
        match order {
            Order::First => {
                let users = (0..USERS).map(|id| Change::User(id, format!("user {id}")));
                let chats = (0..CHATS).map(|id| Change::Chat(id, format!("topic {id}")));
                users.chain(chats).collect()
            }
            Order::Load(rows) => (0..rows).map(|_| self.insert()).collect(),
            Order::Changes(changes) => (0..changes).map(|_| self.change()).collect(),
        }
    }

    fn change(&mut self) -> Change {
        if self.below(1_000) < self.renames {
            let user = self.below(USERS.cast_unsigned()).cast_signed();
            let name = format!("user {user} of {}", self.below(1 << 40));
            return Change::User(user, name);
        }
        match self.below(100) {
            0..80 => self.insert(),
            80..95 => {
                let id = self.existing();
                Change::Message(self.message(id))
            }
            _ => {
                let id = self.existing();
                if let Some(there) = self.there.get_mut(usize::try_from(id).unwrap_or_default()) {
                    *there = false;
                }
                Change::Delete(id)
            }
        }
    }

    fn insert(&mut self) -> Change {
        let id = i64::try_from(self.there.len()).unwrap_or_default();
        self.there.push(true);
        Change::Message(self.message(id))
    }

    /// Half among the newest, half anywhere.
    fn existing(&mut self) -> i64 {
        let last = i64::try_from(self.there.len()).unwrap_or_default();
        loop {
            let first = if self.below(2) == 0 { (last - NEWEST).max(0) } else { 0 };
            let id = first + self.below((last - first).cast_unsigned()).cast_signed();
            if usize::try_from(id).is_ok_and(|index| self.there[index]) {
                return id;
            }
        }
    }

    /// The message of that number with a body of its own: 5 % are empty. What else it is follows from the number.
    fn message(&mut self, id: i64) -> Message {
        let mut of = Self { random: id.cast_unsigned() ^ 0x5851_f42d_4c95_7f2d, ..Self::new(0) };
        let share = (of.below(1 << 32) as f64) / (1_u64 << 32) as f64;
        let chat = (share * share * CHATS as f64) as i64;
        let (usr, del) = (of.below(USERS.cast_unsigned()).cast_signed(), i64::from(of.below(100) < 3));
        let length = if self.below(100) < 5 { 0 } else { 20 + self.below(80) as usize };
        let word = format!("{:016x} ", self.below(u64::MAX));
        let body = word.repeat(length.div_ceil(word.len()));
        let body = body.get(..length).unwrap_or_default().to_owned();
        Message { id, chat, usr, body, sent: 1_700_000_000_000 + id * 1_000, del }
    }

    /// A number below `bound` (splitmix64).
    fn below(&mut self, bound: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}
