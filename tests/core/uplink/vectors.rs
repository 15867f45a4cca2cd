//! Messages written by hand from the source document, read and (where they are canonical) written.

use recfile::call::Direction;
use uplink::message::{
    Message, Outcome, ParseError, Parties, StartRequest, StartResponse, StopRequest, StopResponse,
};

macro_rules! vector {
    ($name:literal) => {
        include_bytes!(concat!("../../vectors/uplink/", $name)).as_slice()
    };
}

fn front_desk() -> Parties {
    Parties {
        remote_number: "+4930123456".into(),
        remote_name: "Jörg Müller".into(),
        local_number: "201".into(),
        local_name: "Front desk".into(),
    }
}

fn reads_and_writes(text: &[u8], message: &Message) {
    assert_eq!(Message::parse(text).as_ref(), Ok(message));
    assert_eq!(message.encode().as_bytes(), text);
}

#[test]
fn the_documents_start_request_is_read_and_written() {
    let message = Message::StartRequest(StartRequest {
        id: "7f3a".into(),
        device: "0C:11:05:0A:0B:0C".into(),
        parties: front_desk(),
        direction: Some(Direction::In),
        codec: "PCMA".into(),
        extension: None,
    });
    reads_and_writes(vector!("start_request"), &message);
}

#[test]
fn escapes_are_decoded_in_either_case_and_a_plus_stays_a_plus() {
    let Ok(Message::StartRequest(start)) = Message::parse(vector!("start_request_escaped")) else {
        panic!("not a start request")
    };
    assert_eq!(start.parties.remote_number, "sip:anna;x=1@example.org");
    assert_eq!(start.parties.remote_name, "A&B = 100%");
    assert_eq!(start.parties.local_name, "");
    assert_eq!(start.direction, Some(Direction::Out));
    assert_eq!(start.codec, "G722");
}

#[test]
fn the_documents_start_responses_are_read_and_written() {
    let success = StartResponse {
        id: "7f3a".into(),
        outcome: Outcome::Success,
        reason: String::new(),
        server: "192.0.2.10".into(),
        port: Some(40002),
        extension: None,
    };
    reads_and_writes(vector!("start_response_success"), &Message::StartResponse(success.clone()));
    let failed = StartResponse {
        outcome: Outcome::Failed,
        reason: "disk full".into(),
        server: String::new(),
        port: None,
        ..success
    };
    reads_and_writes(vector!("start_response_failed"), &Message::StartResponse(failed));
}

#[test]
fn keys_come_in_any_order_unknown_ones_are_ignored_and_the_first_of_two_counts() {
    let expected = Message::StartResponse(StartResponse {
        id: "7f3a".into(),
        outcome: Outcome::Success,
        reason: String::new(),
        server: String::new(),
        port: Some(40002),
        extension: None,
    });
    assert_eq!(Message::parse(vector!("start_response_reordered")), Ok(expected));
}

#[test]
fn the_documents_stop_messages_are_read_and_written() {
    let request =
        StopRequest { id: "7f3a".into(), parties: front_desk(), reason: "hangup".into(), items: None };
    reads_and_writes(vector!("stop_request"), &Message::StopRequest(request));
    let answer = StopResponse { id: "7f3a".into(), outcome: Outcome::Success };
    reads_and_writes(vector!("stop_response"), &Message::StopResponse(answer));
}

#[test]
fn only_what_would_break_a_message_is_escaped() {
    let request = Message::StopRequest(StopRequest {
        id: "1".into(),
        parties: Parties { remote_name: "a&b=c%d\r\n\0\u{7f}+~ é".into(), ..Parties::default() },
        reason: "x".into(),
        items: None,
    });
    assert_eq!(
        request.encode(),
        "cmd=RecordStopRequest&id=1&remote_number=&remote_name=a%26b%3Dc%25d%0D%0A%00%7F+~ é\
         &local_number=&local_name=&reason=x"
    );
}

#[test]
fn a_message_with_endless_names_is_cut_to_the_size_limit_between_characters() {
    let endless = "é&".repeat(10_000);
    let parties = Parties {
        remote_number: endless.clone(),
        remote_name: endless.clone(),
        local_number: endless.clone(),
        local_name: endless.clone(),
    };
    let text = Message::StartRequest(StartRequest {
        id: "1".into(),
        device: endless.clone(),
        parties,
        direction: None,
        codec: endless,
        extension: None,
    })
    .encode();
    assert!(text.len() <= uplink::message::MAX_MESSAGE_OCTETS);
    let Ok(Message::StartRequest(start)) = Message::parse(text.as_bytes()) else { panic!("{text}") };
    assert_eq!(start.parties.local_name.replace("é&", ""), "");
}

#[test]
fn broken_escapes_stand_for_themselves_and_foreign_octets_become_replacement_characters() {
    let text = b"cmd=RecordStopRequest&id=1&reason=50%&remote_name=%4&local_name=%zz\xFF%C3";
    let Ok(Message::StopRequest(stop)) = Message::parse(text) else { panic!("not a stop request") };
    assert_eq!(stop.reason, "50%");
    assert_eq!(stop.parties.remote_name, "%4");
    assert_eq!(stop.parties.local_name, "%zz\u{FFFD}\u{FFFD}");
}

/// Answers that mean the same as this one.
const ANSWER: &str = "cmd=RecordStartResponse&id=7&result=success&reason=&server=192.0.2.1&port=40002";

