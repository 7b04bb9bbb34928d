//! What the providers find around the relay, taken in once so that nothing below looks at
//! the process's environment.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// The environment variables that Alibaba Cloud's SDKs and tools know.
pub(super) mod variable {
    pub(crate) const KEY_ID: &str = "ALIBABA_CLOUD_ACCESS_KEY_ID";
    pub(crate) const KEY_SECRET: &str = "ALIBABA_CLOUD_ACCESS_KEY_SECRET";
    pub(crate) const SECURITY_TOKEN: &str = "ALIBABA_CLOUD_SECURITY_TOKEN";
    pub(crate) const ROLE_ARN: &str = "ALIBABA_CLOUD_ROLE_ARN";
    pub(crate) const OIDC_PROVIDER_ARN: &str = "ALIBABA_CLOUD_OIDC_PROVIDER_ARN";
    pub(crate) const OIDC_TOKEN_FILE: &str = "ALIBABA_CLOUD_OIDC_TOKEN_FILE";
    pub(crate) const ROLE_SESSION_NAME: &str = "ALIBABA_CLOUD_ROLE_SESSION_NAME";
    pub(crate) const STS_REGION: &str = "ALIBABA_CLOUD_STS_REGION";
    pub(crate) const VPC_ENDPOINT: &str = "ALIBABA_CLOUD_VPC_ENDPOINT_ENABLED";
    pub(crate) const CLI_DISABLED: &str = "ALIBABA_CLOUD_CLI_PROFILE_DISABLED";
    pub(crate) const PROFILE: &str = "ALIBABA_CLOUD_PROFILE";
    pub(crate) const CREDENTIALS_FILE: &str = "ALIBABA_CLOUD_CREDENTIALS_FILE";
    pub(crate) const ECS_DISABLED: &str = "ALIBABA_CLOUD_ECS_METADATA_DISABLED";
    pub(crate) const ECS_ROLE: &str = "ALIBABA_CLOUD_ECS_METADATA";
    pub(crate) const IMDSV1_DISABLED: &str = "ALIBABA_CLOUD_IMDSV1_DISABLED";
    pub(crate) const CREDENTIALS_URI: &str = "ALIBABA_CLOUD_CREDENTIALS_URI";
}

const VARIABLES: [&str; 16] = [
    variable::KEY_ID,
    variable::KEY_SECRET,
    variable::SECURITY_TOKEN,
    variable::ROLE_ARN,
    variable::OIDC_PROVIDER_ARN,
    variable::OIDC_TOKEN_FILE,
    variable::ROLE_SESSION_NAME,
    variable::STS_REGION,
    variable::VPC_ENDPOINT,
    variable::CLI_DISABLED,
    variable::PROFILE,
    variable::CREDENTIALS_FILE,
    variable::ECS_DISABLED,
    variable::ECS_ROLE,
    variable::IMDSV1_DISABLED,
    variable::CREDENTIALS_URI,
];

/// Those that say by themselves that someone means a key to come from this chain.
const SIGNS: [&str; 8] = [
    variable::KEY_ID,
    variable::KEY_SECRET,
    variable::OIDC_TOKEN_FILE,
    variable::OIDC_PROVIDER_ARN,
    variable::PROFILE,
    variable::CREDENTIALS_FILE,
    variable::ECS_ROLE,
    variable::CREDENTIALS_URI,
];

/// Where an ECS instance asks about itself.
const METADATA: &str = "http://100.100.100.200";

/// What the providers of Alibaba Cloud's default chain go by.
///
/// `Debug` shows which variables are set and not what they hold.
#[derive(Clone)]
pub struct ChainSettings {
    variables: BTreeMap<&'static str, String>,
    home: Option<PathBuf>,
    ram_role: Option<String>,
    metadata_url: String,
    sts_url: Option<String>,
}

impl ChainSettings {
    /// Takes in the variables of the chain, and `HOME`; an empty one counts as not set.
    pub fn new(env: &dyn Fn(&str) -> Option<String>) -> Self {
        let set = |name: &'static str| env(name).filter(|value| !value.is_empty());
        Self {
            variables: VARIABLES.iter().filter_map(|name| Some((*name, set(name)?))).collect(),
            home: set("HOME").map(PathBuf::from),
            ram_role: None,
            metadata_url: METADATA.to_owned(),
            sts_url: None,
        }
    }

    /// The RAM role of the ECS instance, which need not be asked for then.
    #[must_use]
    pub fn with_ram_role(mut self, name: Option<String>) -> Self {
        self.ram_role = name;
        self
    }

    /// Another address of the metadata service, such as `http://127.0.0.1:8080`.
    #[must_use]
    pub fn with_metadata_url(mut self, url: impl Into<String>) -> Self {
        self.metadata_url = url.into();
        self
    }

    /// Another address of the Security Token Service, in place of the region's.
    #[must_use]
    pub fn with_sts_url(mut self, url: impl Into<String>) -> Self {
        self.sts_url = Some(url.into());
        self
    }

    /// Whether something here asks for the chain: one of its variables, or a profile file.
    /// That this may be an ECS instance is no sign; asking costs a request.
    pub fn is_asked_for(&self) -> bool {
        SIGNS.iter().any(|name| self.variables.contains_key(name))
            || self.cli_file().is_some_and(|path| path.exists())
            || self.ini_file().is_some_and(|path| path.exists())
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    pub(super) fn is_true(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    /// The role of this instance as written in the configuration, else in the environment.
    pub(super) fn ram_role(&self) -> Option<&str> {
        self.ram_role.as_deref().or_else(|| self.get(variable::ECS_ROLE))
    }

    pub(super) fn metadata_url(&self) -> &str {
        self.metadata_url.trim_end_matches('/')
    }

    pub(super) fn sts_url(&self) -> Option<&str> {
        self.sts_url.as_deref().map(|url| url.trim_end_matches('/'))
    }

    /// The file of the `aliyun` command line tool, if it may be used.
    pub(super) fn cli_file(&self) -> Option<PathBuf> {
        let home = self.home.as_deref().filter(|_| !self.is_true(variable::CLI_DISABLED))?;
        Some(home.join(".aliyun/config.json"))
    }

    /// The file shared by the SDKs.
    pub(super) fn ini_file(&self) -> Option<PathBuf> {
        match self.get(variable::CREDENTIALS_FILE) {
            Some(path) => Some(Path::new(path).to_owned()),
            None => Some(self.home.as_deref()?.join(".alibabacloud/credentials")),
        }
    }
}

impl fmt::Debug for ChainSettings {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("ChainSettings")
            .field("set", &self.variables.keys().collect::<Vec<_>>())
            .field("home", &self.home)
            .field("ram_role", &self.ram_role)
            .finish_non_exhaustive()
    }
}
