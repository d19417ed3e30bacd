//! Processes that a test lets escape on purpose.

/// Ends a process that a test let escape on purpose, also if the test fails.
pub(crate) struct Stray(pub(crate) u32);

impl Drop for Stray {
    fn drop(&mut self) {
        let pid = i32::try_from(self.0).expect("a pid");
        assert!(pid > 1, "not a stray");
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
    }
}
