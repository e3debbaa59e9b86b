//! Who sent a request: the peer, or whom trusted proxies name.
//!
//! Never believes a header from a peer that is not a trusted proxy: it is what the
//! sender made up.

use std::net::{IpAddr, SocketAddr};

use fanal_service::config::Networks;
use fanal_service::http::Fields;
use http::HeaderName;
use http::header::FORWARDED;

use crate::config::ClientAddressHeader;

/// Hops that are looked at; a longer list is an attempt to keep us busy.
const HOPS_MAX: usize = 32;

/// The client's address: going from the peer backwards, the first that is not a
/// trusted proxy. `None` when a trusted proxy names it in a way that is no address.
pub(crate) fn client_address(
    peer: IpAddr,
    headers: &impl Fields,
    trusted: &Networks,
    header: ClientAddressHeader,
) -> Option<IpAddr> {
    let mut current = peer;
    if !trusted.contains(current) {
        return Some(current);
    }
    let name = match header {
        ClientAddressHeader::XForwardedFor => const { HeaderName::from_static("x-forwarded-for") },
        ClientAddressHeader::Forwarded => FORWARDED,
    };
    // Each proxy adds at the end; several headers of one name are one list.
    let values: Vec<&[u8]> = headers.all(&name).collect();
    let hops = values.iter().rev().flat_map(|value| value.rsplit(|b| *b == b','));
    for hop in hops.take(HOPS_MAX).filter(|hop| !hop.trim_ascii().is_empty()) {
        let text = std::str::from_utf8(hop).ok()?.trim();
        current = match header {
            ClientAddressHeader::XForwardedFor => node(text)?,
            ClientAddressHeader::Forwarded => node(forwarded_for(text)?)?,
        };
        if !trusted.contains(current) {
            break;
        }
    }
    Some(current)
}

/// The value of `for` in one element of `Forwarded`.
fn forwarded_for(element: &str) -> Option<&str> {
    let mut pairs = element.split(';').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.find(|(name, _)| name.trim().eq_ignore_ascii_case("for"))?;
    Some(value.trim().trim_matches('"'))
}

/// An address with or without port, IPv6 with or without brackets.
fn node(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|a| a.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(peer: &str, header: ClientAddressHeader, values: &[&str]) -> Option<String> {
        let mut headers = http::HeaderMap::new();
        let name = match header {
            ClientAddressHeader::XForwardedFor => "x-forwarded-for",
            ClientAddressHeader::Forwarded => "forwarded",
        };
        for value in values {
            headers.append(name, value.parse().unwrap());
        }
        let trusted = Networks(vec!["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()]);
        client_address(peer.parse().unwrap(), &headers, &trusted, header).map(|a| a.to_string())
    }

    #[test]
    fn only_trusted_proxies_are_believed_and_the_first_untrusted_hop_counts() {
        use ClientAddressHeader::XForwardedFor as X;
        for (peer, values, wanted) in [
            ("203.0.113.9", &["1.2.3.4"][..], Some("203.0.113.9")),
            ("10.0.0.1", &[], Some("10.0.0.1")),
            ("10.0.0.1", &["1.2.3.4"], Some("1.2.3.4")),
            ("10.0.0.1", &["6.6.6.6, 1.2.3.4, 10.2.2.2"], Some("1.2.3.4")),
            ("10.0.0.1", &["6.6.6.6", "1.2.3.4,10.2.2.2"], Some("1.2.3.4")),
            ("::1", &["2001:db8::7"], Some("2001:db8::7")),
            ("::ffff:10.0.0.1", &["1.2.3.4:4711"], Some("1.2.3.4")),
            ("10.0.0.1", &["10.3.3.3"], Some("10.3.3.3")),
            ("10.0.0.1", &["1.2.3.4, unknown"], None),
        ] {
            assert_eq!(client(peer, X, values).as_deref(), wanted, "{peer} {values:?}");
        }
    }

    #[test]
    fn the_standard_header_is_read_as_well() {
        use ClientAddressHeader::Forwarded as F;
        for (value, wanted) in [
            ("for=1.2.3.4;proto=https, for=10.0.0.9", Some("1.2.3.4")),
            ("proto=https;For=\"[2001:db8::7]:4711\"", Some("2001:db8::7")),
            ("for=_hidden", None),
            ("by=10.0.0.1", None),
        ] {
            assert_eq!(client("10.0.0.1", F, &[value]).as_deref(), wanted, "{value}");
        }
    }
}
