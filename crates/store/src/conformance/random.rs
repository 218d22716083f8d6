//! Random sequences of operations, against a model that keeps a copy of everything for each revision. A sequence that fails is made
//! smaller before it is shown.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;
use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, TestCaseError, TestRunner},
};

use super::{Scope, Subject, Watcher, scope::text};
use crate::{
    Op, Precondition,
    Precondition::{Absent, At},
    Revision, Store, StoreError, Txn, Versioned,
};

const SEQUENCES: u32 = 48;
const KEYS: u8 = 6;

/// One step. Revisions are given as distances, so that a step makes sense wherever it stands.
#[derive(Clone, Debug)]
enum Step {
    /// Change keys; for each: whether to delete it where it exists, and whether to guard it, rightly or wrongly.
    Commit(Vec<(u8, bool, Guard)>),
    /// Read everything at so many revisions back.
    ReadPast(u64),
    /// Page through everything with this limit.
    Pages(usize),
    /// Watch from so many revisions back, up to now.
    Watch(u64),
    /// Compact to so many revisions back.
    Compact(u64),
    Reopen,
}

#[derive(Clone, Copy, Debug)]
enum Guard {
    None,
    Right,
    Wrong,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let guard = prop_oneof![
        Just(Guard::None),
        Just(Guard::Right),
        Just(Guard::Right),
        Just(Guard::Wrong)
    ];
    let change = (0..KEYS, prop::bool::weighted(0.3), guard);
    let step = prop_oneof![
        12 => vec(change, 1..4).prop_map(Step::Commit),
        2 => (0..8_u64).prop_map(Step::ReadPast),
        2 => (1..4_usize).prop_map(Step::Pages),
        2 => (0..8_u64).prop_map(Step::Watch),
        1 => (0..6_u64).prop_map(Step::Compact),
        1 => Just(Step::Reopen),
    ];
    vec(step, 1..40)
}

/// Name to (value, created, modified).
type State = BTreeMap<String, (String, Revision, Revision)>;

/// The model: the state at each revision since the start.
struct Model {
    start: Revision,
    states: Vec<State>,
    oldest: Revision,
}

impl Model {
    fn current(&self) -> Revision {
        Revision::new(self.start.get() + self.states.len() as u64 - 1)
    }

    fn back(&self, by: u64) -> Revision {
        Revision::new(self.current().get().saturating_sub(by).max(self.start.get()))
    }

    fn at(&self, at: Revision) -> &State {
        &self.states[(at.get() - self.start.get()) as usize]
    }

    fn now(&self) -> &State {
        self.at(self.current())
    }

    /// What a watch from `from` must show.
    fn changes_since(&self, from: Revision) -> Vec<String> {
        let mut changes = Vec::new();
        for at in from.get() + 1..=self.current().get() {
            let (before, after) = (self.at(Revision::new(at - 1)), self.at(Revision::new(at)));
            for name in before.keys().filter(|name| !after.contains_key(*name)) {
                changes.push(format!("{at} -{name} was {}", before[name].0));
            }
            for (name, (value, _, modified)) in after.iter().filter(|(_, v)| v.2.get() == at) {
                let was = before.get(name).map_or("nothing", |v| &v.0);
                changes.push(format!("{modified} {name}={value} was {was}"));
            }
        }
        changes.sort();
        changes
    }
}

