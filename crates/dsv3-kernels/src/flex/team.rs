//! Threads that stand ready.
//!
//! A token passes a hundred small operations one after the other. Threads that fall asleep between
//! them would spend the token's time on waking up; these watch for the next operation for a while
//! before they sleep. The caller works along, and an operation ends when all have ended.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use crate::threads::pin_this_thread;

/// Looks at the clock or at other threads come once in so many looks for work.
const LOOKS: usize = 256;
/// How long a thread watches before it sleeps: longer than what lies between two operations of a
/// token.
const WATCH: Duration = Duration::from_micros(300);

/// The threads beside the caller's.
struct Team {
    shared: Arc<Shared>,
    threads: Vec<Thread>,
    /// Held by who runs a job.
    busy: Mutex<()>,
}

/// What callers and threads say to each other.
#[derive(Default)]
struct Shared {
    /// Counts jobs: a change is the signal to begin.
    epoch: AtomicUsize,
    /// The job of this epoch.
    job: AtomicPtr<Job<'static>>,
    /// Threads that have not finished it.
    left: AtomicUsize,
    /// Threads that may sleep, one mark each.
    asleep: Vec<AtomicBool>,
}

struct Job<'a> {
    work: &'a (dyn Fn() + Sync),
    /// How many threads take part, the caller's not counted.
    helpers: usize,
    /// The first panic of a thread.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

impl Job<'_> {
    fn run(&self) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(self.work)) {
            let mut first = self.panic.lock().unwrap_or_else(PoisonError::into_inner);
            first.get_or_insert(panic);
        }
    }
}

/// Watch until `done`; true if it came before `patience` ended.
fn watch(patience: Option<Duration>, done: impl Fn() -> bool) -> bool {
    let mut began = None;
    loop {
        for _ in 0..LOOKS {
            if done() {
                return true;
            }
            std::hint::spin_loop();
        }
        // Where there are more threads than cores, whoever is waited for may need this one.
        thread::yield_now();
        let began = began.get_or_insert_with(Instant::now);
        if patience.is_some_and(|patience| began.elapsed() > patience) {
            return done();
        }
    }
}

