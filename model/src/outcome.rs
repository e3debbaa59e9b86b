//! How each tracking line ends: exactly one [`Outcome`].

/// Version of the rules that accept, reject and make rows, stored with every dead
/// letter and on every row, so that a replay or a rebuild knows which rules judged it.
/// 2: robots are judged where a line is received, and `bot` only at the end of a word.
pub const RULES_VERSION: u32 = 2;

/// The one end of a tracking line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[must_use]
pub enum Outcome {
    /// In the event log, durable.
    Accepted,
    /// In the dead letters, with its bytes and this reason.
    Rejected(RejectReason),
}

impl Outcome {
    /// The name in `ledger` and in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Rejected(reason) => reason.name(),
        }
    }
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// Why a line is rejected. Its bytes are kept in the dead letters.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum RejectReason {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl RejectReason {
            /// Every reason, in the order of the documentation.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The stable name in dead letters, `ledger` and metrics.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// What it means and what to do about it; `docs/outcomes.md` repeats this.
            #[must_use]
            pub fn explanation(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc,)+).trim_ascii(),)+ }
            }
        }
    };
}

reasons! {
    /// The line has no `eventType`. Send one of the kinds of the protocol page.
    MissingEventType = "missing_event_type",
    /// Neither the line, the query nor the cookie names a visitor. Send `visitorCode` or `mappingValue`.
    MissingVisitor = "missing_visitor",
    /// The visitor code is longer than 255 characters. Shorten it at the sender.
    VisitorTooLong = "visitor_too_long",
    /// A parameter that this kind of event cannot do without is missing, such as `goalId` of a conversion.
    MissingParameter = "missing_parameter",
    /// A number, such as `goalId` or `variationId`, is not a whole number from 0 to 4294967295.
    InvalidParameter = "invalid_parameter",
    /// The line is longer than `line_bytes_max`. Raise the limit or shorten the data.
    LineTooLong = "line_too_long",
    /// The line is not text: it holds a NUL byte.
    Binary = "binary",
    /// A line of an access log does not fit the log format (columns, time or escapes).
    MalformedLogLine = "malformed_log_line",
    /// The site is not in the catalogue. Create it before its logs are imported; the bytes are in the dead letters.
    UnknownSite = "unknown_site",
    /// A record on the event log's topic is no beacon. Find who else writes to the topic; the bytes are in the dead letters.
    UnreadableRecord = "unreadable_record",
    /// A record on the event log's topic names a format version that this program does not know. It stays in the raw archive; `dead-letters replay` leaves it alone.
    UnknownVersion = "unknown_version",
    /// The parser gave a line no outcome: a bug. The request's other lines are not touched; please report it.
    Unaccounted = "unaccounted",
}

impl RejectReason {
    /// The reason of that name, if this version knows it.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_name_of_its_own_and_is_found_by_it() {
        for reason in RejectReason::ALL {
            assert_eq!(RejectReason::from_name(reason.name()), Some(*reason));
            assert!(reason.explanation().ends_with('.'), "{reason:?} is not explained");
        }
    }
}
