//! Every call to the operating system, behind one facade; nothing outside this folder names a descriptor or a pid.

#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "the facade to the operating system is the one place for it")]
mod linux;
#[cfg(target_os = "linux")]
pub(crate) use linux::*;

#[cfg(not(target_os = "linux"))]
mod elsewhere;
#[cfg(not(target_os = "linux"))]
pub(crate) use elsewhere::*;
