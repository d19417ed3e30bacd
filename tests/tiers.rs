//! Every tier that works here tells the same of the plainest leak and of a wrapper without it.

use std::collections::BTreeMap;

use assert_cmd::Command;
use serde_json::Value;

fn headcount() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_headcount"));
    command.env("XDG_STATE_HOME", env!("CARGO_TARGET_TMPDIR"));
    command
}

/// The tiers that `doctor` says work here.
fn tiers() -> Vec<String> {
    let output = headcount().arg("doctor").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut found = Vec::new();
    for line in text.lines() {
        if let [tier @ ("t1" | "t2" | "t3"), "used" | "works", ..] =
            line.split_whitespace().collect::<Vec<_>>()[..]
        {
            found.push(tier.to_owned());
        }
    }
    found
}

/// Rule and verdict of one subject, found with one tier.
fn verdicts(tier: &str, subject: &str) -> BTreeMap<String, String> {
    let arguments = [
        "audit",
        "--tier",
        tier,
        "--subject",
        subject,
        "--rules",
        "S1,S9,Z1,P1",
        "--cases",
        "1",
        "--format",
        "json",
    ];
    let output = headcount().args(arguments).output().unwrap();
    let audit: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(audit["tier"], tier);
    let rules = audit["subjects"][0]["rules"].as_array().unwrap();
    rules
        .iter()
        .map(|rule| (rule["id"].as_str().unwrap().to_owned(), rule["verdict"].as_str().unwrap().to_owned()))
        .collect()
}

#[test]
fn every_tier_that_works_here_sees_who_is_left() {
    let tiers = tiers();
    assert!(tiers.contains(&"t1".to_owned()), "a subreaper works everywhere: {tiers:?}");
    for tier in tiers {
        let leaky = verdicts(&tier, "tokio");
        assert_eq!([&leaky["S1"], &leaky["S9"], &leaky["P1"]], ["broken"; 3], "{tier}");
        let clean = verdicts(&tier, "childminder");
        assert_eq!([&clean["S1"], &clean["S9"], &clean["Z1"]], ["kept"; 3], "{tier}");
    }
}

#[test]
fn a_tier_that_this_machine_lacks_is_told_and_the_next_one_is_used() {
    // In a user namespace that may make no other ones there are no pid namespaces to be had.
    let own_namespaces = std::process::Command::new("unshare")
        .args(["--user", "--map-root-user", "sh", "-c"])
        .arg("echo 0 > /proc/sys/user/max_pid_namespaces && exec \"$0\" \"$@\"")
        .arg(env!("CARGO_BIN_EXE_headcount"))
        .args(["audit", "--subject", "childminder", "--rules", "S9", "--cases", "1", "--format", "json"])
        .env("XDG_STATE_HOME", env!("CARGO_TARGET_TMPDIR"))
        .output();
    let Ok(output) = own_namespaces else {
        eprintln!("not run: this machine has no unshare");
        return;
    };
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    if told.contains("unshare:") || told.contains("max_pid_namespaces") {
        eprintln!("not run: this machine forbids user namespaces: {told}");
        return;
    }
    let audit: Value = serde_json::from_slice(&output.stdout).expect(&told);
    assert_ne!(audit["tier"], "t3");
    assert!(told.contains("tier t3 is not to be had here"), "{told}");
}
