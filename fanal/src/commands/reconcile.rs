//! `fanal reconcile`: the proof that nothing was lost.

use std::time::Duration;

use clap::Args;
use fanal_etl::day::Day;
use fanal_etl::reconcile::{Range, Reconciliation, reconcile};
use fanal_model::SiteCode;
use fanal_storage::log::wall_clock;
use serde_json::json;

use super::Installation;
use crate::exit::Ending;
use crate::output::{Output, table};
use crate::session::Session;

/// How often, and how long apart, a minute under way is looked at again.
const LOOKS_MAX: u32 = 3;
const LOOK_AGAIN: Duration = Duration::from_secs(1);

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    installation: Installation,
    /// One site; all by default.
    #[arg(long, value_name = "S")]
    site: Option<String>,
    /// First day, in UTC.
    #[arg(long, value_name = "DAY")]
    from: Option<String>,
    /// Last day, included.
    #[arg(long, value_name = "DAY")]
    to: Option<String>,
}

pub(crate) fn run(arguments: &Arguments, output: &Output) -> anyhow::Result<()> {
    let range = range(arguments).map_err(|error| Ending::WrongUse(error.to_string()))?;
    let _logs = super::quiet_logs()?;
    let config = arguments.installation.config()?;
    super::runtime()?.block_on(async {
        let session = Session::open(config.clone()).await?;
        let result = prove(&session, &config, &range).await;
        session.close().await;
        let result = result?;
        show(&result, output);
        if result.broken.is_empty() { Ok(()) } else { Err(Ending::Negative.into()) }
    })
}

async fn prove(
    session: &Session,
    config: &crate::config::Config,
    range: &Range,
) -> anyhow::Result<Reconciliation> {
    let began_ms = wall_clock()();
    let clickhouse = session.clickhouse(config)?;
    session.catch_up().await?;
    let mut found = reconcile(&clickhouse, range, began_ms).await?;
    for _ in 0..LOOKS_MAX {
        if !found.differs_under_way() {
            return Ok(found);
        }
        // Traffic that goes on is in some stages before it is in others.
        tokio::time::sleep(LOOK_AGAIN).await;
        session.catch_up().await?;
        let again = reconcile(&clickhouse, range, began_ms).await?;
        let is_still = again.stages == found.stages;
        found = again;
        if is_still {
            // Nothing moves: the difference is one.
            return Ok(found);
        }
    }
    found.set_aside_under_way();
    Ok(found)
}

fn range(arguments: &Arguments) -> anyhow::Result<Range> {
    let day = |text: &Option<String>| text.as_deref().map(Day::parse).transpose();
    Ok(Range {
        site: arguments.site.as_deref().map(SiteCode::parse).transpose()?.map(|site| site.to_string()),
        from: day(&arguments.from)?,
        to: day(&arguments.to)?,
    })
}

fn show(result: &Reconciliation, output: &Output) {
    let rows: Vec<Vec<String>> = result
        .stages
        .iter()
        .map(|sum| vec![sum.stage.clone(), sum.outcome.clone(), sum.count.to_string()])
        .collect();
    let mut text = table(&["stage", "outcome", "count"], &rows);
    match result.broken.first() {
        None if result.compared == 0 => {
            text = "nothing was received in this range; check --site, --from and --to".to_owned();
        }
        None => text.push_str(&format!("\nconserved in all {} minutes of sites", result.compared)),
        Some(first) => text.push_str(&format!(
            "\nNOT conserved; first at {} UTC, site {}: {}",
            first.minute,
            first.site_code,
            first.law()
        )),
    }
    if result.in_flight > 0 {
        text.push_str(&format!(
            "\n{} minutes of sites are under way; run again in a minute to compare them too",
            result.in_flight
        ));
    }
    let conserved = result.broken.is_empty();
    let value = json!({
        "conserved": conserved, "compared": result.compared, "stages": result.stages, "broken": result.broken,
        "in_flight": result.in_flight,
    });
    output.result(&text, &value);
}
