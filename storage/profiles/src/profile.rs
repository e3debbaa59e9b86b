//! What readers get.

use std::cmp::Reverse;

use crate::batch::ProfileVisit;

/// A visitor of a site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    pub site_code: String,
    pub visitor_code: String,
    /// Newest first, never empty.
    pub visits: Vec<ProfileVisit>,
}

/// The other end of a link, and when it was stated last.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Link {
    /// A visitor code, or a user id: whatever was not asked with.
    pub to: String,
    pub linked_at_ms: u64,
}

/// What a step of removing expired entries did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Swept {
    pub removed: u64,
    /// Nothing expired is left.
    pub is_done: bool,
}

/// Links of one instant are ordered by their code, so that all readers agree.
pub(crate) fn last_linked_first(mut links: Vec<Link>) -> Vec<Link> {
    links.sort_unstable_by(|a, b| (Reverse(a.linked_at_ms), &a.to).cmp(&(Reverse(b.linked_at_ms), &b.to)));
    links
}
