//! Configuration files: every wrong one gets its expected report, every right one loads.
//!
//! `BLESS=1 cargo test --test config` writes the reports anew; read what changed.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use sls_relay::config::schema::TABLES;
use sls_relay::config::{self, Loaded, LogFormat, Problems, Start};
use sls_relay::sls::{CredentialSource, Filter, Provider, Route};
use sls_relay::syslog::{Format, Framing, Oversize, Scheme};

/// What the test files have for a secret.
const SECRET: &str = "wJalrXUtnFEMIhidden";

fn directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config").join(name)
}

fn toml_files(name: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory(name)).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    paths.sort();
    paths
}

fn env(variable: &str) -> Option<String> {
    match variable {
        "SLS_AK_ID" => Some("LTAI-environment".to_owned()),
        "SLS_AK_KEY" => Some("secret-of-the-environment".to_owned()),
        _ => None,
    }
}

fn parse(text: &str) -> Result<Loaded, Problems> {
    config::parse(text, "sls-relay.toml", &env, "this-host")
}

#[test]
fn every_wrong_file_gets_its_report() {
    let bless = std::env::var_os("BLESS").is_some();
    let mut wrong = Vec::new();
    let paths = toml_files("bad");
    assert!(paths.len() >= 28, "{} files", paths.len());
    for path in paths {
        let text = std::fs::read_to_string(&path).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        let result = if text.starts_with("# no access key in the environment") {
            config::parse(&text, name, &|_| None, "this-host")
        } else {
            config::parse(&text, name, &env, "this-host")
        };
        let report = match result {
            Ok(_) => panic!("{name} loads"),
            Err(problems) => format!("{problems}\n"),
        };
        assert!(!report.contains(SECRET), "{name} shows the secret:\n{report}");
        assert!(
            report.lines().all(|line| line == line.trim_end()),
            "{name}: blanks at a line's end"
        );
        let expected_path = path.with_extension("expected");
        if bless {
            std::fs::write(&expected_path, &report).unwrap();
        } else if std::fs::read_to_string(&expected_path).unwrap_or_default() != report {
            wrong.push(format!("{name} is reported as:\n{report}"));
        }
    }
    assert!(wrong.is_empty(), "{}\nBLESS=1 writes these down", wrong.join("\n"));
}

#[test]
fn every_right_file_loads_without_a_warning() {
    for path in toml_files("good") {
        let loaded = config::load(&path, &env, "this-host")
            .unwrap_or_else(|problems| panic!("{}:\n{problems}", path.display()));
        assert_eq!(loaded.warnings, Vec::<String>::new(), "{}", path.display());
    }
}

#[test]
fn the_smallest_file_gets_every_default() {
    let path = directory("good").join("smallest.toml");
    let settings = config::load(&path, &env, "this-host").unwrap().settings;
    assert_eq!(settings.spool.max_bytes, 10 << 30);
    assert_eq!(settings.spool.min_free_bytes, 1 << 30);
    assert_eq!(settings.spool.keys().unwrap().ids().count(), 0);
    let source = &settings.sources[0];
    assert_eq!(source.name, "source");
    assert_eq!(source.start, Start::Begin);
    assert_eq!(source.heartbeat_interval, Duration::from_secs(5));
    assert_eq!(source.group_timeout, Duration::from_secs(30));
    assert_eq!((source.order, source.manage_group), (None, false));
    assert_eq!(source.credentials.load().unwrap().key_id, "LTAI-environment");
    let destination = &settings.destinations[0];
    assert_eq!(destination.name, "syslog");
    assert_eq!(destination.target.to_string(), "tcp://siem.example:1468");
    assert_eq!(destination.framing, Framing::OctetCounting);
    assert_eq!(destination.format, Format::Rfc5424);
    assert_eq!(destination.separator, "||");
    assert_eq!(destination.facility.name(), "user");
    assert_eq!(destination.severity.name(), "info");
    assert_eq!(destination.hostname, "this-host");
    assert_eq!(destination.app_name, "sls-relay");
    assert!(destination.zone.is_none() && destination.required);
    assert_eq!(destination.drain_bytes, 16 << 20);
    assert_eq!((destination.udp_max_rate, destination.relp_window), (2000, 1024));
    assert_eq!((destination.max_message, destination.oversize), (8_096, Oversize::Shrink));
    assert_eq!((settings.log.level.as_str(), settings.log.format), ("info", LogFormat::Text));
}

