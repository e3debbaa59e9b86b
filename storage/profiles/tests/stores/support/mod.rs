//! Both stores as tests open them.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of it")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fanal_model::{EndReason, Exposure, GoalTotal, Money, Visit};
use fanal_profiles::{
    CassandraConfig, CassandraProfiles, EmbeddedConfig, EmbeddedProfiles, GoneVisit, Limits, ProfileBatch,
    ProfileLink, ProfileVisit, Profiles, Replication,
};
use tempfile::TempDir;

pub const DAY: Duration = Duration::from_secs(86_400);
/// Tests share it, and tell their data apart by site codes of their own.
pub const KEYSPACE: &str = "fanal_profiles_test";

/// A store that goes away with the test.
pub struct Store {
    pub profiles: Profiles,
    _folder: Option<TempDir>,
}

pub fn limits() -> Limits {
    Limits { retention: DAY, visits_per_visitor_max: 4 }
}

pub fn embedded(limits: Limits) -> Store {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("profiles.redb");
    let store = EmbeddedProfiles::open(&path, &EmbeddedConfig::default(), limits).unwrap();
    Store { profiles: Profiles::Embedded(store), _folder: Some(folder) }
}

pub fn cassandra(limits: Limits) -> Store {
    let store = CassandraProfiles::new(&cassandra_config(), None, limits).unwrap();
    Store { profiles: Profiles::Cassandra(store), _folder: None }
}

pub fn cassandra_config() -> CassandraConfig {
    CassandraConfig {
        nodes: vec![cassandra_address()],
        keyspace: KEYSPACE.to_owned(),
        replication: Replication::Simple,
        replication_factor: 1,
        // Beside other tests on a few cores, a request may wait for a while.
        connect_timeout_ms: 30_000,
        request_timeout_ms: 20_000,
        ..CassandraConfig::default()
    }
}

pub fn cassandra_address() -> String {
    std::env::var("FANAL_STACK_CASSANDRA").expect(
        "FANAL_STACK_CASSANDRA is not set: run `scripts/stack.sh start cassandra` and export what \
         `scripts/stack.sh env` prints, or run `make test`",
    )
}

/// A code that no other test or run has.
pub fn unique(name: &str) -> String {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    format!("{name}-{}-{}-{count}", std::process::id(), now_ms())
}

pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(since.as_millis()).unwrap()
}

/// A visit whose content tells its id and its version.
pub fn visit(site: &str, visitor: &str, id: u64, started_at_ms: u64, version: u64) -> ProfileVisit {
    let visit = Visit {
        site_code: site.to_owned(),
        visitor_code: visitor.to_owned(),
        visit_id: id,
        started_at_ms,
        last_event_at_ms: started_at_ms + version,
        last_seen_at_ms: started_at_ms + version,
        event_count: u32::try_from(version).unwrap(),
        landing_url: format!("https://example.com/{id}/{version}"),
        exposures: vec![Exposure { experiment_id: 1, variation_id: 2, first_at_ms: started_at_ms + 1 }],
        goals: vec![GoalTotal {
            goal_id: 3,
            conversion_count: 1,
            first_at_ms: started_at_ms + 2,
            revenue: Money::from_ten_thousandths(-125_000),
        }],
        custom_data: [(7, vec!["gold".to_owned(), "é".to_owned()])].into(),
        ..Visit::default()
    };
    ProfileVisit { visit, version }
}

pub fn ended(mut visit: ProfileVisit) -> ProfileVisit {
    visit.visit.end_reason = EndReason::Timeout;
    visit
}

pub fn gone(visit: &ProfileVisit, version: u64) -> GoneVisit {
    GoneVisit {
        site_code: visit.visit.site_code.clone(),
        visitor_code: visit.visit.visitor_code.clone(),
        visit_id: visit.visit.visit_id,
        started_at_ms: visit.visit.started_at_ms,
        version,
    }
}

pub fn link(site: &str, value: &str, visitor: &str, linked_at_ms: u64) -> ProfileLink {
    ProfileLink {
        site_code: site.to_owned(),
        mapping_value: value.to_owned(),
        visitor_code: visitor.to_owned(),
        linked_at_ms,
    }
}

impl Store {
    pub async fn write_visits(&self, visits: &[&ProfileVisit]) {
        let visits = visits.iter().copied().cloned().collect();
        self.profiles.write(&ProfileBatch { visits, ..ProfileBatch::default() }).await.unwrap();
    }

    pub async fn write_gone(&self, gone: GoneVisit) {
        self.profiles.write(&ProfileBatch { gone: vec![gone], ..ProfileBatch::default() }).await.unwrap();
    }

    pub async fn write_links(&self, links: &[ProfileLink]) {
        let links = links.to_vec();
        self.profiles.write(&ProfileBatch { links, ..ProfileBatch::default() }).await.unwrap();
    }

    /// The visits of a visitor, newest first; none if there is no profile.
    pub async fn visits(&self, site: &str, visitor: &str) -> Vec<ProfileVisit> {
        let profile = self.profiles.visitor(site, visitor).await.unwrap();
        profile.map(|profile| profile.visits).unwrap_or_default()
    }

    pub async fn linked(&self, site: &str, value: &str) -> Vec<(String, u64)> {
        let links = self.profiles.linked(site, value).await.unwrap();
        links.into_iter().map(|link| (link.to, link.linked_at_ms)).collect()
    }

    pub async fn links_of(&self, site: &str, visitor: &str) -> Vec<(String, u64)> {
        let links = self.profiles.links_of(site, visitor).await.unwrap();
        links.into_iter().map(|link| (link.to, link.linked_at_ms)).collect()
    }
}
