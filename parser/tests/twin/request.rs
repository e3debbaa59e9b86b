//! The plain twin of the receiver: owned records, one vector after the other.

#![expect(clippy::unwrap_used, reason = "a test says what must hold by panicking")]

use super::{decode, decode_bytes, parse};
use fanal_model::{AgentOrigin, Beacon, DeadLetter, RejectReason, RobotReason};
use fanal_parser::{Limits, Request, Sink};

/// A record that outlives its request, whichever side made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Record {
    Accepted {
        visitor_code: String,
        mapping_value: String,
        user_agent: Vec<u8>,
        line: Vec<u8>,
        line_number: u32,
        visitor_lines: u32,
        sdk: (String, String),
        robot: Option<String>,
    },
    Rejected {
        reason: String,
        bytes: Vec<u8>,
    },
}

/// Keeps what the receiver hands out.
#[derive(Debug, Default)]
pub(crate) struct Kept(pub Vec<Record>);

impl Sink for Kept {
    fn accepted(&mut self, beacon: &Beacon<'_>) {
        self.0.push(Record::Accepted {
            visitor_code: beacon.visitor_code.to_owned(),
            mapping_value: beacon.mapping_value.to_owned(),
            user_agent: beacon.user_agent.to_vec(),
            line: beacon.line.to_vec(),
            line_number: beacon.line_number,
            visitor_lines: beacon.visitor_lines,
            sdk: (beacon.sdk_name.to_owned(), beacon.sdk_version.to_owned()),
            robot: beacon.robot.map(str::to_owned),
        });
    }

    fn rejected(&mut self, letter: &DeadLetter<'_>) {
        self.0.push(Record::Rejected { reason: letter.reason.to_owned(), bytes: letter.bytes.to_vec() });
    }
}

struct Judged {
    line: Vec<u8>,
    verdict: Result<(String, String, Option<Vec<u8>>), RejectReason>,
}

pub(crate) fn receive(request: &Request<'_>, limits: &Limits) -> Vec<Record> {
    let query: Vec<(String, String)> = request
        .query
        .split(|b| *b == b'&')
        .filter_map(|pair| {
            let at = pair.iter().position(|b| *b == b'=')?;
            Some((decode(&pair[..at]), decode(&pair[at + 1..])))
        })
        .filter(|(name, value)| !value.is_empty() && !name.contains('%'))
        .collect();
    let find = |name: &str| query.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
    let body_ua = request
        .query
        .split(|b| *b == b'&')
        .any(|pair| pair.strip_prefix(b"bodyUa=").is_some_and(|value| value.eq_ignore_ascii_case(b"true")));
    let cookie = request.cookie_visitor.unwrap_or_default();
    let lines = match request.body {
        None if request.query.is_empty() => vec![],
        None => vec![request.query.to_vec()],
        Some(body) => body
            .split(|b| *b == b'\n')
            .map(|line| line.strip_suffix(b"\r").unwrap_or(line).to_vec())
            .filter(|line| !line.is_empty())
            .collect(),
    };
    let judged: Vec<Judged> = lines
        .into_iter()
        .map(|line| Judged {
            verdict: judge(&line, limits, (find("visitorCode"), find("mappingValue")), cookie),
            line,
        })
        .collect();
    let name_of = |code: &str, mapping: &str| if code.is_empty() { mapping } else { code }.to_owned();
    let sdk = (find("sdkName").unwrap_or_default(), find("sdkVersion").unwrap_or_default());
    let mut records = Vec::new();
    for (number, one) in judged.iter().enumerate() {
        records.push(match &one.verdict {
            Err(reason) => Record::Rejected { reason: reason.name().to_owned(), bytes: one.line.clone() },
            Ok((code, mapping, own_agent)) => {
                let same: Vec<_> = judged
                    .iter()
                    .filter_map(|other| other.verdict.as_ref().ok())
                    .filter(|(c, m, _)| name_of(c, m) == name_of(code, mapping))
                    .collect();
                let of_header = || (request.header_user_agent.to_vec(), AgentOrigin::Header);
                let of_body = |agent: Vec<u8>| (agent, AgentOrigin::Body);
                let (user_agent, origin) = if body_ua {
                    of_body(same.iter().find_map(|(_, _, agent)| agent.clone()).unwrap_or_default())
                } else {
                    own_agent.clone().map_or_else(of_header, of_body)
                };
                let robot = RobotReason::of(&user_agent, origin, &sdk.0);
                Record::Accepted {
                    visitor_code: code.clone(),
                    mapping_value: mapping.clone(),
                    user_agent,
                    line: one.line.clone(),
                    line_number: u32::try_from(number).unwrap(),
                    visitor_lines: u32::try_from(same.len()).unwrap(),
                    sdk: sdk.clone(),
                    robot: Some(robot.map_or("", RobotReason::name).to_owned()),
                }
            }
        });
    }
    records
}

fn judge(
    line: &[u8],
    limits: &Limits,
    query: (Option<String>, Option<String>),
    cookie: &str,
) -> Result<(String, String, Option<Vec<u8>>), RejectReason> {
    if line.len() > limits.line_bytes_max {
        return Err(RejectReason::LineTooLong);
    }
    let read = parse(line)?;
    let (code, mapping) = match (query, read.code, read.mapping) {
        ((Some(code), Some(mapping)), _, _) => (code, mapping),
        ((Some(code), None), _, mapping) => (code, mapping.unwrap_or_default()),
        ((None, Some(mapping)), _, _) => (String::new(), mapping),
        ((None, None), None, None) if cookie.is_empty() => return Err(RejectReason::MissingVisitor),
        ((None, None), None, None) => (cookie.to_owned(), String::new()),
        ((None, None), code, mapping) => (code.unwrap_or_default(), mapping.unwrap_or_default()),
    };
    if code.chars().count() > 255 || mapping.chars().count() > 255 {
        return Err(RejectReason::VisitorTooLong);
    }
    Ok((code, mapping, read.user_agent.map(|raw| decode_bytes(&raw))))
}
