//! What commands of this installation ask the process that holds its data:
//! `/internal/v1/...` on the admin listener, behind the admin token.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use fanal_admin::ExtraRoute;
use fanal_etl::day::Day;
use fanal_etl::log::LogError;
use fanal_etl::rebuild::{self, Report};
use fanal_etl::{Etl, Offsets, Stage};
use fanal_ingest::import::ImportEndpoint;
use fanal_model::SiteCode;
use fanal_service::http::{
    Body, BodyLimits, Connection, Encoding, Request, Response, bytes_answer, empty, json, read_body,
};
use fanal_service::problem::Problem;
use futures_util::stream;
use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::mpsc;

use super::parts::Parts;

const PREFIX: &str = "/internal/v1/";
pub(crate) const REBUILD_PATH: &str = "/internal/v1/rebuild";
pub(crate) const CATCH_UP_PATH: &str = "/internal/v1/catch-up";
pub(crate) const PROGRESS_PATH: &str = "/internal/v1/progress";
/// Steps of a rebuild that may wait for a slow reader.
const STEPS_QUEUED: usize = 64;

/// What `fanal rebuild` asks for.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RebuildOrder {
    /// `None`: all sites.
    pub(crate) site: Option<String>,
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) dry_run: bool,
}

/// One line of the answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RebuildOutcome {
    Step { files_done: usize, files: usize, shard: u64, shards: u64 },
    Done(Report),
    Failed(String),
}

impl RebuildOrder {
    /// Checks the texts.
    pub(crate) fn request(&self) -> anyhow::Result<rebuild::Request> {
        let sites = match &self.site {
            None => None,
            Some(site) => Some(BTreeSet::from([SiteCode::parse(site)?.to_string()])),
        };
        let (from, to) = (Day::parse(&self.from)?, Day::parse(&self.to)?);
        anyhow::ensure!(from <= to, "the range ends ({to}) before it begins ({from}); swap --from and --to");
        Ok(rebuild::Request { sites, from, to, is_dry_run: self.dry_run, all_profiles: true })
    }

    /// Runs it on the parts of this process.
    pub(crate) async fn run(
        &self,
        etl: &Etl,
        step: &mut (dyn FnMut(RebuildOutcome) + Send),
    ) -> anyhow::Result<Report> {
        let request = self.request()?;
        etl.catch_up().await?;
        Ok(rebuild::rebuild(etl, &request, &mut |s| {
            let (files_done, files, shard, shards) = (s.files_done, s.files, s.shard, s.shards);
            step(RebuildOutcome::Step { files_done, files, shard, shards });
        })
        .await?)
    }
}

/// How far the stages are, by partition of the event log.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Stages {
    pub(crate) log_end: Offsets,
    pub(crate) archived: Offsets,
    pub(crate) counted: Offsets,
    pub(crate) visited: Offsets,
}

impl Stages {
    pub(crate) async fn of(etl: &Etl) -> Result<Self, LogError> {
        Ok(Self {
            log_end: etl.log.ends().await?,
            archived: etl.all_reached(Stage::Archive).await?,
            counted: etl.all_reached(Stage::Ledger).await?,
            visited: etl.all_reached(Stage::Visits).await?,
        })
    }
}

/// The routes.
pub(super) struct Internal {
    etl: Etl,
    /// Where the embedded log holds the positions of imports.
    imports: Option<ImportEndpoint>,
}

impl Internal {
    pub(super) fn new(parts: &Parts) -> Self {
        Self { etl: parts.etl.clone(), imports: parts.imports.clone().map(ImportEndpoint::new) }
    }

