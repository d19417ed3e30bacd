//! The built-in subjects: childminder, the baseline that everyone knows, and commands that many machines have.
//!
//! The only module that may know childminder and tokio's processes. To add a subject in Rust, implement
//! [`crate::subject::Subject`] in a file here and name it in [`in_rust`]; to add a command, add it to the table in `templates`.

mod agent;
mod childminder;
mod streamed;
mod templates;
mod tokio_process;

use ::childminder::Containment;

use crate::reentry::Subjects;
use crate::subject::SubjectSpec;
use crate::zoo;

/// What comes before the name of a containment.
const CHILDMINDER_WITH: &str = "childminder:";

/// The subjects that live in this executable, the zoo included.
pub fn in_rust() -> Subjects {
    zoo::join(sound())
}

/// Those of them that are not broken on purpose.
fn sound() -> Subjects {
    Subjects::new()
        .with("childminder", childminder::Minded(Containment::Nanny))
        .with("childminder:group", childminder::Minded(Containment::Group))
        .with("childminder:cgroup", childminder::Minded(Containment::Cgroup))
        .with("childminder:sealed", childminder::Minded(Containment::Sealed))
        .with("childminder:streamed", streamed::BusyCaller)
        .with("childminder:agent", agent::Agents::once())
        .with("childminder:agent-retrying", agent::Agents::again_and_again())
        .with("tokio", tokio_process::KillOnDrop)
}

/// The built-in subject of this name, if this machine has what it needs.
///
/// # Errors
///
/// When there is no such subject, or this machine lacks its program or its containment.
pub fn builtin(name: &str) -> Result<SubjectSpec, String> {
    if in_rust().names().contains(&name) {
        if let Some(Ok(containment)) = name.strip_prefix(CHILDMINDER_WITH).map(str::parse::<Containment>) {
            containment.probe().map_err(|lack| format!("{name}: {lack}"))?;
        }
        return Ok(SubjectSpec::here(name));
    }
    templates::find(name)
        .ok_or_else(|| format!("there is no subject {name:?}; there are {}", names().join(", ")))?
        .spec()
}

/// Each containment of childminder, the strongest first, and how it can be had here or why it cannot.
pub fn containments() -> Vec<(String, Result<String, String>)> {
    let probed = |containment: Containment| containment.probe().map_err(|lack| lack.why);
    Containment::ALL.into_iter().map(|containment| (containment.to_string(), probed(containment))).collect()
}

/// Whether there is a built-in subject of this name, in the zoo or outside of it.
pub fn is_known(name: &str) -> bool {
    in_rust().names().contains(&name) || templates::find(name).is_some()
}

/// The names of all built-in subjects, also of those that this machine lacks, but for the zoo, which is nobody's choice of a wrapper.
pub fn names() -> Vec<String> {
    let in_rust = sound();
    let in_rust = in_rust.names().into_iter().map(str::to_owned).collect::<Vec<_>>();
    in_rust.into_iter().chain(templates::names().map(str::to_owned)).collect()
}

/// What an audit without arguments looks at: childminder first, then those of the others that this machine has; with those
/// that it lacks, and why. A containment of childminder that one has to ask for is audited when one asks for it.
pub fn defaults() -> (Vec<SubjectSpec>, Vec<String>) {
    let mut present = Vec::new();
    let mut lacking = Vec::new();
    for name in names().into_iter().filter(|name| !name.contains(':')) {
        match builtin(&name) {
            Ok(spec) => present.push(spec),
            Err(why) => lacking.push(why),
        }
    }
    (present, lacking)
}
