//! hyper and rdkafka put together the obvious way: `naive LISTEN BROKERS TOPIC`.
//!
//! Each request becomes one record and waits on a oneshot of its own for that record's delivery report, with acks=all
//! and a linger of 5 ms. No parsing, no key, no limits: what is left is what this way costs.

use std::convert::Infallible;
use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::header::{REFERER, USER_AGENT};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rdkafka::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord};
use tokio::net::TcpListener;

const LINGER_MS: &str = "5";
const QUEUE_MESSAGES: &str = "1000000";

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |name| {
        arguments.next().with_context(|| format!("usage: naive LISTEN BROKERS TOPIC; {name} is missing"))
    };
    let (listen, brokers, topic) = (next("LISTEN")?, next("BROKERS")?, next("TOPIC")?);
    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("compression.type", "lz4")
        .set("linger.ms", LINGER_MS)
        .set("queue.buffering.max.messages", QUEUE_MESSAGES)
        .create()?;
    let topic: &'static str = topic.leak();
    let listener = TcpListener::bind(&listen).await.with_context(|| format!("cannot listen on {listen}"))?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let producer = producer.clone();
        tokio::spawn(async move {
            let service = hyper::service::service_fn(move |request| take(request, producer.clone(), topic));
            // A client that goes away ends its connection, and nothing else.
            drop(
                hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await,
            );
        });
    }
}

async fn take(
    request: Request<Incoming>,
    producer: FutureProducer,
    topic: &str,
) -> Result<Response<Empty<Bytes>>, Infallible> {
    let mut answer = Response::new(Empty::new());
    *answer.status_mut() = match keep(request, &producer, topic).await {
        Ok(()) => StatusCode::NO_CONTENT,
        Err(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    Ok(answer)
}

async fn keep(request: Request<Incoming>, producer: &FutureProducer, topic: &str) -> Result<()> {
    let (head, body) = request.into_parts();
    let header = |name| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("-");
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
    let mut record = String::new();
    write!(record, "{now}\t{}\t{}\t{}\t{}\t", head.method, head.uri, header(USER_AGENT), header(REFERER))?;
    let mut record = record.into_bytes();
    record.extend_from_slice(&body.collect().await?.to_bytes());
    let sent = producer
        .send_result(FutureRecord::<(), _>::to(topic).payload(&record))
        .map_err(|(error, _)| error)?;
    sent.await?.map_err(|(error, _)| error)?;
    Ok(())
}
