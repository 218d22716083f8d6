//! Many clients at once: nothing lost, nothing half, nothing out of order in time.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{
    Scope, Subject,
    linear::{Action, Contents, Operation, Outcome, is_linearizable},
    scope::text,
};
use crate::{
    Op,
    Precondition::{self, Absent, At},
    StoreError, Versioned,
};

/// Clients that increment one counter by compare-and-swap count each increment once.
pub async fn compare_and_swap_loses_no_update(subject: &dyn Subject) {
    const CLIENTS: usize = 8;
    const INCREMENTS: usize = 20;
    let s = Scope::open(subject, "counter").await;
    s.put("n", "0").await;
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let s = s.clone();
            tokio::spawn(async move {
                for _ in 0..INCREMENTS {
                    let mut now = s.get("n").await.expect("the counter");
                    loop {
                        let more = text(&now.value).parse::<u64>().expect("a number") + 1;
                        let ops = vec![s.put_op("n", &more.to_string())];
                        match s.commit_if(vec![At(s.key("n"), now.modified)], ops).await {
                            Ok(_) => break,
                            // The conflict carries what is there now: no need to read again.
                            Err(StoreError::Conflict {
                                current: Some(current), ..
                            }) => now = current,
                            Err(e) => panic!("{e}"),
                        }
                    }
                }
            })
        })
        .collect();
    for client in clients {
        client.await.expect("a client");
    }
    assert_eq!(s.text("n").await, Some((CLIENTS * INCREMENTS).to_string()));
    let commits = (CLIENTS * INCREMENTS + 1) as u64;
    assert_eq!(
        s.store.current().await.map(|r| r.get()),
        Ok(s.start.get() + commits),
        "one revision each"
    );
}

/// Of clients that create one key, one wins, and the others are told what it made.
pub async fn one_create_wins(subject: &dyn Subject) {
    let s = Scope::open(subject, "create").await;
    for round in 0..10 {
        let key = s.key(&format!("k{round}"));
        let racers: Vec<_> = (0..8)
            .map(|racer| {
                let (s, key) = (s.clone(), key.clone());
                let op = Op::Put(key.clone(), format!("racer {racer}").into());
                tokio::spawn(async move { s.commit_if(vec![Absent(key)], vec![op]).await })
            })
            .collect();
        let mut results = Vec::new();
        for racer in racers {
            results.push(racer.await.expect("a racer"));
        }
        assert_eq!(results.iter().filter(|r| r.is_ok()).count(), 1, "{results:?}");
        let made = s.store.get(&key, None).await.expect("a get");
        let lost = StoreError::Conflict { key, current: made };
        assert_eq!(
            results
                .into_iter()
                .filter_map(Result::err)
                .filter(|e| *e != lost)
                .count(),
            0
        );
    }
}

/// Commits that move an amount between accounts: whoever lists sees the whole amount.
pub async fn readers_see_whole_commits(subject: &dyn Subject) {
    let s = Scope::open(subject, "transfer").await;
    s.commit(vec![s.put_op("a", "100"), s.put_op("b", "0")]).await;
    let writer = tokio::spawn({
        let s = s.clone();
        async move {
            for n in 0..100_u64 {
                s.commit(vec![
                    s.put_op("a", &(99 - n).to_string()),
                    s.put_op("b", &(n + 1).to_string()),
                ])
                .await;
            }
        }
    });
    let mut last = s.start;
    loop {
        let over = writer.is_finished();
        let page = s.page(None, None, 0).await;
        let sum: u64 = page
            .items
            .iter()
            .map(|(_, v)| text(&v.value).parse::<u64>().expect("a number"))
            .sum();
        assert_eq!(sum, 100, "at {}", page.revision);
        assert!(page.revision >= last, "reads do not go back in time");
        assert_eq!(
            page.items[0].1.modified, page.revision,
            "the page shows the revision that it names"
        );
        last = page.revision;
        if over {
            break;
        }
        tokio::task::yield_now().await;
    }
    writer.await.expect("the writer");
}

