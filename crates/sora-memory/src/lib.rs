//! Memory for libtorch's tensors on the CPU.
//!
//! libtorch takes it from `malloc`. glibc's keeps large pieces that were freed in heaps, where the pieces of the next
//! layer, of other sizes, often do not fit: a model's largest resident set becomes nearly twice what it uses. Told to
//! map large pieces one by one, it gives each back to the system, and a quarter of the time goes into pages that are
//! taken anew. Here large pieces have mappings of their own ([`pool`]), and some that were freed are kept and used again;
//! docs/benchmark-cpu.md has the figures. Only tensors are concerned: the `malloc` of the process is not touched.

mod pool;

use std::ffi::c_void;
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use pool::Pool;

static POOL: Mutex<Pool> = Mutex::new(Pool::new());

unsafe extern "C" {
    fn sora_memory_install(
        take: extern "C" fn(usize) -> *mut c_void,
        give: unsafe extern "C" fn(*mut c_void),
    );
}

/// Has libtorch take the memory of CPU tensors from here, in the whole process and until its end. Tensors that are there
/// already keep their memory and free it where they had it from. Unless the environment has `SORA_ALLOCATOR=malloc`.
pub fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if std::env::var_os("SORA_ALLOCATOR").is_none_or(|value| value != "malloc") {
            // SAFETY: libtorch is linked, and the allocator that it is given is never destroyed.
            unsafe { sora_memory_install(take, give) };
        }
    });
}

/// Gives what was freed and kept back to the system.
pub fn trim() {
    lock().trim();
}

/// Bytes in large pieces: those that tensors have, and those that were freed and are kept.
pub fn held() -> (usize, usize) {
    let pool = lock();
    (pool.used(), pool.kept())
}

fn lock() -> MutexGuard<'static, Pool> {
    // A panic inside would leave numbers only; memory is never handed out twice.
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// At least `bytes` (not 0) of memory, aligned to 64 bytes; null where there is none.
extern "C" fn take(bytes: usize) -> *mut c_void {
    pool::take(bytes, lock).cast()
}

/// # Safety
/// `piece` came from [`take`] and is not used any more.
unsafe extern "C" fn give(piece: *mut c_void) {
    // SAFETY: the caller's promise.
    unsafe { pool::give(piece.cast(), lock) }
}