impl Shared {
    /// What thread `me` does, for ever.
    #[allow(unsafe_code)]
    fn serve(&self, me: usize) {
        let mut seen = 0;
        loop {
            let changed = || self.epoch.load(Ordering::SeqCst) != seen;
            while !watch(Some(WATCH), changed) {
                self.asleep[me].store(true, Ordering::SeqCst);
                // Looked at again after the mark is set: who changes the epoch later sees the mark.
                if !changed() {
                    thread::park();
                }
                self.asleep[me].store(false, Ordering::SeqCst);
            }
            seen = self.epoch.load(Ordering::SeqCst);
            let job = self.job.load(Ordering::SeqCst);
            // SAFETY: `Team::run` stored the address of a job that lives on its stack before it
            // changed the epoch, and doesn't return, nor unwind, before `left` is 0: before this
            // thread, which it counted, has taken its part from `left` below. So the job outlives
            // this reference. All use of it is shared: its fields are `Sync`.
            let job: &Job<'static> = unsafe { &*job };
            if me < job.helpers {
                job.run();
            }
            self.left.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

impl Team {
    fn new(helpers: usize) -> Self {
        let shared = Arc::new(Shared {
            asleep: (0..helpers).map(|_| AtomicBool::new(false)).collect(),
            ..Shared::default()
        });
        let start = |me: usize| {
            let shared = Arc::clone(&shared);
            let builder = thread::Builder::new().name(format!("dsv3-kernels-{me}"));
            // Where no more threads can be had, there are fewer.
            let serve = move || {
                pin_this_thread(me + 1);
                shared.serve(me);
            };
            builder.spawn(serve).ok()
        };
        let threads = (0..helpers)
            .map_while(start)
            .map(|handle| handle.thread().clone());
        Team {
            threads: threads.collect(),
            shared,
            busy: Mutex::new(()),
        }
    }

    /// The team of this process: a thread for each of rayon's global pool, whichever pool the
    /// first call comes from.
    fn of_process() -> &'static Team {
        static TEAM: OnceLock<Team> = OnceLock::new();
        TEAM.get_or_init(|| {
            // Within a pool rayon answers for that one, and a new thread is in none.
            let asked = thread::spawn(rayon::current_num_threads).join();
            let threads = asked.unwrap_or_else(|_| rayon::current_num_threads());
            Team::new(threads.saturating_sub(1))
        })
    }

    /// Run `work` on this thread and on up to `helpers` others at once. On this one alone where
    /// the team is busy, as it is for who calls from within `work`.
    fn run(&self, helpers: usize, work: &(dyn Fn() + Sync)) {
        let helpers = helpers.min(self.threads.len());
        let lock = match helpers {
            0 => None,
            _ => self.busy.try_lock().ok(),
        };
        let Some(lock) = lock else {
            return work();
        };
        let job = Job {
            work,
            helpers,
            panic: Mutex::new(None),
        };
        let shared = &*self.shared;
        let at: *const Job<'_> = &job;
        shared.left.store(self.threads.len(), Ordering::SeqCst);
        shared.job.store(at.cast_mut().cast(), Ordering::SeqCst);
        shared.epoch.fetch_add(1, Ordering::SeqCst);
        for (thread, asleep) in self.threads.iter().zip(&shared.asleep) {
            if asleep.load(Ordering::SeqCst) {
                thread.unpark();
            }
        }
        job.run();
        watch(None, || shared.left.load(Ordering::SeqCst) == 0);
        // Given back first: a panic would leave it poisoned, and the team idle for ever.
        drop(lock);
        if let Ok(Some(panic)) = job.panic.into_inner() {
            resume_unwind(panic);
        }
    }
}

/// `work` for each of `0..count`, shared out to the threads one by one. Each thread has a scratch
/// of its own.
pub(super) fn for_each<S>(
    count: usize,
    scratch: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, usize) + Sync,
) {
    let next = AtomicUsize::new(0);
    let helpers = count.min(rayon::current_num_threads()).saturating_sub(1);
    Team::of_process().run(helpers, &|| {
        let mut scratch = scratch();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            if at >= count {
                return;
            }
            work(&mut scratch, at);
        }
    });
}

/// `work` for each stretch of `size` values, by its number.
pub(super) fn for_each_chunk<T: Send, S>(
    values: &mut [T],
    size: usize,
    scratch: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, usize, &mut [T]) + Sync,
) {
    // Each lock is taken once, by the thread that the number fell to.
    let chunks: Vec<_> = values.chunks_mut(size.max(1)).map(Mutex::new).collect();
    for_each(chunks.len(), scratch, |scratch, at| {
        let mut chunk = chunks[at].lock().unwrap_or_else(PoisonError::into_inner);
        work(scratch, at, &mut chunk);
    });
}

/// Values of a stretch that is worth a thread's while, where little is done with each.
const STRETCH: usize = 1 << 14;

/// `work` for stretches of whole rows of `width` values, by their first row. Fewer values than a
/// stretch are worked on by the caller alone.
pub(super) fn for_rows<T: Send>(
    values: &mut [T],
    width: usize,
    work: impl Fn(usize, &mut [T]) + Sync,
) {
    let rows = STRETCH.div_ceil(width.max(1));
    let size = rows * width.max(1);
    match values.len() <= size {
        true => work(0, values),
        false => for_each_chunk(
            values,
            size,
            || (),
            |(), at, values| work(at * rows, values),
        ),
    }
}

/// `work` of each of `0..count`, in this order.
pub(super) fn map<T: Send, S>(
    count: usize,
    scratch: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, usize) -> T + Sync,
) -> Vec<T> {
    let mut results: Vec<Option<T>> = (0..count).map(|_| None).collect();
    for_each_chunk(&mut results, 1, scratch, |scratch, at, result| {
        result[0] = Some(work(scratch, at));
    });
    results.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests;
