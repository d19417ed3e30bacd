//! The command line as other programs use it: arguments, exit codes, and what is printed where.
//!
//! Only what starts no case, or one; what an audit finds is told elsewhere.

use std::path::{Path, PathBuf};
use std::process::Output;

use assert_cmd::Command;
use serde_json::Value;

/// The command, as Cargo built it for this test.
const HEADCOUNT: &str = env!("CARGO_BIN_EXE_headcount");

fn headcount(words: &[&str]) -> Output {
    let mut command = Command::new(HEADCOUNT);
    command
        .env_remove("CLICOLOR_FORCE")
        .env_remove("NO_COLOR")
        .args(words)
        .output()
        .expect("the command starts")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("the command writes UTF-8")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("the command writes UTF-8")
}

/// The command ends with this code, says something to stderr and nothing to stdout.
#[track_caller]
fn refuses(words: &[&str], code: i32, says: &[&str]) {
    let output = headcount(words);
    let complaint = stderr(&output);
    assert_eq!(output.status.code(), Some(code), "{words:?}: {complaint}");
    assert_eq!(stdout(&output), "", "{words:?}");
    for part in says {
        assert!(complaint.contains(part), "{words:?}: {part:?} is not in: {complaint}");
    }
}

/// A scenario that is good but for what `change` does to it, in a file of its own.
fn scenario_file(folder: &Path, change: impl FnOnce(&mut Value)) -> PathBuf {
    let mut scenario = serde_json::json!({
        "schema": 1, "name": "a-test", "why": "a test", "script": [{"emit": "ready"}, "hang"],
        "ops": [{"do": "run"}, {"do": "cancel", "after": "root.ready"}, {"do": "wait"}]
    });
    change(&mut scenario);
    let path = folder.join("scenario.json");
    std::fs::write(&path, scenario.to_string()).expect("the folder can be written");
    path
}

