//! The chat's three views as a circuit of incremental operators.

use anyhow::{Context, Result};
use dbsp::circuit::CircuitConfig;
use dbsp::operator::{Max, Update};
use dbsp::trace::{BatchReader as _, Cursor as _};
use dbsp::typed_batch::SpineSnapshot;
use dbsp::utils::{Tup2, Tup3, Tup4, Tup5};
use dbsp::{
    BatchReader as _, DBData, DBSPHandle, MapHandle, OrdIndexedZSet, OutputHandle, RootCircuit, Runtime,
    Stream, ZWeight,
};

use crate::chat::{Change, Message};

/// Chat, user, body, time, deleted.
type Msg = Tup5<i64, i64, String, i64, i64>;
/// Number of messages, time of the last, users.
type Group = Tup3<i64, i64, i64>;
/// Body, time, name, topic.
type Line = Tup4<String, i64, String, String>;
/// Changed rows of a view.
type Changed<R> = OutputHandle<SpineSnapshot<OrdIndexedZSet<i64, R>>>;

/// Where changes go in and changed rows come out.
struct Ends {
    msg: MapHandle<i64, Msg, Msg>,
    usr: MapHandle<i64, String, String>,
    chat: MapHandle<i64, String, String>,
    visible: Changed<Msg>,
    chats: Changed<Group>,
    feed: Changed<Line>,
}

/// See the module.
pub(crate) struct Circuit {
    handle: DBSPHandle,
    ends: Ends,
}

impl Circuit {
    /// An empty circuit with so many threads.
    pub(crate) fn new(workers: usize) -> Result<Self> {
        let config = CircuitConfig::with_workers(workers).with_allow_input_during_commit(false);
        let (handle, ends) = Runtime::init_circuit(config, |circuit| Ok(Ends::of(circuit)))?;
        Ok(Self { handle, ends })
    }

    /// Takes changes in; they count with the next step.
    pub(crate) fn feed(&mut self, changes: &[Change]) {
        let (mut messages, mut users, mut chats) = (Vec::new(), Vec::new(), Vec::new());
        for change in changes {
            match change {
                Change::Message(Message { id, chat, usr, body, sent, del }) => {
                    let row = Tup5(*chat, *usr, body.clone(), *sent, *del);
                    messages.push(Tup2(*id, Update::Insert(row)));
                }
                Change::Delete(id) => messages.push(Tup2(*id, Update::Delete)),
                Change::User(id, name) => users.push(Tup2(*id, Update::Insert(name.clone()))),
                Change::Chat(id, topic) => chats.push(Tup2(*id, Update::Insert(topic.clone()))),
            }
        }
        self.ends.msg.append(&mut messages);
        self.ends.usr.append(&mut users);
        self.ends.chat.append(&mut chats);
    }

    /// Runs the circuit over what it has been fed with.
    pub(crate) fn step(&mut self) -> Result<()> {
        self.handle.transaction().context("step the circuit")
    }

    /// Rows of `visible` that the last step changed: key, and the row unless it is gone.
    pub(crate) fn visible(&self, each: impl FnMut(i64, Option<&Msg>) -> Result<()>) -> Result<()> {
        changed(&self.ends.visible, each)
    }

    /// The same of `chats`.
    pub(crate) fn chats(&self, each: impl FnMut(i64, Option<&Group>) -> Result<()>) -> Result<()> {
        changed(&self.ends.chats, each)
    }

    /// The same of `feed`.
    pub(crate) fn lines(&self, each: impl FnMut(i64, Option<&Line>) -> Result<()>) -> Result<()> {
        changed(&self.ends.feed, each)
    }
}

impl Ends {
    fn of(circuit: &mut RootCircuit) -> Self {
        let replace = |row: &mut String, with: &String| row.clone_from(with);
        let (messages, msg) = circuit.add_input_map::<i64, Msg, Msg, _>(|row, with| row.clone_from(with));
        let (users, usr) = circuit.add_input_map::<i64, String, String, _>(replace);
        let (topics, chat) = circuit.add_input_map::<i64, String, String, _>(replace);
        let visible = messages.filter(|(_, Tup5(_, _, body, _, del))| !body.is_empty() && *del == 0);
        let feed = messages
            .map_index(|(id, Tup5(chat, usr, body, sent, _))| (*usr, Tup4(*id, *chat, body.clone(), *sent)))
            .join_index(&users, |_, Tup4(id, chat, body, sent), name| {
                Some((*chat, Tup4(*id, body.clone(), *sent, name.clone())))
            })
            .join_index(&topics, |_, Tup4(id, body, sent, name), topic| {
                Some((*id, Tup4(body.clone(), *sent, name.clone(), topic.clone())))
            });
        Self {
            msg,
            usr,
            chat,
            chats: groups(&visible).accumulate_output(),
            visible: visible.accumulate_output(),
            feed: feed.accumulate_output(),
        }
    }
}

/// Messages and users are sums, so one operator keeps both.
fn groups(
    visible: &Stream<RootCircuit, OrdIndexedZSet<i64, Msg>>,
) -> Stream<RootCircuit, OrdIndexedZSet<i64, Group>> {
    let users = visible
        .map(|(_, Tup5(chat, usr, ..))| Tup2(*chat, *usr))
        .distinct()
        .map_index(|Tup2(chat, _)| (*chat, Tup2(0, 1)));
    let last = visible.map_index(|(_, Tup5(chat, _, _, sent, _))| (*chat, *sent)).aggregate(Max);
    visible
        .map_index(|(_, Tup5(chat, ..))| (*chat, Tup2(1_i64, 0_i64)))
        .plus(&users)
        .aggregate_linear(Clone::clone)
        .join_index(&last, |chat, Tup2(n, users), last| Some((*chat, Tup3(*n, *last, *users))))
}

/// Each key once, with the row that is there now.
fn changed<R: DBData>(
    handle: &Changed<R>,
    mut each: impl FnMut(i64, Option<&R>) -> Result<()>,
) -> Result<()> {
    let rows = handle.concat();
    let mut cursor = rows.inner().cursor();
    while cursor.key_valid() {
        let key = cursor.key().as_any().downcast_ref::<i64>().copied().context("the key is no number")?;
        let (mut is, mut was) = (false, false);
        while cursor.val_valid() {
            let weight: ZWeight = **cursor.weight();
            if weight > 0 {
                let row = cursor.val().as_any().downcast_ref().context("the row is another's")?;
                each(key, Some(row))?;
            }
            (is, was) = (is || weight > 0, was || weight < 0);
            cursor.step_val();
        }
        if was && !is {
            each(key, None)?;
        }
        cursor.step_key();
    }
    Ok(())
}
