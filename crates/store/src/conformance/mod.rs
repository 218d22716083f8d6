//! The suite that every backend passes, unchanged: the store contract as tests. Needs the `conformance` feature.
//!
//! # Use
//! Implement [`Subject`] for the backend, and name it in a test module of the backend's crate (which has tokio with `macros` and
//! `rt-multi-thread` among its dependencies):
//!
//! ```ignore
//! setpoint_store::conformance_tests!(MySubject::new());
//! ```
//!
//! Each case becomes a test of its own. A case opens one store, which it uses alone, below a prefix of its own; it assumes neither
//! that the store is empty nor that its revision is zero, so that a backend may give out the same database again.
//!
//! # How one could get it wrong
//! Adding a case without a line in [`conformance_tests!`](crate::conformance_tests): a test of this module compares the two.

pub mod commits;
pub mod compaction;
pub mod concurrency;
pub mod linear;
pub mod random;
pub mod reads;
pub mod restart;
mod scope;
pub mod watches;

use std::sync::Arc;

use async_trait::async_trait;

use crate::Store;
pub use scope::{Scope, Watcher};

/// A backend under test.
#[async_trait]
pub trait Subject: Send + Sync + 'static {
    /// A store that nobody else writes while the case runs.
    async fn open(&self) -> Arc<dyn Store>;

    /// Closes the store, of which the caller holds the only handle, and opens what it left behind. A backend that leaves nothing
    /// gives the store back as it is.
    async fn reopen(&self, store: Arc<dyn Store>) -> Arc<dyn Store>;
}

/// Makes a test of each case of the suite. The expression makes a [`Subject`](crate::conformance::Subject), a new one for each case.
#[macro_export]
macro_rules! conformance_tests {
    ($subject:expr) => {
        $crate::conformance_tests! { @cases $subject;
            commits::each_commit_grows_the_revision_by_one,
            commits::many_keys_change_at_one_revision,
            commits::a_refused_commit_changes_nothing,
            commits::at_holds_for_exactly_that_revision,
            commits::absent_holds_for_a_missing_key_only,
            commits::preconditions_may_name_other_keys,
            commits::the_first_precondition_that_fails_is_named,
            commits::commits_out_of_bounds_are_invalid,
            commits::created_lasts_until_the_key_is_deleted,
            commits::values_come_back_byte_for_byte,
            reads::the_past_reads_as_it_was,
            reads::a_future_revision_is_refused,
            reads::pages_cover_a_list_once,
            reads::pages_at_a_revision_see_no_later_commit,
            reads::prefixes_are_plain_string_prefixes,
            reads::after_need_not_be_a_key,
            watches::an_old_revision_is_replayed,
            watches::from_current_comes_only_what_is_new,
            watches::events_carry_what_was_and_what_is,
            watches::a_commit_is_never_split,
            watches::all_watches_see_the_order_of_commits,
            watches::a_watch_sees_its_prefix_only,
            watches::a_watch_from_the_future_is_refused,
            watches::progress_comes_when_asked_for,
            compaction::what_is_before_is_gone_and_the_rest_stays,
            compaction::a_watch_from_before_is_refused,
            compaction::a_watch_that_is_behind_ends_without_a_gap,
            compaction::a_quiet_watch_goes_on,
            compaction::it_is_idempotent_and_clamped,
            concurrency::compare_and_swap_loses_no_update,
            concurrency::one_create_wins,
            concurrency::readers_see_whole_commits,
            concurrency::recorded_histories_are_linearizable,
            restart::reopening_keeps_everything,
            restart::reopening_keeps_the_window,
            random::random_operations_match_the_model,
        }
    };
    (@cases $subject:expr; $($module:ident::$case:ident,)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                $crate::conformance::$module::$case(&$subject).await;
            }
        )*
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryStore;

    struct Memory;

    #[async_trait]
    impl Subject for Memory {
        async fn open(&self) -> Arc<dyn Store> {
            Arc::new(MemoryStore::new())
        }

        async fn reopen(&self, store: Arc<dyn Store>) -> Arc<dyn Store> {
            store
        }
    }

    crate::conformance_tests!(Memory);

    #[test]
    fn every_case_is_in_the_macro() {
        let modules = [
            ("commits", include_str!("commits.rs")),
            ("compaction", include_str!("compaction.rs")),
            ("concurrency", include_str!("concurrency.rs")),
            ("random", include_str!("random.rs")),
            ("reads", include_str!("reads.rs")),
            ("restart", include_str!("restart.rs")),
            ("watches", include_str!("watches.rs")),
        ];
        let listed = include_str!("mod.rs");
        for (module, source) in modules {
            let cases: Vec<&str> = source
                .lines()
                .filter_map(|line| line.strip_prefix("pub async fn "))
                .filter_map(|line| line.strip_suffix("(subject: &dyn Subject) {"))
                .collect();
            assert!(!cases.is_empty(), "{module} has no case");
            for case in cases {
                assert!(
                    listed.contains(&format!(" {module}::{case},")),
                    "{module}::{case} is not in the macro"
                );
            }
        }
    }
}