#[test]
fn help_names_the_commands_and_the_exit_codes() {
    let output = headcount(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    let text = stdout(&output);
    for word in ["audit", "replay", "judge", "explain", "list", "doctor", "fake", "130  Interrupted."] {
        assert!(text.contains(word), "{word}");
    }
    for command in ["audit", "replay", "judge", "explain", "list", "doctor", "fake"] {
        assert_eq!(headcount(&[command, "--help"]).status.code(), Some(0), "{command}");
    }
}

#[test]
fn list_is_one_json_document() {
    let output = headcount(&["list", "--format", "json"]);
    assert_eq!(output.status.code(), Some(0));
    let document: Value = serde_json::from_str(&stdout(&output)).expect("one JSON document");
    assert_eq!(document["schema"], 1);
    let rules = document["rules"].as_array().expect("a list of rules");
    let find =
        |id: &str| rules.iter().find(|rule| rule["id"] == id).unwrap_or_else(|| panic!("no rule {id}"));
    assert_eq!((&find("S1")["level"], &find("S1")["built"]), (&Value::from("must"), &Value::from(true)));
    // What is not built yet is listed all the same.
    assert!(rules.iter().any(|rule| rule["built"] == false));
    assert!(rules.iter().all(|rule| rule["sentence"].as_str().is_some_and(|text| !text.is_empty())));
    let names = |field: &str| document[field].as_array().expect("a list").clone();
    for name in ["hang", "fork-at-rate", "on: exit-slowly", "as: own-session"] {
        assert!(names("behaviours").contains(&Value::from(name)), "{name}");
    }
    assert_eq!(names("subjects")[0], "childminder");
}

#[test]
fn zoo_is_one_json_document_and_its_exit_code_says_whether_all_is_as_meant() {
    let survey = || {
        let output = headcount(&["zoo", "--animal", "panics-at-a-second-cancel", "--format", "json"]);
        let document: Value = serde_json::from_str(&stdout(&output)).expect("one JSON document");
        (output, document)
    };
    let (mut output, mut document) = survey();
    // What a crowded machine makes it say of an animal once is looked at again; the second time counts.
    if document["animals"][0]["standing"] != "as-meant" {
        eprintln!("{document:#}");
        (output, document) = survey();
    }
    assert_eq!(document["schema"], 1);
    let [animal] = document["animals"].as_array().expect("a list of animals").as_slice() else {
        panic!("the one that was asked for: {document}");
    };
    assert_eq!(
        (&animal["name"], &animal["rule"], &animal["caught"]),
        (&Value::from("panics-at-a-second-cancel"), &Value::from("K5"), &Value::from(true))
    );
    let number = |field: &str| animal[field].as_u64().unwrap_or_else(|| panic!("{field}: {animal}"));
    assert!(number("cases") >= 1, "{animal}");
    assert!((2..=3).contains(&number("ops")) && (1..=3).contains(&number("nodes")), "{animal}");
    let accusations = animal["others"].as_array().expect("a list of rules").iter();
    let strays = accusations.filter(|other| other["level"] == "must" && other["related"].is_null()).count();
    assert_eq!((strays, &document["control"]), (0, &serde_json::json!([])), "{document}");
    assert_eq!((&animal["standing"], output.status.code()), (&"as-meant".into(), Some(0)), "{document}");
}

#[test]
fn zoo_ends_with_10_where_no_generated_case_shows_an_animal_and_with_12_where_it_did_not_get_all_its_cases() {
    let words = ["zoo", "--animal", "zoo:leaks-a-thread", "--shrink", "not"];
    for (bounds, code, told) in [
        (["--cases", "1"], 10, "no generated case shows it"),
        (["--budget", "1ms"], 12, "not known whether it is as it should be"),
    ] {
        let output = headcount(&[&words[..], &bounds].concat());
        let text = stdout(&output);
        assert_eq!(output.status.code(), Some(code), "{text}");
        assert!(text.contains("leaks-a-thread  T1") && text.contains(told), "{text}");
    }
}

#[test]
fn nothing_is_coloured_unless_it_is_asked_for() {
    for words in [["list", "--color", "auto"], ["list", "--color", "never"]] {
        assert!(!stdout(&headcount(&words)).contains('\x1b'), "{words:?}");
    }
    assert!(stdout(&headcount(&["list", "--color", "always"])).contains('\x1b'));
    let mut forced = Command::new(HEADCOUNT);
    let output = forced
        .env("CLICOLOR_FORCE", "1")
        .env_remove("NO_COLOR")
        .arg("list")
        .output()
        .expect("the command starts");
    assert!(stdout(&output).contains('\x1b'));
}

#[test]
fn explain_says_all_about_a_rule_in_whatever_case() {
    let output = headcount(&["explain", "s4"]);
    assert_eq!(output.status.code(), Some(0));
    let text = stdout(&output);
    for part in ["S4", "setsid", "level", "measured", "guard", "directed scenarios"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn a_command_line_without_sense_is_refused_with_what_to_do() {
    refuses(&[], 2, &["Usage"]);
    refuses(&["audti"], 2, &["audit"]);
    refuses(&["explain", "S99"], 2, &["no rule \"S99\"", "S9", "S11"]);
    refuses(&["audit", "--rules", "Q*"], 2, &["no rule \"Q*\""]);
    refuses(&["audit", "--cases", "0"], 2, &["0"]);
    refuses(&["audit", "--budget", "fast"], 2, &["250ms"]);
    refuses(&["audit", "--tier", "t9"], 2, &["t1"]);
    refuses(&["zoo", "--animal", "unicorn"], 2, &["no animal \"unicorn\"", "never-reaps"]);
    refuses(&["zoo", "--animal", "no-flaw"], 2, &["no animal \"no-flaw\""]);
    refuses(&["zoo", "--shrink", "much"], 2, &["fully"]);
    refuses(&["audit", "--subject", "nobody"], 2, &["nobody", "childminder"]);
    refuses(
        &["audit", "--promise", "speed", "--", "timeout", "1", "{fake}"],
        2,
        &["speed", "owner-death=TIME"],
    );
    refuses(&["audit", "--promise", "group"], 2, &["TEMPLATE"]);
    refuses(&["audit", "--subject", "tokio", "--", "timeout", "1", "{fake}"], 2, &["--subject"]);
}

#[test]
fn a_template_must_say_where_its_child_stands() {
    refuses(&["audit", "--", "timeout", "0.5"], 2, &["{fake}", "--as NAME"]);
    refuses(&["audit", "--as", "a/path", "--", "sh", "run.sh"], 2, &["a/path"]);
    refuses(&["audit", "--", "no-such-program-here", "{fake}"], 69, &["no-such-program-here"]);
}

#[test]
fn a_scenario_file_that_is_not_understood_is_refused_with_file_place_and_remedy() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path();
    let refuses_file = |path: &Path, says: &[&str]| {
        let path = path.to_str().expect("a plain path");
        for command in ["replay", "audit"] {
            let words =
                if command == "replay" { vec![command, path] } else { vec![command, "--scenarios", path] };
            refuses(&words, 65, &[&[path], says].concat());
        }
    };
    refuses_file(&scenario_file(folder, |it| it["ops"][1]["colour"] = "red".into()), &["ops[1]", "colour"]);
    refuses_file(&scenario_file(folder, |it| it["schema"] = 2.into()), &["schema", "update headcount"]);
    refuses_file(
        &scenario_file(folder, |it| it["limits"] = serde_json::json!({"grace": 5})),
        &["limits.grace"],
    );
    refuses_file(
        &scenario_file(folder, |it| it["ops"][1]["after"] = "child.ready".into()),
        &["ops[1].after", "there is no node"],
    );
    let nodes = |it: &mut Value| {
        let start = |n: u32| serde_json::json!({"start": {"node": format!("n{n}"), "script": []}});
        it["script"] = (0..10_000).map(start).collect();
    };
    refuses_file(&scenario_file(folder, nodes), &["script", "at most 256"]);
    let broken = folder.join("broken.json");
    std::fs::write(&broken, "{\"schema\": 1,").expect("the folder can be written");
    refuses_file(&broken, &["line 1 column"]);
    refuses_file(&folder.join("missing.json"), &["cannot be read"]);
    let empty = folder.join("empty");
    std::fs::create_dir(&empty).expect("the folder can be written");
    refuses_file(&empty, &["holds no scenario"]);
}

#[test]
fn a_scenario_cannot_choose_a_command() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = scenario_file(folder.path(), |it| {
        it["expect"] = serde_json::json!({"subject": "touch /tmp/x {fake}", "verdicts": {"S1": "kept"}});
    });
    refuses(&["replay", path.to_str().expect("a plain path")], 2, &["not built in", "--subject"]);
}

#[test]
fn what_a_file_says_cannot_steer_the_terminal() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("evil\u{1b}[2J\u{202e}.json");
    std::fs::write(&path, "{}").expect("the folder can be written");
    let output = headcount(&["replay", path.to_str().expect("a plain path")]);
    assert_eq!(output.status.code(), Some(65));
    let text = stderr(&output);
    assert!(!text.contains('\x1b') && !text.contains('\u{202e}'), "{text:?}");
}

