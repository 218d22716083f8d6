//! One thread generates for all: a token for each running sequence in turn, so that every stream moves; what does not fit waits.
//!
//! A sequence whose client has gone is dropped at its next token: nothing is generated for nobody.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

use crate::model::{Finish, Message, Model, Sampling, Sequence, Step};

/// What is to be continued.
pub(crate) enum Prompt {
    /// A chat.
    Chat(Vec<Message>),
    /// Plain text.
    Text(String),
}

/// What comes back.
#[derive(Debug)]
pub(crate) enum Reply {
    /// More text.
    Text(String),
    /// The end, and what it took.
    Done {
        finish: Finish,
        prompt_tokens: usize,
        completion_tokens: usize,
    },
    /// It could not be done.
    Failed(String),
}

struct Job {
    prompt: Prompt,
    sampling: Sampling,
    reply: mpsc::UnboundedSender<Reply>,
}

/// Counters for `/metrics`.
#[derive(Default)]
pub(crate) struct Counters {
    /// Sequences being generated.
    pub(crate) running: AtomicUsize,
    /// Sequences waiting.
    pub(crate) waiting: AtomicUsize,
    /// Tokens read in prompts.
    pub(crate) prompt_tokens: AtomicU64,
    /// Tokens generated.
    pub(crate) generated_tokens: AtomicU64,
    /// Requests that ended.
    pub(crate) requests: AtomicU64,
    /// Microseconds spent until first tokens.
    pub(crate) first_token_us: AtomicU64,
}

/// The generating thread's handle.
pub(crate) struct Scheduler {
    jobs: std::sync::mpsc::SyncSender<Job>,
    /// What it has done.
    pub(crate) counters: Arc<Counters>,
}

/// The queue is full.
pub(crate) struct Full;

impl Scheduler {
    /// Starts the thread.
    pub(crate) fn start(model: Model, parallel: usize, queue: usize) -> Self {
        let (jobs, incoming) = std::sync::mpsc::sync_channel(queue);
        let counters = Arc::new(Counters::default());
        let shared = counters.clone();
        std::thread::spawn(move || generate(&model, parallel, &incoming, &shared));
        Self { jobs, counters }
    }

    /// Asks for a continuation. The reply is bounded by its `max_tokens`.
    pub(crate) fn submit(&self, prompt: Prompt, sampling: Sampling) -> Result<mpsc::UnboundedReceiver<Reply>, Full> {
        let (reply, replies) = mpsc::unbounded_channel();
        self.counters.waiting.fetch_add(1, Ordering::Relaxed);
        self.jobs
            .try_send(Job {
                prompt,
                sampling,
                reply,
            })
            .map_err(|_| {
                self.counters.waiting.fetch_sub(1, Ordering::Relaxed);
                Full
            })?;
        Ok(replies)
    }
}

struct Running {
    sequence: Sequence,
    reply: mpsc::UnboundedSender<Reply>,
    started: Instant,
}

fn generate(model: &Model, parallel: usize, incoming: &std::sync::mpsc::Receiver<Job>, counters: &Counters) {
    let mut running: VecDeque<Running> = VecDeque::new();
    loop {
        while running.len() < parallel {
            let job = if running.is_empty() {
                match incoming.recv_timeout(Duration::from_secs(3600)) {
                    Ok(job) => job,
                    Err(std::sync::mpsc::RecvTimeoutError::Timeout) => continue,
                    Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => return,
                }
            } else {
                match incoming.try_recv() {
                    Ok(job) => job,
                    Err(_) => break,
                }
            };
            counters.waiting.fetch_sub(1, Ordering::Relaxed);
            running.extend(admit(model, job, counters));
            counters.running.store(running.len(), Ordering::Relaxed);
        }
        let Some(mut next) = running.pop_front() else { continue };
        if advance(model, &mut next, counters) {
            running.push_back(next);
        }
        counters.running.store(running.len(), Ordering::Relaxed);
    }
}

fn admit(model: &Model, job: Job, counters: &Counters) -> Option<Running> {
    let prompt = match job.prompt {
        Prompt::Chat(messages) => model.prompt(&messages),
        Prompt::Text(text) => Ok(text),
    };
    match prompt.and_then(|text| model.begin(&text, job.sampling)) {
        Ok(sequence) => {
            counters
                .prompt_tokens
                .fetch_add(sequence.prompt_tokens as u64, Ordering::Relaxed);
            Some(Running {
                sequence,
                reply: job.reply,
                started: Instant::now(),
            })
        }
        Err(error) => {
            let _ = job.reply.send(Reply::Failed(format!("{error:#}")));
            None
        }
    }
}

/// One token; whether the sequence goes on.
fn advance(model: &Model, running: &mut Running, counters: &Counters) -> bool {
    if running.reply.is_closed() {
        return false;
    }
    let first = running.sequence.completion_tokens() == 0;
    let reply = match model.step(&mut running.sequence) {
        Ok(Step::Text(text)) => {
            counters.generated_tokens.fetch_add(1, Ordering::Relaxed);
            if first {
                counters
                    .first_token_us
                    .fetch_add(running.started.elapsed().as_micros() as u64, Ordering::Relaxed);
            }
            return running.reply.send(Reply::Text(text)).is_ok();
        }
        Ok(Step::End(finish)) => Reply::Done {
            finish,
            prompt_tokens: running.sequence.prompt_tokens,
            completion_tokens: running.sequence.completion_tokens(),
        },
        Err(error) => Reply::Failed(format!("{error:#}")),
    };
    counters.requests.fetch_add(1, Ordering::Relaxed);
    let _ = running.reply.send(reply);
    false
}
