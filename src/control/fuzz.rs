//! Entry point for fuzzing: it takes any bytes, and panics only on a defect.

use std::path::Path;

use super::client::{ClientError, answer};
use super::protocol;

/// Reads the bytes as the line of a request, or as what a server sends after its hello.
///
/// Layout: one byte kind (modulo 2: request, answer), the bytes.
///
/// # Panics
/// When the line made of an accepted request is not accepted, or what is wrong is told at
/// length or with control characters.
pub fn control(data: &[u8]) {
    match data.split_first() {
        Some((kind, bytes)) if kind % 2 == 0 => request(bytes),
        Some((_, bytes)) => answered(bytes),
        None => {}
    }
}

fn request(line: &[u8]) {
    match protocol::request(line) {
        Ok(serde_json::Value::Object(members)) => {
            let again = protocol::request_line(members.clone());
            assert_eq!(again.iter().filter(|byte| **byte == b'\n').count(), 1, "one line");
            let again = protocol::request(&again);
            // Not the values: a number may be rounded once more.
            let names = again
                .ok()
                .and_then(|again| Some(again.as_object()?.keys().cloned().collect::<Vec<_>>()));
            assert_eq!(names, Some(members.keys().cloned().collect()), "it stays as it is");
        }
        Ok(other) => panic!("{other} is no object"),
        Err(refusal) => {
            assert!(refusal.to_string().len() < 500, "a refusal is short");
            let line = protocol::last_line(Err(refusal));
            assert!(protocol::message(line.trim_ascii_end()).is_ok(), "the client reads it");
        }
    }
}

fn answered(mut bytes: &[u8]) {
    let lines = bytes.iter().filter(|byte| **byte == b'\n').count();
    let mut parts = 0;
    let outcome = answer(&mut bytes, Path::new("control.sock"), &mut |_| parts += 1);
    assert!(parts <= lines, "no part without a line");
    match outcome {
        Ok(_) | Err(ClientError::Refused { .. }) => assert!(parts < lines, "the end is a line"),
        Err(error) => {
            let text = error.to_string();
            assert!(text.len() < 2500 && !text.contains(char::is_control), "{text:?}");
        }
    }
}
