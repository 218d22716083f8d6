//! Restart: a backend that leaves something behind leaves all of it.

use super::{Scope, Subject};
use crate::{Op, StoreError};

/// State, revision and creation revisions are as they were, and the next commit goes on.
pub async fn reopening_keeps_everything(subject: &dyn Subject) {
    let mut s = Scope::open(subject, "reopen").await;
    for n in 0..20 {
        s.put(&format!("k{n:02}"), "1").await;
    }
    s.put("k03", "2").await;
    s.commit(vec![Op::Delete(s.key("k04")), s.put_op("k05", "3")]).await;
    for round in 0..3 {
        let before = (s.page(None, None, 0).await, s.store.current().await);
        s = s.reopen(subject).await;
        assert_eq!(
            (s.page(None, None, 0).await, s.store.current().await),
            before,
            "round {round}"
        );
        let next = s.put(&format!("new-{round}"), "x").await;
        assert_eq!(Ok(next), before.1.map(crate::Revision::next));
    }
}

/// Past revisions inside the window stay readable and watchable; what was compacted stays compacted.
pub async fn reopening_keeps_the_window(subject: &dyn Subject) {
    let s = Scope::open(subject, "window").await;
    let asked = s.put("a", "1").await;
    let oldest = s.put("a", "2").await;
    s.put("b", "3").await;
    s.delete("a").await;
    let last = s.put("a", "5").await;
    s.store.compact(oldest).await.expect("a compaction");
    let mut then = Vec::new();
    for at in oldest.get()..=last.get() {
        then.push(s.all(Some(crate::Revision::new(at))).await);
    }
    let events = s.watch(oldest).await.events(3).await;
    let s = s.reopen(subject).await;
    for (at, all) in (oldest.get()..=last.get()).zip(then) {
        assert_eq!(s.all(Some(crate::Revision::new(at))).await, all, "at {at}");
    }
    assert_eq!(s.watch(oldest).await.events(3).await, events);
    let refused = s.store.get(&s.key("a"), Some(asked)).await;
    assert_eq!(refused, Err(StoreError::Compacted { asked, oldest }));
}
