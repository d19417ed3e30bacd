//! What is written where: results to stdout, everything else to stderr.

use std::io::{self, IsTerminal as _, Write as _};

use crate::report::escape::for_terminal;

/// Width where stdout is no terminal, or does not say.
const WIDTH: usize = 110;

/// Writes a result to stdout. A reader that is gone (`| head`) has read enough: that is no error.
pub(super) fn print(text: &str) {
    let mut stdout = anstream::stdout().lock();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    if let Err(error) = written
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        complain(&format!("stdout: {error}"));
    }
}

/// Says to stderr, in one line, what is wrong or worth knowing.
pub(super) fn complain(message: &str) {
    // Where stderr is gone nobody can be told.
    let _ = writeln!(anstream::stderr(), "headcount: {}", for_terminal(message));
}

/// How many columns stdout has.
pub(super) fn width() -> usize {
    let stdout = io::stdout();
    if !stdout.is_terminal() {
        return WIDTH;
    }
    match rustix::termios::tcgetwinsize(&stdout) {
        Ok(size) if size.ws_col > 0 => usize::from(size.ws_col),
        _ => WIDTH,
    }
}
