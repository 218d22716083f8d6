//! A linearizability checker for one register with compare-and-swap, after Wing and Gong ("Testing and Verifying Concurrent
//! Objects", 1993) with Lowe's memory of what was tried ("Testing for linearizability", 2017).
//!
//! A history is linearizable when each operation can be given one instant between its call and its return so that, in the order of
//! the instants, each answer is right. An operation whose outcome is unknown may have its instant at any time after its call, or
//! none.

use std::collections::HashSet;

/// The contents of the register: the number that a write gave it, unique in the history; `None` when there is nothing.
pub type Contents = Option<u64>;

/// What was asked of the register, and what was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Read it, and found this.
    Read(Contents),
    /// If it has `expected`, give it `new`.
    Swap {
        /// What it must have.
        expected: Contents,
        /// What it gets.
        new: Contents,
        /// What came of it.
        outcome: Outcome,
    },
}

/// What came of a swap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was done.
    Done,
    /// It was refused, since the register had this.
    Refused(Contents),
    /// The answer was lost.
    Unknown,
}

/// An operation of a history. `called` and `returned` come from one clock that grows with each use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    /// When it was called.
    pub called: u64,
    /// When it returned; ignored when the outcome is unknown.
    pub returned: u64,
    /// What it was.
    pub action: Action,
}

impl Operation {
    fn deadline(&self) -> u64 {
        if self.is_unknown() { u64::MAX } else { self.returned }
    }

    fn is_unknown(&self) -> bool {
        matches!(
            self.action,
            Action::Swap {
                outcome: Outcome::Unknown,
                ..
            }
        )
    }

    /// What the register has after the operation, if the answer is right when it has `now` before.
    fn apply(&self, now: Contents) -> Option<Contents> {
        match self.action {
            Action::Read(found) => (found == now).then_some(now),
            Action::Swap { expected, new, outcome } => match outcome {
                Outcome::Done => (expected == now).then_some(new),
                Outcome::Refused(found) => (found == now && expected != now).then_some(now),
                Outcome::Unknown => Some(if expected == now { new } else { now }),
            },
        }
    }
}

/// Whether the history of a register that begins with `initial` is linearizable.
pub fn is_linearizable(initial: Contents, history: &[Operation]) -> bool {
    let mut order = history.to_vec();
    order.sort_by_key(|op| op.called);
    let mut search = Search {
        order: &order,
        tried: HashSet::new(),
    };
    search.from(Done {
        bits: vec![0; order.len().div_ceil(64)],
        contents: initial,
    })
}

/// Which operations have had their instant, and what the register has then.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Done {
    bits: Vec<u64>,
    contents: Contents,
}

impl Done {
    fn has(&self, n: usize) -> bool {
        self.bits[n / 64] & (1 << (n % 64)) != 0
    }

    fn with(&self, n: usize, contents: Contents) -> Self {
        let mut bits = self.bits.clone();
        bits[n / 64] |= 1 << (n % 64);
        Self { bits, contents }
    }
}

struct Search<'a> {
    order: &'a [Operation],
    tried: HashSet<Done>,
}

impl Search<'_> {
    fn from(&mut self, start: Done) -> bool {
        let mut open = vec![start];
        while let Some(done) = open.pop() {
            let left = || (0..self.order.len()).filter(|n| !done.has(*n));
            if left().all(|n| self.order[n].is_unknown()) {
                return true;
            }
            // The next instant cannot be after the return of an operation that has had none.
            let bound = left().map(|n| self.order[n].deadline()).min().unwrap_or(u64::MAX);
            for n in left().take_while(|n| self.order[*n].called <= bound) {
                if let Some(contents) = self.order[n].apply(done.contents) {
                    let next = done.with(n, contents);
                    if self.tried.insert(next.clone()) {
                        open.push(next);
                    }
                }
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(called: u64, returned: u64, found: Contents) -> Operation {
        Operation {
            called,
            returned,
            action: Action::Read(found),
        }
    }

    fn swap(called: u64, returned: u64, expected: Contents, new: Contents, outcome: Outcome) -> Operation {
        Operation {
            called,
            returned,
            action: Action::Swap { expected, new, outcome },
        }
    }

    #[test]
    fn what_overlaps_may_be_ordered_either_way() {
        let write = swap(1, 10, None, Some(1), Outcome::Done);
        assert!(is_linearizable(None, &[write, read(2, 3, None), read(4, 5, Some(1))]));
        assert!(is_linearizable(None, &[write, read(2, 5, Some(1)), read(3, 4, None)]));
    }

    #[test]
    fn a_stale_read_is_found() {
        let write = swap(1, 2, None, Some(1), Outcome::Done);
        assert!(!is_linearizable(None, &[write, read(3, 4, None)]));
        // The first reader saw it, so it had happened: a later reader must see it too, though the write has not returned.
        let slow = swap(1, 9, None, Some(1), Outcome::Done);
        assert!(!is_linearizable(None, &[slow, read(2, 3, Some(1)), read(4, 5, None)]));
    }

    #[test]
    fn a_lost_update_is_found() {
        let first = swap(1, 4, Some(0), Some(1), Outcome::Done);
        let second = swap(2, 3, Some(0), Some(2), Outcome::Done);
        assert!(!is_linearizable(Some(0), &[first, second]));
        let refused = swap(2, 3, Some(0), Some(2), Outcome::Refused(Some(1)));
        assert!(is_linearizable(Some(0), &[first, refused]));
    }

    #[test]
    fn an_unknown_outcome_may_come_late_or_never_but_not_undone() {
        let lost = swap(1, 2, None, Some(1), Outcome::Unknown);
        assert!(is_linearizable(None, &[lost, read(3, 4, None), read(5, 6, Some(1))]));
        assert!(is_linearizable(None, &[lost, read(3, 4, None)]));
        assert!(!is_linearizable(None, &[lost, read(3, 4, Some(1)), read(5, 6, None)]));
    }
}
