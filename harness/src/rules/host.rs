//! H: the host afterwards.

use fake_cli::script::{Signal, Step};

use super::directed::{once_ready, once_started, ready_and_hang, run, scenario, to_the_end, wait};
use super::facts::{Facts, told};
use super::handles::inventory;
use super::verdicts::{broken, together};
use super::{Judged, Rule, as_catalogued, terminal};
use crate::scenario::{Op, Scenario, Verb};
use crate::trace::{Condition, Inventory, Point, Stage, Thread};
use crate::verdict::{Finding, Level, Verdict};

/// The rules of this family.
pub(super) fn rules() -> Vec<Rule> {
    let rule = |id, title, level, sentence, measured, guard, judged| Rule {
        id,
        title,
        level,
        sentence,
        measured,
        guard,
        weigh: as_catalogued,
        judged,
    };
    vec![
        rule(
            "H1",
            "host's settings unchanged",
            Level::Must,
            "Signal mask, actions, timers, umask and working directory of the host are unchanged after a run.",
            "They are read from outside before the first run and after each: the masks of the threads that were there before, what is ignored \
                and handled, the timers that signal, umask and working directory.",
            "A runtime may install a handler when it first needs one, also of a signal that was ignored. What differs is looked at again for a \
                second. An alarm (setitimer) is not seen from outside.",
            Judged::Trace { judge: judge_h1, directed: directed_h1 },
        ),
        rule(
            "H2",
            "terminal restored",
            Level::Must,
            "Terminal modes and foreground group are restored, also when the host was killed.",
            "The host is given a terminal and is in its foreground; the child takes it, if it can: raw modes, its own group. Then it is cancelled, ends, or \
                the host is killed, and the terminal is read.",
            "Somebody else leads the session, as a shell does, so that the terminal outlives the host. There is a second to restore it.",
            Judged::Trace { judge: terminal::judge_h2, directed: terminal::directed },
        ),
        rule(
            "H3",
            "host never stopped",
            Level::Must,
            "The host is never stopped by SIGTTOU or SIGTTIN.",
            "The host is given a terminal, and the kernel is asked again and again whether it is stopped, and by what.",
            "Exact. It is continued then, so that the case goes on.",
            Judged::Trace { judge: terminal::judge_h3, directed: terminal::directed },
        ),
        rule(
            "H4",
            "no files left",
            Level::Should,
            "No temporary files are left.",
            "The host gets a folder of its own as TMPDIR, which is listed when the host has ended and nobody is left.",
            "Only where the host ended by itself and nobody survived: who was killed can tidy up nothing. What is written elsewhere by a path \
                of the wrapper's own is not seen.",
            Judged::Trace { judge: judge_h4, directed: directed_h4 },
        ),
    ]
}

// ---- H1 ----

fn judge_h1(facts: &Facts<'_>) -> Verdict {
    if let Some(fault) = facts.fault() {
        return fault;
    }
    if facts.is_template() {
        return Verdict::NotRun(
            "a command is gone when its run is over, and its settings with it".to_owned(),
        );
    }
    let Some(first) = facts.runs().first() else {
        return Verdict::Vacuous(facts.because("no run was started"));
    };
    let Some(before) =
        inventory(facts, Point::BeforeRun(first.number)).and_then(|seen| seen.condition.as_ref())
    else {
        return Verdict::Vacuous("the host was not looked at before its first run".to_owned());
    };
    let after: Vec<&Inventory> =
        facts.runs().iter().filter_map(|run| inventory(facts, Point::AfterRun(run.number))).collect();
    let times_seen = |thread: &Thread| {
        let there = after.iter().filter_map(|seen| seen.condition.as_ref()).flat_map(|now| &now.threads);
        there.filter(|then| then.tid == thread.tid && then.blocks_everything()).count()
    };
    let verdicts = after.iter().filter_map(|seen| {
        let now = seen.condition.as_ref()?;
        let starts = |then: &Thread| then.blocks_everything() && times_seen(then) < 2;
        let changes = changes(before, now, starts);
        let Some(change) = changes.first() else {
            let doubted = before.threads_in(now).find(|(_, then)| starts(then));
            return Some(doubted.map_or(Verdict::Kept, |(thread, _)| {
                Verdict::Unknown(format!(
                    "thread {:?} of the host blocked everything, as the C library does for a moment when it starts somebody",
                    thread.name
                ))
            }));
        };
        let sentence = format!("{change}, {} after the run", told(seen.settled_us));
        Some(if seen.settled_us < facts.settle_us() {
            Verdict::Unknown(format!("{sentence}, which is too soon to tell"))
        } else {
            Verdict::Broken(Finding { sentence, count: changes.len() as u64 })
        })
    });
    together(verdicts, || facts.because("the host was not looked at after a run"))
}

