//! A start that fails, at whichever system call, leaves nothing and says which step failed.

use std::collections::BTreeMap;
use std::time::Duration;

use libtest_mimic::{Completion, Failed, Trial};
use nix::errno::Errno;
use nix::libc;
use nix::sys::wait::WaitStatus;

use crate::stage::{self, Owner, PATIENCE, check, figure, is_long, nobody_is_left, trial_or_skip};
use crate::tracer::{Mishap, Part, Plan, Trace, name_of, trace_start};

const ERRORS: [Errno; 4] = [Errno::ENOSYS, Errno::EAGAIN, Errno::ENOMEM, Errno::EMFILE];

/// The longest that a start that fails may take.
const LONGEST: Duration = Duration::from_secs(6);

pub(crate) fn trials() -> Vec<Trial> {
    let failing = |name, containment: &'static str, parts: &'static [Part]| {
        trial_or_skip(name, move || each_call(containment, parts, &errors))
    };
    vec![
        failing("a_start_leaves_nothing_whichever_call_of_the_owner_fails", "nanny", &[Part::Owner]),
        failing("a_start_leaves_nothing_whichever_call_before_the_nanny_fails", "nanny", &[Part::Forked]),
        failing("a_start_leaves_nothing_whichever_call_of_the_nanny_fails", "nanny", &[Part::Nanny]),
        failing("a_start_leaves_nothing_whichever_call_of_the_child_fails", "nanny", &[Part::Child]),
        failing(
            "a_start_in_a_group_leaves_nothing_whichever_call_fails",
            "group",
            &[Part::Owner, Part::Forked],
        ),
        failing(
            "a_start_of_a_converted_command_leaves_nothing_whichever_call_fails",
            "converted",
            &[Part::Owner, Part::Forked, Part::Nanny, Part::Child],
        ),
        trial_or_skip(
            "a_start_of_a_converted_command_leaves_nothing_at_whichever_call_a_process_is_killed",
            || each_call("converted", &[Part::Forked, Part::Nanny, Part::Child], &|_| vec![Mishap::Kill]),
        ),
        trial_or_skip("a_start_leaves_nothing_at_whichever_call_a_process_of_it_is_killed", || {
            each_call("nanny", &[Part::Forked, Part::Nanny, Part::Child], &|_| vec![Mishap::Kill])
        }),
        trial_or_skip(
            "a_converted_command_has_executed_nothing_when_its_nanny_cannot_be_executed",
            nanny_that_cannot_be_executed,
        ),
        trial_or_skip(
            "a_converted_command_that_is_killed_before_its_nanny_is_ready_keeps_its_status_where_ends_are_ignored",
            child_killed_early,
        ),
    ]
}

/// In the short form one error for each call, a different one from call to call.
fn errors(nth: usize) -> Vec<Mishap> {
    if is_long() {
        ERRORS.map(Mishap::Error).to_vec()
    } else {
        vec![Mishap::Error(ERRORS[nth % ERRORS.len()])]
    }
}

fn each_call(
    containment: &str,
    parts: &[Part],
    mishaps: &dyn Fn(usize) -> Vec<Mishap>,
) -> Result<Completion, Failed> {
    if !cfg!(target_arch = "x86_64") {
        return Ok(Completion::ignored_with("the tracer knows the registers of x86-64 only"));
    }
    let mut good = Tried::new(containment, None)?;
    if good.trace.calls.is_empty() {
        return Ok(Completion::ignored_with("nobody may be traced here"));
    }
    good.said.retain(|line| !line.starts_with("took"));
    check(good.said == ["started", "stopped, and nobody is left", "no child, no descriptor"], || {
        format!("a good start: {:?}", good.said)
    })?;
    let mut tally = BTreeMap::new();
    let mut faults = Vec::new();
    for part in parts {
        let calls = good.trace.calls.get(part).cloned().unwrap_or_default();
        for (nth, call) in calls.iter().enumerate() {
            if cannot_fail(*call) || !is_long() && is_one_of_many(&calls, nth) {
                continue;
            }
            // The standard library waits for the child if it cannot hear whether it was executed, and panics.
            if *part == Part::Owner && containment == "converted" && name_of(*call) == "recvfrom" {
                continue;
            }
            for mut mishap in mishaps(nth) {
                // The one error of a close that is no fault of the program, and which the standard library expects.
                if *call == libc::SYS_close as u64 && mishap != Mishap::Kill {
                    mishap = Mishap::Error(Errno::EINTR);
                }
                let plan = Plan { part: *part, nth, mishap };
                let tried = Tried::new(containment, Some(plan))?;
                match tried.judge(plan) {
                    Ok(verdict) => *tally.entry(verdict).or_insert(0) += 1,
                    Err(why) => faults.push(format!("{plan:?}, which is {}: {why}", name_of(*call))),
                }
            }
        }
    }
    figure(format!("{containment} {parts:?}: {tally:?}"));
    check(faults.is_empty(), || faults.join("\n"))?;
    Ok(Completion::Completed)
}

