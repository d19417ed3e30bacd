//! Command lines that can be pasted into a shell.

use std::path::Path;

use crate::audit::{Command, SubjectReport};
use crate::promises::Promises;
use crate::subject::{Drive, SubjectSpec};

/// A word as a shell reads it back.
pub fn word(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_./:=@%+-".contains(&byte);
    let bare = text.replace("{fake}", "");
    if !text.is_empty() && bare.bytes().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// The line that replays a scenario file with a subject, as often as it takes to see what it shows.
pub fn replay_line(file: &Path, subject: &SubjectReport, times: u64) -> String {
    let mut file = word(&file.to_string_lossy());
    if times > 1 {
        file.push_str(&format!(" --times {times}"));
    }
    format!(
        "headcount replay {file} {}",
        subject_words(&subject.name, subject.command.as_ref(), &subject.promises)
    )
}

/// The line that replays a scenario file with a subject, as often as the rate asks for that stands in the file.
pub fn replay_line_of(file: &Path, subject: &SubjectSpec) -> String {
    let promises = match &subject.drive {
        Drive::Template { promises, .. } => *promises,
        Drive::Reentry { .. } => Promises::default(),
    };
    let words = subject_words(&subject.name, Command::of(subject).as_ref(), &promises);
    format!("headcount replay {} {words}", word(&file.to_string_lossy()))
}

fn subject_words(name: &str, command: Option<&Command>, promises: &Promises) -> String {
    match command {
        None => format!("--subject {}", word(name)),
        Some(command) => command_words(command, promises),
    }
}

fn command_words(command: &Command, promises: &Promises) -> String {
    let mut words = Vec::new();
    if *promises != Promises::default() {
        words.extend(["--promise".to_owned(), word(&promises.to_string())]);
    }
    if let Some(name) = &command.fake_as {
        words.extend(["--as".to_owned(), word(name)]);
    }
    words.push("--".to_owned());
    words.extend(command.words.iter().map(|it| word(it)));
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_reads_back_as_it_was() {
        for (text, expected) in [
            ("timeout", "timeout"),
            ("{fake}", "{fake}"),
            ("--exec={fake}", "--exec={fake}"),
            ("{a,b}", "'{a,b}'"),
            ("two words", "'two words'"),
            ("it's", r"'it'\''s'"),
            ("$HOME", "'$HOME'"),
            ("", "''"),
            ("~", "'~'"),
        ] {
            assert_eq!(word(text), expected);
        }
    }

    #[test]
    fn a_command_is_replayed_with_its_promises() {
        let command = Command {
            words: ["timeout", "-k", "0.5", "0.5", "{fake}"].map(str::to_owned).to_vec(),
            fake_as: None,
        };
        let promises = "timeout=500ms,group".parse().unwrap();
        assert_eq!(
            command_words(&command, &promises),
            "--promise 'timeout=500ms,group' -- timeout -k 0.5 0.5 {fake}"
        );
        let command = Command { words: vec!["ffmpeg-batch".to_owned()], fake_as: Some("ffmpeg".to_owned()) };
        assert_eq!(command_words(&command, &Promises::default()), "--as ffmpeg -- ffmpeg-batch");
    }
}