/// What is not as it was before the first run, but for the masks of threads that may just start somebody.
fn changes(before: &Condition, now: &Condition, starts: impl Fn(&Thread) -> bool) -> Vec<String> {
    let mut changes = Vec::new();
    let changed = |(thread, then): &(&Thread, &Thread)| thread.blocked != then.blocked && !starts(then);
    for (thread, then) in before.threads_in(now).filter(changed) {
        let (was, is) = (names(&thread.blocked), names(&then.blocked));
        changes.push(format!(
            "thread {:?} of the host blocks {is}, before the run it blocked {was}",
            thread.name
        ));
    }
    let newly = |now: &[i32], before: &[i32]| -> Vec<i32> {
        now.iter().filter(|signal| !before.contains(signal)).copied().collect()
    };
    let ignored = newly(&now.ignored, &before.ignored);
    if !ignored.is_empty() {
        changes.push(format!("the host ignores {}, which it did not before", names(&ignored)));
    }
    let forgotten: Vec<i32> = newly(&before.ignored, &now.ignored)
        .into_iter()
        .filter(|signal| !now.caught.contains(signal))
        .collect();
    if !forgotten.is_empty() {
        changes.push(format!("the host no longer ignores {}", names(&forgotten)));
    }
    let dropped = newly(&before.caught, &now.caught);
    if !dropped.is_empty() {
        changes.push(format!("the host no longer handles {}", names(&dropped)));
    }
    if before.umask != now.umask {
        changes.push(format!(
            "the host's umask is {:03o}, before the run it was {:03o}",
            now.umask, before.umask
        ));
    }
    if before.folder != now.folder {
        changes.push(format!(
            "the host's working directory is {:?}, before the run it was {:?}",
            now.folder, before.folder
        ));
    }
    if let (Some(was), Some(is)) = (before.timers, now.timers)
        && is > was
    {
        changes.push(format!("the host has {is} timers that signal it, before the run it had {was}"));
    }
    changes
}

fn names(signals: &[i32]) -> String {
    if signals.is_empty() {
        return "nothing".to_owned();
    }
    signals.iter().map(|signal| Signal::name_of(*signal)).collect::<Vec<_>>().join(", ")
}

// ---- H4 ----

fn judge_h4(facts: &Facts<'_>) -> Verdict {
    if let Some(fault) = facts.fault() {
        return fault;
    }
    if facts.runs().iter().all(|run| run.nodes.is_empty() && run.ended.is_none()) {
        return Verdict::Vacuous(facts.because("no run was under way"));
    }
    let ends_host = |verb: Verb| verb.ends_host() || facts.is_template() && verb == Verb::Cancel;
    if facts.runs().iter().flat_map(|run| &run.stops).any(|stop| ends_host(stop.verb)) {
        return Verdict::Vacuous("the host was ended from outside, and could tidy up nothing".to_owned());
    }
    if facts.host_fell_silent() || facts.host_gone().is_none() {
        return Verdict::Vacuous("the host did not end".to_owned());
    }
    let Some(files) = &facts.trace.files_left else {
        return Verdict::Unknown("nobody looked what was left".to_owned());
    };
    let Some(first) = files.first() else { return Verdict::Kept };
    if facts.look(Stage::HostGone).is_none_or(|look| !look.seen.is_empty()) {
        return Verdict::Unknown(format!("{first:?} was left, but so was somebody who may still use it"));
    }
    let more = if files.len() > 1 { format!(" and {} more", files.len() - 1) } else { String::new() };
    let sentence =
        format!("{first:?}{more} was left in the host's folder for temporary files when everybody had ended");
    if files.len() == 1 {
        broken(sentence)
    } else {
        Verdict::Broken(Finding { sentence, count: files.len() as u64 })
    }
}

// ---- Directed scenarios ----