/// Which of the calls of a part this is, in a start where all is well.
fn place_of(part: Part, call: libc::c_long) -> Result<Option<usize>, Failed> {
    let good = Tried::new("converted", None)?;
    let calls = good.trace.calls.get(&part).map_or(&[] as &[u64], Vec::as_slice);
    Ok(calls.iter().position(|it| i64::try_from(*it) == Ok(call)))
}

const NOBODY_TRACED: &str = "nobody may be traced here, or on this machine";

/// The nanny's exec fails only when the program is as far ahead as it can get. If it runs, it escapes at once.
fn nanny_that_cannot_be_executed() -> Result<Completion, Failed> {
    let Some(nth) = place_of(Part::Forked, libc::SYS_execveat)? else {
        return Ok(Completion::ignored_with(NOBODY_TRACED));
    };
    let plan = Plan { part: Part::Forked, nth, mishap: Mishap::LateError(Errno::ENOMEM) };
    let mut owner = Owner::play("one start", &["converted", "setsid sleep 100 & wait"]);
    let tried = Tried::by(&mut owner, "converted", Some(plan))?;
    check(tried.judge(plan) == Ok("refused"), || format!("{:?}", tried.said))?;
    Ok(Completion::Completed)
}

/// The owner ignores the end of its children, and so did the nanny until now.
fn child_killed_early() -> Result<Completion, Failed> {
    if place_of(Part::Forked, libc::SYS_execveat)?.is_none() {
        return Ok(Completion::ignored_with(NOBODY_TRACED));
    }
    let plan = Plan { part: Part::Nanny, nth: 0, mishap: Mishap::ChildKilled };
    let mut command = stage::ignoring_children("one start", &["converted"]);
    let tried = Tried::by(&mut Owner::start(&mut command), "converted", Some(plan))?;
    check(tried.said.iter().any(|line| line == "ended by signal Some(9)"), || format!("{:?}", tried.said))?;
    Ok(Completion::Completed)
}

/// Calls that cannot fail, or do not come back.
fn cannot_fail(call: u64) -> bool {
    [libc::SYS_exit, libc::SYS_exit_group, libc::SYS_rt_sigreturn, libc::SYS_getpid, libc::SYS_getppid]
        .contains(&i64::try_from(call).unwrap_or(-1))
}

/// The same call comes before and after it: dozens of dispositions are restored, one by one.
fn is_one_of_many(calls: &[u64], nth: usize) -> bool {
    nth > 0 && nth + 1 < calls.len() && calls[nth - 1] == calls[nth] && calls[nth + 1] == calls[nth]
}

struct Tried {
    trace: Trace,
    said: Vec<String>,
}

impl Tried {
    fn new(containment: &str, plan: Option<Plan>) -> Result<Self, Failed> {
        Self::by(&mut Owner::play("one start", &[containment]), containment, plan)
    }

    fn by(owner: &mut Owner, containment: &str, plan: Option<Plan>) -> Result<Self, Failed> {
        owner.expect("ready")?;
        let trace = trace_start(owner, containment != "group", plan)
            .map_err(|failed| Failed::from(format!("{plan:?}: {}", failed.message().unwrap_or_default())))?;
        let said = owner.rest()?;
        nobody_is_left(PATIENCE).map_err(|failed| {
            Failed::from(format!("{plan:?}: {}\nsaid {said:?}", failed.message().unwrap_or_default()))
        })?;
        Ok(Self { trace, said })
    }

    /// What came of it, in a word, or what is wrong with that.
    fn judge(&self, plan: Plan) -> Result<&'static str, String> {
        let Some(hit) = self.trace.hit else { return Ok("not made this time") };
        if let Some(end) = self.trace.owner_end {
            // The standard library gives up a process without memory, and one whose locks do not work.
            let is_memory = ["mmap", "mprotect", "munmap", "brk", "futex"].contains(&name_of(hit).as_str());
            return match end {
                WaitStatus::Signaled(..) if is_memory && plan.part == Part::Owner => Ok("owner gave up"),
                _ => Err(format!("the owner ended: {end:?}, said {:?}", self.said)),
            };
        }
        let has = |what: &str| self.said.iter().any(|line| line.starts_with(what));
        let took = self.said.iter().find_map(|line| line.strip_prefix("took ")?.parse().ok());
        let took = Duration::from_millis(took.ok_or_else(|| format!("no time told: {:?}", self.said))?);
        if took > LONGEST {
            return Err(format!("took {took:?}"));
        }
        if !has("no child, no descriptor") {
            return Err(format!("it left something: {:?}", self.said));
        }
        if has("started") {
            // If somebody of the run was killed: the child has ended by that, or nobody can know who was left.
            let killed = plan.mishap == Mishap::Kill && (has("lost") || has("ended, and nobody is left"));
            return if has("stopped, and nobody is left") || killed {
                Ok("started all the same")
            } else {
                Err(format!("{:?}", self.said))
            };
        }
        let Some(error) = self.said.iter().find(|line| line.starts_with("refused")) else {
            return Err(format!("neither started nor refused: {:?}", self.said));
        };
        match plan.mishap {
            Mishap::Error(errno) | Mishap::LateError(errno)
                if !error.contains(&format!("os error {}", errno as i32)) =>
            {
                Err(format!("does not say why: {error}"))
            }
            _ => Ok("refused"),
        }
    }
}
