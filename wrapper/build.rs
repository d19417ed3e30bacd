//! Compiles the nanny, which is embedded in the library: a static program without libc, for the same target and by the
//! same compiler.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

/// Where the nanny's two dozen lines of assembly exist.
const ARCHITECTURES: [&str; 2] = ["x86_64", "aarch64"];

fn main() {
    println!("cargo::rustc-check-cfg=cfg(has_nanny)");
    println!("cargo::rustc-check-cfg=cfg(nanny)");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=nanny");
    let is = |name: &str, wanted: &[&str]| env::var(name).is_ok_and(|value| wanted.contains(&value.as_str()));
    let is_served = is("CARGO_CFG_TARGET_OS", &["linux"])
        && is("CARGO_CFG_TARGET_ARCH", &ARCHITECTURES)
        && is("CARGO_CFG_TARGET_POINTER_WIDTH", &["64"]);
    if is_served {
        compile();
        println!("cargo::rustc-cfg=has_nanny");
    }
}

fn compile() {
    let out = PathBuf::from(var("OUT_DIR")).join("nanny");
    let mut rustc = Command::new(var("RUSTC"));
    rustc.args(["nanny/main.rs", "--crate-name", "nanny", "--crate-type", "bin", "--edition", "2024"]);
    rustc.arg("--target").arg(var("TARGET")).arg("-o").arg(&out).args(["--cfg", "nanny"]);
    // Whatever the profile of the library: without optimisation the compiler wants an unwinder, and with checks of its
    // arithmetic the nanny would be larger than all it does.
    for option in [
        "panic=abort",
        "opt-level=s",
        "codegen-units=1",
        "debug-assertions=off",
        "overflow-checks=off",
        "strip=symbols",
        "relocation-model=static",
        "target-feature=+crt-static",
        "link-arg=-nostartfiles",
        "link-arg=-nostdlib",
        "link-arg=-static",
        "link-arg=-no-pie",
        "link-arg=-Wl,--build-id=none,--gc-sections,-z,noexecstack,-z,norelro",
    ] {
        rustc.args(["-C", option]);
    }
    // There it would bring the C library's start files along.
    if env::var("CARGO_CFG_TARGET_ENV").is_ok_and(|env| env == "musl") {
        rustc.args(["-C", "link-self-contained=no"]);
    }
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        let mut option = OsString::from("linker=");
        option.push(linker);
        rustc.arg("-C").arg(option);
    }
    // The flags of the user's own program (coverage, sanitizers, another linker) are not for this one.
    rustc.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
    let output = match rustc.output() {
        Ok(output) => output,
        Err(error) => panic!("cannot run the compiler {:?} for childminder's nanny: {error}", var("RUSTC")),
    };
    assert!(
        output.status.success(),
        "cannot compile childminder's nanny ({}):\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
}

fn var(name: &str) -> OsString {
    env::var_os(name).unwrap_or_else(|| panic!("cargo sets {name} for build scripts"))
}