fn three_times(ops: &[Op]) -> Vec<Op> {
    [ops; 3].concat()
}

fn directed_h1() -> Vec<Scenario> {
    let tree = || ready_and_hang().to_vec();
    vec![
        scenario(
            "settings-after-exits",
            "A run is a guest in its host's process: masks, actions, umask and working directory are the host's.",
            &["H1"],
            vec![Step::Exit(0)],
            three_times(&to_the_end()),
        ),
        scenario(
            "settings-after-cancels",
            "What was set aside for the time of a run is easily not put back when it is cancelled.",
            &["H1"],
            tree(),
            three_times(&[run(), once_started(Verb::Cancel), wait()]),
        ),
        scenario(
            "settings-after-a-drop",
            "A dropped run has no line of code left in which something could be put back.",
            &["H1"],
            tree(),
            once_ready(Verb::Drop),
        ),
    ]
}

fn directed_h4() -> Vec<Scenario> {
    let tree = || ready_and_hang().to_vec();
    vec![
        scenario(
            "files-after-exit",
            "Sockets, scripts and buffers that were made for a run go with it.",
            &["H4"],
            vec![Step::Exit(0)],
            to_the_end(),
        ),
        scenario(
            "files-after-cancel",
            "The way out by cancel often skips the tidying that the way out by exit does.",
            &["H4"],
            tree(),
            [once_ready(Verb::Cancel), vec![wait()]].concat(),
        ),
        scenario(
            "files-after-a-drop",
            "As before, when nobody waits for the end.",
            &["H4"],
            tree(),
            once_ready(Verb::Drop),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::by_hand::{Hand, assert_verdict, because, case, condition, steps};
    use super::*;
    use crate::trace::{Reason, Status, Thread};
    use crate::verdict::VerdictKind::{Broken, Kept, NotRun, Unknown, Vacuous};

    /// A host that is looked at before a run, after it, and after a second one, a second later.
    fn looked_at(before: Condition, warm: Condition, after: Condition) -> Hand {
        let hand = case(steps(r#"[{"exit": 0}]"#));
        let hand = hand.condition(0, Point::BeforeRun(0), before).run(1).hello(2, "root");
        let hand = hand.ended(3, because(Reason::Itself)).condition(4, Point::AfterRun(0), warm).wait(5);
        let hand = hand.run(6).hello(7, "root").ended(8, because(Reason::Itself));
        hand.condition(1_008, Point::AfterRun(1), after)
            .wait(1_009)
            .with(|trace| trace.inventories[2].settled_us = 1_000_000)
    }

    fn with(change: impl FnOnce(&mut Condition)) -> Condition {
        let mut condition = condition();
        change(&mut condition);
        condition
    }

    #[test]
    fn h1_names_what_is_not_as_it_was() {
        let told = |change: fn(&mut Condition), part: &str| {
            let hand = looked_at(condition(), condition(), with(change));
            assert_verdict(&hand, judge_h1, Broken, part);
            assert_verdict(&hand, judge_h1, Broken, "1.0 s after the run");
        };
        told(|now| now.umask = 0o77, "umask is 077, before the run it was 022");
        told(|now| now.folder = "/".to_owned(), "working directory is \"/\"");
        told(|now| now.timers = Some(1), "has 1 timers");
        told(|now| now.ignored.push(1), "ignores HUP, which it did not before");
        told(|now| now.ignored.clear(), "no longer ignores PIPE");
        told(|now| now.caught.clear(), "no longer handles SEGV");
        told(|now| now.threads[0].blocked = vec![15], "blocks TERM, before the run it blocked nothing");
    }

    #[test]
    fn h1_is_kept_by_whoever_leaves_things_alone_and_by_a_runtime_that_warms_up() {
        assert_verdict(&looked_at(condition(), condition(), condition()), judge_h1, Kept, "");
        let warm = || {
            with(|now| {
                now.caught.push(17);
                now.threads.push(Thread { tid: 60, name: "worker".to_owned(), blocked: vec![15] });
            })
        };
        assert_verdict(&looked_at(condition(), warm(), warm()), judge_h1, Kept, "");
        // A runtime that replaces an ignored signal by a handler, as tokio does with CHLD.
        let deaf = with(|before| before.ignored.push(17));
        assert_verdict(&looked_at(deaf, warm(), warm()), judge_h1, Kept, "");
        let unlisted = with(|now| now.timers = None);
        assert_verdict(&looked_at(condition(), condition(), unlisted), judge_h1, Kept, "");
    }

    #[test]
    fn h1_does_not_take_the_start_of_a_thread_for_a_mask_of_its_own() {
        let starting = with(|before| before.threads[0].blocked = (1..=62).collect());
        assert_verdict(&looked_at(starting, condition(), condition()), judge_h1, Kept, "");
        let stays = with(|now| now.threads[0].blocked = (1..=62).collect());
        assert_verdict(
            &looked_at(condition(), condition(), stays.clone()),
            judge_h1,
            Unknown,
            "for a moment",
        );
        assert_verdict(&looked_at(condition(), stays.clone(), stays.clone()), judge_h1, Broken, "blocks HUP");
        let besides = Condition { umask: 0o77, ..stays };
        assert_verdict(&looked_at(condition(), condition(), besides), judge_h1, Broken, "umask is 077");
    }

    #[test]
    fn h1_gives_time_to_put_things_back_and_says_nothing_without_a_look() {
        let soon = looked_at(condition(), condition(), with(|now| now.umask = 0))
            .with(|trace| trace.inventories[2].settled_us = 20_000);
        assert_verdict(&soon, judge_h1, Unknown, "too soon");
        let stalled = looked_at(condition(), condition(), with(|now| now.umask = 0o77));
        let stalled = stalled.with(|trace| trace.noise.max_us = 800_000);
        assert_verdict(&stalled, judge_h1, Unknown, "too soon");
        let blind = |index: usize| {
            looked_at(condition(), condition(), condition())
                .with(|trace| drop(trace.inventories.drain(index..)))
        };
        assert_verdict(&blind(0), judge_h1, Vacuous, "before its first run");
        assert_verdict(&blind(1), judge_h1, Vacuous, "after a run");
        assert_verdict(&blind(3).template(), judge_h1, NotRun, "command");
        assert_verdict(&blind(3).our_fault(), judge_h1, Unknown, "harness could not");
        assert_verdict(&case(steps("[]")), judge_h1, Vacuous, "no run was started");
    }

    fn ended_leaving(files: &[&str]) -> Hand {
        let files = files.iter().map(|file| (*file).to_owned()).collect();
        let hand = case(steps(r#"[{"exit": 0}]"#)).run(0).hello(1, "root").ended(2, because(Reason::Itself));
        let hand = hand.host_gone(3, Status::Exited(0)).look(Stage::HostGone, vec![]);
        hand.with(|trace| trace.files_left = Some(files))
    }

    #[test]
    fn h4_names_the_files() {
        assert_verdict(&ended_leaving(&[]), judge_h4, Kept, "");
        assert_verdict(&ended_leaving(&["run.sock"]), judge_h4, Broken, "\"run.sock\" was left");
        assert_verdict(&ended_leaving(&["a", "b", "c"]), judge_h4, Broken, "and 2 more");
        assert_verdict(&ended_leaving(&["a"]).template(), judge_h4, Broken, "\"a\"");
    }

    #[test]
    fn h4_does_not_accuse_who_was_ended_or_is_still_there() {
        let stays = |hand: Hand| {
            let survivor = hand.survivor("root");
            hand.with(|trace| trace.looks[0].seen.push(survivor))
        };
        assert_verdict(&stays(ended_leaving(&["a"])), judge_h4, Unknown, "still use it");
        let killed = case(steps(r#"["hang"]"#)).run(0).hello(1, "root").kill_host(2);
        assert_verdict(&killed, judge_h4, Vacuous, "ended from outside");
        let cancelled = case(steps(r#"["hang"]"#)).run(0).hello(1, "root").cancel(2).template();
        assert_verdict(&cancelled, judge_h4, Vacuous, "ended from outside");
        assert_verdict(&ended_leaving(&["a"]).silent(), judge_h4, Vacuous, "did not end");
        let unseen = ended_leaving(&["a"]).with(|trace| trace.files_left = None);
        assert_verdict(&unseen, judge_h4, Unknown, "nobody looked");
        assert_verdict(&ended_leaving(&["a"]).our_fault(), judge_h4, Unknown, "harness could not");
        assert_verdict(&case(steps("[]")), judge_h4, Vacuous, "no run was under way");
    }
}
