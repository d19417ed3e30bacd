//! Looking who is left, once everything has been done.

use super::*;

impl Runner<'_> {
    pub(super) fn look_at_the_end(&mut self) -> Result<(), Stop> {
        if !self.host_is_gone() && !self.is_template() {
            self.ask_bystander_child()?;
            self.look(Stage::Quiesce)?;
            self.look_at_terminal()?;
            self.say_bye()?;
        }
        if self.host_is_gone() {
            self.look(Stage::HostGone)?;
            self.look_at_terminal()?;
            self.list_files_left()?;
        }
        Ok(())
    }

    /// What whoever has ended left in the folder for temporary files; of very much the first by name.
    fn list_files_left(&mut self) -> Result<(), Stop> {
        let mut names = Vec::new();
        match fs::read_dir(self.temporary()) {
            Ok(entries) => {
                for entry in entries {
                    names.push(entry?.file_name().to_string_lossy().into_owned());
                }
            }
            // A host may tidy up so thoroughly that the folder itself is gone.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
        names.sort_unstable();
        names.truncate(MOST_FILES_NAMED);
        self.trace.files_left = Some(names);
        Ok(())
    }

    pub(super) fn say_bye(&mut self) -> Result<(), Stop> {
        self.tell_host(&Order::Bye);
        self.wait_while(BYE_CAP, |runner| !runner.host_is_gone())
    }

    /// Waits until everyone has gone or the cap is reached, by events where there are any, and writes down who is left.
    pub(super) fn look(&mut self, stage: Stage) -> Result<(), Stop> {
        let began = Instant::now();
        let mut patience = Patience::from(began);
        let mut samples: Vec<(i32, u64, u32)> = Vec::new();
        loop {
            if stage == Stage::HostGone && contain::reap_all() {
                // What the last of them said and that they are dead is still to be read.
                self.take_late_news()?;
                self.note_nobody(stage, began);
                return Ok(());
            }
            self.take_late_news()?;
            let host = self.host.as_ref().map(|host| host.pid);
            // Asked before the look: a fork or a death that is done by then is seen.
            let under_way = self.fork_is_under_way() || self.bystander_is_dying();
            let members = self.place.container.members(host)?;
            let left: Vec<Stat> = members.all.into_iter().filter(|stat| self.counts(stat)).collect();
            count_samples(&mut samples, &left);
            let waited = began.elapsed();
            let settled = members.complete && left.is_empty() && !under_way;
            if settled || patience.turn(began + waited) >= self.settle_cap(stage, &left) {
                let look = Look {
                    stage,
                    at_us: self.now_us(),
                    settled_us: waited.as_micros() as u64,
                    method: members.method,
                    complete: members.complete,
                    seen: left.iter().map(|stat| self.seen(stat, &samples)).collect(),
                    // Once a case is enough where nobody is left to be doubted, and that is when the host is gone.
                    sysinfo: (!left.is_empty() || stage == Stage::HostGone)
                        .then(|| self.ask_sysinfo(&left))
                        .flatten(),
                };
                self.trace.looks.push(look);
                return Ok(());
            }
            self.wait_for_a_change(&left, began)?;
        }
    }

    /// Whether a bystander has a signal to take, or is dead and not known to be.
    fn bystander_is_dying(&self) -> bool {
        let mut bystanders = self.nodes.iter().filter(|node| node.hello.run == 0 && !node.gone);
        bystanders.any(|node| {
            let stat = scan::stat(node.hello.pid);
            stat.is_none_or(|stat| stat.is_zombie()) || scan::has_pending_signal(node.hello.pid)
        })
    }

    pub(super) fn note_nobody(&mut self, stage: Stage, began: Instant) {
        let look = Look {
            stage,
            at_us: self.now_us(),
            settled_us: began.elapsed().as_micros() as u64,
            method: trace::Method::NoChild,
            complete: true,
            seen: Vec::new(),
            sysinfo: self.ask_sysinfo(&[]),
        };
        self.trace.looks.push(look);
    }

    /// Takes in what has already happened, without waiting.
    pub(super) fn take_late_news(&mut self) -> Result<(), Stop> {
        self.wait_for_events(Instant::now())
    }

    /// Whether somebody in the container is neither the host nor a bystander nor a zombie of the warden's own.
    pub(super) fn counts(&self, stat: &Stat) -> bool {
        let is_host = self.host.as_ref().is_some_and(|host| host.pid == stat.pid);
        let leads_terminal = self
            .terminal
            .as_ref()
            .is_some_and(|terminal| terminal.leader == stat.pid || terminal.leader == stat.ppid);
        let own_zombie = stat.is_zombie() && stat.ppid == std::process::id() as i32;
        let bystander = self.node_of(stat).is_some_and(|node| node.hello.run == 0);
        !is_host && !leads_terminal && !own_zombie && !bystander
    }

    pub(super) fn node_of(&self, stat: &Stat) -> Option<&Node> {
        self.nodes
            .iter()
            .find(|node| node.hello.pid == stat.pid && node.hello.start_ticks == stat.start_ticks)
    }

    /// When the host is gone and only nodes are left, none of which has a signal to take or is dying, nobody can end them any more.
    pub(super) fn settle_cap(&self, stage: Stage, left: &[Stat]) -> Duration {
        let alone = stage == Stage::HostGone
            && left.iter().all(|stat| self.node_of(stat).is_some_and(Node::is_connected))
            && !left.iter().any(|stat| scan::has_pending_signal(stat.pid) && stat.state != 'T')
            && !left.iter().any(|stat| stat.exits || self.has_said_that_it_exits(stat));
        if alone { SETTLE_CAP_ALONE } else { SETTLE_CAP }
    }

    fn has_said_that_it_exits(&self, stat: &Stat) -> bool {
        let Some(Node { hello, .. }) = self.node_of(stat) else { return false };
        self.trace.moments.iter().any(|moment| match &moment.what {
            What::Node { run, node, said: Report::Exiting { .. }, .. } => {
                (*run, node) == (hello.run, &hello.node)
            }
            _ => false,
        })
    }

    pub(super) fn wait_for_a_change(&mut self, left: &[Stat], began: Instant) -> Result<(), Stop> {
        // Zombies and late forks are announced by nothing, so the pause grows with the time that was waited.
        let pause = (began.elapsed() / 8).clamp(LOOK_AGAIN, Duration::from_millis(50));
        let until = Instant::now() + pause;
        let pidfds: Vec<OwnedFd> =
            left.iter().filter(|stat| !stat.is_zombie()).filter_map(contain::open_exactly).collect();
        let mut fds: Vec<_> =
            pidfds.iter().map(|fd| PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)).collect();
        fds.push(PollFd::from_borrowed_fd(self.listener.as_fd(), PollFlags::IN));
        fds.push(PollFd::from_borrowed_fd(self.place.lifeline, PollFlags::IN));
        fds.extend(self.syscalls.as_ref().and_then(SystemCalls::poll_fd));
        poll_until(&mut fds, until)?;
        Ok(())
    }

    pub(super) fn seen(&self, stat: &Stat, samples: &[(i32, u64, u32)]) -> Seen {
        let node = self.node_of(stat);
        let count = samples
            .iter()
            .find(|(pid, start, _)| (*pid, *start) == (stat.pid, stat.start_ticks))
            .map_or(0, |s| s.2);
        let connected = node
            .is_some_and(|node| node.is_connected() && node.pidfd().is_none_or(|pidfd| !is_readable(pidfd)));
        let dying = stat.exits || scan::has_pending_kill(stat.pid);
        let name = node.map(|node| (node.hello.run, node.hello.node.clone()));
        Seen { dying, ..seen(stat, name, connected, count) }
    }

    /// Which pids the second scanner lists; on a shared `/proc` it is asked for those on the roll only.
    pub(super) fn ask_sysinfo(&self, left: &[Stat]) -> Option<Vec<i32>> {
        let nodes = self.nodes.iter().filter(|node| !node.gone).map(|node| node.hello.pid);
        let known = nodes.chain(left.iter().map(|stat| stat.pid));
        let listed = match self.place.tier {
            Tier::T3 => self.place.second.everyone()?,
            Tier::T1 | Tier::T2 => SecondScanner::those_of(known)?,
        };
        let own = std::process::id() as i32;
        let mut pids: Vec<i32> = listed
            .into_iter()
            .filter(|pid| *pid != own && scan::stat(*pid).is_none_or(|stat| self.counts(&stat)))
            .collect();
        pids.sort_unstable();
        Some(pids)
    }
}