#[test]
fn an_answer_is_understood_however_a_server_spells_it() {
    let Ok(Message::StartResponse(expected)) = Message::parse(ANSWER.as_bytes()) else { panic!("{ANSWER}") };
    for answer in [
        ANSWER.to_ascii_uppercase(),
        ANSWER.to_ascii_lowercase(),
        ANSWER.replace('=', " = ").replace('&', " & ").replace("id = 7 ", "id =7"),
        ANSWER.replace("cmd", "\u{feff}cmd"),
        format!("\u{feff} {ANSWER} "),
        format!("\"{ANSWER}\""),
        ANSWER.replace("success", "%73ucces%73").replace("RecordStart", "Record%53tart"),
        ANSWER.replace("success", "\"success\"").replace("40002", "'40002'"),
        ANSWER.replace("success", "success%0D%0A").replace("40002", "40002%20"),
        ANSWER.replace("192.0.2.1&port=40002", "192.0.2.1:40002"),
        ANSWER.replace("192.0.2.1&port=40002", "192.0.2.1:40002&port="),
        ANSWER.replace("192.0.2.1", "192.0.2.1:40002"),
        format!("{ANSWER}&"),
        format!("{ANSWER};"),
        format!("{ANSWER} OK"),
        format!("{ANSWER}&&version=2"),
        format!("{ANSWER} (rtp)"),
    ] {
        match Message::parse(answer.as_bytes()) {
            Ok(Message::StartResponse(read)) => {
                let same =
                    (read.id.as_str(), read.outcome, read.port) == ("7", expected.outcome, expected.port);
                assert!(same && read.server.to_lowercase().contains("192.0.2.1"), "{answer}: {read:?}");
            }
            other => panic!("{answer}: {other:?}"),
        }
    }
    for server in ["[2001:db8::1]:40002", "rec.example.org:40002", "\"[2001:db8::1]:40002\""] {
        let answer = ANSWER.replace("192.0.2.1&port=40002", server);
        let Ok(Message::StartResponse(read)) = Message::parse(answer.as_bytes()) else { panic!("{answer}") };
        assert_eq!(read.port, Some(40002), "{answer}");
    }
}

#[test]
fn an_ambiguous_value_in_an_answer_is_an_error() {
    for port in [
        "40002x",
        "40002.5",
        "-40002",
        "40002,40003",
        "40002-40003",
        "40002 40003",
        "x40002",
        "0x9C42",
        "４０００２",
    ] {
        let answer = ANSWER.replace("40002", port);
        assert_eq!(Message::parse(answer.as_bytes()), Err(ParseError::Invalid("port")), "{answer}");
    }
    for server in ["2001:db8::1", "fe80::1%eth0", "[2001:db8::1]", "host:", "host:0", "host:70000", "host:x"]
    {
        let answer = ANSWER.replace("192.0.2.1&port=40002", server);
        assert_eq!(Message::parse(answer.as_bytes()), Err(ParseError::Missing("port")), "{answer}");
    }
}

#[test]
fn a_request_is_understood_in_any_case_with_blanks_and_quotes() {
    let text = b"CMD = RecordStartRequest & ID=7&Device=d&Remote_Name= Anna &DIR = \"IN\" &CODEC='PCMA'";
    let Ok(Message::StartRequest(start)) = Message::parse(text) else { panic!("not a start request") };
    assert_eq!((start.direction, start.parties.remote_name.as_str()), (Some(Direction::In), " Anna "));
    assert_eq!(start.codec, "'PCMA'");
}

#[test]
fn a_long_id_is_taken_and_repeated_whole() {
    let id = "ab%26".repeat(200);
    let Ok(Message::StopRequest(stop)) = Message::parse(format!("cmd=RecordStopRequest&id={id}").as_bytes())
    else {
        panic!("not a stop request")
    };
    let answer = Message::StopResponse(StopResponse { id: stop.id, outcome: Outcome::Success }).encode();
    assert_eq!(answer, format!("cmd=RecordStopResponse&id={id}&result=success"));
}

#[test]
fn a_key_that_a_message_lacks_is_named() {
    let error = |text: &str| Message::parse(text.as_bytes()).expect_err(text);
    assert_eq!(error("id=1&result=success"), ParseError::Missing("cmd"));
    assert_eq!(error("cmd=RecordStopRequest&reason=x"), ParseError::Missing("id"));
    assert_eq!(error("cmd=RecordStopRequest&id=&reason=x"), ParseError::Invalid("id"));
    assert_eq!(error("cmd=RecordStartRequest&id=1"), ParseError::Missing("codec"));
    assert_eq!(error("cmd=RecordStartResponse&id=1&port=4000"), ParseError::Missing("result"));
    assert_eq!(error("cmd=RecordStartResponse&id=1&result=success"), ParseError::Missing("port"));
    assert_eq!(error("cmd=RecordStartResponse&id=1&result=success&port=0"), ParseError::Invalid("port"));
    assert_eq!(error("cmd=RecordStartResponse&id=1&result=success&port=70000"), ParseError::Invalid("port"));
}

#[test]
fn an_unknown_command_is_a_message_of_its_own() {
    assert_eq!(Message::parse(b"cmd=Ping&n=1"), Ok(Message::Unknown { cmd: "Ping".into() }));
}
