//! What a hook of a converted command may do before the process is divided into a nanny and the program.

use std::ffi::CStr;
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::time::Duration;

use childminder::{Command, Ended, Left, Outcome, Reason, StartError};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::{Pid, dup2_stderr, setsid};

use crate::HELD_BY;
use crate::scene::{assert_all_dead, lines, pids, start, within};

/// A command of the standard library's whose forked process calls `hook`, which must be async-signal-safe.
fn hooked(script: &str, hook: impl FnMut() -> io::Result<()> + Send + Sync + 'static) -> Command {
    let mut command = std::process::Command::new("sh");
    command.args(["-c", script]);
    #[expect(unsafe_code, reason = "a hook cannot be had otherwise")]
    // SAFETY: the hooks of these tests make system calls only.
    unsafe {
        command.pre_exec(hook)
    };
    let mut command = Command::from(command);
    command.require(HELD_BY);
    command
}

#[tokio::test]
async fn a_death_signal_that_a_hook_asks_for_does_not_reach_the_nanny_when_the_starting_thread_ends() {
    let hook = || Ok(set_pdeathsig(Signal::SIGKILL)?);
    let mut command = hooked("sleep 100 & echo $!; echo $$; wait", hook);
    command.grace(Duration::from_millis(100));
    let runtime = tokio::runtime::Handle::current();
    // The parent of what it forks is this thread, which is gone when it is joined.
    let starter = std::thread::spawn(move || {
        let _inside = runtime.enter();
        start(&mut command)
    });
    let mut run = starter.join().expect("it starts");
    let tree = pids(&mut run, 2).await;
    run.cancel();
    let outcome: Outcome = within(run.wait()).await;
    assert_all_dead(&tree);
    assert_eq!(outcome.ended, Ended::Stopped(Reason::Cancelled), "the nanny was there: {outcome:?}");
    assert!(matches!(outcome.left, Left::Nobody(_)), "{outcome:?}");
}

#[tokio::test]
async fn a_death_signal_that_a_hook_asks_for_is_the_programs() {
    let hook = || Ok(set_pdeathsig(Signal::SIGUSR1)?);
    // 157 is prctl, 2 is PR_GET_PDEATHSIG.
    let script = "exec perl -e 'my $s = pack \"i\", 0; syscall(157, 2, $s) == 0 or die; print unpack(\"i\", $s), \"\\n\"'";
    if !cfg!(target_arch = "x86_64") {
        eprintln!("not run: the numbers of calls are those of x86-64");
        return;
    }
    let outcome = crate::scene::run(&mut hooked(script, hook)).await;
    let told = String::from_utf8_lossy(&outcome.stdout.bytes).trim().to_owned();
    assert_eq!(told, (Signal::SIGUSR1 as i32).to_string(), "{outcome:?}");
}

#[tokio::test]
async fn a_session_that_a_hook_leads_is_the_nannys_and_the_program_leads_its_own_group_in_it() {
    let hook = || Ok(setsid().map(drop)?);
    let script = "sleep 100 & echo $!; echo $$; cut -d' ' -f 5,6 /proc/$$/stat; wait";
    let mut run = start(hooked(script, hook).grace(Duration::from_millis(100)));
    let said = lines(&mut run, 3).await;
    let tree: Vec<u32> = said[..2].iter().map(|line| line.parse().expect("a pid")).collect();
    let (group, session) = said[2].split_once(' ').expect("two numbers");
    assert_eq!(group, said[1], "the group is the program's");
    let leader = Pid::from_raw(session.parse().expect("a session"));
    assert_ne!(leader.to_string(), said[1], "the session is the nanny's");
    run.cancel();
    let outcome = within(run.wait()).await;
    assert_all_dead(&tree);
    assert!(matches!(outcome.left, Left::Nobody(_)), "{outcome:?}");
}

#[tokio::test]
async fn a_command_that_a_hook_keeps_from_proc_is_refused_and_executes_nothing() {
    if !may_mount() {
        eprintln!("not run: mounts of one's own need CAP_SYS_ADMIN");
        return;
    }
    for has_proc in [true, false] {
        // Its stderr, and that of whoever it starts: at the end of the pipe nobody of them is there any more.
        let (mut said, says) = io::pipe().expect("a pipe");
        let hook = move || {
            dup2_stderr(&says)?;
            if has_proc {
                return Ok(());
            }
            unshare(CloneFlags::CLONE_NEWNS)?;
            let none = None::<&CStr>;
            mount(none, c"/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
            Ok(mount(none, c"/proc", Some(c"tmpfs"), MsFlags::empty(), none)?)
        };
        let mut command = hooked("echo executed >&2", hook);
        let started = command.start();
        if has_proc {
            within(started.expect("it is found").wait()).await;
        } else {
            let Err(StartError::Spawn { doing, source, .. }) = started else { panic!("{started:?}") };
            assert_eq!(doing, "find the nanny in /proc", "{source:?}");
            assert_eq!(source.raw_os_error(), Some(Errno::ENOENT as i32));
        }
        drop(command);
        let mut words = String::new();
        said.read_to_string(&mut words).expect("a pipe can be read");
        assert_eq!(words, if has_proc { "executed\n" } else { "" });
    }
}

/// Whether this process has CAP_SYS_ADMIN, which root may lack in a container.
fn may_mount() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").expect("our own status");
    let mask = status.lines().find_map(|line| line.strip_prefix("CapEff:")).expect("a mask");
    u64::from_str_radix(mask.trim(), 16).expect("a number") & 1 << 21 != 0
}
