//! What the commands say of certificates: the real binary.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use sls_relay::syslog::transport::tls::Fingerprint;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::server::Server;

async fn relay(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sls-relay"));
    command.args(args).stdin(Stdio::null()).env_clear();
    in_time(tokio::task::spawn_blocking(move || command.output().unwrap())).await.unwrap()
}

/// Takes connections and reads each to its end, as receivers do.
fn serve(server: Server) {
    tokio::spawn(async move {
        loop {
            let Ok(mut stream) = server.accept().await else { continue };
            tokio::spawn(async move {
                let _ = stream.read_to_end(&mut Vec::new()).await;
                let _ = stream.shutdown().await;
            });
        }
    });
}

/// What `check` finds for one destination; the source it names does not answer.
async fn check(dir: &Path, destination: &str) -> Vec<Value> {
    let path = dir.join("relay.toml");
    let text = format!(
        "[spool]\ndir = \"{}\"\n[[source]]\nendpoint = \"http://127.0.0.1:1\"\nproject = \"p\"\n\
         logstore = \"l\"\nconsumer_group = \"g\"\naccess_key_id = \"i\"\n\
         access_key_secret = \"s\"\n[[destination]]\n{destination}\n",
        dir.join("spool").display()
    );
    std::fs::write(&path, text).unwrap();
    let output = relay(&["check", "--json", "--config", path.to_str().unwrap()]).await;
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let findings = document["findings"].as_array().unwrap();
    findings.iter().filter(|one| one["section"] == "destination syslog").cloned().collect()
}

fn about<'a>(findings: &'a [Value], what: &str) -> (&'a str, &'a str) {
    let found = findings.iter().find(|one| one["what"] == what);
    let found = found.unwrap_or_else(|| panic!("{what} is not in {findings:?}"));
    (found["level"].as_str().unwrap(), found["detail"].as_str().unwrap())
}

#[tokio::test]
async fn fingerprints_of_a_file_and_of_a_receiver_are_printed_to_be_pinned() {
    let scene = Scene::new();
    let expected = format!(
        "{}\n{}\nnames: 127.0.0.1, siem.test\n",
        Fingerprint::sha256(&scene.server.der),
        Fingerprint::sha1(&scene.server.der)
    );
    let of_file = relay(&["cert", "fingerprint", scene.server.file.to_str().unwrap()]).await;
    assert!(of_file.status.success());
    let of_file = String::from_utf8(of_file.stdout).unwrap();
    assert!(of_file.starts_with(&expected), "{of_file}");

    let server = Server::new(&scene.server, &rustls::version::TLS13).await;
    let address = server.target().to_string();
    serve(server);
    for address in [address.as_str(), address.trim_start_matches("tls://")] {
        let output = relay(&["cert", "fingerprint", address]).await;
        assert!(output.status.success());
        assert_eq!(String::from_utf8(output.stdout).unwrap(), of_file);
    }
    for (nothing, code) in [("no such file", 64), ("127.0.0.1:1", 69)] {
        let output = relay(&["cert", "fingerprint", nothing]).await;
        assert_eq!(output.status.code(), Some(code), "{nothing}");
    }
}

#[tokio::test]
async fn check_shows_the_session_and_warns_of_the_end() {
    let scene = Scene::new();
    let soon = scene.authority.server("soon", &["127.0.0.1"], Until::Days(5));
    let server = Server::new(&soon, &rustls::version::TLS13).await;
    let to = server.target().to_string();
    serve(server);
    let ca = scene.authority.file.display();
    let findings = check(scene.dir.path(), &format!("to = \"{to}\"\nca_file = \"{ca}\"")).await;
    let (level, session) = about(&findings, "TLS");
    assert!(level == "ok" && session.starts_with("TLS 1.3, TLS13_"), "{session}");
    let sha256 = Fingerprint::sha256(&soon.der).to_string();
    let (level, certificate) = about(&findings, "certificate");
    assert!(level == "ok" && certificate.contains(&sha256), "{certificate}");
    assert_eq!(about(&findings, "expiry").0, "warn");
    assert_eq!(about(&findings, "answers a drain").0, "ok");
}

#[tokio::test]
async fn check_fails_where_the_receiver_wants_a_certificate_or_a_file_is_missing() {
    let scene = Scene::new();
    let version = &rustls::version::TLS13;
    let server = Server::asking(&scene.server, version, &scene.authority).await;
    let to = server.target().to_string();
    serve(server);
    let ca = scene.authority.file.display();
    let findings = check(scene.dir.path(), &format!("to = \"{to}\"\nca_file = \"{ca}\"")).await;
    let failed = findings.iter().find(|one| one["level"] == "fail").unwrap();
    assert_eq!(failed["code"], "syslog.tls_client_refused", "{findings:?}");

    let absent = scene.file("absent.pem");
    let destination = format!("to = \"{to}\"\nca_file = \"{}\"", absent.display());
    let findings = check(scene.dir.path(), &destination).await;
    let (level, detail) = about(&findings, "certificate files");
    assert!(level == "fail" && detail.contains("absent.pem"), "{detail}");
}
