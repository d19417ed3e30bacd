//! What this machine has of what an audit needs.

use std::fs;

use serde::Serialize;

use crate::crew::{TierProbe, probe_syscalls, probe_tiers};
use crate::launch::find_program;

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub struct Findings {
    /// Version of the format.
    pub schema: u32,
    /// This program's version.
    pub version: &'static str,
    /// The kernel's release.
    pub kernel: Option<String>,
    /// How many processors this program may use.
    pub processors: usize,
    /// The tiers, strongest first.
    pub tiers: Vec<TierState>,
    /// The tier that an audit takes here; nothing where none works.
    pub used: Option<&'static str>,
    /// Whether a wrapper's own system calls can be watched and held.
    pub syscalls: SyscallState,
    /// The containments of childminder, strongest first.
    pub containments: Vec<ContainmentState>,
    /// Programs that built-in subjects need.
    pub programs: Vec<Program>,
    /// Settings of the kernel and limits of this session that decide what works.
    pub limits: Vec<Limit>,
}

/// Whether a tier works here.
#[derive(Clone, Debug, Serialize)]
pub struct TierState {
    /// Its name.
    pub tier: &'static str,
    /// How it counts.
    pub how: &'static str,
    /// Nothing where it works, else why not.
    pub lacks: Option<String>,
}

/// Whether a wrapper's own system calls can be watched and held here.
#[derive(Clone, Debug, Serialize)]
pub struct SyscallState {
    /// How.
    pub how: &'static str,
    /// Nothing where it works, else why not.
    pub lacks: Option<String>,
}

/// Whether a containment of childminder can be had here.
#[derive(Clone, Debug, Serialize)]
pub struct ContainmentState {
    /// Its name.
    pub containment: String,
    /// How it is had, where it is.
    pub how: Option<String>,
    /// Nothing where it can be had, else why not.
    pub lacks: Option<String>,
}

/// Whether a program is here.
#[derive(Clone, Debug, Serialize)]
pub struct Program {
    /// Its name.
    pub name: &'static str,
    /// Where it is.
    pub path: Option<String>,
}

/// A setting or limit, with what it means here.
#[derive(Clone, Debug, Serialize)]
pub struct Limit {
    /// Its name.
    pub name: &'static str,
    /// Its value; nothing where this kernel does not have it.
    pub value: Option<String>,
    /// What it decides.
    pub meaning: &'static str,
}

/// Settings under `/proc/sys` that decide what works.
const SETTINGS: [(&str, &str, &str); 6] = [
    (
        "user.max_user_namespaces",
        "user/max_user_namespaces",
        "0 forbids user namespaces, which t3 needs without root",
    ),
    ("user.max_pid_namespaces", "user/max_pid_namespaces", "0 forbids pid namespaces, which t3 needs"),
    (
        "kernel.unprivileged_userns_clone",
        "kernel/unprivileged_userns_clone",
        "0 forbids t3 without root (Debian)",
    ),
    (
        "kernel.apparmor_restrict_unprivileged_userns",
        "kernel/apparmor_restrict_unprivileged_userns",
        "1 forbids t3 without root (Ubuntu)",
    ),
    ("kernel.yama.ptrace_scope", "kernel/yama/ptrace_scope", "above 1 hides the handles of other processes"),
    ("vm.memfd_noexec", "vm/memfd_noexec", "2 forbids programs without a file"),
];

/// Looks at this machine. Starts a short-lived process for each tier. The containments of childminder are handed in, by name and
/// with how they can be had or why not, because this module knows no subject.
pub fn examine(containments: Vec<(String, Result<String, String>)>) -> Findings {
    let probes = probe_tiers();
    let used = probes.iter().find(|probe| probe.lacks.is_none()).map(|probe| probe.tier.name());
    Findings {
        schema: 1,
        version: env!("CARGO_PKG_VERSION"),
        kernel: read("/proc/sys/kernel/osrelease"),
        processors: std::thread::available_parallelism().map_or(1, usize::from),
        tiers: probes.into_iter().map(state).collect(),
        used,
        syscalls: SyscallState {
            how: "seccomp hands them over: holds, the ledger of signals, and the rules that need them",
            lacks: probe_syscalls().err(),
        },
        containments: containments.into_iter().map(containment).collect(),
        programs: ["timeout", "python3", "node"].map(program).to_vec(),
        limits: settings().chain(session_limits()).collect(),
    }
}

fn state(probe: TierProbe) -> TierState {
    TierState { tier: probe.tier.name(), how: probe.how, lacks: probe.lacks }
}

fn containment((containment, probed): (String, Result<String, String>)) -> ContainmentState {
    let lacks = probed.as_ref().err().cloned();
    ContainmentState { containment, how: probed.ok(), lacks }
}

fn program(name: &'static str) -> Program {
    Program { name, path: find_program(name).map(|path| path.to_string_lossy().into_owned()) }
}

fn settings() -> impl Iterator<Item = Limit> {
    SETTINGS.into_iter().map(|(name, path, meaning)| Limit {
        name,
        value: read(&format!("/proc/sys/{path}")),
        meaning,
    })
}

fn session_limits() -> impl Iterator<Item = Limit> {
    use rustix::process::{Resource, getrlimit};
    [
        ("open files", Resource::Nofile, "each node under way costs the harness a few"),
        ("processes", Resource::Nproc, "a case starts at most 256"),
    ]
    .into_iter()
    .map(|(name, resource, meaning)| {
        let value =
            getrlimit(resource).current.map_or_else(|| "unlimited".to_owned(), |value| value.to_string());
        Limit { name, value: Some(value), meaning }
    })
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}
