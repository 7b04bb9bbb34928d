//! The keys of a source that say how its endpoint is reached.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::read::{Read, Reader, Reported};
use super::report::Report;
use crate::sls::network::{Network, ProxyError, Route};
use crate::sls::{Endpoint, Proxy};

/// What the word `environment` stands for, or a proxy.
enum Way {
    Environment,
    Proxy(Proxy),
}

/// Reads `proxy`, `connect_to` and `ca_file`.
pub(super) fn network(reader: &mut Reader<'_>, endpoint: Option<&Endpoint>) -> Read<Network> {
    let proxy = reader.optional("proxy", |text| match text {
        "environment" => Ok::<_, ProxyError>(Way::Environment),
        _ => text.parse().map(Way::Proxy),
    });
    let connect_to = reader.optional("connect_to", address);
    let ca_file = reader.optional("ca_file", |text| Ok::<_, String>(PathBuf::from(text)));
    let table = reader.table;
    let mut conflicts = Vec::new();
    let mut conflict = |title: String, one: &'static str, other: &'static str, help: &str| {
        conflicts.push(
            Report::problem("config.conflict", title)
                .at(&table.place_of(one), "")
                .at(&table.place_of(other), "")
                .help(help),
        );
    };
    if table.has("proxy") && table.has("connect_to") {
        let title = "`connect_to` and `proxy` exclude each other".to_owned();
        let help = "keep one of them: a proxy finds the way to the endpoint itself";
        conflict(title, "connect_to", "proxy", help);
    }
    if let Some(endpoint) = endpoint {
        if endpoint.is_direct() && table.has("connect_to") {
            let title = "`connect_to` has no meaning for an endpoint that is an address".to_owned();
            let help = "write the region's name as the endpoint, or leave `connect_to` out";
            conflict(title, "connect_to", "endpoint", help);
        }
        let http_all_the_way = !endpoint.is_https()
            && match &proxy {
                Ok(None) => true,
                Ok(Some(Way::Proxy(proxy))) => !proxy.is_https(),
                Ok(Some(Way::Environment)) | Err(_) => false,
            };
        if http_all_the_way && table.has("ca_file") {
            let title = "`ca_file` has no meaning for an endpoint with http://".to_owned();
            conflict(title, "ca_file", "endpoint", "write https://, or leave `ca_file` out");
        }
    }
    if !conflicts.is_empty() {
        reader.reports.append(&mut conflicts);
        return Err(Reported);
    }
    let route = match (proxy?, connect_to?) {
        (Some(Way::Environment), _) => Route::Environment,
        (Some(Way::Proxy(proxy)), _) => Route::Proxy(proxy),
        (None, Some(address)) => Route::Address(address),
        (None, None) => Route::Direct,
    };
    Ok(Network { route, ca_file: ca_file? })
}

fn address(text: &str) -> Result<SocketAddr, &'static str> {
    let unusable =
        "this is no address with a port: write one like 10.0.0.5:443 or [2001:db8::1]:443";
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() != 0 => Ok(address),
        _ => Err(unusable),
    }
}
