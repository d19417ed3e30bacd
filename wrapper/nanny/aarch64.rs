//! AArch64: how to enter the kernel, and the numbers of its calls.

use core::arch::{asm, global_asm};
use core::ffi::c_void;

pub mod nr {
    pub const DUP3: usize = 24;
    pub const IOCTL: usize = 29;
    pub const UNLINKAT: usize = 35;
    pub const MOUNT: usize = 40;
    pub const CHDIR: usize = 49;
    pub const OPENAT: usize = 56;
    pub const CLOSE: usize = 57;
    pub const GETDENTS64: usize = 61;
    pub const READ: usize = 63;
    pub const WRITE: usize = 64;
    pub const PPOLL: usize = 73;
    pub const SIGNALFD4: usize = 74;
    pub const READLINKAT: usize = 78;
    pub const EXIT_GROUP: usize = 94;
    pub const WAITID: usize = 95;
    pub const CLOCK_GETTIME: usize = 113;
    pub const KILL: usize = 129;
    pub const RT_SIGACTION: usize = 134;
    pub const RT_SIGPROCMASK: usize = 135;
    pub const SETPGID: usize = 154;
    pub const SETSID: usize = 157;
    pub const GETPID: usize = 172;
    pub const GETPPID: usize = 173;
    pub const MADVISE: usize = 233;
    pub const PRCTL: usize = 167;
    pub const GETEUID: usize = 175;
    pub const GETEGID: usize = 177;
    pub const SENDTO: usize = 206;
    pub const RECVFROM: usize = 207;
    pub const SENDMSG: usize = 211;
    pub const RECVMSG: usize = 212;
    pub const CLONE: usize = 220;
    pub const EXECVE: usize = 221;
    pub const PRLIMIT64: usize = 261;
    pub const STATX: usize = 291;
    pub const PIDFD_SEND_SIGNAL: usize = 424;
    pub const PIDFD_OPEN: usize = 434;
    pub const CLONE3: usize = 435;
    pub const CLOSE_RANGE: usize = 436;
}

// The kernel starts a program with the stack pointer at the argument count.
global_asm!(
    ".globl _start",
    "_start:",
    "mov x29, xzr",
    "mov x30, xzr",
    "mov x0, sp",
    "bl {begin}",
    "brk #1",
    begin = sym crate::begin,
);

// The call returns twice. In the child, which is on a stack of its own, nothing but registers can be relied on: the
// function and its argument are in two that the kernel keeps.
global_asm!(
    ".globl nanny_clone",
    "nanny_clone:",
    "mov x8, x0",
    "mov x0, x1",
    "mov x1, x2",
    "mov x9, x3",
    "mov x10, x4",
    "mov x2, xzr",
    "mov x3, xzr",
    "mov x4, xzr",
    "svc #0",
    "cbnz x0, 2f",
    "mov x29, xzr",
    "mov x30, xzr",
    "mov x0, x10",
    "blr x9",
    "brk #1",
    "2:",
    "ret",
);

unsafe extern "C" {
    #[link_name = "nanny_clone"]
    pub fn clone(
        number: usize,
        first: usize,
        second: usize,
        body: unsafe extern "C" fn(*mut c_void) -> !,
        argument: *mut c_void,
    ) -> isize;
}

/// # Safety
/// As the call demands.
pub unsafe fn syscall(number: usize, args: [usize; 6]) -> isize {
    let result;
    let [a, b, c, d, e, f] = args;
    // SAFETY: the kernel changes no register but the first; the rest is the caller's promise.
    unsafe {
        asm!(
            "svc #0",
            in("x8") number,
            inlateout("x0") a as isize => result,
            in("x1") b,
            in("x2") c,
            in("x3") d,
            in("x4") e,
            in("x5") f,
            options(nostack),
        );
    }
    result
}
