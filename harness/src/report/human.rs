//! The audit for a person: a table of rules and subjects, then each failure in a sentence with the line that replays it.

use unicode_width::UnicodeWidthStr as _;

use crate::audit::shrinking::Replays;
use crate::audit::{Audit, RuleReport, SubjectReport};
use crate::failure::rate::Rate;
use crate::report::escape::for_terminal;
use crate::report::paint::Paint;
use crate::report::quote::replay_line;
use crate::verdict::{Level, VerdictKind};

/// Narrowest and widest report.
const WIDTHS: std::ops::RangeInclusive<usize> = 60..=120;
/// Fewest columns for a rule's title; with more subjects than fit beside it the table is split.
const NARROWEST_SENTENCE: usize = 26;
/// Columns for a rule's id with the space behind it.
const ID: usize = 5;
/// Space between two columns.
const GAP: usize = 2;
/// Columns left of what is said of a rule: indent, id and a word.
const MARGIN: usize = 14;
/// Widest column of a subject.
const WIDEST_COLUMN: usize = 14;

/// The whole report in about `width` columns, coloured.
pub fn render(audit: &Audit, width: usize) -> String {
    let width = width.clamp(*WIDTHS.start(), *WIDTHS.end());
    let mut text = table(audit, width);
    text.push_str(&grades(audit, width));
    for subject in &audit.subjects {
        text.push_str(&findings(subject, width));
    }
    text.push('\n');
    text.push_str(&wrapped(&pace(audit), "    ", width));
    text
}

/// The table, in as many blocks as the width asks for.
pub fn table(audit: &Audit, width: usize) -> String {
    let columns = audit.subjects.iter().map(Column::of).collect::<Vec<_>>();
    let ids = audit.subjects.first().map_or(0, |subject| subject.rules.len());
    let (unbuilt, rows): (Vec<usize>, Vec<usize>) = (0..ids).partition(|&row| is_not_built(audit, row));
    let longest = rows.iter().map(|&row| audit.subjects[0].rules[row].title.width()).max().unwrap_or(0);
    let longest = longest.max("grade".len());
    let mut text = String::new();
    for block in blocks(&columns, width) {
        let used = block.iter().map(|column| column.width + GAP).sum::<usize>();
        let title = (width - ID - used).min(longest);
        text.push_str(&header(block, title));
        for &row in &rows {
            let rule = &block[0].subject.rules[row];
            let mut line = format!("{:<ID$}{}", rule.id, fitted(&rule.title, title));
            for column in block {
                line.push_str(&" ".repeat(GAP));
                line.push_str(&cell(&column.subject.rules[row]).fill(column.width));
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        let mut line = format!("{:<ID$}{}", "", fitted("grade", title));
        for column in block {
            line.push_str(&" ".repeat(GAP));
            line.push_str(&grade_cell(column.subject).fill(column.width));
        }
        text.push_str(line.trim_end());
        text.push_str("\n\n");
    }
    if let (false, Some(subject)) = (unbuilt.is_empty(), audit.subjects.first()) {
        let names = unbuilt.iter().map(|&row| subject.rules[row].id.as_str()).collect::<Vec<_>>().join(" ");
        text.push_str(&wrapped(
            &format!("not built yet, or judged by this project's own tests: {names}"),
            "",
            width,
        ));
        text.push('\n');
    }
    text
}

/// One subject's column.
struct Column<'a> {
    subject: &'a SubjectReport,
    heading: Vec<String>,
    width: usize,
}

/// A piece of text with what it means.
struct Cell {
    text: String,
    paint: Paint,
}

impl<'a> Column<'a> {
    fn of(subject: &'a SubjectReport) -> Self {
        let widest_cell = subject.rules.iter().map(|rule| cell(rule).text.width()).max().unwrap_or(0);
        let name = for_terminal(&subject.name);
        let widest_word = name.split(' ').map(|word| word.width()).max().unwrap_or(0);
        let width = widest_cell.max(widest_word).clamp(5, WIDEST_COLUMN);
        Self { subject, heading: lines(&name, width), width }
    }
}

impl Cell {
    fn fill(&self, width: usize) -> String {
        let missing = width.saturating_sub(self.text.width());
        self.paint.on(&self.text) + &" ".repeat(missing)
    }
}

/// A rule that no audit judges has no row.
fn is_not_built(audit: &Audit, row: usize) -> bool {
    audit.subjects.iter().all(|subject| is_never_judged(&subject.rules[row]))
}

fn is_never_judged(rule: &RuleReport) -> bool {
    let reason = rule.reason.as_deref().unwrap_or_default();
    rule.verdict == VerdictKind::NotRun
        && (reason.starts_with("not built") || reason.starts_with("judged by"))
}

/// As many columns side by side as leave room for the titles.
fn blocks<'a, 'b>(columns: &'b [Column<'a>], width: usize) -> Vec<&'b [Column<'a>]> {
    let room = width.saturating_sub(ID + NARROWEST_SENTENCE);
    let mut blocks = Vec::new();
    let mut first = 0;
    let mut used = 0;
    for (index, column) in columns.iter().enumerate() {
        let needs = column.width + GAP;
        if index > first && used + needs > room {
            blocks.push(&columns[first..index]);
            first = index;
            used = 0;
        }
        used += needs;
    }
    if first < columns.len() {
        blocks.push(&columns[first..]);
    }
    blocks
}

