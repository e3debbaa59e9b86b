//! Values as people type them: units, addresses, networks, certificate files.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use ipnet::IpNet;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::tls::CertificateFiles;

/// `#[serde(with = "byte_size")]` for [`fanal_model::ByteSize`] or an `Option` of it.
pub mod byte_size {
    use super::{Deserializer, Serializer, unit};
    use fanal_model::ByteSize;

    pub fn deserialize<'de, T: From<ByteSize>, D: Deserializer<'de>>(de: D) -> Result<T, D::Error> {
        unit(de, "a size such as \"4MiB\"", |text| ByteSize::parse(text).map(T::from))
    }

    pub fn serialize<T, S>(value: &T, ser: S) -> Result<S::Ok, S::Error>
    where
        T: Clone + Into<Option<ByteSize>>,
        S: Serializer,
    {
        match value.clone().into() {
            Some(size) => ser.collect_str(&size),
            None => ser.serialize_none(),
        }
    }
}

/// `#[serde(with = "human_duration")]` for [`fanal_model::HumanDuration`] or an `Option` of it.
pub mod human_duration {
    use super::{Deserializer, Serializer, unit};
    use fanal_model::HumanDuration;

    pub fn deserialize<'de, T: From<HumanDuration>, D: Deserializer<'de>>(de: D) -> Result<T, D::Error> {
        unit(de, "a duration such as \"30s\"", |text| HumanDuration::parse(text).map(T::from))
    }

    pub fn serialize<T, S>(value: &T, ser: S) -> Result<S::Ok, S::Error>
    where
        T: Clone + Into<Option<HumanDuration>>,
        S: Serializer,
    {
        match value.clone().into() {
            Some(duration) => ser.collect_str(&duration),
            None => ser.serialize_none(),
        }
    }
}

fn unit<'de, T, D: Deserializer<'de>>(
    de: D,
    expected: &'static str,
    parse: impl FnOnce(&str) -> Result<T, fanal_model::UnitError>,
) -> Result<T, D::Error> {
    struct Text(&'static str);
    impl serde::de::Visitor<'_> for Text {
        type Value = String;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }

        fn visit_str<E>(self, text: &str) -> Result<String, E> {
            Ok(text.to_owned())
        }
    }
    let text = de.deserialize_str(Text(expected))?;
    parse(&text).map_err(D::Error::custom)
}

/// Where a listener listens: an address of this machine and a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenAddress(pub SocketAddr);

impl FromStr for ListenAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self).map_err(|_| {
            let shown: String = text.chars().take(60).collect();
            format!("`{shown}` is not an address to listen on: write IP and port, such as `127.0.0.1:8080` or `[::]:443`")
        })
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for ListenAddress {
    fn deserialize<D: Deserializer<'de>>(de: D) -> Result<Self, D::Error> {
        String::deserialize(de)?.parse().map_err(D::Error::custom)
    }
}

impl Serialize for ListenAddress {
    fn serialize<S: Serializer>(&self, ser: S) -> Result<S::Ok, S::Error> {
        ser.collect_str(self)
    }
}

/// A set of IP networks, such as trusted proxies.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Networks(pub Vec<IpNet>);

impl Networks {
    /// The addresses of this machine for itself.
    #[must_use]
    pub fn loopback() -> Self {
        let v4 = IpNet::new_assert(IpAddr::from([127, 0, 0, 0]), 8);
        Self(vec![v4, IpNet::from(IpAddr::from(std::net::Ipv6Addr::LOCALHOST))])
    }

    /// Whether one of the networks holds the address. An IPv4 client on a
    /// dual-stack socket counts as IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }
}

impl<'de> Deserialize<'de> for Networks {
    fn deserialize<D: Deserializer<'de>>(de: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> serde::de::Visitor<'de> for List {
            type Value = Networks;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of networks, such as [\"10.0.0.0/8\", \"::1\"]")
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut list: A) -> Result<Networks, A::Error> {
                let mut networks = Vec::new();
                while let Some(text) = list.next_element::<String>()? {
                    networks.push(network(&text).map_err(A::Error::custom)?);
                }
                Ok(Networks(networks))
            }
        }
        de.deserialize_seq(List)
    }
}

fn network(text: &str) -> Result<IpNet, String> {
    text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).map_err(|_| {
        let shown: String = text.chars().take(60).collect();
        format!("`{shown}` is not a network: write it as `10.0.0.0/8` or `::1`")
    })
}

impl Serialize for Networks {
    fn serialize<S: Serializer>(&self, ser: S) -> Result<S::Ok, S::Error> {
        ser.collect_seq(self.0.iter().map(ToString::to_string))
    }
}

/// The section of a listener that speaks TLS.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TlsSection {
    /// PEM file: the server's certificate, then the intermediate ones.
    pub certificate: PathBuf,
    /// PEM file: the private key.
    pub key: PathBuf,
}

impl From<&TlsSection> for CertificateFiles {
    fn from(section: &TlsSection) -> Self {
        Self { certificate: section.certificate.clone(), key: section.key.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_hold_their_addresses_and_refuse_what_is_none() {
        #[derive(Deserialize)]
        struct Section {
            trusted: Networks,
        }
        let section: Section = toml::from_str("trusted = [\"10.0.0.0/8\", \"::1\"]").unwrap();
        for inside in ["10.2.3.4", "::1", "::ffff:10.0.0.1"] {
            assert!(section.trusted.contains(inside.parse().unwrap()), "{inside}");
        }
        assert!(!section.trusted.contains("11.0.0.1".parse().unwrap()));
        assert!(toml::from_str::<Section>("trusted = [\"10.0.0.0/99\"]").is_err());
        let Err(no_list) = toml::from_str::<Section>("trusted = \"10.0.0.0/8\"") else {
            panic!("no list was read")
        };
        assert!(no_list.message().contains("a list of networks, such as"), "{no_list}");
    }
}
