//! The special cases that a day of traffic must hold, counted by name.
//!
//! Duty: a name and a count for each; `truth.json` shows them, and a test fails where a day of 20,000 events lacks one.

use super::model::{Defect, GARBAGE, Garbage};
use std::collections::BTreeMap;

macro_rules! cases {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// One special case.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Case { $($(#[$doc])* $name,)* }

        impl Case {
            /// Every case.
            pub(super) const ALL: &[Self] = &[$(Self::$name,)*];

            /// The name in `truth.json`.
            pub(super) fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

cases! {
    /// A new visit: the gap is the session timeout to the millisecond.
    GapExact = "gap_exactly_timeout",
    /// The same visit: one millisecond less.
    GapBelow = "gap_one_ms_below_timeout",
    /// Heartbeats inside such a gap; they must not bridge it.
    HeartbeatInGap = "heartbeat_in_boundary_gap",
    HeartbeatOrphan = "visitor_of_heartbeats_only",
    HeartbeatInMixedBody = "heartbeat_beside_other_visitors",
    StaticBesideOthers = "static_data_beside_other_lines",
    OnlyStaticLines = "several_static_data_lines_alone",
    MixedBody = "body_of_several_visitors",
    SameMillisecond = "two_requests_in_one_millisecond",
    RepeatSameNode = "repeat_on_the_same_node",
    RepeatOtherNode = "repeat_on_another_node",
    RepeatHeartbeat = "repeated_heartbeat",
    Regrouped = "repeated_lines_in_a_longer_body",
    RepeatLate = "late_repeat_within_horizon",
    RepeatPastHorizon = "repeat_past_horizon_counts_again",
    FailedFirst = "failed_attempt_then_success",
    Lost = "failed_request_never_repeated",
    CrossMidnight = "visit_across_midnight",
    MappingValue = "mapping_value_in_place_of_code",
    CookieVisitor = "visitor_from_cookie",
    CookieOverruled = "line_overrules_cookie",
    NonAsciiVisitor = "non_ascii_visitor_code",
    RawUtf8 = "unencoded_utf8_in_line",
    RawAgent = "raw_user_agent_at_line_end",
    SharedNonce = "one_nonce_used_by_two_visitors",
    BorrowedCode = "one_code_on_two_sites",
    Negative = "negative_conversion",
    Capitals = "upper_case_event_type",
    Get = "get_beacon",
    Gif = "gif_beacon",
    BodyNotLogged = "body_missing_from_log",
    NoSite = "query_without_site",
    Preflight = "preflight",
    OtherPath = "other_path",
    NoEventType = "line_without_event_type",
    NoVisitor = "line_without_visitor",
    EmptyVisitor = "line_with_empty_visitor",
    BadNonce = "line_with_bad_nonce",
    Junk = "line_of_junk",
    Binary = "garbage_binary",
    Truncated = "garbage_truncated",
    Glued = "garbage_glued_to_next_line",
    TooFewColumns = "garbage_too_few_columns",
    TooManyColumns = "garbage_too_many_columns",
    BadTime = "garbage_bad_time",
    Empty = "garbage_empty_line",
    Huge = "garbage_huge_line",
}

impl Case {
    /// The case of a defect; `None` for a good line.
    pub(super) fn of_defect(defect: Defect) -> Option<Self> {
        match defect {
            Defect::None => None,
            Defect::NoEventType => Some(Self::NoEventType),
            Defect::NoVisitor => Some(Self::NoVisitor),
            Defect::EmptyVisitor => Some(Self::EmptyVisitor),
            Defect::BadNonce => Some(Self::BadNonce),
            Defect::Junk => Some(Self::Junk),
        }
    }

    /// The case of a garbage line.
    pub(super) fn of_garbage(garbage: Garbage) -> Self {
        const CASES: [Case; GARBAGE.len()] = [
            Case::Binary,
            Case::Truncated,
            Case::Glued,
            Case::TooFewColumns,
            Case::TooManyColumns,
            Case::BadTime,
            Case::Empty,
            Case::Huge,
        ];
        CASES[garbage as usize]
    }
}

/// How often each case occurs.
#[derive(Debug, Clone)]
pub(super) struct Cases([u64; Case::ALL.len()]);

impl Default for Cases {
    fn default() -> Self {
        Self([0; Case::ALL.len()])
    }
}

impl Cases {
    /// One more.
    pub(super) fn count(&mut self, case: Case) {
        self.0[case as usize] += 1;
    }

    /// By name.
    pub(super) fn by_name(&self) -> BTreeMap<&'static str, u64> {
        Case::ALL.iter().map(|case| (case.name(), self.0[*case as usize])).collect()
    }
}
