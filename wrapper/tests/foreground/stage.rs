//! The other end of a terminal, and an owner at it.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use childminder::Containment;
use libtest_mimic::Failed;
use nix::pty::openpty;

use crate::owner::PLAY;

/// No test waits longer than this for anything.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Stage {
    owner: Child,
    lines: Receiver<String>,
    /// Ends when nobody has it who was started by the owner, nor the owner.
    rest: Receiver<String>,
    /// What is typed comes here, and what is shown goes.
    screen: Option<File>,
}

impl Stage {
    /// An owner that leads a session at a terminal, in whose foreground it is.
    pub(crate) fn with_terminal(scene: &str, containment: Containment) -> Result<Self, Failed> {
        let pty = openpty(None, None)?;
        let mut setsid = Command::new("setsid");
        setsid.arg("--ctty").stdin(Stdio::from(pty.slave));
        Self::start(setsid, scene, containment, Some(pty.master.into()))
    }

    pub(crate) fn without_terminal(scene: &str, containment: Containment) -> Result<Self, Failed> {
        let mut setsid = Command::new("setsid");
        setsid.stdin(Stdio::null());
        Self::start(setsid, scene, containment, None)
    }

    fn start(
        mut setsid: Command,
        scene: &str,
        containment: Containment,
        screen: Option<File>,
    ) -> Result<Self, Failed> {
        setsid.arg(std::env::current_exe()?).args([PLAY, scene, &containment.to_string()]);
        let mut owner = setsid.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        // Nothing of ours may keep the terminal.
        drop(setsid);
        if let Some(screen) = &screen {
            let mut screen = screen.try_clone()?;
            // What is shown must be taken, or whoever shows it waits. It fails when the last one has closed the terminal.
            thread::spawn(move || while matches!(screen.read(&mut [0; 1024]), Ok(1..)) {});
        }
        let lines = each_line(owner.stdout.take().ok_or("its stdout is a pipe")?);
        let rest = each_line(owner.stderr.take().ok_or("its stderr is a pipe")?);
        Ok(Self { owner, lines, rest, screen })
    }

    /// What the owner says next.
    pub(crate) fn line(&mut self) -> Result<String, Failed> {
        self.lines.recv_timeout(PATIENCE).map_err(|error| {
            let said: Vec<_> = self.rest.try_iter().collect();
            format!("the owner says nothing more: {error}; {}", said.join("\n")).into()
        })
    }

    pub(crate) fn types(&mut self, keys: &[u8]) -> Result<(), Failed> {
        Ok(self.screen.as_mut().ok_or("it has a terminal")?.write_all(keys)?)
    }

    pub(crate) fn kill_owner(&mut self) -> Result<(), Failed> {
        Ok(self.owner.kill()?)
    }

    pub(crate) fn until_nobody_is_left(&mut self) -> Result<(), Failed> {
        loop {
            match self.rest.recv_timeout(PATIENCE) {
                Ok(_) => {}
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => return Ok(()),
                Err(error) => return Err(format!("somebody is left: {error}").into()),
            }
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // An owner that has said everything is gone or about to go; one that failed to is not waited for.
        let _ = self.owner.kill();
        let _ = self.owner.wait();
    }
}

fn each_line(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (send, lines) = channel();
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if send.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

pub(crate) fn expect(said: String, wanted: &str) -> Result<(), Failed> {
    if said == wanted { Ok(()) } else { Err(format!("said {said:?}, and not {wanted:?}").into()) }
}
