//! What the pipeline hands over.

use fanal_model::Visit;

/// Changes of visits and links, as one flush of the pipeline has them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProfileBatch {
    pub visits: Vec<ProfileVisit>,
    pub gone: Vec<GoneVisit>,
    pub links: Vec<ProfileLink>,
}

/// A visit as it is from `version` on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfileVisit {
    pub visit: Visit,
    /// Twice the offset in the visitor's log partition up to which this is true; one
    /// more from a rebuild.
    pub version: u64,
}

/// A visit that exists no longer from `version` on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoneVisit {
    pub site_code: String,
    pub visitor_code: String,
    pub visit_id: u64,
    pub started_at_ms: u64,
    pub version: u64,
}

/// A user id seen for a visitor code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfileLink {
    pub site_code: String,
    pub mapping_value: String,
    pub visitor_code: String,
    pub linked_at_ms: u64,
}

impl ProfileBatch {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.visits.is_empty() && self.gone.is_empty() && self.links.is_empty()
    }
}
