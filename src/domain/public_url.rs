//! An address on the public internet that this installation may be told to call.
//!
//! Whoever may give one could point it at what only this installation reaches: another service
//! of its machine, its network, the metadata of its cloud. So it is `https`, and its host is
//! neither an address of such a place, in any spelling, nor a name that can only be of one. What
//! a public name resolves to is not known here: whoever calls it MUST ask [`is_public`] of the
//! address that it connects to.
//!
//! The parser is the browsers' (WHATWG), so that what is checked is what is called.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};
use url::{Host, Url};

/// The longest, in bytes, as it is kept.
pub const URL_BYTES_MAX: usize = 2_000;
/// The only port below [`FIRST_FREE_PORT`] that is taken.
const HTTPS: u16 = 443;
/// Below it are the ports of well-known services, which speak something else.
const FIRST_FREE_PORT: u16 = 1_024;

/// Names below these are of no place on the public internet (RFC 6761, RFC 6762, RFC 8375, and
/// what clouds and routers call their own).
const LOCAL_NAMES: [&str; 15] = [
    "alt",
    "arpa",
    "corp",
    "example",
    "home",
    "internal",
    "intranet",
    "invalid",
    "lan",
    "local",
    "localdomain",
    "localhost",
    "onion",
    "private",
    "test",
];

/// IPv4 networks that are not of the public internet (IANA's special-purpose registry), and the
/// address at which Azure serves its machines.
const CLOSED_IPV4: [(Ipv4Addr, u8); 17] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(168, 63, 129, 16), 32),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 31, 196, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];

/// Of IPv6 only global unicast is open, and of that not what is reserved, documents, or carries
/// an IPv4 address inside (Teredo, 6to4).
const OPEN_IPV6: (Ipv6Addr, u8) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);
const CLOSED_IPV6: [(Ipv6Addr, u8); 4] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

/// What is no address that may be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUrl {
    #[error("a URL that begins with `https://`, without spaces and backslashes")]
    Malformed,
    #[error("at most {URL_BYTES_MAX} bytes")]
    TooLong,
    #[error("no user name and no password: they would be read by whoever sees the URL")]
    UserInfo,
    #[error("no fragment (`#…`): it is never sent")]
    Fragment,
    #[error("a port that is free for this: {HTTPS}, or {FIRST_FREE_PORT} and above")]
    Port,
    #[error("a host on the public internet: no private, local or metadata address, no local name")]
    Host,
}

/// See the module. Kept as the parser writes it: host in lower case and punycode, no port where
/// it is 443.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PublicUrl(String);

impl PublicUrl {
    /// Checks and normalizes.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, InvalidUrl> {
        let begins = text
            .get(..8)
            .is_some_and(|begin| begin.eq_ignore_ascii_case("https://"));
        // The parser would skip these, and read another address than people do.
        let is_skipped = |c: char| c.is_whitespace() || c.is_control() || c == '\\';
        if !begins || text.contains(is_skipped) {
            return Err(InvalidUrl::Malformed);
        }
        if text.len() > URL_BYTES_MAX {
            return Err(InvalidUrl::TooLong);
        }
        let url = Url::parse(text).map_err(|_| InvalidUrl::Malformed)?;
        if !url.username().is_empty() || url.password().is_some() || authority(text).contains('@') {
            return Err(InvalidUrl::UserInfo);
        }
        if url.fragment().is_some() {
            return Err(InvalidUrl::Fragment);
        }
        if url
            .port()
            .is_some_and(|port| port != HTTPS && port < FIRST_FREE_PORT)
        {
            return Err(InvalidUrl::Port);
        }
        let is_open = match url.host() {
            Some(Host::Domain(name)) => is_public_name(name),
            Some(Host::Ipv4(address)) => is_public(address.into()),
            Some(Host::Ipv6(address)) => is_public(address.into()),
            None => false,
        };
        if !is_open {
            return Err(InvalidUrl::Host);
        }
        // Escaping what is not ASCII makes it longer.
        match url.as_str().len() > URL_BYTES_MAX {
            true => Err(InvalidUrl::TooLong),
            false => Ok(Self(url.into())),
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Where it leads, the same for all spellings and whatever a query adds: two URLs of one
    /// place are never told apart, though two of different places may be taken for one.
    pub fn place(&self) -> String {
        let Ok(url) = Url::parse(&self.0) else {
            return self.0.clone();
        };
        let host = url.host_str().unwrap_or_default().trim_end_matches('.');
        let port = url.port_or_known_default().unwrap_or(HTTPS);
        let path = percent_decode_str(url.path()).decode_utf8_lossy();
        let steps: Vec<_> = path.split('/').filter(|step| !step.is_empty()).collect();
        format!("{host}:{port}/{}", steps.join("/"))
    }
}

/// Between `https://` and what ends it.
fn authority(text: &str) -> &str {
    let rest = text.get(8..).unwrap_or_default();
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    &rest[..end]
}

/// Whether a name, in lower case and punycode, can be of a place on the public internet.
fn is_public_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let is_label = |label: &str| !label.is_empty() && label.len() <= 63;
    let Some((_, top)) = name.rsplit_once('.') else {
        return false;
    };
    name.len() <= 253 && name.split('.').all(is_label) && !LOCAL_NAMES.contains(&top)
}

