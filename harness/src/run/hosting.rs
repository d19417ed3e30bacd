//! Starting the host and what it leaves behind.

use crate::terminal::Terminal;

use super::*;

impl Runner<'_> {
    pub(super) fn start_host(&mut self, subject: &str) -> Result<(), Stop> {
        let socket = self.place.folder.join("h");
        let listener = UnixListener::bind(&socket)?;
        let host = self.place.host;
        self.launch(Part::Function(&|| host(subject, &socket)), None)?;
        let stream = self.accept_host(&listener)?;
        stream.set_nonblocking(true)?;
        self.host.as_mut().expect("it was just launched").link = Some(Link { stream, received: Vec::new() });
        while !self.happened.contains("host.hello") {
            if Instant::now() >= self.deadline {
                return Err(Stop::Fault(format!(
                    "the host said nothing for {HELLO_CAP:?}{}",
                    self.host_complaint()
                )));
            }
            self.wait_for_events(self.deadline)?;
        }
        Ok(())
    }

    pub(super) fn accept_host(&mut self, listener: &UnixListener) -> Result<UnixStream, Stop> {
        listener.set_nonblocking(true)?;
        loop {
            match listener.accept() {
                Ok((stream, _)) => return Ok(stream),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
            let host = self.host.as_ref().expect("it was just launched");
            let mut fds = vec![
                PollFd::from_borrowed_fd(listener.as_fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(host.pidfd.as_fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(self.place.lifeline, PollFlags::IN),
            ];
            fds.extend(self.syscalls.as_ref().and_then(SystemCalls::poll_fd));
            poll_until(&mut fds, self.deadline)?;
            let ended = !fds[1].revents().is_empty();
            if !fds[2].revents().is_empty() {
                return Err(Stop::Orphaned);
            }
            drop(fds);
            self.take_syscalls()?;
            if ended || Instant::now() >= self.deadline {
                return Err(Stop::Fault(format!("the host did not connect{}", self.host_complaint())));
            }
        }
    }

    /// What the host wrote to its standard error, for messages.
    pub(super) fn host_complaint(&self) -> String {
        let text = self.host.as_ref().and_then(|host| fs::read(&host.stderr).ok()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text[..text.len().min(2000)]).trim().to_owned();
        if text.is_empty() { String::new() } else { format!("; it wrote: {text}") }
    }

    pub(super) fn launch(&mut self, part: Part<'_>, path_first: Option<PathBuf>) -> Result<(), Stop> {
        let home = self.place.folder.join("home");
        let temporary = self.temporary();
        fs::create_dir(&home)?;
        fs::create_dir(&temporary)?;
        let (stdin, stdin_writer) = io::pipe()?;
        let (stdout, stderr) = (self.place.folder.join("out"), self.place.folder.join("err"));
        let bystanders = self.case.scenario.bystanders.then(|| self.bystander_play());
        let executes = matches!(part, Part::Program { .. });
        let watch = self.syscalls.as_mut().map(|calls| calls.watch_where(executes)).unwrap_or_default();
        let terminal = self.case.scenario.host.terminal.then(Terminal::open).transpose()?;
        let launch = Launch {
            part,
            path_first,
            home: &home,
            temporary: &temporary,
            // The words of a command may be paths that its user wrote where the harness was started.
            folder: (!self.is_template()).then_some(home.as_path()),
            stdin: terminal.as_ref().map_or(stdin.as_fd(), |terminal| terminal.slave().as_fd()),
            stdout: &File::create(&stdout)?,
            stderr: &File::create(&stderr)?,
            state: &self.case.scenario.host,
            bystanders: bystanders.as_ref(),
            shares_group: self.case.scenario.shares_group(),
            terminal: terminal.as_ref(),
            watch: &watch,
        };
        let launch::Started { pid, syscalls, leader } = launch::start(&launch, self.place.container)?;
        if let Some(known) = &mut self.syscalls {
            known.listen(syscalls, executes);
        }
        let pidfd =
            rustix::process::pidfd_open(Pid::from_raw(pid).expect("a child has a pid"), PidfdFlags::empty())
                .map_err(io::Error::from)?;
        self.note(What::HostStarted { pid });
        let given = launch.given()?;
        self.note(What::HostGiven(given));
        self.host =
            Some(HostProcess { pid, pidfd, gone: None, _stdin: stdin_writer, link: None, stdout, stderr });
        self.keep_terminal(terminal, leader)
    }

    /// Where the host keeps its temporary files.
    pub(super) fn temporary(&self) -> PathBuf {
        self.place.folder.join("tmp")
    }

    /// Has the host start a child of its own, where the scenario has one; it is up when this returns.
    pub(super) fn start_bystander_child(&mut self) -> Result<(), Stop> {
        let Some(event) = self.case.scenario.bystander_child.clone() else { return Ok(()) };
        let folder = self.place.folder.join("b");
        fs::create_dir(&folder)?;
        let fake = folder.join("fake");
        let script = vec![Step::Await(event), Step::Exit(trace::BYSTANDER_CHILD_CODE)];
        let play = PlayFile { control: Some(self.place.folder.join("c")), run: 0, ttl: TTL, script };
        play.install(self.place.program, &fake)?;
        self.tell_host(&Order::StartChild { program: fake });
        let up = format!("{BYSTANDER_CHILD}.hello");
        while !self.happened.contains(&up) {
            if Instant::now() >= self.deadline || self.host_is_gone() || self.child_was_asked() {
                return Err(Stop::Fault("the host's own child did not come up".to_owned()));
            }
            self.wait_for_events(self.deadline)?;
        }
        Ok(())
    }

    /// Once the host's own child has ended, has the host ask for its status.
    pub(super) fn ask_bystander_child(&mut self) -> Result<(), Stop> {
        let due = self.case.scenario.bystander_child.as_ref().is_some_and(|event| self.has_happened(event));
        if !due {
            return Ok(());
        }
        let gone = format!("{BYSTANDER_CHILD}.gone");
        self.wait_while(SETTLE_CAP, |runner| !runner.happened.contains(&gone) && !runner.host_is_gone())?;
        if !self.happened.contains(&gone) {
            return Ok(());
        }
        self.tell_host(&Order::AskChild);
        self.wait_while(BYE_CAP, |runner| !runner.child_was_asked() && !runner.host_is_gone())
    }

    fn child_was_asked(&self) -> bool {
        self.trace.moments.iter().any(|moment| matches!(moment.what, What::ChildStatus { .. }))
    }

    pub(super) fn bystander_play(&self) -> PlayFile {
        let script =
            vec![Step::LogSignals, Step::Emit("ready".try_into().expect("a legal name")), Step::Hang];
        PlayFile { control: Some(self.place.folder.join("c")), run: 0, ttl: TTL, script }
    }
}
