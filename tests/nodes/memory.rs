//! What each node has allocated: an allocator that counts for whoever it works for at the moment.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// Most nodes of a run; 0 is the test itself.
pub const OWNERS: usize = 16;

struct Counting;

thread_local! {
    static OWNER: Cell<usize> = const { Cell::new(0) };
    static LIVE: [Cell<isize>; OWNERS] = const { [const { Cell::new(0) }; OWNERS] };
}

// SAFETY: every call goes to the system's allocator unchanged; the counters are plain cells that
// allocate nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promise is handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller's promise is handed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as isize - layout.size() as isize);
        // SAFETY: the caller's promise is handed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn count(bytes: isize) {
    // A thread that ends has no cells any more.
    let _ = OWNER.try_with(|owner| {
        let _ = LIVE.try_with(|live| live[owner.get()].set(live[owner.get()].get() + bytes));
    });
}

/// Counts for `owner` what `work` allocates and frees.
pub fn within<T>(owner: usize, work: impl FnOnce() -> T) -> T {
    let before = OWNER.replace(owner);
    let done = work();
    OWNER.set(before);
    done
}

/// Bytes that `owner` has allocated and not freed.
pub fn live(owner: usize) -> isize {
    LIVE.with(|live| live[owner].get())
}

/// Begins anew, for a process that begins where another one was.
pub fn forget(owner: usize) {
    LIVE.with(|live| live[owner].set(0));
}
