//! Keys that wait to be planned, each once.
//!
//! # Guarantees
//! - Bounded: a key is queued once, however often it is woken; the queue is at most as long as there are keys.
//! - A wake that comes after [`Queue::take`] queues the key again: no change is lost.

use std::collections::HashSet;

use parking_lot::Mutex;
use setpoint_reconcile::Key;
use tokio::sync::mpsc;

#[derive(Default)]
struct State {
    waiting: HashSet<Key>,
    /// There while somebody drains the queue.
    sender: Option<mpsc::UnboundedSender<Key>>,
}

/// The queue of one reconciler.
#[derive(Default)]
pub(crate) struct Queue(Mutex<State>);

impl Queue {
    /// Starts over, empty, with a new drain. Wakes before it are gone: wake everything afterwards.
    pub(crate) fn open(&self) -> mpsc::UnboundedReceiver<Key> {
        let (sender, receiver) = mpsc::unbounded_channel();
        *self.0.lock() = State {
            waiting: HashSet::new(),
            sender: Some(sender),
        };
        receiver
    }

    /// No more wakes; the drain ends.
    pub(crate) fn close(&self) {
        *self.0.lock() = State::default();
    }

    /// Queues the key unless it waits already.
    pub(crate) fn wake(&self, key: &Key) {
        let mut state = self.0.lock();
        if state.sender.is_none() || state.waiting.contains(key) {
            return;
        }
        state.waiting.insert(key.clone());
        if let Some(sender) = &state.sender
            && sender.send(key.clone()).is_err()
        {
            *state = State::default();
        }
    }

    /// The key is being looked at from now on: later wakes count again.
    pub(crate) fn take(&self, key: &Key) {
        self.0.lock().waiting.remove(key);
    }

    /// Whether nobody drains it.
    pub(crate) fn is_closed(&self) -> bool {
        self.0.lock().sender.is_none()
    }

    pub(crate) fn depth(&self) -> usize {
        self.0.lock().waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_waits_once_and_can_be_woken_while_it_runs() {
        let queue = Queue::default();
        let key = Key::namespaced("ns", "a");
        queue.wake(&key);
        let mut drain = queue.open();
        assert!(drain.try_recv().is_err(), "wakes before the drain are gone");
        queue.wake(&key);
        queue.wake(&key);
        assert_eq!(queue.depth(), 1);
        assert_eq!(drain.try_recv().ok(), Some(key.clone()));
        assert!(drain.try_recv().is_err());
        queue.wake(&key);
        assert!(
            drain.try_recv().is_err(),
            "not yet taken, so still queued as far as wakes go"
        );
        queue.take(&key);
        queue.wake(&key);
        assert_eq!(drain.try_recv().ok(), Some(key.clone()));
        queue.close();
        assert_eq!(drain.try_recv(), Err(mpsc::error::TryRecvError::Disconnected));
        queue.wake(&key);
        assert_eq!(queue.depth(), 0);
    }
}