#[test]
fn what_is_written_takes_the_place_of_defaults() {
    let path = directory("good").join("everything.toml");
    let settings = config::load(&path, &env, "this-host").unwrap().settings;
    assert_eq!(settings.spool.max_bytes, 500_000_000);
    assert_eq!(settings.spool.keys().unwrap().ids().count(), 2);
    let waf = &settings.sources[0];
    assert_eq!(waf.start, Start::Time("2026-01-31T00:00:00Z".parse().unwrap()));
    assert_eq!(waf.heartbeat_interval, Duration::from_millis(2500));
    assert!(matches!(&waf.credentials, CredentialSource::Files { .. }));
    assert_eq!(waf.filter, Some(Filter::Query("* | where final_action = 'block'".to_owned())));
    assert_eq!(settings.sources[1].filter, Some(Filter::Processor("only-blocked".to_owned())));
    let Route::Proxy(proxy) = &waf.network.route else { panic!("a proxy") };
    assert_eq!(proxy.to_string(), "http://***@proxy.example:3128");
    assert_eq!(waf.network.ca_file.as_deref(), Some(Path::new("/etc/ca.pem")));
    let audit = &settings.sources[1].network.route;
    assert_eq!(*audit, Route::Address("[2001:db8::5]:443".parse().unwrap()));
    assert_eq!((waf.order, waf.manage_group), (Some(true), true));
    assert_eq!(settings.sources[1].start, Start::End);
    let instance = &settings.sources[2].credentials;
    assert!(matches!(instance, CredentialSource::Link(Provider::EcsRamRole, _)));
    assert!(format!("{instance:?}").contains("waf-reader"));
    let [siem, archive, udp, tls, pinned] = &settings.destinations[..] else {
        panic!("five destinations")
    };
    assert_eq!(siem.facility.name(), "local0");
    assert_eq!(siem.framing, Framing::Lf);
    assert_eq!(siem.drain_bytes, 1 << 20);
    assert_eq!((archive.format, archive.framing), (Format::Sample, Framing::Lf));
    assert_eq!(udp.target.port, 514);
    assert_eq!((tls.target.port, tls.framing), (6514, Framing::OctetCounting));
    let trust = tls.tls.settings();
    assert_eq!(trust.server_name.as_deref(), Some("siem.example"));
    assert_eq!(trust.ca_file.as_deref(), Some(Path::new("/etc/sls-relay/siem-ca.pem")));
    let client = trust.client.as_ref().unwrap();
    assert_eq!(client.key, Path::new("/etc/sls-relay/client.key"));
    assert_eq!(pinned.target.scheme, Scheme::RelpTls);
    let pins: Vec<_> = pinned.tls.settings().fingerprints.iter().map(ToString::to_string).collect();
    assert!(pins[0].starts_with("sha-1:DA:39") && pins[1].starts_with("sha-256:E3:B0"), "{pins:?}");
    assert_eq!(settings.log.format, LogFormat::Json);
    assert_eq!(settings.control.socket, Path::new("/run/sls-relay/control.sock"));
}

fn packaged() -> (PathBuf, String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/sls-relay.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    (path, text)
}

#[test]
fn the_packaged_example_loads_and_names_every_key_once_in_its_table() {
    let (path, text) = packaged();
    let loaded = config::load(&path, &env, "this-host").unwrap_or_else(|e| panic!("{e}"));
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    for table in &TABLES {
        let (_, rest) = text.split_once(&format!("\n{}\n", table.header())).unwrap();
        let body = rest.split("\n[").next().unwrap();
        for key in table.keys {
            let written =
                |line: &&str| line.trim_start_matches('#').split(" = ").next() == Some(key.name);
            let lines: Vec<_> = body.lines().filter(written).collect();
            assert_eq!(lines.len(), 1, "{} in {}: {lines:?}", key.name, table.header());
            if let Some(example) = key.example() {
                assert_eq!(lines[0], format!("#{} = {example}", key.name), "shows the default");
            }
        }
    }
}

#[test]
fn the_packaged_example_loads_with_every_line_in_use() {
    let (_, text) = packaged();
    let mut all = String::new();
    for line in text.lines() {
        let commented = line.strip_prefix('#').filter(|rest| !rest.starts_with(' '));
        // These stand for a second way to say what other lines say.
        let other_way = |rest: &str| {
            let second = [
                "access_key_id =",
                "access_key_secret =",
                "processor =",
                "connect_to =",
                "ram_role =",
                "fingerprints =",
            ];
            second.iter().any(|key| rest.starts_with(key))
        };
        match commented {
            Some(rest) if !rest.is_empty() && !other_way(rest) => all.push_str(rest),
            _ => all.push_str(line),
        }
        all.push('\n');
    }
    // Certificates have a meaning on this transport alone.
    let all = all.replace("\"tcp://", "\"tls://");
    parse(&all).unwrap_or_else(|problems| panic!("{problems}"));
}

#[test]
fn the_spool_alone_is_read_whatever_else_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("relay.toml");
    let load = |text: &str| {
        std::fs::write(&path, text).unwrap();
        config::load_spool(&path)
    };
    let keyless = load("[spool]\ndir = \"/s\"\n[[source]]\nendpoint = 1\n[[surce]]\n").unwrap();
    assert_eq!(keyless.spool.dir, Path::new("/s"));
    assert_eq!(keyless.control.socket, Path::new("/s/control.sock"));
    let written = load("[spool]\ndir = \"/s\"\n[control]\nsocket = \"/c\"\n[[source]]\n").unwrap();
    assert_eq!(written.control.socket, Path::new("/c"));
    assert_eq!(load("[spool]\ndir = \"/s\"\n[log\n").unwrap().spool.dir, Path::new("/s"));
    let keys = load("[spool]\ndir = \"/s\"\nencrypt_key_file = \"/no/such/file\"\n").unwrap();
    assert!(keys.spool.keys().unwrap_err().to_string().contains("/no/such/file"), "only named");
    for (text, code) in [
        ("", "config.missing_table"),
        ("[spool]\n", "config.missing_key"),
        ("[spool]\ndri = \"/s\"\n", "config.unknown_key"),
        ("[spool]\ndir = 1\n", "config.wrong_type"),
        ("[spool]\ndir = \"\"\n", "config.empty"),
        ("spool = 1\n", "config.wrong_type"),
        ("[spool\ndir = \"/s\"\n", "config.syntax"),
        ("[spool]\ndir = \"/s\"\n[control]\nsocket = 1\n", "config.wrong_type"),
    ] {
        let problems = load(text).unwrap_err();
        assert!(problems.codes().any(|found| found == code), "{text:?}: {problems}");
    }
    let absent = config::load_spool(&dir.path().join("absent")).unwrap_err();
    assert_eq!(absent.codes().collect::<Vec<_>>(), ["config.unreadable"]);
}