#[test]
fn judge_refuses_what_is_no_trace() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = scenario_file(folder.path(), |_| {});
    refuses(&["judge", path.to_str().expect("a plain path")], 65, &["scenario.json", "give a trace"]);
    refuses(&["judge", "missing.json"], 65, &["missing.json", "cannot be read"]);
    std::fs::write(&path, "{\"schema\": 9}").expect("the folder can be written");
    refuses(&["judge", path.to_str().expect("a plain path")], 65, &["schema", "update headcount"]);
}

#[test]
fn a_case_that_broke_a_rule_is_saved_and_its_trace_judged_again_says_the_same() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let save = folder.path().to_str().expect("a plain path");
    // A command that only runs its child: whoever ends it leaves the child.
    let template = ["--", "sh", "-c", "{fake}; exit"];
    let promise = ["--promise", "timeout=30s"];
    let words = ["audit", "--rules", "S1", "--cases", "1", "--format", "json", "--save", save];
    let output = headcount(&[&words[..], &promise, &template].concat());
    assert_eq!(output.status.code(), Some(10), "{}", stderr(&output));
    let audit: Value = serde_json::from_str(&stdout(&output)).expect("one JSON document");
    assert_eq!(audit["schema"], 1);
    let subject = &audit["subjects"][0];
    assert_eq!(subject["name"], "sh -c {fake}; exit");
    assert_eq!(subject["promises"], "timeout=30s");
    assert!(subject["grade"].as_str().is_some_and(|grade| grade.starts_with("D: S1 leaves")), "{subject}");
    let rule = &subject["rules"][0];
    assert_eq!((&rule["id"], &rule["verdict"]), (&Value::from("S1"), &Value::from("broken")));
    let scenario = rule["saved"]["scenario"].as_str().expect("where it was saved");
    let trace = rule["saved"]["trace"].as_str().expect("where its trace was saved");
    let judged = headcount(&["judge", "--rules", "S1", trace]);
    assert_eq!(judged.status.code(), Some(10));
    assert!(stdout(&judged).contains(rule["detail"].as_str().expect("a sentence")), "{}", stdout(&judged));
    let replayed = headcount(&[&["replay", scenario], &promise[..], &template].concat());
    assert_eq!(replayed.status.code(), Some(0), "{}{}", stdout(&replayed), stderr(&replayed));
    let other = headcount(&["replay", scenario, "--subject", "childminder"]);
    assert_eq!(other.status.code(), Some(0), "{}{}", stdout(&other), stderr(&other));
}

/// A wrapper that never reaps: quick cases, and nobody is left.
const NEVER_REAPS: &str = "zoo:never-reaps";

