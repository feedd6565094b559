//! Pieces of work done side by side.

use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Result, ensure};

/// Does each piece on one of `jobs` threads, and says which have failed. What the detector would share among the threads of
/// one pool is done on the thread of the piece itself: pieces that waited for a common pool would be done one after the
/// other.
pub(crate) fn all<T: Sync>(
    jobs: usize,
    pieces: &[T],
    name: impl Fn(&T) -> String + Sync,
    work: impl Fn(&T) -> Result<()> + Sync,
) -> Result<()> {
    let [next, failed] = [const { AtomicUsize::new(0) }; 2];
    let one_thread = || rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build();
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                // The pool lives as long as this thread is in it.
                let _pool = match one_thread() {
                    Ok(pool) => pool,
                    Err(error) => return eprintln!("no thread pool: {error}"),
                };
                while let Some(piece) = pieces.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(error) = work(piece) {
                        eprintln!("{}: {error:#}", name(piece));
                        failed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let (begun, failed) = (next.into_inner(), failed.into_inner());
    ensure!(failed == 0, "{failed} of {} failed", pieces.len());
    ensure!(begun >= pieces.len(), "no thread did the rest");
    Ok(())
}
