//! The suite that every backend passes, as the store is by default, and as it is when it rolls and checkpoints all the time.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use setpoint_store::{Store, conformance::Subject};
use setpoint_store_embedded::{EmbeddedStore, Options};
use tempfile::TempDir;

struct Embedded {
    directory: TempDir,
    options: Options,
}

impl Embedded {
    fn new(options: Options) -> Self {
        Self {
            directory: tempfile::tempdir().expect("a directory"),
            options,
        }
    }

    fn store(&self) -> Arc<dyn Store> {
        Arc::new(EmbeddedStore::open(self.directory.path(), self.options.clone()).expect("the store opens"))
    }
}

#[async_trait]
impl Subject for Embedded {
    async fn open(&self) -> Arc<dyn Store> {
        self.store()
    }

    async fn reopen(&self, store: Arc<dyn Store>) -> Arc<dyn Store> {
        drop(store);
        self.store()
    }
}

mod by_default {
    use super::*;

    setpoint_store::conformance_tests!(Embedded::new(Options::default()));
}

/// Segments of a few commits, and a checkpoint as soon as a segment lies before the window.
mod restless {
    use super::*;

    fn options() -> Options {
        Options {
            segment_bytes: 300,
            checkpoint_after_bytes: 1,
            progress_every: Duration::from_millis(1),
            queue: 1,
            ..Options::default()
        }
    }

    setpoint_store::conformance_tests!(Embedded::new(options()));
}
