//! Answers 204 to everything, on workers: `bench_echo204 ADDRESS [WORKERS]`. What the
//! HTTP serving costs by itself, beside `bench_bare_hyper`.

use std::sync::Arc;

use fanal_service::http::{
    Connection, Handler, HttpLimits, Request, Response, Sharing, Sockets, Workers, empty,
};
use fanal_service::stop::{Stop, on_signals};
use http::StatusCode;

struct NoContent;

impl Handler for NoContent {
    async fn handle(&self, _: Request, _: &Connection) -> Response {
        empty(StatusCode::NO_CONTENT)
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().ok_or("name an address, such as 127.0.0.1:8080")?.parse()?;
    let workers = arguments.next().map_or(Ok(1), |text| text.parse())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let stop = Stop::new();
        on_signals(&stop)?;
        let sockets = Sockets::bind(address, "the first argument", workers, Sharing::Alone)?;
        let mut served = Workers::start(workers, HttpLimits::default())?;
        served.serve(sockets, None, &Arc::new(NoContent), &stop)?;
        stop.stopped().await;
        Ok(served.ended().await?)
    })
}
