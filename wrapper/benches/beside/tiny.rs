//! The child of the benchmarks: as little as a program can be, so that what starts it is what is measured. No libc, no
//! allocator. Not a module: built by `child.rs` with the compiler that is there.
//!
//! Its only argument says what it does: nothing at all without one, `line` writes a line, `busy:MS` keeps a processor
//! busy for that many milliseconds, `zeros:MIB` writes as many zeros in pieces of 64 KiB, `hang` never ends.

#![no_std]
#![no_main]

use core::arch::{asm, global_asm};

#[cfg(target_arch = "x86_64")]
global_asm!(".globl _start", "_start:", "mov rdi, rsp", "and rsp, -16", "call begin");
#[cfg(target_arch = "aarch64")]
global_asm!(".globl _start", "_start:", "mov x0, sp", "bl begin");

#[cfg(target_arch = "x86_64")]
mod number {
    pub const WRITE: usize = 1;
    pub const PPOLL: usize = 271;
    pub const CLOCK_GETTIME: usize = 228;
    pub const EXIT_GROUP: usize = 231;
}
#[cfg(target_arch = "aarch64")]
mod number {
    pub const WRITE: usize = 64;
    pub const PPOLL: usize = 73;
    pub const CLOCK_GETTIME: usize = 113;
    pub const EXIT_GROUP: usize = 94;
}

/// SAFETY: as unsafe as the call that is made.
unsafe fn call(number: usize, a: usize, b: usize, c: usize) -> isize {
    let result: isize;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the kernel's calling convention; what is passed is the caller's business.
    unsafe {
        asm!("syscall", inlateout("rax") number => result, in("rdi") a, in("rsi") b, in("rdx") c,
            in("r10") 0usize, in("r8") 0usize, lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: the same.
    unsafe {
        asm!("svc 0", in("x8") number, inlateout("x0") a => result, in("x1") b, in("x2") c,
            in("x3") 0usize, in("x4") 0usize, options(nostack));
    }
    result
}

fn exit(code: usize) -> ! {
    loop {
        // SAFETY: it takes no pointer and does not return.
        unsafe { call(number::EXIT_GROUP, code, 0, 0) };
    }
}

fn now() -> u64 {
    let mut time = [0u64; 2];
    // SAFETY: 1 is CLOCK_MONOTONIC, and two words are what it fills.
    unsafe { call(number::CLOCK_GETTIME, 1, time.as_mut_ptr() as usize, 0) };
    time[0] * 1_000_000_000 + time[1]
}

fn write(mut bytes: &[u8]) {
    while !bytes.is_empty() {
        // SAFETY: pointer and length are those of a slice.
        let written = unsafe { call(number::WRITE, 1, bytes.as_ptr() as usize, bytes.len()) };
        match bytes.get(written.max(0) as usize..) {
            Some(rest) if written > 0 => bytes = rest,
            _ => exit(1),
        }
    }
}

static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// SAFETY: to be entered once, with the stack that the kernel has laid out: the number of arguments, then pointers to
/// them, each with a zero at its end.
#[unsafe(no_mangle)]
unsafe extern "C" fn begin(stack: *const usize) -> ! {
    // SAFETY: see above.
    let (count, argument) = unsafe { (*stack, *stack.add(2) as *const u8) };
    if count < 2 {
        exit(0);
    }
    let mut amount = 0;
    let mut at = argument;
    loop {
        // SAFETY: it stops at the zero.
        let byte = unsafe { *at };
        match byte {
            0 => break,
            b'0'..=b'9' => amount = amount * 10 + u64::from(byte - b'0'),
            _ => {}
        }
        at = at.wrapping_add(1);
    }
    // SAFETY: there is at least the zero.
    match unsafe { *argument } {
        b'l' => write(b"done\n"),
        b'b' => {
            let end = now() + amount * 1_000_000;
            while now() < end {}
        }
        b'z' => {
            for _ in 0..amount * 16 {
                write(&ZEROS);
            }
        }
        b'h' => loop {
            // SAFETY: nothing to poll, no timeout: it waits for ever.
            unsafe { call(number::PPOLL, 0, 0, 0) };
        },
        _ => exit(2),
    }
    exit(0)
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    exit(101)
}
