//! One tracking line on its way: the record of the event log.

use crate::robot::{AgentOrigin, RobotReason};
use crate::wire::{Fields, WireError, put_bytes, put_number, put_present};

/// How a beacon reached us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Source {
    #[default]
    Unspecified,
    /// The HTTP collector.
    Http,
    /// An imported or followed nginx access log.
    NginxLog,
}

impl Source {
    pub(crate) fn number(self) -> u64 {
        match self {
            Self::Unspecified => 0,
            Self::Http => 1,
            Self::NginxLog => 2,
        }
    }

    /// A number that a newer writer added reads as `Unspecified`, as Protobuf asks.
    pub(crate) fn from_number(n: u64) -> Self {
        match n {
            1 => Self::Http,
            2 => Self::NginxLog,
            _ => Self::Unspecified,
        }
    }

    /// The name in tables and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::Http => "http",
            Self::NginxLog => "nginx-log",
        }
    }
}

/// `fanal.v1.Beacon`, borrowed from the buffer that it was read from or that it
/// will be written from. Field meanings are those of `proto/fanal/v1/beacon.proto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Beacon<'a> {
    pub received_at_ms: u64,
    pub site_code: &'a str,
    pub visitor_code: &'a str,
    pub mapping_value: &'a str,
    pub client_address: &'a str,
    pub user_agent: &'a [u8],
    pub referer: &'a [u8],
    pub source: Source,
    pub node: &'a str,
    pub line: &'a [u8],
    pub line_number: u32,
    pub visitor_lines: u32,
    pub sdk_name: &'a str,
    pub sdk_version: &'a str,
    /// Name of a [`RobotReason`], empty for no robot. `None`: whoever wrote the record
    /// did not judge. A name that a newer writer added is kept as it is.
    pub robot: Option<&'a str>,
}

impl<'a> Beacon<'a> {
    /// The visitor whose visits this line belongs to: the code that the line
    /// names, or its mapping value taken as a code of its own.
    #[must_use]
    pub fn visitor(&self) -> &'a str {
        if self.visitor_code.is_empty() { self.mapping_value } else { self.visitor_code }
    }

    /// Whether the user agent is a robot's: what the record says, else what today's
    /// words say of a user agent of which it is not known where it came from.
    #[must_use]
    pub fn is_robot(&self) -> bool {
        match self.robot {
            Some(reason) => !reason.is_empty(),
            None => RobotReason::of(self.user_agent, AgentOrigin::Unknown, self.sdk_name).is_some(),
        }
    }

    /// Appends the Protobuf encoding to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_number(out, 1, self.received_at_ms);
        put_bytes(out, 2, self.site_code.as_bytes());
        put_bytes(out, 3, self.visitor_code.as_bytes());
        put_bytes(out, 4, self.mapping_value.as_bytes());
        put_bytes(out, 5, self.client_address.as_bytes());
        put_bytes(out, 6, self.user_agent);
        put_bytes(out, 7, self.referer);
        put_number(out, 8, self.source.number());
        put_bytes(out, 9, self.node.as_bytes());
        put_bytes(out, 10, self.line);
        put_number(out, 11, u64::from(self.line_number));
        put_number(out, 12, u64::from(self.visitor_lines));
        put_bytes(out, 13, self.sdk_name.as_bytes());
        put_bytes(out, 14, self.sdk_version.as_bytes());
        if let Some(reason) = self.robot {
            put_present(out, 15, reason.as_bytes());
        }
    }

    /// Reads the Protobuf encoding; unknown fields are skipped.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, WireError> {
        let mut beacon = Self::default();
        let mut fields = Fields(bytes);
        while let Some((field, value)) = fields.next_field()? {
            match field {
                1 => beacon.received_at_ms = value.number(field)?,
                2 => beacon.site_code = value.text(field)?,
                3 => beacon.visitor_code = value.text(field)?,
                4 => beacon.mapping_value = value.text(field)?,
                5 => beacon.client_address = value.text(field)?,
                6 => beacon.user_agent = value.bytes(field)?,
                7 => beacon.referer = value.bytes(field)?,
                8 => beacon.source = Source::from_number(value.number(field)?),
                9 => beacon.node = value.text(field)?,
                10 => beacon.line = value.bytes(field)?,
                11 => beacon.line_number = value.small(field)?,
                12 => beacon.visitor_lines = value.small(field)?,
                13 => beacon.sdk_name = value.text(field)?,
                14 => beacon.sdk_version = value.text(field)?,
                15 => beacon.robot = Some(value.text(field)?),
                _ => {}
            }
        }
        Ok(beacon)
    }
}

/// Appends the record key: site, NUL, visitor. All lines of a visitor share a
/// partition because they share this key.
pub fn record_key(out: &mut Vec<u8>, site_code: &str, visitor: &str) {
    out.extend_from_slice(site_code.as_bytes());
    out.push(0);
    out.extend_from_slice(visitor.as_bytes());
}
