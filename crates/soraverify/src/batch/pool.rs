//! Work on many things at once, with the results in order.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Condvar, Mutex, PoisonError};

/// How many results may wait for one that takes longer, for each worker.
const AHEAD: usize = 4;

struct Line<T> {
    /// Number of the next thing that nobody works on.
    next: usize,
    /// Number of the next result that is due.
    due: usize,
    ready: BTreeMap<usize, T>,
    stop: bool,
}

/// Has `work` done on the numbers below `count` by `workers` threads, and gives the results to `take`, in order, on
/// the calling thread, until it breaks. However long one of them takes, no more than a few results wait for it.
/// `work` must not panic: its result would be waited for.
pub fn in_order<T: Send>(
    count: usize,
    workers: usize,
    work: impl Fn(usize) -> T + Sync,
    mut take: impl FnMut(T) -> ControlFlow<()>,
) {
    let workers = workers.clamp(1, count.max(1));
    let line = Mutex::new(Line { next: 0, due: 0, ready: BTreeMap::new(), stop: false });
    let changed = Condvar::new();
    let lock = || line.lock().unwrap_or_else(PoisonError::into_inner);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let number = {
                        let mut line = lock();
                        while !line.stop && line.next < count && line.next >= line.due + workers * AHEAD {
                            line = changed.wait(line).unwrap_or_else(PoisonError::into_inner);
                        }
                        if line.stop || line.next >= count {
                            return;
                        }
                        line.next += 1;
                        line.next - 1
                    };
                    let result = work(number);
                    lock().ready.insert(number, result);
                    changed.notify_all();
                }
            });
        }
        for number in 0..count {
            let result = {
                let mut line = lock();
                loop {
                    if let Some(result) = line.ready.remove(&number) {
                        line.due = number + 1;
                        break result;
                    }
                    line = changed.wait(line).unwrap_or_else(PoisonError::into_inner);
                }
            };
            changed.notify_all();
            if take(result).is_break() {
                lock().stop = true;
                changed.notify_all();
                return;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn results_come_in_order_and_few_wait() {
        let (begun, taken) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let mut seen = Vec::new();
        in_order(
            200,
            3,
            |number| {
                begun.fetch_add(1, Ordering::SeqCst);
                let ahead = number.saturating_sub(taken.load(Ordering::SeqCst));
                if number % 17 == 0 {
                    std::thread::sleep(std::time::Duration::from_millis(5));
                }
                (number, ahead)
            },
            |(number, ahead)| {
                seen.push(number);
                assert!(ahead <= 3 * AHEAD, "{number} was begun {ahead} ahead");
                taken.store(number + 1, Ordering::SeqCst);
                ControlFlow::Continue(())
            },
        );
        assert_eq!(seen, (0..200).collect::<Vec<_>>());
        assert_eq!(begun.load(Ordering::SeqCst), 200);
    }

    #[test]
    fn it_ends_when_it_is_told_to() {
        let begun = AtomicUsize::new(0);
        in_order(
            1000,
            4,
            |_| begun.fetch_add(1, Ordering::SeqCst),
            |number| if number == 10 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) },
        );
        assert!(begun.load(Ordering::SeqCst) < 100, "{begun:?}");
        in_order(0, 4, |_| panic!("there is nothing to do"), |()| ControlFlow::Continue(()));
    }
}
