//! The filter: which calls the kernel hands over, as a program for its packet filter.

use nix::libc::{self, sock_filter};

use super::{CallKind, Watch};

/// When a call of a number is handed over.
#[derive(Clone, Copy)]
enum When {
    Always,
    /// Unless this argument is that.
    Unless(u32, u32),
    /// Unless this argument has one of these bits.
    UnlessBits(u32, u32),
    /// Unless this argument is the host's pid, for runtimes signal their own threads all the time, or that one is that.
    UnlessHostOr(u32, u32, u32),
}

const THREAD: u32 = libc::CLONE_THREAD as u32;

/// The numbers of a kind, each with when it is handed over. Signal 0 is none.
fn numbers(kind: CallKind) -> Vec<(libc::c_long, When)> {
    match kind {
        CallKind::Kill => vec![
            (libc::SYS_kill, When::Unless(1, 0)),
            (libc::SYS_tkill, When::Unless(1, 0)),
            (libc::SYS_tgkill, When::UnlessHostOr(0, 2, 0)),
            (libc::SYS_pidfd_send_signal, When::Unless(1, 0)),
            (libc::SYS_rt_sigqueueinfo, When::Unless(1, 0)),
            (libc::SYS_rt_tgsigqueueinfo, When::UnlessHostOr(0, 2, 0)),
        ],
        CallKind::Wait => vec![(libc::SYS_wait4, When::Always), (libc::SYS_waitid, When::Always)],
        CallKind::Clone => vec![
            (libc::SYS_clone, When::UnlessBits(0, THREAD)),
            (libc::SYS_clone3, When::Always),
            #[cfg(target_arch = "x86_64")]
            (libc::SYS_fork, When::Always),
            #[cfg(target_arch = "x86_64")]
            (libc::SYS_vfork, When::Always),
        ],
        CallKind::Close => vec![(libc::SYS_close, When::Always), (libc::SYS_close_range, When::Always)],
        CallKind::Exec => vec![(libc::SYS_execve, When::Always), (libc::SYS_execveat, When::Always)],
        // The same calls; which file it is only the warden can see.
        CallKind::ExecChild => Vec::new(),
    }
}

/// Of which kind a call of this number is.
pub(crate) fn kind_of(number: i64) -> Option<CallKind> {
    CallKind::ALL.into_iter().find(|kind| numbers(*kind).iter().any(|(known, _)| *known == number))
}

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: Option<u32> = Some(0xC000_003E);
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: Option<u32> = Some(0xC000_00B7);
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const ARCHITECTURE: Option<u32> = None;

const NUMBER_AT: u32 = 0;
const ARCHITECTURE_AT: u32 = 4;
const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
const IF_EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
const IF_BITS: u32 = libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K;
const RETURN: u32 = libc::BPF_RET | libc::BPF_K;

/// The program that hands over what is watched and allows everything else; nothing where this architecture is not known. Calls of another
/// architecture than the warden's own are not seen.
pub(super) fn program(watch: &Watch, host: i32) -> Option<Vec<sock_filter>> {
    let mut program = vec![
        step(LOAD, ARCHITECTURE_AT),
        jump(IF_EQUAL, ARCHITECTURE?, 1, 0),
        step(RETURN, libc::SECCOMP_RET_ALLOW),
        step(LOAD, NUMBER_AT),
    ];
    for kind in CallKind::ALL.into_iter().filter(|kind| watch.has(*kind)) {
        for (number, when) in numbers(kind) {
            let decision = decide(when, host);
            program.push(jump(IF_EQUAL, number as u32, 0, decision.len() as u8));
            program.extend(decision);
        }
    }
    program.push(step(RETURN, libc::SECCOMP_RET_ALLOW));
    Some(program)
}

fn decide(when: When, host: i32) -> Vec<sock_filter> {
    let allow = || step(RETURN, libc::SECCOMP_RET_ALLOW);
    let hand_over = || step(RETURN, libc::SECCOMP_RET_USER_NOTIF);
    let allow_if = |argument: u32, test: u32, value: u32| {
        vec![step(LOAD, low_half_of(argument)), jump(test, value, 0, 1), allow()]
    };
    let mut decision = match when {
        When::Always => Vec::new(),
        When::Unless(argument, value) => allow_if(argument, IF_EQUAL, value),
        When::UnlessBits(argument, bits) => allow_if(argument, IF_BITS, bits),
        When::UnlessHostOr(pid, argument, value) => {
            [allow_if(pid, IF_EQUAL, host.cast_unsigned()), allow_if(argument, IF_EQUAL, value)].concat()
        }
    };
    decision.push(hand_over());
    decision
}

