//! Taking in whatever happens: hellos, reports, answers, deaths.

use super::*;

impl Runner<'_> {
    pub(super) fn next_wakeup(&self) -> Instant {
        let mut wakeup = self.deadline.min(Instant::now() + TURN);
        if let Some(op) = self.case.scenario.ops.get(self.next_op) {
            let due = match self.open_since {
                Some(since) => since + op.delay.map_or(Duration::ZERO, Span::get),
                None => self.gate_since + GATE_CAP_AFTER_END,
            };
            let now = Instant::now();
            // A gate that is late is looked at again at its longer cap.
            wakeup =
                wakeup.min(if due > now { due } else { (self.gate_since + GATE_CAP).max(now + LOOK_AGAIN) });
        }
        wakeup = self.next_sample.map_or(wakeup, |next| wakeup.min(next));
        wakeup = self.next_look_for_stops().map_or(wakeup, |next| wakeup.min(next));
        for run in &self.runs {
            if let Some(pending) = &run.inventory {
                wakeup = wakeup.min(pending.next);
            }
        }
        wakeup
    }

    pub(super) fn wait_for_events(&mut self, until: Instant) -> Result<(), Stop> {
        let until = self.next_call_wakeup().map_or(until, |call| until.min(call));
        let mut fds = vec![
            PollFd::from_borrowed_fd(self.place.lifeline, PollFlags::IN),
            PollFd::from_borrowed_fd(self.listener.as_fd(), PollFlags::IN),
        ];
        let has_host = self.host.as_ref().is_some_and(|host| host.gone.is_none());
        if let Some(host) = &self.host {
            if has_host {
                fds.push(PollFd::from_borrowed_fd(host.pidfd.as_fd(), PollFlags::IN));
            }
            if let Some(link) = &host.link {
                fds.push(PollFd::from_borrowed_fd(link.stream.as_fd(), PollFlags::IN));
            }
        }
        let connections =
            self.nodes.iter().map(|node| &node.connection).chain(self.strangers.iter().map(|(c, _)| c));
        fds.extend(
            connections
                .filter_map(Connection::socket)
                .map(|socket| PollFd::from_borrowed_fd(socket, PollFlags::IN)),
        );
        // A node that closed its connection and still lives is waited for by its pidfd.
        for node in self.nodes.iter().filter(|node| !node.gone && !node.is_connected()) {
            fds.extend(node.pidfd().map(|pidfd| PollFd::from_borrowed_fd(pidfd, PollFlags::IN)));
        }
        fds.extend(self.syscalls.as_ref().and_then(SystemCalls::poll_fd));
        poll_until(&mut fds, until)?;
        let orphaned = !fds[0].revents().is_empty();
        let host_is_dead = has_host && !fds[2].revents().is_empty();
        drop(fds);
        if orphaned {
            return Err(Stop::Orphaned);
        }
        self.take_connections()?;
        self.take_reports();
        // What the nodes said comes first: a call that waited while we looked elsewhere was made after it.
        self.take_syscalls()?;
        self.take_answers()?;
        self.take_stops();
        self.take_deaths(host_is_dead)?;
        self.start_stranger()
    }

    pub(super) fn take_connections(&mut self) -> Result<(), Stop> {
        while let Some(connection) = self.listener.accept()? {
            self.strangers.push((connection, Instant::now()));
        }
        let mut index = 0;
        while index < self.strangers.len() {
            match self.strangers[index].0.receive(&mut self.buffer) {
                Received::Report(Report::Hello(hello)) => {
                    // In order: a node that replaces itself says hello over an older connection first.
                    let (connection, _) = self.strangers.remove(index);
                    self.enroll(*hello, connection);
                }
                Received::Nothing => index += 1,
                Received::End => {
                    // It died before it could say who it is.
                    self.strangers.remove(index);
                }
                Received::Report(_) | Received::Garbage(_) => {
                    return Err(Stop::Fault(
                        "something that is no node connected to the control socket".to_owned(),
                    ));
                }
            }
        }
        Ok(())
    }

    pub(super) fn enroll(&mut self, mut hello: Hello, connection: Connection) {
        // Whoever is executed plays the root of its run, and of no run only the host's own child is executed.
        if hello.run == 0 && hello.node == fake_cli::script::ROOT {
            BYSTANDER_CHILD.clone_into(&mut hello.node);
        }
        connection.translate(&mut hello);
        let (run, name) = (hello.run, hello.node.clone());
        self.note_report(run, &name, Report::Hello(Box::new(hello.clone())), Some(hello.at_ns));
        self.happen_in(run, format!("{name}.hello"));
        let same = |node: &Node| node.hello.pid == hello.pid && node.hello.start_ticks == hello.start_ticks;
        match self.nodes.iter().position(same) {
            Some(index) => {
                // What it said before it replaced itself may still be on its way.
                self.take_reports_of(index);
                let node = &mut self.nodes[index];
                node.connection = connection;
                node.reexec = false;
            }
            None => self.nodes.push(Node { hello, connection, reexec: false, gone: false, waits: None }),
        }
    }

    pub(super) fn take_reports(&mut self) {
        for index in 0..self.nodes.len() {
            self.take_reports_of(index);
        }
    }

    fn take_reports_of(&mut self, index: usize) {
        loop {
            match self.nodes[index].connection.receive(&mut self.buffer) {
                Received::Report(report) => self.take_report(index, report),
                Received::Nothing => return,
                Received::End => return self.nodes[index].disconnect(),
                Received::Garbage(why) => {
                    self.trace.end = CaseEnd::OurFault(format!("a node sent what is no report: {why}"));
                    return self.nodes[index].disconnect();
                }
            }
        }
    }

    pub(super) fn take_report(&mut self, index: usize, report: Report) {
        let (run, name) = (self.nodes[index].hello.run, self.nodes[index].hello.node.clone());
        let own_ns = match &report {
            Report::Emit { at_ns, .. }
            | Report::Did { at_ns, .. }
            | Report::Signal { at_ns, .. }
            | Report::Exiting { at_ns, .. } => Some(*at_ns),
            _ => None,
        };
        self.note_report(run, &name, report.clone(), own_ns);
        match report {
            Report::Emit { name: event, .. } => self.happen_in(run, format!("{name}.{event}")),
            Report::Signal { signal, .. } => {
                self.happen_in(run, format!("{name}.{}", fake_cli::script::Signal::name_of(signal)));
            }
            Report::Did { step, .. } => self.happen_in(run, format!("{name}.did-{step}")),
            Report::Exiting { .. } => self.happen_in(run, format!("{name}.exiting")),
            Report::Reexec => self.nodes[index].reexec = true,
            Report::Waits { event } => {
                if self.has_happened_for(index, &event) {
                    self.nodes[index].connection.send(&control::Order::Pass { event });
                } else {
                    self.nodes[index].waits = Some(event);
                }
            }
            _ => {}
        }
    }

    pub(super) fn take_answers(&mut self) -> Result<(), Stop> {
        for line in self.read_lines()? {
            let answer: Answer = serde_json::from_slice(&line)
                .map_err(|error| Stop::Fault(format!("the host sent what is no answer: {error}")))?;
            match answer {
                Answer::Hello { promises, version } => {
                    self.trace.subject.promises = promises;
                    self.trace.subject.version = version;
                    self.trace.limits = promises.limits(self.case.scenario.limits);
                    self.happened.insert("host.hello".to_owned());
                    self.gate_since = Instant::now();
                }
                Answer::Ended { run, outcome } => self.run_ended(run, outcome),
                Answer::Child { got } => self.note(What::ChildStatus { got }),
                Answer::Done { op } => {
                    self.note(What::Done { op });
                    self.answered(op);
                    self.done(op);
                }
                Answer::Again { op, run, outcome } => {
                    self.note(What::Again { op, run, outcome });
                    self.answered(op);
                    self.done(op);
                }
                Answer::Tasks { alive } => self.tasks = Tasks { newest: Some(alive), is_asked: false },
                Answer::Polled { op, run, polled } => {
                    self.note(What::Polled { op, run, polled });
                    self.answered(op);
                    self.done(op);
                }
                Answer::Called { op, run, calls } => {
                    let made = calls.into_iter().map(|made| Made {
                        caller: made.caller,
                        call: made.call,
                        called_us: self.on_the_clock(made.called_ns),
                        returned_us: self.on_the_clock(made.returned_ns),
                        said: made.said,
                    });
                    let calls = made.collect();
                    self.note(What::Called { op, run, calls });
                    self.answered(op);
                    self.done(op);
                }
                Answer::Unimplemented { op } => {
                    self.note(What::Unimplemented { op });
                    self.answered(op);
                }
                Answer::Failed { op, why } => {
                    self.note(What::OpFailed { op, why });
                    self.answered(op);
                }
            }
        }
        Ok(())
    }

    pub(super) fn answered(&mut self, op: usize) {
        let Some(answered) = self.case.scenario.ops.get(op) else { return };
        let verb = answered.verb;
        let drops = verb == Verb::Drop || answered.counts(Call::Drop) > 0;
        if !matches!(verb, Verb::Cancel) {
            self.pending_answers = self.pending_answers.saturating_sub(1);
        }
        if drops && let Some(run) = self.run_of(op) {
            // A dropped run says no end; its handles count from now on, and the wrapper has its grace and its drain after that.
            let limits = self.trace.limits;
            let busy = [limits.grace, limits.drain].into_iter().flatten().map(Span::get).sum();
            self.await_handles(run, busy);
        }
    }

    /// The run that an op was about which was issued.
    fn run_of(&self, op: usize) -> Option<u32> {
        self.trace.moments.iter().rev().find_map(|moment| match moment.what {
            What::Issued { op: issued, run, .. } if issued == op => Some(run),
            _ => None,
        })
    }

    pub(super) fn read_lines(&mut self) -> Result<Vec<Vec<u8>>, Stop> {
        let Some(host) = &mut self.host else { return Ok(Vec::new()) };
        let Some(link) = &mut host.link else { return Ok(Vec::new()) };
        let mut closed = false;
        loop {
            match rustix::io::read(&link.stream, &mut *self.buffer) {
                Ok(([], _)) => {
                    closed = true;
                    break;
                }
                Ok((bytes, _)) => link.received.extend_from_slice(bytes),
                Err(rustix::io::Errno::INTR) => {}
                // Nothing at the moment, or the host was killed; its death is noticed by its pidfd.
                Err(_) => break,
            }
        }
        let mut lines = Vec::new();
        while let Some(end) = link.received.iter().position(|byte| *byte == b'\n') {
            let rest = link.received.split_off(end + 1);
            lines.push(std::mem::replace(&mut link.received, rest));
        }
        if closed {
            host.link = None;
        }
        Ok(lines)
    }

    /// `host_is_dead` is what was known of the host before what others said was read.
    pub(super) fn take_deaths(&mut self, host_is_dead: bool) -> Result<(), Stop> {
        let is_dead = |node: &Node| !node.gone && !node.is_connected() && node.is_dead();
        let dead: Vec<usize> = (0..self.nodes.len()).filter(|index| is_dead(&self.nodes[*index])).collect();
        // The host's end may be what ended them: asked after they were seen dead and noted before them.
        if host_is_dead || (!dead.is_empty() && self.host_has_died()) {
            self.take_host_death()?;
        }
        for index in dead {
            self.nodes[index].gone = true;
            let (run, name) = (self.nodes[index].hello.run, self.nodes[index].hello.node.clone());
            self.note(What::Gone { run, node: name.clone() });
            self.happen_in(run, format!("{name}.gone"));
        }
        Ok(())
    }

    /// Whether it has, and nobody has noted it.
    fn host_has_died(&self) -> bool {
        self.host.as_ref().is_some_and(|host| host.gone.is_none() && is_readable(host.pidfd.as_fd()))
    }

    pub(super) fn take_host_death(&mut self) -> Result<(), Stop> {
        // What it said last is read before its end is noted.
        self.take_answers()?;
        let Some(host) = self.host.as_mut() else { return Ok(()) };
        let waited = rustix::process::waitid(
            WaitId::PidFd(host.pidfd.as_fd()),
            WaitIdOptions::EXITED | WaitIdOptions::NOHANG,
        );
        let status = match waited {
            Ok(Some(status)) => status,
            Ok(None) => {
                return Err(Stop::Fault("the host's status was lost: it is dead and has none".to_owned()));
            }
            Err(why) => return Err(Stop::Fault(format!("the host's status was lost: {why}"))),
        };
        let status = match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Status::Exited(code),
            (None, Some(signal)) => Status::Signaled(signal),
            (None, None) => return Err(Stop::Fault("the host ended in no known way".to_owned())),
        };
        host.gone = Some(status);
        host.link = None;
        if status == Status::Exited(launch::NOT_EXECUTED) && self.nodes.is_empty() {
            return Err(Stop::Fault(format!("the host could not be started{}", self.host_complaint())));
        }
        let template = self.is_template();
        self.note(What::HostGone { status });
        self.happen("host.gone".to_owned());
        if template {
            let outcome = self.template_outcome(status);
            let run = self.runs.last().map_or(1, |run| run.number);
            self.run_ended(run, outcome);
        }
        Ok(())
    }

    /// A command says how it ended by its own status, and gives back what its child wrote to the descriptors it was given.
    pub(super) fn template_outcome(&self, status: Status) -> Outcome {
        let host = self.host.as_ref().expect("it has just ended");
        let captured = |path: &Path| fs::read(path).ok().map(|bytes| Captured::of(&bytes, None));
        // What did not fit was lost by the harness, not by the command.
        let has_room = crate::workplace::free_bytes(self.place.folder) > LEAST_FREE_BYTES;
        let captures = self.trace.subject.promises.captures && has_room;
        Outcome {
            reason: Reason::Unsaid,
            status: Some(status),
            stdout: captures.then(|| captured(&host.stdout)).flatten(),
            stderr: captures.then(|| captured(&host.stderr)).flatten(),
        }
    }

    pub(super) fn run_ended(&mut self, number: u32, outcome: Outcome) {
        self.note(What::Ended { run: number, outcome });
        self.await_handles(number, Duration::ZERO);
        self.happen_in(number, "run.ended".to_owned());
    }

    /// Counts the handles of a run that is over for its caller, with which the wrapper may be busy for so long.
    pub(super) fn await_handles(&mut self, number: u32, busy: Duration) {
        let counts = !self.is_template() && !self.host_is_gone();
        let others = self.runs.iter().any(|run| run.number != number && !run.ended);
        let now = Instant::now();
        // A run that was dropped may have ended just before.
        let Some(run) = self.runs.iter_mut().find(|run| run.number == number && !run.ended) else { return };
        run.ended = true;
        run.is_counted_later = counts && others;
        run.busy_until = Some(now + busy);
        if counts && !others {
            let done = self.runs.iter().filter(|run| run.number == number || run.is_counted_later);
            let done = done.filter_map(|run| run.busy_until).fold(now, Instant::max);
            if let Some(run) = self.runs.iter_mut().find(|run| run.number == number) {
                let (busy, patience) = (done.saturating_duration_since(now), Patience::from(now));
                run.inventory = Some(PendingInventory { since: now, busy, patience, next: now });
            }
        }
    }
}