fn header(block: &[Column<'_>], title: usize) -> String {
    let height = block.iter().map(|column| column.heading.len()).max().unwrap_or(0);
    let mut text = String::new();
    for row in 0..height {
        let mut line = " ".repeat(ID + title);
        for column in block {
            // Short names stand at the bottom, next to their column.
            let part = (row + column.heading.len()).checked_sub(height);
            let part = part.map_or("", |part| column.heading[part].as_str());
            line.push_str(&" ".repeat(GAP));
            line.push_str(&Cell { text: part.to_owned(), paint: Paint::Strong }.fill(column.width));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn cell(rule: &RuleReport) -> Cell {
    let (text, paint) = match (rule.verdict, rule.level) {
        (VerdictKind::Kept, _) => ("kept".to_owned(), Paint::Good),
        (VerdictKind::Broken, Level::Must) => (format!("BROKEN {}", rule.broken), Paint::Bad),
        (VerdictKind::Broken, Level::Should) => (format!("should {}", rule.broken), Paint::Warning),
        (VerdictKind::Broken, Level::Info) => (format!("info {}", rule.broken), Paint::Notice),
        (VerdictKind::Unknown, _) => ("unknown".to_owned(), Paint::Warning),
        (VerdictKind::Vacuous, _) => ("vacuous".to_owned(), Paint::Dim),
        (VerdictKind::NotRun, _) => ("–".to_owned(), Paint::Dim),
    };
    Cell { text, paint }
}

fn grade_cell(subject: &SubjectReport) -> Cell {
    let letter = subject.grade.chars().next().unwrap_or('–');
    let paint = match letter {
        'A' => Paint::Good,
        'B' => Paint::Warning,
        '–' => Paint::Dim,
        _ => Paint::Bad,
    };
    Cell { text: letter.to_string(), paint }
}

fn grades(audit: &Audit, width: usize) -> String {
    let mut text = String::new();
    for subject in &audit.subjects {
        let version =
            if subject.version.is_empty() { String::new() } else { format!(" {}", subject.version) };
        let line = format!("{}{version}  {}", for_terminal(&subject.name), subject.grade);
        text.push_str(&wrapped(&line, "    ", width));
    }
    text
}

/// Each broken rule: what was found, and how to see it again; what weighs most comes first. Then what could not be told.
fn findings(subject: &SubjectReport, width: usize) -> String {
    let with = |verdict| subject.rules.iter().filter(move |rule| rule.verdict == verdict);
    let mut broken = with(VerdictKind::Broken).collect::<Vec<_>>();
    broken.sort_by_key(|rule| std::cmp::Reverse(rule.level));
    let mut text = String::new();
    for rule in broken {
        text.push_str(&failure(rule, subject, width));
    }
    for rule in with(VerdictKind::Unknown) {
        let why = for_terminal(rule.detail.as_deref().unwrap_or("the evidence does not suffice"));
        let counts = format!("{why} ({} of {} cases)", rule.unknown, rule.kept + rule.unknown);
        text.push_str(&entry(&rule.id, "unknown", &counts, cell(rule).paint, width));
    }
    for (why, ids) in not_run(subject) {
        text.push_str(&entry(
            "–",
            "not run",
            &format!("{}: {}", ids.join(" "), for_terminal(&why)),
            Paint::Dim,
            width,
        ));
    }
    if text.is_empty() {
        return text;
    }
    format!("\n{}\n{text}", Paint::Strong.on(&for_terminal(&subject.name)))
}

/// Why rules were not run for this subject, those left out that no audit judges.
fn not_run(subject: &SubjectReport) -> Vec<(String, Vec<&str>)> {
    let mut reasons: Vec<(String, Vec<&str>)> = Vec::new();
    for rule in subject.rules.iter().filter(|rule| !is_never_judged(rule)) {
        let Some(why) = &rule.reason else { continue };
        match reasons.iter_mut().find(|(known, _)| known == why) {
            Some((_, ids)) => ids.push(&rule.id),
            None => reasons.push((why.clone(), vec![&rule.id])),
        }
    }
    reasons
}

/// A rule, a word and a text beside them.
fn entry(id: &str, word: &str, text: &str, paint: Paint, width: usize) -> String {
    let head = format!("{id:<4}{word:<8}");
    let mut entry = String::new();
    for (index, line) in lines(text, width.saturating_sub(MARGIN)).iter().enumerate() {
        let margin = if index == 0 { paint.on(&head) } else { " ".repeat(MARGIN - 2) };
        entry.push_str(&format!("  {margin}{line}\n"));
    }
    entry
}

fn failure(rule: &RuleReport, subject: &SubjectReport, width: usize) -> String {
    let sentence = for_terminal(rule.detail.as_deref().unwrap_or("broken"));
    let body = format!("{sentence} ({} of {} cases)", rule.broken, rule.kept + rule.broken);
    let mut text = entry(&rule.id, rule.level.name(), &body, cell(rule).paint, width);
    let rate = rule.replayed.as_ref().map_or_else(Rate::default, |it| Rate { broken: it.broken, of: it.of });
    let replay = match &rule.saved {
        // The line is not wrapped: it is to be pasted.
        Some(saved) => for_terminal(&replay_line(&saved.scenario, subject, rate.times_to_see())).into_owned(),
        None => format!("(not saved) scenario {}", rule.scenario.as_deref().unwrap_or("unknown")),
    };
    if let Some(replayed) = &rule.replayed {
        let lines = lines(&told(replayed), width.saturating_sub(MARGIN));
        lines
            .iter()
            .for_each(|line| text.push_str(&format!("{}{}\n", " ".repeat(MARGIN), for_terminal(line))));
    }
    text.push_str(&format!("{}{}\n", " ".repeat(MARGIN), Paint::Dim.on(&replay)));
    text
}

/// What came of replaying and shrinking a failure.
fn told(replayed: &Replays) -> String {
    let rate = Rate { broken: replayed.broken, of: replayed.of };
    if let Some(why) = &replayed.reason {
        return format!("no replay could be told: {why}");
    }
    if rate.broken == 0 {
        return format!("not seen again in {} replays", rate.of);
    }
    let mut text = format!("broken in {rate} replays");
    if !replayed.measured {
        text.push_str(" before it was simplified");
    }
    let plural = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    text.push_str(&format!("; {} and {}", plural(replayed.nodes, "node"), plural(replayed.ops, "op")));
    if replayed.promoted {
        text.push_str("; a gate pins its order");
    }
    if !replayed.minimal {
        text.push_str("; may be simpler: headcount shrink goes on");
    }
    if !replayed.matters.is_empty() {
        text.push_str(&format!("; what matters: {}", replayed.matters.join(", ")));
    }
    text
}

fn pace(audit: &Audit) -> String {
    let cases = audit.subjects.iter().map(|subject| subject.cases).sum::<u64>();
    let seconds = audit.subjects.iter().map(|subject| subject.seconds).sum::<f64>();
    let paces = audit.subjects.iter().map(|subject| {
        let share = subject.harness_share * 100.0;
        format!("{} {:.1} ({share:.1} %)", for_terminal(&subject.name), subject.pace())
    });
    let (twice, same) = audit
        .subjects
        .iter()
        .fold((0, 0), |(twice, same), subject| (twice + subject.repeats.cases, same + subject.repeats.same));
    let repeats = match twice {
        0 => String::new(),
        _ => format!(" {twice} were run twice, {same} of them went the same way again."),
    };
    format!(
        "{cases} cases in {seconds:.1} s, tier {}, seed {}. Cases a second, and the headcount's own part of the processor time: {}.{repeats}",
        audit.tier.name(),
        audit.seed,
        paces.collect::<Vec<_>>().join(", ")
    )
}

/// A text in exactly `width` columns: cut with an ellipsis or filled up.
fn fitted(text: &str, width: usize) -> String {
    let text = for_terminal(text);
    if text.width() <= width {
        return format!("{text}{}", " ".repeat(width - text.width()));
    }
    let mut cut = String::new();
    for letter in text.chars() {
        let mut longer = cut.clone();
        longer.push(letter);
        if longer.width() + 1 > width {
            break;
        }
        cut = longer;
    }
    let cut = format!("{}…", cut.trim_end());
    let missing = width.saturating_sub(cut.width());
    cut + &" ".repeat(missing)
}

/// A text in lines of at most `width` columns, those after the first indented.
fn wrapped(text: &str, indent: &str, width: usize) -> String {
    let lines = lines(text, width.saturating_sub(indent.len()));
    lines
        .iter()
        .enumerate()
        .map(|(index, line)| format!("{}{line}\n", if index == 0 { "" } else { indent }))
        .collect()
}

/// A text broken at spaces; a word that is longer than a line is broken too.
fn lines(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.last_mut().expect("there is always a line");
        if !last.is_empty() && last.width() + 1 + word.width() > width {
            lines.push(String::new());
        } else if !last.is_empty() {
            last.push(' ');
        }
        for letter in word.chars() {
            let last = lines.last_mut().expect("there is always a line");
            if last.width() >= width {
                lines.push(letter.to_string());
            } else {
                last.push(letter);
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::grade::grade;
    use crate::audit::grade::tests::report;
    use crate::audit::save::Saved;
    use crate::audit::{Command, SCHEMA};
    use crate::promises::Promises;
    use crate::trace::Tier;

    fn subject(name: &str, rules: Vec<RuleReport>) -> SubjectReport {
        SubjectReport {
            name: name.to_owned(),
            version: "1.2".to_owned(),
            promises: Promises::default(),
            grade: grade(&rules).to_string(),
            cases: 150,
            lost: 0,
            seconds: 7.5,
            harness_share: 0.031,
            repeats: Default::default(),
            command: name
                .contains('{')
                .then(|| Command { words: name.split(' ').map(str::to_owned).collect(), fake_as: None }),
            rules,
        }
    }

    fn audit() -> Audit {
        use Level::{Info, Must, Should};
        use VerdictKind::{Broken, Kept, NotRun, Unknown, Vacuous};
        let rules = |verdicts: [(&str, Level, VerdictKind); 6]| {
            let mut rules = verdicts.map(|(id, level, verdict)| report(id, level, verdict)).to_vec();
            for rule in &mut rules {
                if rule.verdict == Broken {
                    rule.detail = Some("helper (pid 12, session 12, 95 ms old) is alive 2.0 s after cancel returned; seen by the kernel's pid namespace".to_owned());
                    rule.saved = Some(Saved {
                        scenario: "/state/headcount/failures/tokio/own session.json".into(),
                        trace: "/state/headcount/failures/tokio/own session.trace.json".into(),
                    });
                    rule.kept = 30;
                    rule.broken = 12;
                }
                if rule.id == "E6" {
                    rule.reason = Some("not built: later".to_owned());
                }
            }
            rules
        };
        Audit {
            schema: SCHEMA,
            tier: Tier::T3,
            seed: 1,
            interrupted: false,
            fault: None,
            subjects: vec![
                subject(
                    "childminder",
                    rules([
                        ("S1", Must, Kept),
                        ("S3", Should, Kept),
                        ("S4", Must, Kept),
                        ("D1", Must, Unknown),
                        ("P1", Must, Vacuous),
                        ("E6", Must, NotRun),
                    ]),
                ),
                subject(
                    "timeout -k 0.5 0.5 {fake}",
                    rules([
                        ("S1", Must, Kept),
                        ("S3", Should, Broken),
                        ("S4", Must, Broken),
                        ("D1", Must, Kept),
                        ("P1", Info, Broken),
                        ("E6", Must, NotRun),
                    ]),
                ),
            ],
            notes: Vec::new(),
        }
    }

    fn plain(text: &str) -> String {
        let mut plain = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('\x1b') {
            plain.push_str(before);
            rest = after.split_once('m').map_or("", |(_, rest)| rest);
        }
        plain + rest
    }

    #[test]
    fn the_report_reads_without_colour() {
        insta::assert_snapshot!(plain(&render(&audit(), 100)), @r#"
                                          timeout
                                          -k 0.5
                                          0.5
                             childminder  {fake}
        S1   the promise S1  kept         kept
        S3   the promise S3  kept         should 12
        S4   the promise S4  kept         BROKEN 12
        D1   the promise D1  unknown      kept
        P1   the promise P1  vacuous      info 12
             grade           A            C

        not built yet, or judged by this project's own tests: E6

        childminder 1.2  A: D1 unknown
        timeout -k 0.5 0.5 {fake} 1.2  C: S4 leaves 1

        childminder
          D1  unknown the evidence does not suffice (1 of 1 cases)

        timeout -k 0.5 0.5 {fake}
          S4  must    helper (pid 12, session 12, 95 ms old) is alive 2.0 s after cancel returned; seen by
                      the kernel's pid namespace (12 of 42 cases)
                      headcount replay '/state/headcount/failures/tokio/own session.json' -- timeout -k 0.5 0.5 {fake}
          S3  should  helper (pid 12, session 12, 95 ms old) is alive 2.0 s after cancel returned; seen by
                      the kernel's pid namespace (12 of 42 cases)
                      headcount replay '/state/headcount/failures/tokio/own session.json' -- timeout -k 0.5 0.5 {fake}
          P1  info    helper (pid 12, session 12, 95 ms old) is alive 2.0 s after cancel returned; seen by
                      the kernel's pid namespace (12 of 42 cases)
                      headcount replay '/state/headcount/failures/tokio/own session.json' -- timeout -k 0.5 0.5 {fake}

        300 cases in 15.0 s, tier t3, seed 1. Cases a second, and the headcount's own part of the
            processor time: childminder 20.0 (3.1 %), timeout -k 0.5 0.5 {fake} 20.0 (3.1 %).
        "#);
    }

    #[test]
    fn more_subjects_than_fit_are_split_into_blocks() {
        let mut audit = audit();
        let first = audit.subjects[0].clone();
        for number in 0..8 {
            audit.subjects.push(SubjectReport { name: format!("subject-{number}"), ..first.clone() });
        }
        let text = plain(&table(&audit, 100));
        assert!(text.lines().all(|line| line.width() <= 100), "{text}");
        assert_eq!(text.matches("grade").count(), 2, "{text}");
        assert!(text.contains("subject-7"));
    }

    #[test]
    fn lines_break_at_spaces_and_within_words_that_are_too_long() {
        assert_eq!(lines("one two three", 8), ["one two", "three"]);
        assert_eq!(lines("abcdefghij kl", 4), ["abcd", "efgh", "ij", "kl"]);
        assert_eq!(lines("", 4), [""]);
    }
}
