//! Where a request came from.
//!
//! The peer's address is the client's, unless the peer is one of the configured proxies:
//! then the proxy's `Forwarded` (RFC 7239) or `X-Forwarded-For` is read from the right, past
//! further configured proxies. Nobody else is believed, so that a client cannot choose its
//! address; where the two headers disagree, the address is unknown.

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, HeaderName, header};
use ipnet::IpNet;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The client's address; `None` where a proxy does not say it, or says two.
pub fn client_address(
    peer: Option<SocketAddr>,
    headers: &HeaderMap,
    trusted_proxies: &[IpNet],
) -> Option<IpAddr> {
    let peer = peer?.ip().to_canonical();
    let trusted = |address: &IpAddr| trusted_proxies.iter().any(|net| net.contains(address));
    if !trusted(&peer) {
        return Some(peer);
    }
    let lists = [
        items(headers, &header::FORWARDED)
            .map(|list| list.into_iter().map(forwarded_for).collect()),
        items(headers, &X_FORWARDED_FOR).map(|list| list.into_iter().map(address_in).collect()),
    ];
    let told = lists.map(|list: Option<Vec<_>>| list.map(|list| client_in(peer, &list, trusted)));
    match told {
        [None, None] => Some(peer),
        [Some(told), None] | [None, Some(told)] => told,
        [Some(one), Some(other)] => one.filter(|_| one == other),
    }
}

/// The rightmost address that is no proxy of ours. An item that is no address ends the walk:
/// whoever stands behind it is unknown.
fn client_in(
    peer: IpAddr,
    list: &[Option<IpAddr>],
    trusted: impl Fn(&IpAddr) -> bool,
) -> Option<IpAddr> {
    let mut client = peer;
    for address in list.iter().rev() {
        client = (*address)?;
        if !trusted(&client) {
            break;
        }
    }
    Some(client)
}

/// The comma-separated items of all lines of a header; `None` where it is not there.
fn items<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<Vec<&'a str>> {
    let lines = headers.get_all(name).iter();
    let items = lines.flat_map(|line| line.to_str().unwrap_or("unknown").split(','));
    Some(items.collect::<Vec<_>>()).filter(|items| !items.is_empty())
}

/// The `for` of one element of `Forwarded`.
fn forwarded_for(element: &str) -> Option<IpAddr> {
    let mut pairs = element.split(';').filter_map(|pair| pair.split_once('='));
    let (_, node) = pairs.find(|(name, _)| name.trim().eq_ignore_ascii_case("for"))?;
    address_in(node.trim().trim_matches('"'))
}

/// An address, with or without a port; IPv6 in brackets or bare.
fn address_in(node: &str) -> Option<IpAddr> {
    let node = node.trim();
    let bare = node
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(node);
    let address = bare.parse().ok();
    let with_port = || node.parse::<SocketAddr>().ok().map(|address| address.ip());
    address
        .or_else(with_port)
        .map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(peer: &str, headers: &[(HeaderName, &'static str)]) -> Option<String> {
        let peer = Some(SocketAddr::new(peer.parse().expect("an address"), 4_711));
        let proxies = ["10.0.0.0/8", "fd00::/8"].map(|net| net.parse().expect("a network"));
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name, axum::http::HeaderValue::from_static(value));
        }
        client_address(peer, &map, &proxies).map(|address| address.to_string())
    }

    fn told(name: HeaderName, value: &'static str) -> Option<String> {
        address("10.0.0.1", &[(name, value)])
    }

    #[test]
    fn only_configured_proxies_are_believed() {
        let claim = [(X_FORWARDED_FOR, "1.1.1.1")];
        assert_eq!(address("192.0.2.9", &claim).as_deref(), Some("192.0.2.9"));
        assert_eq!(address("10.0.0.1", &claim).as_deref(), Some("1.1.1.1"));
        assert_eq!(
            address("::ffff:10.0.0.1", &claim).as_deref(),
            Some("1.1.1.1")
        );
        assert_eq!(address("10.0.0.1", &[]).as_deref(), Some("10.0.0.1"));
        assert_eq!(client_address(None, &HeaderMap::new(), &[]), None);
    }

    #[test]
    fn the_list_is_read_from_the_right_past_our_proxies() {
        let spoofed = "6.6.6.6, 2.2.2.2, 10.0.0.3,10.0.0.2";
        assert_eq!(told(X_FORWARDED_FOR, spoofed).as_deref(), Some("2.2.2.2"));
        let lines = [
            (X_FORWARDED_FOR, "6.6.6.6"),
            (X_FORWARDED_FOR, "2.2.2.2:99"),
        ];
        assert_eq!(address("10.0.0.1", &lines).as_deref(), Some("2.2.2.2"));
        assert_eq!(
            told(X_FORWARDED_FOR, "10.0.0.3").as_deref(),
            Some("10.0.0.3")
        );
        assert_eq!(told(X_FORWARDED_FOR, "2.2.2.2, rubbish"), None);
    }

    #[test]
    fn forwarded_is_read_as_rfc_7239_writes_it() {
        let list = "for=6.6.6.6, For=\"[2001:db8::1]:4711\";proto=https;by=10.0.0.2";
        assert_eq!(
            told(header::FORWARDED, list).as_deref(),
            Some("2001:db8::1")
        );
        assert_eq!(
            told(header::FORWARDED, "proto=https;for=2.2.2.2").as_deref(),
            Some("2.2.2.2")
        );
        for unknown in ["for=unknown", "for=_hidden", "proto=https", ""] {
            assert_eq!(told(header::FORWARDED, unknown), None, "{unknown}");
        }
    }

    #[test]
    fn two_headers_that_disagree_say_nothing() {
        let both = |forwarded| {
            let headers = [(header::FORWARDED, forwarded), (X_FORWARDED_FOR, "2.2.2.2")];
            address("10.0.0.1", &headers)
        };
        assert_eq!(both("for=2.2.2.2").as_deref(), Some("2.2.2.2"));
        assert_eq!(both("for=6.6.6.6"), None);
    }
}
