//! The sample's environment variables and the flags of `run` in place of a file.

use std::path::Path;

use sls_relay::config::{Loaded, Problems, SampleFlags, Start, from_environment};
use sls_relay::sls::CredentialSource;
use sls_relay::syslog::{Format, Framing};

const VARIABLES: [(&str, &str); 6] = [
    ("SLS_ENDPOINT", "cn-hangzhou.log.aliyuncs.com"),
    ("SLS_AK_ID", "LTAI"),
    ("SLS_AK_KEY", "wJalrXUtnFEMIhidden"),
    ("SLS_PROJECT", "waf-project"),
    ("SLS_LOGSTORE", "waf-logs"),
    ("SLS_CG", "WAF-SLS"),
];

/// Loads with the sample's variables, of which some are changed.
fn load(changed: &[(&str, Option<&str>)], flags: &SampleFlags) -> Result<Loaded, Problems> {
    let env = |name: &str| match changed.iter().find(|(variable, _)| *variable == name) {
        Some((_, value)) => value.map(str::to_owned),
        None => VARIABLES
            .iter()
            .find(|(variable, _)| *variable == name)
            .map(|(_, value)| (*value).to_owned()),
    };
    from_environment(&env, flags, "this-host")
}

fn flag(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn to_tcp() -> SampleFlags {
    SampleFlags { to: flag("tcp://siem.example"), ..SampleFlags::default() }
}

#[test]
fn six_variables_and_a_receiver_are_enough() {
    let loaded = load(&[], &to_tcp()).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(loaded.warnings, Vec::<String>::new());
    let settings = &loaded.settings;
    assert_eq!(settings.spool.dir, Path::new("./sls-relay-spool"));
    assert_eq!(settings.spool.max_bytes, 10 << 30);
    let source = &settings.sources[0];
    assert_eq!(source.name, "sls");
    assert_eq!(
        source.spool_key(),
        "https://cn-hangzhou.log.aliyuncs.com/waf-project/waf-logs#WAF-SLS"
    );
    assert_eq!(source.start, Start::Begin);
    let CredentialSource::Static(key) = &source.credentials else { panic!("a static key") };
    assert_eq!((key.key_id.as_str(), key.key_secret.as_str()), ("LTAI", "wJalrXUtnFEMIhidden"));
    let destination = &settings.destinations[0];
    assert_eq!(destination.name, "syslog");
    assert_eq!(destination.target.to_string(), "tcp://siem.example:1468");
    assert_eq!(destination.framing, Framing::OctetCounting);
    assert_eq!(destination.hostname, "this-host");
    assert!(!format!("{loaded:?}").contains("hidden"));
}

#[test]
fn a_key_of_the_default_chain_stands_in_for_the_samples() {
    let none = [("SLS_AK_ID", None), ("SLS_AK_KEY", None)];
    let chain = [
        ("ALIBABA_CLOUD_ACCESS_KEY_ID", Some("LTAI-chain")),
        ("ALIBABA_CLOUD_ACCESS_KEY_SECRET", Some("hidden")),
    ];
    let loaded = load(&[none, chain].concat(), &to_tcp()).unwrap();
    let key = loaded.settings.sources[0].credentials.load().unwrap();
    assert_eq!(key.key_id, "LTAI-chain");
    let half = [[("SLS_AK_ID", Some("LTAI")), none[1]], chain].concat();
    let problems = load(&half, &to_tcp()).unwrap_err();
    assert_eq!(problems.codes().collect::<Vec<_>>(), ["config.missing_key"], "half of its own");
}

#[test]
fn every_flag_takes_the_place_of_a_default() {
    let flags = SampleFlags {
        to: flag("tcp://siem.example:601"),
        spool: flag("/var/spool/waf"),
        framing: flag("octet-counting"),
        format: flag("sample"),
        sep: flag(", "),
        facility: flag("16"),
        severity: flag("notice"),
        hostname: flag("relay-1"),
        tag: flag("waf"),
        timeout: flag("500ms"),
    };
    let settings = load(&[], &flags).unwrap_or_else(|problems| panic!("{problems}")).settings;
    assert_eq!(settings.spool.dir, Path::new("/var/spool/waf"));
    let destination = &settings.destinations[0];
    assert_eq!(destination.target.port, 601);
    assert_eq!(destination.framing, Framing::OctetCounting);
    assert_eq!(destination.format, Format::Sample);
    assert_eq!(destination.separator, ", ");
    assert_eq!(destination.facility.name(), "local0");
    assert_eq!(destination.severity.name(), "notice");
    assert_eq!(destination.hostname, "relay-1");
    assert_eq!(destination.app_name, "waf");
    assert_eq!(destination.timeout.as_millis(), 500);
    let lines = SampleFlags { framing: None, ..flags };
    let settings = load(&[], &lines).unwrap_or_else(|problems| panic!("{problems}")).settings;
    assert_eq!(settings.destinations[0].framing, Framing::Lf);
}

#[test]
fn everything_missing_is_named_at_once() {
    let none = VARIABLES.map(|(name, _)| (name, None));
    let problems = load(&none, &SampleFlags::default()).unwrap_err().to_string();
    for name in VARIABLES.iter().map(|(name, _)| *name).chain(["--to"]) {
        assert!(problems.contains(&format!("`{name}`")), "{name} in\n{problems}");
    }
    let one = load(&[("SLS_CG", None)], &to_tcp()).unwrap_err();
    assert_eq!(
        one.to_string(),
        "error[config.missing_key]: `SLS_CG` is missing\n |\n \
         = help: `SLS_CG`: Consumer group; it is made when it is missing.\n\n\
         1 problem in the configuration"
    );
}

#[test]
fn everything_wrong_is_named_at_once_without_the_secret() {
    let flags = SampleFlags {
        to: flag("siem.example"),
        spool: flag(""),
        framing: flag("crlf"),
        format: flag("cef"),
        sep: flag("="),
        facility: flag("usr"),
        severity: flag("loud"),
        hostname: flag("this host"),
        tag: flag(""),
        timeout: flag("soon"),
    };
    let changed = [
        ("SLS_ENDPOINT", Some("https://LTAI:hidden@cn-hangzhou.log.aliyuncs.com")),
        ("SLS_AK_KEY", Some("hidden ")),
        ("SLS_PROJECT", Some("waf_project")),
        ("SLS_LOGSTORE", Some("")),
    ];
    let problems = load(&changed, &flags).unwrap_err();
    assert_eq!(problems.count(), 14, "{problems}");
    let text = problems.to_string();
    let flags = ["--to", "--spool", "--framing", "--format", "--sep", "--facility", "--severity"];
    let more = ["--hostname", "--tag", "--timeout"];
    for name in changed.iter().map(|(name, _)| *name).chain(flags).chain(more) {
        assert!(text.contains(&format!("`{name}`")), "{name} in\n{text}");
    }
    assert!(!text.contains("hidden"), "{text}");
}

#[test]
fn framing_has_no_meaning_on_udp() {
    let flags = SampleFlags { to: flag("udp://siem"), framing: flag("lf"), ..to_tcp() };
    let problems = load(&[], &flags).unwrap_err();
    assert_eq!(problems.codes().collect::<Vec<_>>(), ["config.conflict"]);
    assert!(problems.to_string().contains("`--framing`"), "{problems}");
}

#[test]
fn an_unencrypted_endpoint_is_accepted_with_one_warning() {
    let loaded =
        load(&[("SLS_ENDPOINT", Some("http://cn-hangzhou.log.aliyuncs.com"))], &to_tcp()).unwrap();
    assert_eq!(
        loaded.warnings,
        ["`SLS_ENDPOINT` is not encrypted; logs from http://cn-hangzhou.log.aliyuncs.com can be \
             read on the way; write https://"]
    );
    let loaded = load(&[("SLS_ENDPOINT", Some("http://127.0.0.1:8080"))], &to_tcp()).unwrap();
    assert_eq!(loaded.warnings, Vec::<String>::new());
}
