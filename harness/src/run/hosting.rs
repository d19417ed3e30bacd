//! Starting the host and what it leaves behind.

use super::*;

impl Runner<'_> {
    pub(super) fn start_host(&mut self, subject: &str) -> Result<(), Stop> {
        let socket = self.place.folder.join("h");
        let listener = UnixListener::bind(&socket)?;
        let arguments = vec![
            self.place.program.into(),
            crate::reentry::FLAG.into(),
            "host".into(),
            subject.into(),
            socket.into(),
        ];
        self.launch(self.place.program.to_owned(), arguments, None)?;
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
            let mut fds = [
                PollFd::from_borrowed_fd(listener.as_fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(host.pidfd.as_fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(self.place.lifeline, PollFlags::IN),
            ];
            poll_until(&mut fds, self.deadline)?;
            let ended = !fds[1].revents().is_empty();
            if !fds[2].revents().is_empty() {
                return Err(Stop::Orphaned);
            }
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

    pub(super) fn launch(
        &mut self,
        program: PathBuf,
        arguments: Vec<std::ffi::OsString>,
        path_first: Option<PathBuf>,
    ) -> Result<(), Stop> {
        let home = self.place.folder.join("home");
        fs::create_dir(&home)?;
        let (stdin, stdin_writer) = io::pipe()?;
        let (stdout, stderr) = (self.place.folder.join("out"), self.place.folder.join("err"));
        let bystanders = self.case.scenario.bystanders.then(|| self.bystander_play());
        let launch = Launch {
            program,
            arguments,
            path_first,
            home: &home,
            // The words of a command may be paths that its user wrote where the harness was started.
            folder: (!self.is_template()).then_some(home.as_path()),
            stdin: stdin.as_fd(),
            stdout: &File::create(&stdout)?,
            stderr: &File::create(&stderr)?,
            state: &self.case.scenario.host,
            bystanders: bystanders.as_ref(),
        };
        let pid = launch::start(&launch, self.place.container)?;
        let pidfd =
            rustix::process::pidfd_open(Pid::from_raw(pid).expect("a child has a pid"), PidfdFlags::empty())
                .map_err(io::Error::from)?;
        self.note(What::HostStarted { pid });
        self.host =
            Some(HostProcess { pid, pidfd, gone: None, _stdin: stdin_writer, link: None, stdout, stderr });
        Ok(())
    }

    pub(super) fn bystander_play(&self) -> PlayFile {
        let script =
            vec![Step::LogSignals, Step::Emit("ready".try_into().expect("a legal name")), Step::Hang];
        PlayFile { control: Some(self.place.folder.join("c")), run: 0, ttl: TTL, script }
    }
}