    async fn route(&self, request: Request) -> Response {
        let path = request.uri().path().to_owned();
        let query = request.uri().query().unwrap_or("").to_owned();
        match (request.method(), path.as_str(), &self.imports) {
            (&Method::POST, ImportEndpoint::APPEND_PATH, Some(imports)) => match body(request).await {
                Ok(bytes) => imports.handle_append(&bytes).await,
                Err(problem) => problem.into_response(),
            },
            (&Method::GET, ImportEndpoint::POSITIONS_PATH, Some(imports)) => {
                imports.handle_positions(query.strip_prefix("head=").unwrap_or("")).await
            }
            (&Method::POST, ImportEndpoint::SEAL_PATH, Some(imports)) => imports.handle_seal().await,
            (&Method::POST, ImportEndpoint::SEAL_PATH, None) => match self.seal().await {
                Ok(()) => empty(StatusCode::NO_CONTENT),
                Err(error) => stuck(&error.to_string()),
            },
            (&Method::POST, REBUILD_PATH, _) => match body(request).await {
                Ok(bytes) => self.rebuild(&bytes),
                Err(problem) => problem.into_response(),
            },
            (&Method::POST, CATCH_UP_PATH, _) => match self.etl.catch_up_and_rebuild().await {
                Ok(offsets) => json(StatusCode::OK, &json!({"offsets": offsets})),
                Err(error) => stuck(&error.to_string()),
            },
            (&Method::GET, PROGRESS_PATH, _) => match Stages::of(&self.etl).await {
                Ok(stages) => json(StatusCode::OK, &json!(stages)),
                Err(error) => stuck(&error.to_string()),
            },
            _ => Problem::new(
                StatusCode::NOT_FOUND,
                "path_unknown",
                "Unknown path",
                "The process and the command are of different versions: restart the process.",
            )
            .into_response(),
        }
    }

    async fn seal(&self) -> Result<(), LogError> {
        self.etl.seal(&self.etl.log.ends().await?).await
    }

    /// Answers at once and goes on: one JSON object per line, the last one says how it ended.
    fn rebuild(&self, order: &[u8]) -> Response {
        let order: RebuildOrder = match serde_json::from_slice(order) {
            Ok(order) => order,
            Err(error) => return bad_order(&error.to_string()),
        };
        if let Err(error) = order.request() {
            return bad_order(&error.to_string());
        }
        let (sender, receiver) = mpsc::channel::<RebuildOutcome>(STEPS_QUEUED);
        let etl = self.etl.clone();
        tokio::spawn(async move {
            let steps = sender.clone();
            let done = order
                // A step that a slow reader has no room for is not worth waiting.
                .run(&etl, &mut |step| drop(steps.try_send(step)))
                .await
                .map_or_else(|error| RebuildOutcome::Failed(format!("{error:#}")), RebuildOutcome::Done);
            sender.send(done).await.ok();
        });
        let lines = stream::unfold(receiver, |mut receiver| async move {
            let outcome = receiver.recv().await?;
            let mut line = serde_json::to_vec(&outcome).unwrap_or_default();
            line.push(b'\n');
            Some((Bytes::from(line), receiver))
        });
        let mut response = bytes_answer(StatusCode::OK, "application/x-ndjson", Bytes::new());
        *response.body_mut() = Body::stream(lines);
        response.headers_mut().remove(http::header::CONTENT_LENGTH);
        response
    }
}

impl ExtraRoute for Internal {
    fn matches(&self, path: &str) -> bool {
        path.starts_with(PREFIX)
    }

    fn answer<'a>(
        &'a self,
        request: Request,
        _connection: &'a Connection,
    ) -> Pin<Box<dyn Future<Output = Response> + Send + 'a>> {
        Box::pin(self.route(request))
    }
}

fn stuck(detail: &str) -> Response {
    let title = "The pipeline does not come on";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "stuck", title, detail.to_owned()).into_response()
}

async fn body(request: Request) -> Result<Bytes, Problem> {
    let limits = BodyLimits { bytes_max: ImportEndpoint::BODY_BYTES_MAX, ..BodyLimits::default() };
    read_body(request.into_body(), limits, Encoding::Identity).await.map_err(|error| {
        Problem::new(StatusCode::BAD_REQUEST, "body_unreadable", "Unreadable body", error.to_string())
    })
}

fn bad_order(detail: &str) -> Response {
    Problem::new(StatusCode::BAD_REQUEST, "order_wrong", "Wrong order", detail.to_owned()).into_response()
}