/// Histories of clients that read, create, swap and delete a few keys are linearizable, key by key.
pub async fn recorded_histories_are_linearizable(subject: &dyn Subject) {
    let s = Scope::open(subject, "linear").await;
    let histories = record(&s, 8, 60, 3).await;
    for (key, history) in histories {
        assert!(is_linearizable(None, &history), "{key}: {history:#?}");
    }
}

/// Lets `clients` do `operations` each on `keys` keys, and records them by key. For backends' own tests with faults: an operation
/// whose outcome is unknown is recorded so.
pub async fn record(s: &Scope, clients: u64, operations: usize, keys: u64) -> BTreeMap<String, Vec<Operation>> {
    let clock = Arc::new(AtomicU64::new(1));
    let clients: Vec<_> = (0..clients)
        .map(|client| {
            let client = Client {
                s: s.clone(),
                clock: clock.clone(),
                random: client + 1,
                known: BTreeMap::new(),
            };
            tokio::spawn(client.run(operations, keys))
        })
        .collect();
    let mut histories = BTreeMap::<String, Vec<Operation>>::new();
    for client in clients {
        for (key, operation) in client.await.expect("a client") {
            histories.entry(key).or_default().push(operation);
        }
    }
    histories
}

struct Client {
    s: Scope,
    clock: Arc<AtomicU64>,
    random: u64,
    /// What the client last knew of each key: what its swaps expect.
    known: BTreeMap<String, Option<Versioned>>,
}

impl Client {
    async fn run(mut self, operations: usize, keys: u64) -> Vec<(String, Operation)> {
        let mut history = Vec::new();
        for _ in 0..operations {
            let name = format!("k{}", self.roll() % keys);
            let choice = self.roll() % 10;
            let called = self.tick();
            let action = if choice < 4 {
                self.read(&name).await
            } else {
                self.swap(&name, choice == 9, called).await
            };
            if let Some(action) = action {
                history.push((
                    name,
                    Operation {
                        called,
                        returned: self.tick(),
                        action,
                    },
                ));
            }
        }
        history
    }

    /// xorshift: the same operations in each run.
    fn roll(&mut self) -> u64 {
        let mut x = self.random.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.random = x | 1;
        x >> 8
    }

    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    async fn read(&mut self, name: &str) -> Option<Action> {
        let found = self.s.store.get(&self.s.key(name), None).await.ok()?;
        let contents = contents(&found);
        self.known.insert(name.to_owned(), found);
        Some(Action::Read(contents))
    }

    async fn swap(&mut self, name: &str, delete: bool, unique: u64) -> Option<Action> {
        let key = self.s.key(name);
        let known = self.known.get(name).cloned().flatten();
        let expected = contents(&known);
        let precondition = match &known {
            Some(v) => At(key.clone(), v.modified),
            None => Precondition::Absent(key.clone()),
        };
        let new = (!delete || known.is_none()).then_some(unique);
        let op = match new {
            Some(n) => Op::Put(key, n.to_string().into()),
            None => Op::Delete(key),
        };
        let outcome = match self.s.commit_if(vec![precondition], vec![op]).await {
            Ok(modified) => {
                let version = new.map(|n| Versioned {
                    value: n.to_string().into(),
                    created: modified,
                    modified,
                });
                self.known.insert(name.to_owned(), version);
                Outcome::Done
            }
            Err(StoreError::Conflict { current, .. }) => {
                let found = contents(&current);
                self.known.insert(name.to_owned(), current);
                Outcome::Refused(found)
            }
            Err(StoreError::Unavailable(_)) => Outcome::Unknown,
            // Refused outright: it had no effect, and says nothing about the register.
            Err(_) => return None,
        };
        Some(Action::Swap { expected, new, outcome })
    }
}

fn contents(version: &Option<Versioned>) -> Contents {
    version.as_ref().map(|v| text(&v.value).parse().expect("a number"))
}
