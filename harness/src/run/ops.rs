//! Doing the ops, each when its gate is open.

use super::*;

impl Runner<'_> {
    pub(super) fn issue_ops(&mut self) -> Result<(), Stop> {
        while let Some(op) = self.case.scenario.ops.get(self.next_op) {
            if !self.is_due(op) {
                break;
            }
            self.end_samples();
            self.issue(op)?;
            self.happen(format!("op.{}.issued", self.next_op));
            self.next_op += 1;
            self.gate_since = Instant::now();
            self.patience = Patience::from(self.gate_since);
            self.open_since = None;
            self.extend_deadline();
        }
        Ok(())
    }

    /// Whether the op's gate is open and its delay over; gives up on a gate that does not open.
    pub(super) fn is_due(&mut self, op: &Op) -> bool {
        let now = Instant::now();
        if !self.is_open(op) {
            let over = self.runs.iter().all(|run| run.ended) && !self.runs.is_empty();
            let cap = if over { GATE_CAP_AFTER_END } else { GATE_CAP };
            // A run that is not over, or whose handles are still counted, is waited for as long as that may take.
            let missing = |event| !self.has_happened_to(event, self.subject_of(op));
            let is_missing = op.after.as_ref().is_some_and(missing);
            let may_give_up = is_missing && (over || !matches!(op.verb, Verb::Wait | Verb::AskAgain));
            if may_give_up && now >= self.gate_since + cap {
                self.note(What::GateStuck { op: self.next_op });
                self.next_op = self.case.scenario.ops.len();
                self.deadline = now + GATE_CAP_AFTER_END;
            }
            return false;
        }
        let open_since = *self.open_since.get_or_insert(now);
        now >= open_since + op.delay.map_or(Duration::ZERO, Span::get)
    }

    pub(super) fn is_open(&self, op: &Op) -> bool {
        let gate = op.after.as_ref().is_none_or(|event| self.has_happened_to(event, self.subject_of(op)));
        let own = match op.verb {
            Verb::Wait | Verb::AskAgain => {
                let about = self.runs.iter().find(|run| run.number == self.subject_of(op));
                about.is_none_or(|run| run.ended && run.inventory.is_none()) || self.host_is_gone()
            }
            Verb::Run => self.runs.iter().all(|run| run.inventory.is_none()),
            _ => true,
        };
        gate && own
    }

    /// The run that an op is about.
    fn subject_of(&self, op: &Op) -> u32 {
        op.run.unwrap_or_else(|| self.newest_run())
    }

    pub(super) fn newest_run(&self) -> u32 {
        self.runs.last().map_or(0, |run| run.number)
    }

    /// Whether an event that names no run has happened in the newest one.
    pub(super) fn has_happened(&self, event: &Event) -> bool {
        self.has_happened_to(event, self.newest_run())
    }

    /// Whether an event that names no run has happened in this one.
    pub(super) fn has_happened_to(&self, event: &Event, run: u32) -> bool {
        let text = event.as_str();
        let of_run = |run: u32, text: &str| self.happened.contains(&format!("{run}:{text}"));
        self.happened.contains(text)
            || of_run(run, text)
            || event.of_a_run().is_some_and(|(run, text)| of_run(run, text))
    }

    pub(super) fn issue(&mut self, op: &Op) -> Result<(), Stop> {
        let index = self.next_op;
        if op.verb == Verb::Run {
            self.runs.push(Run {
                number: self.runs.len() as u32 + 1,
                ended: false,
                inventory: None,
                is_counted_later: false,
                busy_until: None,
                before: HashSet::new(),
            });
        }
        let run = self.subject_of(op);
        match op.verb {
            Verb::Run => self.start_run(index, run, op.hindered_by)?,
            Verb::Cancel => {
                self.note_issued(index, op.verb, run);
                if self.is_template() {
                    self.signal_host(index, Signal::TERM);
                } else {
                    self.tell_host(&Order::Cancel { op: index, run });
                }
            }
            Verb::Drop => self.ask_host(index, op.verb, run, &Order::Drop { op: index, run }),
            Verb::AskAgain => self.ask_host(index, op.verb, run, &Order::AskAgain { op: index, run }),
            Verb::Poll => self.ask_host(index, op.verb, run, &Order::Poll { op: index, run }),
            Verb::Write(bytes) => {
                self.ask_host(index, op.verb, run, &Order::Write { op: index, run, bytes });
            }
            Verb::CloseStdin => self.ask_host(index, op.verb, run, &Order::CloseStdin { op: index, run }),
            Verb::Together => {
                let order = Order::Together { op: index, run, callers: op.callers.clone() };
                self.ask_host(index, op.verb, run, &order);
            }
            Verb::Wait => self.done(index),
            Verb::StopHost => {
                self.note_issued(index, op.verb, run);
                self.host_is_stopped = true;
                self.signal_host(index, Signal::STOP);
            }
            Verb::ContinueHost => {
                self.note_issued(index, op.verb, run);
                self.host_is_stopped = false;
                self.signal_host(index, Signal::CONT);
            }
            Verb::HangUp => {
                self.note_issued(index, op.verb, run);
                if let Some(host) = &mut self.host {
                    host.link = None;
                }
                self.note(What::Done { op: index });
                self.done(index);
            }
            Verb::KillHost => {
                self.note_issued(index, op.verb, run);
                self.signal_host(index, Signal::KILL);
            }
            Verb::SignalHost(signal) => {
                self.note_issued(index, op.verb, run);
                let signal =
                    Signal::from_named_raw(signal.number()).expect("scripts name signals that exist");
                self.signal_host(index, signal);
            }
            Verb::EndHost(how) => {
                self.note_issued(index, op.verb, run);
                self.tell_host(&Order::End { how });
                self.note(What::Done { op: index });
                self.done(index);
            }
        }
        Ok(())
    }

    /// Gives the host an order that it answers.
    fn ask_host(&mut self, op: usize, verb: Verb, run: u32, order: &Order) {
        self.note_issued(op, verb, run);
        self.pending_answers += 1;
        self.tell_host(order);
    }

    /// Nobody is left to continue a host that an op has stopped.
    pub(super) fn continue_host(&mut self) {
        let over = self.next_op >= self.case.scenario.ops.len();
        if !over || !std::mem::take(&mut self.host_is_stopped) || self.host_is_gone() {
            return;
        }
        let Some(host) = &self.host else { return };
        // One that is gone since needs nothing.
        let _ = rustix::process::pidfd_send_signal(&host.pidfd, Signal::CONT);
        self.note(What::HostContinued);
        self.extend_deadline();
    }

    pub(super) fn note_issued(&mut self, op: usize, verb: Verb, run: u32) {
        self.note(What::Issued { op, verb, run });
    }

    pub(super) fn start_run(
        &mut self,
        index: usize,
        run: u32,
        hindered_by: Option<Hindrance>,
    ) -> Result<(), Stop> {
        let folder = self.place.folder.join(format!("r{run}"));
        fs::create_dir(&folder)?;
        let name = match &self.case.subject.drive {
            Drive::Template { fake_as: Some(name), .. } => name.as_str(),
            _ => "fake",
        };
        let fake = folder.join(name);
        let play = PlayFile {
            control: Some(self.place.folder.join("c")),
            run,
            ttl: TTL,
            script: self.case.scenario.script.clone(),
        };
        match hindered_by {
            Some(Hindrance::MissingProgram) => {}
            Some(Hindrance::NotExecutable) => write_program(&fake, "#!/bin/sh\n", 0o600)?,
            Some(Hindrance::BadInterpreter) => write_program(&fake, "#!/no/such/interpreter\n", 0o700)?,
            Some(Hindrance::NoProcess | Hindrance::DescriptorsLeft(_)) | None => {
                play.install(self.place.program, &fake)?;
            }
        }
        if let Some(calls) = &mut self.syscalls {
            calls.knows_fake(&fake);
        }
        match &self.case.subject.drive {
            Drive::Reentry { .. } => {
                self.count_handles_before(run);
                self.note_issued(index, Verb::Run, run);
                let scenario = &self.case.scenario;
                let task = Task {
                    program: fake,
                    limits: scenario.limits,
                    input: scenario.input,
                    writes: scenario.writes(),
                    asks_again: scenario.ops.iter().any(|op| op.verb == Verb::AskAgain),
                };
                let hindered_by = hindered_by.filter(|hindrance| !hindrance.is_in_program());
                self.tell_host(&Order::Run { run, task, hindered_by });
            }
            Drive::Template { words, fake_as, .. } => {
                let filled: Vec<String> =
                    words.iter().map(|word| word.replace("{fake}", &fake.to_string_lossy())).collect();
                let program = launch::find_program(&filled[0])
                    .ok_or_else(|| Stop::Fault(format!("{}: no such program", filled[0])))?;
                let path_first = fake_as.as_ref().map(|_| folder.clone());
                let arguments = filled.into_iter().map(Into::into).collect();
                self.note_issued(index, Verb::Run, run);
                self.launch(Part::Program { path: program, arguments }, path_first)?;
            }
        }
        Ok(())
    }

    pub(super) fn tell_host(&mut self, order: &Order) {
        let Some(link) = self.host.as_mut().and_then(|host| host.link.as_mut()) else { return };
        let mut line = serde_json::to_vec(order).expect("an order has string keys only");
        line.push(b'\n');
        // A host that does not take a few hundred bytes is gone or silent, and both are noticed elsewhere.
        drop(link.stream.write_all(&line));
    }

    pub(super) fn signal_host(&mut self, op: usize, signal: Signal) {
        if let Some(host) = &self.host
            && host.gone.is_none()
        {
            // By pidfd, so that it is the host or nobody.
            match rustix::process::pidfd_send_signal(&host.pidfd, signal) {
                Ok(()) | Err(rustix::io::Errno::SRCH) => {}
                Err(error) => {
                    self.note(What::OpFailed { op, why: error.to_string() });
                    return;
                }
            }
        }
        self.note(What::Done { op });
        self.done(op);
    }

    pub(super) fn done(&mut self, op: usize) {
        self.happen(format!("op.{op}.done"));
    }

    pub(super) fn extend_deadline(&mut self) {
        let limits = self.trace.limits;
        let delay = self.case.scenario.ops.get(self.next_op).and_then(|op| op.delay);
        let timeout = limits.timeout.filter(|timeout| *timeout != LARGEST_TIMEOUT);
        let total: Duration =
            [timeout, limits.grace, limits.drain, delay].into_iter().flatten().map(Span::get).sum();
        self.deadline = Instant::now()
            + total
            + self.case.overhead * 2
            + longest_own_time(&self.case.scenario.script)
            + SILENCE_CAP;
    }

    /// Whether every op is finished and nothing of it is under way.
    pub(super) fn is_quiet(&self) -> bool {
        let ops_done = self.next_op >= self.case.scenario.ops.len();
        let stuck = self.trace.moments.iter().any(|moment| matches!(moment.what, What::GateStuck { .. }));
        let ends_host = self.case.scenario.ops.iter().any(|op| op.verb.ends_host());
        let runs_done = self.runs.iter().all(|run| run.ended && run.inventory.is_none());
        let over = if ends_host { self.host_is_gone() } else { runs_done || self.host_is_gone() };
        ops_done && (stuck || (over && (self.pending_answers == 0 || self.host_is_gone())))
    }

    pub(super) fn host_is_gone(&self) -> bool {
        self.host.as_ref().is_some_and(|host| host.gone.is_some())
    }

    pub(super) fn is_template(&self) -> bool {
        matches!(self.case.subject.drive, Drive::Template { .. })
    }
}

/// A program that cannot be executed, in one way or another.
fn write_program(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(text.as_bytes())
}
