//! What a format tells about a request, and in which of its variables.
//!
//! Never looks for a value. What must stay true: where several variables tell the
//! same, the choice is the one that `docs/log-format.md` lists.

use super::error::FormatFault;
use super::escape::Escape;
use super::time::TimeForm;
use super::variable::Role;

/// What a found value is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Slot {
    Time,
    Status,
    Method,
    Target,
    Query,
    Address,
    UserAgent,
    Referer,
    Cookie,
    Visitor,
    Body,
    Unneeded,
}

impl Slot {
    pub(super) const COUNT: usize = Self::Unneeded as usize + 1;

    /// What it is for people.
    pub(super) fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::Time => "time",
            Self::Status => "status",
            Self::Method => "method",
            Self::Target => "uri",
            Self::Query => "query",
            Self::Address => "client_address",
            Self::UserAgent => "user_agent",
            Self::Referer => "referer",
            Self::Cookie => "cookie",
            Self::Visitor => "visitor_cookie",
            Self::Body => "body",
            Self::Unneeded => return None,
        })
    }
}

/// What stands in the slot `Target`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TargetForm {
    /// Path and query, or a full URL.
    Uri,
    /// The same between a method and a protocol.
    Request,
    /// `$uri$is_args$args`
    Folded,
    /// A path; the query has a slot of its own.
    Path,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MethodForm {
    /// In its own slot.
    Own,
    /// The first word of the target.
    OfTarget,
    /// The first word of the slot `Method`.
    OfRequest,
    /// The format does not say.
    Unknown,
}

/// Which forms the values have that stand in the slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) escape: Escape,
    pub(super) time: TimeForm,
    pub(super) target: TargetForm,
    pub(super) method: MethodForm,
    /// The query begins with its `?`.
    pub(super) query_is_marked: bool,
    /// The slot `Address` holds a list, whose last address counts.
    pub(super) address_is_list: bool,
}

impl Shape {
    /// Chooses for each need the best variable; says for each variable what it is for.
    pub(super) fn of(roles: &[Option<Role>], escape: Escape) -> Result<(Self, Vec<Slot>), FormatFault> {
        let mut slots = vec![Slot::Unneeded; roles.len()];
        let mut choose = |slot: Slot, role: Role| {
            let at = roles.iter().position(|other| *other == Some(role));
            if let Some(at) = at {
                slots[at] = slot;
            }
            at.is_some()
        };
        let time = if choose(Slot::Time, Role::Msec) {
            TimeForm::Msec
        } else if choose(Slot::Time, Role::TimeIso8601) {
            TimeForm::Iso8601
        } else if choose(Slot::Time, Role::TimeLocal) {
            TimeForm::Local
        } else {
            return Err(FormatFault::NoTime);
        };
        let mut query_is_marked = false;
        let target = if choose(Slot::Target, Role::RequestUri) {
            TargetForm::Uri
        } else if choose(Slot::Target, Role::Request) {
            TargetForm::Request
        } else if choose(Slot::Target, Role::Target) {
            TargetForm::Folded
        } else if choose(Slot::Target, Role::Path) {
            query_is_marked = !choose(Slot::Query, Role::Query);
            if query_is_marked && !choose(Slot::Query, Role::MarkedQuery) {
                return Err(FormatFault::NoQuery);
            }
            TargetForm::Path
        } else {
            return Err(FormatFault::NoUri);
        };
        if !choose(Slot::Status, Role::Status) {
            return Err(FormatFault::NoStatus);
        }
        let method = if choose(Slot::Method, Role::Method) {
            MethodForm::Own
        } else if target == TargetForm::Request {
            MethodForm::OfTarget
        } else if choose(Slot::Method, Role::Request) {
            MethodForm::OfRequest
        } else {
            MethodForm::Unknown
        };
        let mut address_is_list = false;
        for role in ADDRESSES {
            if choose(Slot::Address, role) {
                address_is_list = role == Role::ForwardedFor;
                break;
            }
        }
        choose(Slot::UserAgent, Role::UserAgent);
        choose(Slot::Referer, Role::Referer);
        choose(Slot::Cookie, Role::Cookie);
        choose(Slot::Visitor, Role::VisitorCookie);
        choose(Slot::Body, Role::Body);
        Ok((Self { escape, time, target, method, query_is_marked, address_is_list }, slots))
    }
}

/// The first of these that a format has is the client's address. What nginx itself
/// took for the client comes first; headers can be written by anybody; the last is
/// the address of a proxy where one was trusted.
const ADDRESSES: [Role; 5] =
    [Role::RemoteAddr, Role::ProxyProtocolAddr, Role::RealIp, Role::ForwardedFor, Role::RealipRemoteAddr];
