//! Why an agent was not started, and what to do about it.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::retry::is_want_of_room;
use crate::start::StartError;

/// Why an execution was not begun. Nothing of it is left, and each message says what to do.
#[derive(Debug)]
#[non_exhaustive]
pub enum AgentError {
    /// The prompt is empty, or nothing but white space.
    EmptyPrompt,
    /// The prompt cannot be given to this agent as an argument.
    UnfitPrompt {
        /// Why.
        why: &'static str,
    },
    /// No program of the agent was found.
    Missing {
        /// What the agent is called.
        agent: String,
        /// What its program may be called.
        programs: Vec<String>,
        /// The environment variable that may name it.
        variable: Option<String>,
        /// The directories that were looked through.
        looked: Vec<PathBuf>,
    },
    /// A program was named, and is not there.
    NotThere {
        /// What the agent is called.
        agent: String,
        /// The program.
        program: PathBuf,
        /// Who named it.
        named_by: String,
    },
    /// The program is there, and may not be executed.
    NotExecutable {
        /// The program.
        program: PathBuf,
        /// Why not.
        why: &'static str,
    },
    /// The breaker is open: the last attempts were refused for want of a login.
    BreakerOpen {
        /// How long nobody will be let through, unless an attempt that is under way finds out that it is over. `None`: for ever.
        retry_after: Option<Duration>,
    },
    /// The scope that this agent was made for is over.
    ScopeOver,
    /// The program could not be started.
    Start(StartError),
}

impl fmt::Display for AgentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EmptyPrompt => f.write_str("the prompt is empty: say what the agent shall do"),
            Self::UnfitPrompt { why } => {
                write!(f, "the prompt cannot be passed as an argument, {why}: pass it on stdin")
            }
            Self::Missing { agent, programs, variable, looked } => {
                write!(f, "cannot find the {agent} ({}): install it, ", programs.join(", "))?;
                if let Some(variable) = variable {
                    write!(f, "or name its path in the environment variable {variable}, ")?;
                }
                f.write_str("or give its path; looked in")?;
                let mut separator = " ";
                for directory in looked {
                    write!(f, "{separator}{}", directory.display())?;
                    separator = ", ";
                }
                if looked.is_empty() { f.write_str(" no directory, because PATH is not set") } else { Ok(()) }
            }
            Self::NotThere { agent, program, named_by } => {
                let program = program.display();
                write!(
                    f,
                    "there is no {agent} at {program}, which {named_by} names: correct it, or install it there"
                )
            }
            Self::NotExecutable { program, why } => {
                let program = program.display();
                write!(
                    f,
                    "permission denied for {program}, {why}: allow it (chmod +x), or name another program"
                )
            }
            Self::BreakerOpen { retry_after } => {
                f.write_str("nobody is logged in, as the last attempts have shown: log in, and try again ")?;
                match retry_after {
                    Some(time) => write!(f, "in {:.1} s", time.as_secs_f64()),
                    None => f.write_str("with another agent: this one's breaker stays open"),
                }
            }
            Self::ScopeOver => {
                f.write_str("the scope of this agent is over: take the agent that the scope was made from")
            }
            Self::Start(error) => write!(f, "cannot start the agent: {}", remedy(error)),
        }
    }
}

/// What to do about a start that has failed.
fn remedy(error: &StartError) -> &'static str {
    let source = match error {
        StartError::NoRuntime => return "call it within a tokio runtime",
        StartError::ShutDown => return "its minder was shut down; give it another one",
        StartError::Unavailable(_) => return "ask for a weaker containment, or provide what this one needs",
        StartError::Supervisor(source) | StartError::Pipe(source) => source,
        StartError::Spawn { source, .. } | StartError::Hold { source, .. } => source,
        _ => return "use another platform",
    };
    match source.kind() {
        _ if is_want_of_room(error) => {
            "the system has no room for it; try again later, or with fewer at a time"
        }
        io::ErrorKind::NotFound => {
            "its interpreter or its directory is missing; install it, or correct its path"
        }
        io::ErrorKind::InvalidInput => "an argument or a variable of it has a zero byte",
        _ => "it may be no program of this machine; install it anew, or name another program",
    }
}

impl AgentError {
    /// What a start of this program that has failed is to whoever asked for it.
    pub(super) fn of_start(error: StartError, program: &Path) -> Self {
        match &error {
            StartError::Spawn { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                let why = "the system refuses to execute it";
                Self::NotExecutable { program: program.to_owned(), why }
            }
            _ => Self::Start(error),
        }
    }
}

impl Error for AgentError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Start(source) => Some(source),
            _ => None,
        }
    }
}
