use super::*;

/// Breaks with: an index that nobody takes or two take, results out of order, a job that returns
/// before its threads have ended.
#[test]
fn every_index_is_worked_once() {
    for count in [0, 1, 2, 3, 7, 100] {
        for _ in 0..20 {
            let taken: Vec<_> = (0..count).map(|_| AtomicUsize::new(0)).collect();
            let results = map(
                count,
                || (),
                |(), at| {
                    taken[at].fetch_add(1, Ordering::Relaxed);
                    at * at
                },
            );
            assert!(taken.iter().all(|n| n.load(Ordering::Relaxed) == 1));
            assert!(results.into_iter().eq((0..count).map(|at| at * at)));
        }
    }
}

/// Breaks with: a thread that sleeps through a job that came after a pause.
#[test]
fn sleepers_wake_up() {
    let team = Team::new(2);
    for _ in 0..3 {
        thread::sleep(WATCH * 4);
        let ran = AtomicUsize::new(0);
        team.run(2, &|| {
            ran.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(ran.into_inner(), 3);
    }
}

/// Breaks with: a job that waits for the team that it is run by.
#[test]
fn a_job_within_a_job_runs_alone() {
    let sums = map(
        4,
        || (),
        |(), i| map(5, || (), |(), j| i * j).into_iter().sum::<usize>(),
    );
    assert_eq!(sums, [0, 10, 20, 30]);
}

/// Breaks with: a panic that is swallowed, that ends the process, or after which the team is gone.
#[test]
fn a_panic_reaches_the_caller() {
    let team = Team::new(1);
    for _ in 0..3 {
        let caught = catch_unwind(AssertUnwindSafe(|| team.run(1, &|| panic!("on purpose"))));
        assert_eq!(caught.unwrap_err().downcast_ref(), Some(&"on purpose"));
        let ran = AtomicUsize::new(0);
        team.run(1, &|| {
            ran.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(ran.into_inner(), 2);
    }
}

/// Breaks with: callers of different threads that wait for each other, or that mix up their jobs.
#[test]
fn callers_at_once_keep_apart() {
    thread::scope(|scope| {
        for caller in 0..4 {
            scope.spawn(move || {
                for _ in 0..50 {
                    let results = map(9, || (), |(), at| caller * 100 + at);
                    assert!(results.into_iter().eq((0..9).map(|at| caller * 100 + at)));
                }
            });
        }
    });
}
