//! Pieces of work done side by side.

use std::sync::Mutex;

use anyhow::{Result, ensure};

/// Does each piece on one of `jobs` threads, and says which have failed. What the detector would share among the threads of
/// one pool is done on the thread of the piece itself: pieces that waited for a common pool would be done one after the
/// other.
pub(crate) fn all<T: Send>(
    jobs: usize,
    pieces: Vec<T>,
    name: impl Fn(&T) -> String + Sync,
    work: impl Fn(&T) -> Result<()> + Sync,
) -> Result<()> {
    let count = pieces.len();
    let queue = Mutex::new(pieces.into_iter());
    let failed = Mutex::new(0);
    let next = || queue.lock().ok().and_then(|mut queue| queue.next());
    let one_thread = || rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build();
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                // The pool lives as long as this thread is in it.
                let _pool = match one_thread() {
                    Ok(pool) => pool,
                    Err(error) => return eprintln!("no thread pool: {error}"),
                };
                while let Some(piece) = next() {
                    if let Err(error) = work(&piece) {
                        eprintln!("{}: {error:#}", name(&piece));
                        if let Ok(mut failed) = failed.lock() {
                            *failed += 1;
                        }
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap_or(count);
    ensure!(failed == 0, "{failed} of {count} failed");
    ensure!(next().is_none(), "no thread did the rest");
    Ok(())
}
