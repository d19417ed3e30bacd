//! Whatever an agent says is a typed message, and nothing of it is lost unsaid.

use childminder::agent::{Agent, Dialect, End, Fault, MessageKind};

use crate::scene::{eventually, is_held_up};
use crate::stage::{all, execute, kinds, next, perl, shell};

const MIB: usize = 1024 * 1024;

#[tokio::test]
async fn a_line_of_sixteen_mebibytes_is_one_message() {
    let script = r#"print q({"type":"result","text":"), 'x' x (16 * 1048576 - 27), qq("}\n)"#;
    let (messages, report) = all(&mut execute(&perl(script).build())).await;
    assert_eq!(kinds(&messages), [MessageKind::Result]);
    assert_eq!((messages[0].raw.len(), messages[0].dropped), (16 * MIB, 0));
    assert_eq!(messages[0].text.as_ref().map(String::len), Some(16 * MIB - 27));
    assert_eq!(report.end, End::Answered);
}

#[tokio::test]
async fn a_line_beyond_the_message_limit_keeps_its_beginning_and_says_how_much_was_dropped() {
    let script = r#"print q({"type":"stream","text":"), 'x' x 5000000, qq("}\n{"type":"result"}\n)"#;
    let agent = perl(script).message_limit(1000).build();
    let (messages, report) = all(&mut execute(&agent)).await;
    assert_eq!(kinds(&messages), [MessageKind::TooLong, MessageKind::Result]);
    assert!(messages[0].raw.starts_with(br#"{"type":"stream","text":"xxx"#));
    assert_eq!((messages[0].raw.len(), messages[0].dropped), (1000, 5_000_000 + 27 - 1000));
    assert_eq!(report.end, End::Answered);
    assert_eq!(agent.stats().dropped_bytes, messages[0].dropped);
}

#[tokio::test]
async fn a_line_that_is_no_utf_8_or_has_a_zero_byte_or_is_half_an_object_comes_as_it_is() {
    let script = r#"print qq({"type":"\xff\xfe"}\n), qq({"type":"stream","text":"\0"}\n), qq(a\0b\n),
        qq({"type":"stream","te\n), qq({"type":"result"}\n), qq({"type":"resu)"#;
    let (messages, _) = all(&mut execute(&perl(script).build())).await;
    let expected: [(MessageKind, &[u8]); 6] = [
        (MessageKind::NotUtf8, b"{\"type\":\"\xff\xfe\"}"),
        (MessageKind::NotJson, b"{\"type\":\"stream\",\"text\":\"\0\"}"),
        (MessageKind::Plain, b"a\0b"),
        (MessageKind::NotJson, b"{\"type\":\"stream\",\"te"),
        (MessageKind::Result, b"{\"type\":\"result\"}"),
        (MessageKind::Cut, b"{\"type\":\"resu"),
    ];
    let got: Vec<_> = messages.iter().map(|message| (message.kind, &message.raw[..])).collect();
    assert_eq!(got, expected);
}

/// Some two seconds' worth at a hundred thousand a second.
const FLOOD: u64 = 200_000;

#[tokio::test]
async fn a_flood_is_held_up_while_nobody_takes_it_and_none_of_it_is_lost() {
    let script = format!(
        r#"print qq({{"type":"status"}}\n); print qq({{"type":"stream","text":"$_"}}\n) for 1..{FLOOD}; print qq({{"type":"result"}}\n)"#
    );
    let agent = perl(&script).build();
    let mut execution = execute(&agent);
    assert_eq!(next(&mut execution).await.kind, MessageKind::Status);
    let pid = execution.pid().expect("it runs");
    eventually("it is held up", || is_held_up(pid));
    let mut number = 0;
    while let Some(message) = crate::scene::within(execution.next_message()).await {
        if message.kind == MessageKind::Text {
            number += 1;
            assert_eq!(message.text, Some(number.to_string()));
        }
    }
    assert_eq!(number, FLOOD);
    let outcome = execution.wait().await.outcome.expect("it ran");
    assert!(outcome.stdout.is_complete());
    assert_eq!(agent.stats().said(MessageKind::Text), FLOOD);
}

#[tokio::test]
async fn plain_text_is_a_message_a_line_and_ends_without_a_result() {
    let agent = Agent::builder(Dialect::plain_text()).program("/bin/cat").build();
    let mut execution = agent.execute("one\n\n{\"type\":\"error\"}\nerror: two").expect("it starts");
    let (messages, report) = all(&mut execution).await;
    assert_eq!(
        kinds(&messages),
        [MessageKind::Text, MessageKind::Text, MessageKind::Text, MessageKind::Error]
    );
    assert_eq!(report.end, End::Answered);
}

#[tokio::test]
async fn a_cancel_in_the_middle_of_a_message_leaves_its_beginning() {
    let agent = shell(r#"printf '{"type":"stream","text":"begun'; echo ready >&2; exec sleep 100"#).build();
    let mut execution = execute(&agent);
    let ready = next(&mut execution).await;
    assert_eq!((ready.kind, ready.text.as_deref()), (MessageKind::Diagnostic, Some("ready")));
    execution.cancel();
    let (messages, report) = all(&mut execution).await;
    assert_eq!(kinds(&messages), [MessageKind::Cut]);
    assert_eq!(&messages[0].raw[..], br#"{"type":"stream","text":"begun"#);
    assert_eq!(report.end, End::Cancelled);
}

#[tokio::test]
async fn an_agent_that_ends_well_without_a_result_has_not_answered() {
    let (_, report) = all(&mut execute(&shell(r#"echo '{"type":"stream","text":"4"}'"#).build())).await;
    assert_eq!(report.end, End::Failed(Fault::NoResult));
}
