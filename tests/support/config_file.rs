//! A configuration file as a user writes it, with everything quick.

use std::path::{Path, PathBuf};

use crate::pipeline::Ends;

/// Writes `relay.toml` into `dir` for a relay between `ends`, its spool below `dir`; `source`
/// are more lines of its source, `drains` those about the drains of its destination.
pub(crate) fn write_config(
    ends: &Ends,
    dir: &Path,
    max_bytes: &str,
    source: &str,
    drains: &str,
) -> PathBuf {
    let settings = ends.settings(dir);
    let (ours, to) = (&settings.sources[0], ends.receiver.tcp_addr().unwrap());
    let secret = dir.join("secret");
    std::fs::write(&secret, ends.key_secret()).unwrap();
    let text = format!(
        r#"
[spool]
dir = {spool:?}
max_bytes = "{max_bytes}"
min_free_bytes = "0"

[[source]]
endpoint = "{endpoint}"
project = "{project}"
logstore = "{logstore}"
consumer_group = "{group}"
access_key_id = "{key_id}"
access_key_secret_file = {secret:?}
heartbeat_interval = "1 s"
group_timeout = "5 s"
idle_poll = "100 ms"
{source}

[[destination]]
to = "tcp://{to}"
max_message = 200000
settle = "200 ms"
{drains}
timeout = "3 s"
"#,
        spool = dir.join("spool"),
        endpoint = ours.endpoint,
        project = ours.project,
        logstore = ours.logstore,
        group = ours.consumer_group,
        key_id = ends.key_id(),
    );
    let path = dir.join("relay.toml");
    std::fs::write(&path, text).unwrap();
    path
}
