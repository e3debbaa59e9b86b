//! Personal data is reduced before it is durable: the site's address policy.

use std::fmt::Write;
use std::net::IpAddr;

use crate::units::UnitError;

/// What is kept of a client's address. Applied in the collector and in the
/// import, before anything is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AddressPolicy {
    /// Nothing is kept.
    Drop,
    /// The network: the first 24 bits of IPv4, the first 48 of IPv6.
    #[default]
    Truncate,
    /// A keyed hash: equal addresses stay equal, the address itself is gone.
    Hash,
    /// The whole address.
    Keep,
}

impl AddressPolicy {
    /// Reads the name used in configuration and in the admin API.
    pub fn parse(name: &str) -> Result<Self, UnitError> {
        match name {
            "drop" => Ok(Self::Drop),
            "truncate" => Ok(Self::Truncate),
            "hash" => Ok(Self::Hash),
            "keep" => Ok(Self::Keep),
            other => Err(UnitError::Choice {
                given: other.chars().take(40).collect(),
                choices: "drop, truncate, hash, keep",
            }),
        }
    }

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Drop => "drop",
            Self::Truncate => "truncate",
            Self::Hash => "hash",
            Self::Keep => "keep",
        }
    }

    /// What is kept of `address`. `keyed_hash` is the caller's keyed hash
    /// (the key is a secret of the installation, never stored with the data).
    #[must_use]
    pub fn apply(self, address: IpAddr, keyed_hash: impl Fn(&[u8]) -> u64) -> String {
        let mut kept = String::new();
        self.apply_to(&mut kept, address, keyed_hash);
        kept
    }

    /// The same, appended to a buffer that the caller keeps.
    pub fn apply_to(self, kept: &mut String, address: IpAddr, keyed_hash: impl Fn(&[u8]) -> u64) {
        // An IPv4 client on a dual-stack socket is still an IPv4 client.
        let address = address.to_canonical();
        let written = match (self, address) {
            (Self::Drop, _) => Ok(()),
            (Self::Keep, IpAddr::V4(v4)) => {
                push_v4(kept, v4.octets());
                Ok(())
            }
            (Self::Truncate, IpAddr::V4(v4)) => {
                let [a, b, c, _] = v4.octets();
                push_v4(kept, [a, b, c, 0]);
                Ok(())
            }
            (Self::Keep, IpAddr::V6(v6)) => write!(kept, "{v6}"),
            (Self::Truncate, IpAddr::V6(v6)) => {
                let [a, b, c, ..] = v6.segments();
                write!(kept, "{}", std::net::Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0))
            }
            (Self::Hash, IpAddr::V4(v4)) => write!(kept, "{:016x}", keyed_hash(&v4.octets())),
            (Self::Hash, IpAddr::V6(v6)) => write!(kept, "{:016x}", keyed_hash(&v6.octets())),
        };
        debug_assert!(written.is_ok(), "a string takes everything");
    }
}

/// Most beacons come from such addresses, and the machinery of `write!` costs more than the rest.
fn push_v4(kept: &mut String, octets: [u8; 4]) {
    let mut buffer = itoa::Buffer::new();
    for (at, octet) in octets.into_iter().enumerate() {
        if at > 0 {
            kept.push('.');
        }
        kept.push_str(buffer.format(octet));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_reduced_as_the_policy_says() {
        let v4: IpAddr = "203.0.113.77".parse().unwrap();
        let v6: IpAddr = "2001:db8:1:2:3:4:5:6".parse().unwrap();
        let mapped: IpAddr = "::ffff:203.0.113.77".parse().unwrap();
        let hash = |bytes: &[u8]| bytes.len() as u64;
        assert_eq!(AddressPolicy::Drop.apply(v4, hash), "");
        assert_eq!(AddressPolicy::Truncate.apply(v4, hash), "203.0.113.0");
        assert_eq!(AddressPolicy::Truncate.apply(mapped, hash), "203.0.113.0");
        assert_eq!(AddressPolicy::Truncate.apply(v6, hash), "2001:db8:1::");
        assert_eq!(AddressPolicy::Hash.apply(v4, hash), "0000000000000004");
        assert_eq!(AddressPolicy::Keep.apply(mapped, hash), "203.0.113.77");
    }
}
