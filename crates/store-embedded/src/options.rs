//! What can be set when a store is opened, and the arithmetic behind the defaults.

use std::time::Duration;

/// How long past revisions stay readable. The window ends where the *first* of the three bounds is reached; explicit compaction
/// can only make it shorter. The bounds are applied as commits come in: a store that nobody writes to forgets nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Oldest change kept.
    pub max_age: Duration,
    /// Most changes (operations, not commits) kept.
    pub max_changes: usize,
    /// Most bytes kept for history. A change counts its key, its new value, the value it replaced, and
    /// [`CHANGE_OVERHEAD_BYTES`]. Counting both values bounds both costs of the window: the replaced value is what memory holds
    /// longer because of the window, the new value is what the log on disk holds.
    pub max_bytes: u64,
}

/// What a change costs in memory beside its bytes: an `Event` (128), its batch when it is alone in it (72), the version kept
/// below the key (48), rounded up to 256.
pub const CHANGE_OVERHEAD_BYTES: u64 = 256;

impl Default for Retention {
    /// One day, 200,000 changes, 256 MiB.
    ///
    /// At rest: 1,000 workers that renew a 500-byte lease every 10 s make 100 changes/s of about 1.3 kB with the overhead:
    /// 130 kB/s, so 256 MiB last 34 minutes and 200,000 changes 33 minutes: the two bounds meet there. At 5,000 creates/s of 1 KiB
    /// (1.3 kB counted) the window is 40 s, several times what a watch cache or a client that pages needs.
    fn default() -> Self {
        Self {
            max_age: Duration::from_secs(24 * 60 * 60),
            max_changes: 200_000,
            max_bytes: 256 << 20,
        }
    }
}

/// How a store behaves. The defaults suit a server of up to 1,000,000 objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// How long past revisions stay readable.
    pub retention: Retention,
    /// A log segment is closed, and the next begun, when it reaches this many bytes. What is deleted is always a whole segment,
    /// so this is also the slack of [`Options::checkpoint_after_bytes`].
    pub segment_bytes: u64,
    /// A checkpoint is written when this many bytes of log lie before the retention window, or half as many bytes as the live
    /// objects have, whichever is more. So the directory holds at most: live objects (twice while a checkpoint is written) +
    /// the window + the larger of the two + two segments; and checkpoints at most triple what is written in the long run
    /// (each writes all L live bytes once for L/2 bytes of log).
    pub checkpoint_after_bytes: u64,
    /// How long a watch is silent before it reports progress.
    pub progress_every: Duration,
    /// How many commits may wait for the writer; beyond it, callers wait to get in. 1,024 commits of 1 KiB are 1 MiB.
    pub queue: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            retention: Retention::default(),
            segment_bytes: 16 << 20,
            checkpoint_after_bytes: 64 << 20,
            progress_every: Duration::from_secs(5),
            queue: 1_024,
        }
    }
}
