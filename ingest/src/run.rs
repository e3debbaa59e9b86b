//! The role as a whole: its listeners until the stop.

use std::sync::Arc;

use fanal_service::http::{
    Connection, Handler, HttpLimits, Listener, PlainAnswer, PlainRequest, Request, Response, ServeError,
    serve,
};
use fanal_service::operations::Operations;
use fanal_service::stop::Stop;
use fanal_storage::log::EventLog;
use tokio::task::JoinSet;

use crate::service::Ingest;

/// Serves the collector on its own listeners until `stop`, health and metrics too.
/// Returns when the requests in flight are answered.
pub async fn run<L: EventLog>(
    ingest: Arc<Ingest<L>>,
    operations: Operations,
    listeners: Vec<Listener>,
    limits: HttpLimits,
    stop: Stop,
) -> Result<(), ServeError> {
    let handler = Arc::new(Role { ingest: Arc::clone(&ingest), operations });
    let mut serving = JoinSet::new();
    for listener in listeners {
        serving.spawn(serve(listener, Arc::clone(&handler), limits.clone(), stop.clone()));
    }
    let watching = ingest.watch_log(&stop);
    let served = async {
        let mut result = Ok(());
        while let Some(ended) = serving.join_next().await {
            // A listener that ended by itself takes the role down, not half of it.
            if let Ok(Err(error)) = ended {
                stop.stop();
                result = Err(error);
            }
        }
        result
    };
    tokio::join!(watching, served).1
}

struct Role<L> {
    ingest: Arc<Ingest<L>>,
    operations: Operations,
}

impl<L: EventLog> Handler for Role<L> {
    const TAKES_PLAIN: bool = true;

    fn plain(
        &self,
        request: &PlainRequest<'_>,
        connection: &Connection,
    ) -> Option<impl Future<Output = PlainAnswer> + Send + Unpin + use<L>> {
        self.ingest.plain(request, connection)
    }

    async fn handle(&self, request: Request, connection: &Connection) -> Response {
        if let Some(answer) = self.operations.answer(request.method(), request.uri().path()) {
            return answer;
        }
        self.ingest.handle(request, connection).await
    }
}
