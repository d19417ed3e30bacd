//! The memory that the nanny has besides its stack, and the four functions that the compiler wants from a libc.

use core::cell::UnsafeCell;
use core::ffi::{c_int, c_void};

/// The largest number that Linux gives to a process is below this.
const NUMBERS: usize = 1 << 22;
const BITS: usize = u64::BITS as usize;

/// Who has got what was asked last.
pub static REACHED: Numbers = Numbers(UnsafeCell::new([0; NUMBERS / BITS]));

/// Who was there when the parent was asked.
pub static NOTED: Numbers = Numbers(UnsafeCell::new([0; NUMBERS / BITS]));

/// Who was asked to end, once or more often. A bit for each number that there can be; the kernel provides only the pages that are used.
pub static ASKED: Numbers = Numbers(UnsafeCell::new([0; NUMBERS / BITS]));

/// Which children were killed and are not reaped. While a large tree dies there is a look at the children for each batch of
/// deaths, and to kill everybody again each time would take the time of their number squared.
pub static KILLED: Numbers = Numbers(UnsafeCell::new([0; NUMBERS / BITS]));

pub struct Numbers(UnsafeCell<[u64; NUMBERS / BITS]>);

// SAFETY: the nanny has one thread.
unsafe impl Sync for Numbers {}

impl Numbers {
    /// Returns whether it is new. A number beyond the largest is taken for new each time.
    pub fn insert(&self, number: c_int) -> bool {
        let Some((word, bit)) = self.place(number) else { return true };
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    }

    pub fn contains(&self, number: c_int) -> bool {
        self.place(number).is_some_and(|(word, bit)| *word & bit != 0)
    }

    pub fn remove(&self, number: c_int) {
        if let Some((word, bit)) = self.place(number) {
            *word &= !bit;
        }
    }

    pub fn clear(&self) {
        // SAFETY: there is one thread, and nobody else has a reference to it now.
        let words = unsafe { &mut *self.0.get() };
        // What is zero is not written: most pages of it are not there at all.
        words.iter_mut().filter(|word| **word != 0).for_each(|word| *word = 0);
    }

    #[expect(clippy::mut_from_ref, reason = "there is one thread, and no caller keeps it")]
    fn place(&self, number: c_int) -> Option<(&mut u64, u64)> {
        let number = usize::try_from(number).ok()?;
        // SAFETY: there is one thread, and every caller lets go of the word before the next call.
        let words = unsafe { &mut *self.0.get() };
        words.get_mut(number / BITS).map(|word| (word, 1 << (number % BITS)))
    }
}

/// # Safety
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut c_void, from: *const c_void, count: usize) -> *mut c_void {
    let (target, source) = (to.cast::<u8>(), from.cast::<u8>());
    for at in 0..count {
        // SAFETY: both are valid for so many bytes and do not overlap.
        unsafe { target.add(at).write(source.add(at).read()) };
    }
    to
}

/// # Safety
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut c_void, byte: c_int, count: usize) -> *mut c_void {
    let target = to.cast::<u8>();
    for at in 0..count {
        // SAFETY: it is valid for so many bytes.
        unsafe { target.add(at).write(byte as u8) };
    }
    to
}

/// # Safety
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(one: *const c_void, other: *const c_void, count: usize) -> c_int {
    let (one, other) = (one.cast::<u8>(), other.cast::<u8>());
    for at in 0..count {
        // SAFETY: both are valid for so many bytes.
        let (left, right) = unsafe { (one.add(at).read(), other.add(at).read()) };
        if left != right {
            return c_int::from(left) - c_int::from(right);
        }
    }
    0
}

/// # Safety
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(one: *const c_void, other: *const c_void, count: usize) -> c_int {
    // SAFETY: the caller's promise is the same.
    unsafe { memcmp(one, other, count) }
}

/// # Safety
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn strlen(text: *const u8) -> usize {
    let mut length = 0;
    // SAFETY: there is a zero byte at the end.
    while unsafe { text.add(length).read() } != 0 {
        length += 1;
    }
    length
}
