//! `--sample`: a site with one experiment, and visitors who send real requests.

mod traffic;

use std::time::{Duration, Instant};

use anyhow::Context;
use fanal_service::secret::Secret;
use http::Method;
use serde::Deserialize;
use serde_json::json;

use crate::client;
use crate::node::Node;
use crate::output::{Output, table};
use traffic::Draw;

const SITE: &str = "sample";
const CONFIGURATION: &str = include_str!("configuration.json");
/// Events are in the tables within seconds; a minute says that something is wrong.
const VISIBLE_TIMEOUT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(200);

#[derive(clickhouse::Row, Deserialize)]
struct VariationRow {
    variation_id: u32,
    visits: u64,
    visitors: u64,
    converted: u64,
    revenue: String,
}

/// Creates the site, sends the traffic, waits for it and prints the table.
pub(crate) async fn run(node: &Node, seed: u32, output: &Output) -> anyhow::Result<()> {
    let admin = node.addresses.admin.context("the sample needs the admin API")?.to_string();
    let http = node.addresses.http.context("the sample needs the collector")?.to_string();
    let token = Secret::load(&node.admin_token_file())?;
    let site = format!("/api/v1/sites/{SITE}");
    client::send(&admin, Method::PUT, &site, Some(&token), r#"{"name": "Sample shop"}"#)
        .await?
        .success("creating the sample site")?;
    client::send(&admin, Method::PUT, &format!("{site}/sdk-configuration"), Some(&token), CONFIGURATION)
        .await?
        .success("publishing the sample's configuration")?;
    let draw = Draw { seed, round: rounds_before(node, seed).await? };
    let sent = traffic::send(&http, SITE, draw).await?;
    output.say(&format!(
        "sent {} events of {} visitors in {} requests to http://{http}/visit/events?siteCode={SITE}\n\
         seed {seed}, round {} on this data: the same events wherever they are sent; --seed N sends others",
        sent.events,
        sent.visitors,
        sent.requests,
        draw.round + 1
    ));
    wait_until_visible(node, draw, sent.events).await?;
    let rows = by_variation(node).await?;
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
            let rate = 100.0 * row.converted as f64 / row.visits.max(1) as f64;
            let name = if row.variation_id == 0 { "original" } else { "short checkout" };
            vec![
                row.variation_id.to_string(),
                name.to_owned(),
                row.visits.to_string(),
                row.visitors.to_string(),
                row.converted.to_string(),
                format!("{rate:.1} %"),
                row.revenue.clone(),
            ]
        })
        .collect();
    let header = ["variation_id", "name", "visits", "visitors", "converted", "rate", "revenue"];
    let values: Vec<_> = rows
        .iter()
        .map(|row| {
            json!({
                "variation_id": row.variation_id, "visits": row.visits, "visitors": row.visitors,
                "converted": row.converted, "revenue": row.revenue,
            })
        })
        .collect();
    output.result(
        &format!("\nvisits per variation of experiment {}\n{}", traffic::EXPERIMENT, table(&header, &cells)),
        &json!({
            "experiment_id": traffic::EXPERIMENT, "seed": seed, "round": draw.round + 1, "variations": values,
        }),
    );
    Ok(())
}

/// How many times the tables have seen this seed: each time has visitors of its own, so that
/// nothing is taken for a repetition.
async fn rounds_before(node: &Node, seed: u32) -> anyhow::Result<u64> {
    let prefix = Draw::prefix_of(seed);
    let sql = format!(
        "SELECT toUInt64(uniqExact(substring(visitor_code, {}, 4))) FROM visits \
         WHERE site_code = '{SITE}' AND startsWith(visitor_code, '{prefix}')",
        prefix.len() + 1
    );
    Ok(node.parts.etl.clickhouse().fetch_one("count the sample's rounds", &sql).await?)
}

async fn wait_until_visible(node: &Node, draw: Draw, events: u64) -> anyhow::Result<()> {
    let clickhouse = node.parts.etl.clickhouse();
    // A flush writes events first: the visits are what is shown.
    let sql = format!(
        "SELECT toUInt64(sum(event_count)) FROM visits WHERE site_code = '{SITE}' AND startsWith(visitor_code, '{}')",
        draw.prefix()
    );
    let began = Instant::now();
    loop {
        let seen: u64 = clickhouse.fetch_one("count the sample's visits", &sql).await?;
        if seen >= events {
            return Ok(());
        }
        anyhow::ensure!(
            began.elapsed() < VISIBLE_TIMEOUT,
            "only {seen} of {events} events are visible after {} s; `fanal doctor` says where they stopped",
            VISIBLE_TIMEOUT.as_secs()
        );
        tokio::time::sleep(POLL).await;
    }
}

async fn by_variation(node: &Node) -> anyhow::Result<Vec<VariationRow>> {
    let sql = format!(
        "SELECT variation_id, count() AS visits, uniqExact(visitor_code) AS visitors, \
         countIf(conversion_count > 0) AS converted, toString(sum(revenue)) AS revenue \
         FROM visits ARRAY JOIN exposures.variation_id AS variation_id, exposures.experiment_id AS experiment_id \
         WHERE site_code = '{SITE}' AND experiment_id = {} GROUP BY variation_id ORDER BY variation_id",
        traffic::EXPERIMENT
    );
    Ok(node.parts.etl.clickhouse().fetch_all("show the sample's visits", &sql).await?)
}