/// Whatever is done in whatever order, the store and the model agree.
pub async fn random_operations_match_the_model(subject: &dyn Subject) {
    // One store for all sequences, each below a prefix of its own: opening one may take a backend long.
    let store = Mutex::new(Some(subject.open().await));
    let runtime = tokio::runtime::Handle::current();
    let config = Config {
        cases: SEQUENCES,
        failure_persistence: None,
        ..Config::default()
    };
    let result = tokio::task::block_in_place(|| {
        TestRunner::new(config).run(&steps(), |steps| {
            let opened = store.lock().take().expect("the store of the sequence before");
            let (left, result) = runtime.block_on(run(subject, opened, steps));
            *store.lock() = Some(left);
            result
        })
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }
}

async fn run(
    subject: &dyn Subject,
    store: Arc<dyn Store>,
    steps: Vec<Step>,
) -> (Arc<dyn Store>, Result<(), TestCaseError>) {
    let mut s = Scope::on(store, "random").await;
    // A revision of its own, so that no two sequences have the same start and with it the same prefix.
    s.store
        .commit(Txn {
            preconditions: vec![],
            ops: vec![s.put_op("begun", "")],
        })
        .await
        .expect("a commit");
    s = Scope::on(s.store, "random").await;
    let mut model = Model {
        start: s.start,
        states: vec![State::new()],
        oldest: s.start,
    };
    for (number, step) in steps.into_iter().enumerate() {
        let result = match step {
            Step::Commit(changes) => commit(&s, &mut model, changes).await,
            Step::ReadPast(by) => read_past(&s, &model, by).await,
            Step::Pages(limit) => pages(&s, &model, limit).await,
            Step::Watch(by) => watch(&s, &model, by).await,
            Step::Compact(by) => compact(&s, &mut model, by).await,
            Step::Reopen => {
                s = s.reopen(subject).await;
                Ok(())
            }
        };
        let now = match result {
            Ok(()) => same(&show(&s, None).await, &Ok(shown(model.now()))),
            Err(e) => Err(e),
        };
        if let Err(e) = now {
            return (s.store, Err(TestCaseError::fail(format!("step {number}: {e}"))));
        }
    }
    (s.store, Ok(()))
}

fn same<T: PartialEq + std::fmt::Debug>(store: &T, model: &T) -> Result<(), String> {
    if store == model {
        Ok(())
    } else {
        Err(format!("the store has {store:?}, the model {model:?}"))
    }
}

fn shown(state: &State) -> Vec<String> {
    state
        .iter()
        .map(|(name, (value, created, modified))| format!("{name}={value} {created} {modified}"))
        .collect()
}

async fn show(s: &Scope, at: Option<Revision>) -> Result<Vec<String>, StoreError> {
    let page = s.store.list(s.prefix(), at, None, 0).await?;
    Ok(page
        .items
        .iter()
        .map(|(k, v)| format!("{}={} {} {}", s.name(k), text(&v.value), v.created, v.modified))
        .collect())
}

async fn commit(s: &Scope, model: &mut Model, changes: Vec<(u8, bool, Guard)>) -> Result<(), String> {
    let revision = model.current().next();
    let before = model.now().clone();
    let (mut after, mut txn, mut refused) = (before.clone(), Txn::default(), None);
    for (number, delete, guard) in changes {
        let name = format!("k{number}");
        let key = s.key(&name);
        if txn.ops.iter().any(|op| *op.key() == key) {
            continue;
        }
        let known = before.get(&name);
        let guard: Option<Precondition> = match (guard, known) {
            (Guard::None, _) => None,
            (Guard::Right, Some((_, _, modified))) => Some(At(key.clone(), *modified)),
            (Guard::Right, None) => Some(Absent(key.clone())),
            (Guard::Wrong, Some(_)) => Some(Absent(key.clone())),
            (Guard::Wrong, None) => Some(At(key.clone(), model.current())),
        };
        let holds = match (&guard, known) {
            (Some(At(..)), known) => known.is_some(),
            (Some(Absent(_)), known) => known.is_none(),
            (None, _) => true,
        };
        if !holds && refused.is_none() {
            refused = Some(key.clone());
        }
        txn.preconditions.extend(guard);
        if delete && known.is_some() {
            after.remove(&name);
            txn.ops.push(Op::Delete(key));
        } else {
            let created = known.map_or(revision, |v| v.1);
            after.insert(name, (revision.to_string(), created, revision));
            txn.ops.push(Op::Put(key, revision.to_string().into()));
        }
    }
    match (s.store.commit(txn).await, refused) {
        (Ok(got), None) => {
            model.states.push(after);
            same(&got, &revision)
        }
        (Err(StoreError::Conflict { key, current }), Some(expected)) => {
            same(&key, &expected)?;
            let value = current.map(|v| (text(&v.value), v.created, v.modified));
            same(&value, &before.get(&s.name(&key)).cloned())
        }
        (result, refused) => Err(format!("a commit gave {result:?}; refused by {refused:?}")),
    }
}

async fn read_past(s: &Scope, model: &Model, by: u64) -> Result<(), String> {
    let at = model.back(by);
    let expected = match at < model.oldest {
        true => Err(StoreError::Compacted {
            asked: at,
            oldest: model.oldest,
        }),
        false => Ok(shown(model.at(at))),
    };
    same(&show(s, Some(at)).await, &expected)
}

async fn pages(s: &Scope, model: &Model, limit: usize) -> Result<(), String> {
    let at = model.current();
    let (mut names, mut more) = (Vec::<String>::new(), true);
    while more {
        let after = names.last().map(|name| s.key(name));
        let page = s
            .store
            .list(s.prefix(), Some(at), after.as_ref(), limit)
            .await
            .map_err(|e| e.to_string())?;
        if page.more && page.items.len() != limit {
            return Err(format!("a page of {} of {limit} with more to come", page.items.len()));
        }
        names.extend(page.items.iter().map(|(key, _)| s.name(key)));
        more = page.more;
    }
    same(&names, &model.now().keys().cloned().collect())
}

async fn watch(s: &Scope, model: &Model, by: u64) -> Result<(), String> {
    let from = model.back(by);
    let stream = match s.store.watch(s.prefix(), from).await {
        Ok(stream) => stream,
        Err(e) => {
            return same(
                &e,
                &StoreError::Compacted {
                    asked: from,
                    oldest: model.oldest,
                },
            );
        }
    };
    s.store.request_progress(s.prefix()).await.map_err(|e| e.to_string())?;
    let events = Watcher::new(stream).until_progress(model.current()).await;
    let value = |v: &Option<Versioned>| v.as_ref().map_or("nothing".to_owned(), |v| text(&v.value));
    let mut shown: Vec<String> = events
        .iter()
        .map(|e| match &e.current {
            Some(now) => format!(
                "{} {}={} was {}",
                e.revision,
                s.name(&e.key),
                text(&now.value),
                value(&e.previous)
            ),
            None => format!("{} -{} was {}", e.revision, s.name(&e.key), value(&e.previous)),
        })
        .collect();
    if !events.is_sorted_by_key(|e| e.revision) {
        return Err(format!("out of order: {shown:?}"));
    }
    shown.sort();
    same(&shown, &model.changes_since(from))
}

async fn compact(s: &Scope, model: &mut Model, by: u64) -> Result<(), String> {
    let before = model.back(by);
    model.oldest = model.oldest.max(before);
    s.store.compact(before).await.map_err(|e| e.to_string())
}
