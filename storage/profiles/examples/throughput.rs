//! How fast profiles are written and read.
//!
//! `throughput embedded FOLDER [VISITORS]` or `throughput cassandra HOST:PORT [VISITORS]`.

#![expect(clippy::print_stdout, reason = "its output is what it is for")]

use std::error::Error;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fanal_model::{Exposure, GoalTotal, Money, Visit};
use fanal_profiles::{
    CassandraConfig, CassandraProfiles, EmbeddedConfig, EmbeddedProfiles, Limits, ProfileBatch, ProfileLink,
    ProfileVisit, Profiles, Replication,
};

const BATCH: u64 = 2000;
/// Batches between two that reach the disk, about as often as checkpoints do.
const FLUSH_EVERY: u64 = 10;
const VISITS_PER_VISITOR: u64 = 5;
const READS: u64 = 20_000;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [store, place, rest @ ..] = arguments.as_slice() else {
        return Err("usage: throughput embedded FOLDER [VISITORS] | cassandra HOST:PORT [VISITORS]".into());
    };
    let visitors: u64 = rest.first().map_or(Ok(20_000), |count| count.parse())?;
    let limits = Limits { retention: Duration::from_secs(390 * 86_400), visits_per_visitor_max: 50 };
    let profiles = match store.as_str() {
        "embedded" => {
            let path = std::path::Path::new(place).join("profiles.redb");
            Profiles::Embedded(EmbeddedProfiles::open(&path, &EmbeddedConfig::default(), limits)?)
        }
        "cassandra" => {
            let config = CassandraConfig {
                nodes: vec![place.clone()],
                keyspace: "fanal_throughput".to_owned(),
                replication: Replication::Simple,
                replication_factor: 1,
                ..CassandraConfig::default()
            };
            Profiles::Cassandra(CassandraProfiles::new(&config, None, limits)?)
        }
        other => return Err(format!("no store {other:?}: embedded or cassandra").into()),
    };
    profiles.ping().await?;
    let now_ms = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
    write(&profiles, visitors, now_ms).await?;
    read(&profiles, visitors).await
}

async fn write(profiles: &Profiles, visitors: u64, now_ms: u64) -> Result<(), Box<dyn Error>> {
    let total = visitors * VISITS_PER_VISITOR;
    let began = Instant::now();
    let mut slowest = Duration::ZERO;
    for (count, first) in (0..total).step_by(usize::try_from(BATCH)?).enumerate() {
        let visits =
            (first..total.min(first + BATCH)).map(|i| visit(i, i % visitors, now_ms)).collect::<Vec<_>>();
        // One visitor in ten has a user id.
        let links = visits.iter().step_by(10).map(|visit| link(&visit.visit)).collect();
        let batch = ProfileBatch { visits, gone: Vec::new(), links };
        let batch_began = Instant::now();
        profiles.write(&batch).await?;
        if (count as u64).is_multiple_of(FLUSH_EVERY) {
            profiles.flush_to_disk().await?;
        }
        slowest = slowest.max(batch_began.elapsed());
    }
    profiles.flush_to_disk().await?;
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "write: {total} visits in {seconds:.1} s, {:.0}/s, slowest batch {slowest:?}",
        total as f64 / seconds
    );
    Ok(())
}

async fn read(profiles: &Profiles, visitors: u64) -> Result<(), Box<dyn Error>> {
    let began = Instant::now();
    let mut times = Vec::new();
    for i in 0..READS {
        let read_began = Instant::now();
        // A step that meets all visitors in no order.
        let profile = profiles.visitor("site", &code(i * 7_919 % visitors)).await?;
        if profile
            .is_none_or(|profile| profile.visits.len() < usize::try_from(VISITS_PER_VISITOR).unwrap_or(0))
        {
            return Err("a profile lacks visits".into());
        }
        times.push(read_began.elapsed());
    }
    let seconds = began.elapsed().as_secs_f64();
    times.sort_unstable();
    let at = |share: usize| times.get(times.len() * share / 1000).copied().unwrap_or_default();
    println!(
        "read, one at a time: {:.0}/s, p50 {:?}, p99 {:?}, p99.9 {:?}",
        READS as f64 / seconds,
        at(500),
        at(990),
        at(999)
    );
    Ok(())
}

fn code(visitor: u64) -> String {
    format!("{:016x}", visitor.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// About what a short visit with an experiment and a goal is.
fn visit(i: u64, visitor: u64, now_ms: u64) -> ProfileVisit {
    let started_at_ms = now_ms - (i % 1_000_000) * 1000;
    let visit = Visit {
        site_code: "site".to_owned(),
        visitor_code: code(visitor),
        visit_id: i.wrapping_mul(0x9e37_79b9_7f4a_7c15),
        started_at_ms,
        last_event_at_ms: started_at_ms + 60_000,
        last_seen_at_ms: started_at_ms + 75_000,
        engaged_ms: 45_000,
        event_count: 9,
        page_view_count: 3,
        conversion_count: 1,
        revenue: Money::from_ten_thousandths(499_000),
        exposures: vec![Exposure { experiment_id: 1001, variation_id: 2, first_at_ms: started_at_ms + 10 }],
        goals: vec![GoalTotal {
            goal_id: 7,
            conversion_count: 1,
            first_at_ms: started_at_ms + 50_000,
            revenue: Money::from_ten_thousandths(499_000),
        }],
        landing_url: format!("https://shop.example.com/products/{i}?utm_source=newsletter"),
        exit_url: "https://shop.example.com/checkout/done".to_owned(),
        user_agent: "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36"
            .to_owned(),
        device_type: "DESKTOP".to_owned(),
        browser: "CHROME".to_owned(),
        browser_version: "126".to_owned(),
        os: "LINUX".to_owned(),
        country: "France".to_owned(),
        custom_data: [(1, vec!["gold".to_owned()])].into(),
        ..Visit::default()
    };
    ProfileVisit { visit, version: i * 2 }
}

fn link(visit: &Visit) -> ProfileLink {
    ProfileLink {
        site_code: visit.site_code.clone(),
        mapping_value: format!("{}@example.com", visit.visitor_code),
        visitor_code: visit.visitor_code.clone(),
        linked_at_ms: visit.started_at_ms,
    }
}