#[test]
fn a_failure_is_shrunk_in_its_place_and_the_line_that_is_printed_replays_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = scenario_file(folder.path(), |it| {
        it["script"] =
            serde_json::json!([{"write": {"to": "stdout", "bytes": 300}}, {"emit": "ready"}, {"exit": 3}]);
        it["ops"] = serde_json::json!([{"do": "run"}, {"do": "wait"}, {"do": "run"}, {"do": "wait"}]);
    });
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).expect("its mode can be set");
    let link = folder.path().join("link.json");
    std::os::unix::fs::symlink(&file, &link).expect("the folder can be written");
    let link = link.to_str().expect("a plain path");
    let output = headcount(&["shrink", link, "--rule", "Z1", "--subject", NEVER_REAPS]);
    assert_eq!(output.status.code(), Some(0), "{}{}", stdout(&output), stderr(&output));
    assert!(std::fs::symlink_metadata(link).expect("it is there").is_symlink());
    assert_eq!(std::fs::metadata(&file).expect("it is there").permissions().mode() & 0o777, 0o640);
    let kept: Value = serde_json::from_slice(&std::fs::read(&file).expect("it is there")).expect("JSON");
    assert!(!kept.to_string().contains("write"), "{kept}");
    assert_eq!((&kept["found"]["rule"], &kept["expect"]["verdicts"]["Z1"]), (&"Z1".into(), &"broken".into()));
    assert!(file.with_extension("trace.json").exists());
    // The live round trip: what was saved fails again in the same way, and a wrapper that reaps passes.
    let text = stdout(&output);
    let line = text.lines().last().expect("a line that replays it");
    let words = line.strip_prefix("headcount ").expect("the command").split(' ').collect::<Vec<_>>();
    let replayed = headcount(&words);
    assert_eq!(replayed.status.code(), Some(0), "{line}: {}{}", stdout(&replayed), stderr(&replayed));
    assert!(stdout(&replayed).starts_with("met"), "{}", stdout(&replayed));
    let good = headcount(&["replay", link, "--subject", "childminder"]);
    assert_eq!(good.status.code(), Some(0), "{}{}", stdout(&good), stderr(&good));
}

#[test]
fn shrink_says_what_it_needs_and_why_nothing_could_be_told() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = scenario_file(folder.path(), |_| {});
    let file = path.to_str().expect("a plain path");
    refuses(&["shrink", file], 2, &["--rule"]);
    refuses(&["shrink", file, "--rule", "S99"], 2, &["no rule"]);
    refuses(&["shrink", "missing.json", "--rule", "S1"], 65, &["missing.json"]);
    let before = std::fs::read(&path).expect("it is there");
    // Who reaps its child cannot be told of a command.
    let output = headcount(&["shrink", file, "--rule", "Z1", "--", "timeout", "9", "{fake}"]);
    assert_eq!(output.status.code(), Some(12), "{}{}", stdout(&output), stderr(&output));
    assert!(stdout(&output).contains("not known: no case"), "{}", stdout(&output));
    assert_eq!(std::fs::read(&path).expect("it is there"), before);
}

#[test]
fn schemas_are_json_and_what_has_none_is_refused() {
    for (name, field) in [("scenario", "script"), ("trace", "moments"), ("audit", "subjects")] {
        let output = headcount(&["schema", name]);
        assert_eq!(output.status.code(), Some(0), "{name}: {}", stderr(&output));
        let schema: Value = serde_json::from_str(&stdout(&output)).expect("one JSON document");
        assert!(schema["properties"][field].is_object(), "{name}: {schema}");
    }
    refuses(&["schema", "nothing"], 2, &["scenario"]);
}

#[test]
fn fake_plays_a_script_and_refuses_a_bad_one() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("script.json");
    let path = path.to_str().expect("a plain path");
    std::fs::write(path, r#"[{"write": {"to": "stdout", "bytes": 32}}, {"exit": 7}]"#)
        .expect("it can be written");
    let output = headcount(&["fake", path]);
    assert_eq!(output.status.code(), Some(7));
    assert_eq!(stdout(&output), "00000000 stdout ...............\n");
    std::fs::write(path, r#"["jump"]"#).expect("it can be written");
    assert_eq!(headcount(&["fake", path]).status.code(), Some(65));
}

#[test]
fn doctor_says_which_tier_is_used() {
    let output = headcount(&["doctor", "--format", "json"]);
    let document: Value = serde_json::from_str(&stdout(&output)).expect("one JSON document");
    let tiers = document["tiers"].as_array().expect("a list");
    assert_eq!(tiers.len(), 3);
    // The strongest comes first.
    let best = tiers.iter().find(|tier| tier["lacks"].is_null()).map(|tier| &tier["tier"]);
    assert_eq!(document["used"], best.cloned().unwrap_or_default(), "{document}");
    assert_eq!(output.status.code(), Some(if best.is_some() { 0 } else { 69 }));
}

#[test]
fn cargo_headcount_is_the_same_command() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cargo-headcount"));
    let output = command.args(["headcount", "list"]).output().expect("the command starts");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(stdout(&output), stdout(&headcount(&["list"])));
}

#[test]
fn a_reader_that_goes_away_is_no_panic() {
    use std::process::Stdio;
    let mut child = std::process::Command::new(HEADCOUNT)
        .arg("list")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!((output.status.code(), stderr(&output)), (Some(0), String::new()));
}