/// Where an argument's lower half stands in what the kernel shows the filter.
const fn low_half_of(argument: u32) -> u32 {
    16 + 8 * argument + if cfg!(target_endian = "big") { 4 } else { 0 }
}

const fn step(code: u32, k: u32) -> sock_filter {
    sock_filter { code: code as u16, jt: 0, jf: 0, k }
}

const fn jump(code: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code: code as u16, jt, jf, k }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Scenario;

    /// What the kernel's packet filter answers, for the few instructions in use.
    fn answer(program: &[sock_filter], number: libc::c_long, arguments: [u32; 6]) -> u32 {
        let mut at = 0;
        let mut loaded = 0;
        loop {
            let instruction = program[at];
            at += 1;
            match u32::from(instruction.code) {
                LOAD => {
                    loaded = match instruction.k {
                        NUMBER_AT => number as u32,
                        ARCHITECTURE_AT => ARCHITECTURE.unwrap(),
                        place => arguments[((place - low_half_of(0)) / 8) as usize],
                    }
                }
                RETURN => return instruction.k,
                test => {
                    let holds = match test {
                        IF_EQUAL => loaded == instruction.k,
                        IF_BITS => loaded & instruction.k != 0,
                        other => panic!("instruction {other}"),
                    };
                    at += usize::from(if holds { instruction.jt } else { instruction.jf });
                }
            }
        }
    }

    fn handed_over(watched: &str, number: libc::c_long, arguments: [u32; 6]) -> bool {
        let scenario = Scenario::from_json(&format!(
            r#"{{"schema": 1, "name": "a", "why": "A test.", "script": ["hang"], "ops": [{{"do": "run"}}],
                "holds": [{{"call": "{watched}", "nth": 1, "until": "host.gone"}}]}}"#
        ));
        let program = program(&Watch::of(&scenario.unwrap()), 50).unwrap();
        answer(&program, number, arguments) == libc::SECCOMP_RET_USER_NOTIF
    }

    #[test]
    fn what_is_watched_is_handed_over_and_nothing_else() {
        let term = [100, 15, 0, 0, 0, 0];
        assert!(handed_over("kill", libc::SYS_kill, term));
        assert!(handed_over("kill", libc::SYS_pidfd_send_signal, term));
        assert!(!handed_over("wait", libc::SYS_kill, term));
        assert!(!handed_over("kill", libc::SYS_close, term));
        assert!(handed_over("wait", libc::SYS_waitid, term));
        assert!(handed_over("exec-child", libc::SYS_execveat, term));
        assert!(handed_over("close", libc::SYS_close_range, term));
    }

    #[test]
    fn signals_of_the_host_to_its_threads_probes_and_threads_cost_nothing() {
        assert!(!handed_over("kill", libc::SYS_kill, [100, 0, 0, 0, 0, 0]));
        assert!(!handed_over("kill", libc::SYS_tgkill, [50, 51, 23, 0, 0, 0]));
        for call in [libc::SYS_tgkill, libc::SYS_rt_tgsigqueueinfo] {
            assert!(!handed_over("kill", call, [60, 61, 0, 0, 0, 0]));
            assert!(handed_over("kill", call, [60, 61, 9, 0, 0, 0]));
        }
        assert!(!handed_over("clone", libc::SYS_clone, [THREAD | 0x100, 0, 0, 0, 0, 0]));
        assert!(handed_over("clone", libc::SYS_clone, [17, 0, 0, 0, 0, 0]));
        assert!(handed_over("clone", libc::SYS_clone3, [0; 6]));
    }

    #[test]
    fn every_number_is_of_one_kind() {
        assert_eq!(kind_of(libc::SYS_tgkill), Some(CallKind::Kill));
        assert_eq!(kind_of(libc::SYS_execve), Some(CallKind::Exec));
        assert_eq!(kind_of(libc::SYS_read), None);
        let all: Vec<_> = CallKind::ALL.into_iter().flat_map(numbers).map(|(number, _)| number).collect();
        let mut once = all.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), all.len());
    }
}