/// Whether an address is of a place on the public internet.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let closed = |(net, bits): &(Ipv4Addr, u8)| {
                shares(
                    u32::from(address).into(),
                    u32::from(*net).into(),
                    *bits + 96,
                )
            };
            !CLOSED_IPV4.iter().any(closed)
        }
        IpAddr::V6(address) => {
            let within =
                |(net, bits): &(Ipv6Addr, u8)| shares(address.into(), (*net).into(), *bits);
            within(&OPEN_IPV6) && !CLOSED_IPV6.iter().any(within)
        }
    }
}

/// Whether two addresses have their first `bits` of 128 in common.
fn shares(one: u128, other: u128, bits: u8) -> bool {
    (one ^ other).leading_zeros() >= u32::from(bits)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refused(text: &str) -> Option<InvalidUrl> {
        PublicUrl::parse(text).err()
    }

    #[test]
    fn what_is_public_is_taken_and_normalized() {
        for (given, kept) in [
            ("https://example.com", "https://example.com/"),
            ("HTTPS://EXAMPLE.com:443/a?b=c", "https://example.com/a?b=c"),
            ("https://example.com:8443/", "https://example.com:8443/"),
            (
                "https://bücher.example.com/ü",
                "https://xn--bcher-kva.example.com/%C3%BC",
            ),
            ("https://8.8.8.8/", "https://8.8.8.8/"),
            ("https://[2606:4700::1111]/", "https://[2606:4700::1111]/"),
            ("https://example.com./x", "https://example.com./x"),
            (
                "https://my_host.example.com/",
                "https://my_host.example.com/",
            ),
            (
                "https://localhost.example.com/@me",
                "https://localhost.example.com/@me",
            ),
        ] {
            let url = PublicUrl::parse(given);
            assert_eq!(url.as_ref().map(PublicUrl::as_str), Ok(kept), "{given}");
        }
    }

    #[test]
    fn local_places_are_refused_by_name_and_address_in_every_spelling() {
        for host in [
            "localhost",
            "LOCALHOST",
            "localhost.",
            "a.localhost",
            "%6c%6fcalhost",
            "ｌｏｃａｌｈｏｓｔ",
            "intranet",
            "metadata",
            "metadata.google.internal",
            "metadata.google.internal.",
            "printer.local",
            "router.lan",
            "nas.home.arpa",
            "1.0.0.127.in-addr.arpa",
            "db.corp",
            "hidden.onion",
            "a.test",
            "a.invalid",
            "x.example",
            "127.0.0.1",
            "127.1",
            "127.0.1",
            "2130706433",
            "0x7f000001",
            "0x7f.1",
            "0177.0.0.1",
            "017700000001",
            "127.0.0.1.",
            "①②⑦.0.0.1",
            "127。0。0。1",
            "%31%32%37.0.0.1",
            "0",
            "0.0.0.0",
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "0xa9fea9fe",
            "2852039166",
            "100.100.100.200",
            "192.0.0.192",
            "168.63.129.16",
            "198.18.0.1",
            "203.0.113.7",
            "224.0.0.1",
            "255.255.255.255",
            "[::]",
            "[::1]",
            "[0:0:0:0:0:0:0:1]",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
            "[::ffff:8.8.8.8]",
            "[::127.0.0.1]",
            "[64:ff9b::7f00:1]",
            "[64:ff9b:1::1]",
            "[2002:7f00:1::]",
            "[2001::1]",
            "[2001:db8::1]",
            "[fe80::1]",
            "[fec0::1]",
            "[fc00::1]",
            "[fd00:ec2::254]",
            "[ff02::1]",
            "[100::1]",
        ] {
            for rest in ["", "/", ":8443/hook"] {
                let url = format!("https://{host}{rest}");
                assert_eq!(refused(&url), Some(InvalidUrl::Host), "{url}");
            }
        }
    }

    #[test]
    fn what_says_something_else_than_it_seems_is_refused() {
        use InvalidUrl::{Fragment, Malformed, Port, TooLong, UserInfo};
        let long = format!("https://example.com/{}", "a".repeat(URL_BYTES_MAX));
        let longer_escaped = format!("https://example.com/{}", "ü".repeat(500));
        for (url, why) in [
            ("", Malformed),
            ("http://example.com/", Malformed),
            ("ftp://example.com/", Malformed),
            ("//example.com/", Malformed),
            ("https:example.com", Malformed),
            ("https:/example.com", Malformed),
            ("https:\\\\example.com", Malformed),
            ("https://example.com\\@127.0.0.1/", Malformed),
            (" https://example.com", Malformed),
            ("https://exa\tmple.com", Malformed),
            ("https://exa mple.com", Malformed),
            ("https://", Malformed),
            ("https://[::1", Malformed),
            ("https://127.0.0.256/", Malformed),
            ("https://user@example.com/", UserInfo),
            ("https://user:pass@example.com/", UserInfo),
            ("https://:pass@example.com/", UserInfo),
            ("https://@example.com/", UserInfo),
            ("https://8.8.8.8@127.0.0.1/", UserInfo),
            ("https://example.com/#there", Fragment),
            ("https://example.com:0/", Port),
            ("https://example.com:22/", Port),
            ("https://example.com:80/", Port),
            ("https://example.com:65536/", Malformed),
            (&*long, TooLong),
            (&*longer_escaped, TooLong),
        ] {
            assert_eq!(refused(url), Some(why), "{url}");
        }
        for host in [
            "a..com",
            ".com",
            "example..",
            &format!("{}.com", "a".repeat(64)),
        ] {
            assert!(refused(&format!("https://{host}/")).is_some(), "{host}");
        }
    }

    #[test]
    fn spellings_of_one_place_are_one() {
        let place = |text: &str| PublicUrl::parse(text).map(|url| url.place());
        let one = place("https://example.com/hooks/a");
        for other in [
            "https://EXAMPLE.com:443/hooks/a",
            "https://example.com./hooks/a/",
            "https://example.com//hooks/./a?x=1",
            "https://example.com/b/../hooks/a?",
            "https://example.com/%68ooks/%61",
        ] {
            assert_eq!(place(other), one, "{other}");
        }
        for another in [
            "https://example.com/hooks/b",
            "https://example.com:8443/hooks/a",
            "https://www.example.com/hooks/a",
        ] {
            assert_ne!(place(another), one, "{another}");
        }
    }

    proptest! {
        /// However an address is written, it is judged as the address that it is.
        #[test]
        fn an_address_is_judged_alike_in_every_spelling(number: u32) {
            let address = Ipv4Addr::from(number);
            let [a, b, c, d] = address.octets();
            let spellings = [
                format!("{address}"),
                format!("{number}"),
                format!("{number:#x}"),
                format!("0{number:o}"),
                format!("{a}.{}", number & 0xff_ffff),
                format!("{a:#x}.0{b:o}.{}", number & 0xffff),
                format!("{a}.{b}.{c:#x}.0{d:o}"),
            ];
            for host in spellings {
                let taken = PublicUrl::parse(&format!("https://{host}/"));
                prop_assert_eq!(taken.is_ok(), is_public(address.into()), "{}", host);
            }
            let mapped = address.to_ipv6_mapped();
            let inside = PublicUrl::parse(&format!("https://[{mapped}]/"));
            prop_assert_eq!(inside, Err(InvalidUrl::Host));
        }

        /// What was taken is taken again, as it is.
        #[test]
        fn what_is_kept_is_kept_as_it_is(text in "https://[a-zA-Z0-9.:@%/?#é_-]{1,40}") {
            if let Ok(url) = PublicUrl::parse(&text) {
                prop_assert_eq!(PublicUrl::parse(url.as_str()), Ok(url));
            }
        }
    }
}
