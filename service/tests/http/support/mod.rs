//! A server to attack, and raw bytes to do it with.

#![allow(dead_code, reason = "each test program uses a part")]

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use fanal_service::http::{
    Body, BodyLimits, Connection, Encoding, FixedAnswer, Handler, HttpLimits, Listener, PlainAnswer,
    PlainRequest, Request, Response, ServeError, bind, empty, read_body, serve,
};
use fanal_service::problem::Problem;
use fanal_service::stop::Stop;
use http::{HeaderName, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// Longer than the time between two looks at the connections.
pub(crate) const BLOCK: Duration = Duration::from_millis(400);
/// More than the buffers of a small socket and of TLS.
pub(crate) const BIG_BYTES: usize = 300_000;

static SHORT: LazyLock<FixedAnswer> = LazyLock::new(|| {
    let headers = [(HeaderName::from_static("x-way"), "short")];
    FixedAnswer::new(StatusCode::NO_CONTENT, headers, b"")
});

/// Answers as the path asks, the short way and the long.
pub(crate) struct Example;

impl Handler for Example {
    const TAKES_PLAIN: bool = true;

    fn plain(
        &self,
        request: &PlainRequest<'_>,
        connection: &Connection,
    ) -> Option<impl Future<Output = PlainAnswer> + Send + Unpin + use<>> {
        let text = match (request.path, request.body) {
            ("/panic", _) => panic!("asked for"),
            ("/slow", _) => "slow but done".to_owned(),
            ("/worker", _) => connection.worker.to_string(),
            ("/echo", Some(body)) => String::from_utf8(body.to_vec()).ok()?,
            ("/long-way" | "/block" | "/big", _) => return None,
            _ => String::new(),
        };
        let wait = Duration::from_millis(if request.path == "/slow" { 400 } else { 0 });
        let panics = request.path == "/panic-later";
        Some(Box::pin(async move {
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
            }
            assert!(!panics, "asked for");
            match text.is_empty() {
                true => PlainAnswer::Fixed { answer: &SHORT, set_cookie: None },
                false => PlainAnswer::Any(Box::new(Response::new(Body::full(text)))),
            }
        }))
    }

    async fn handle(&self, request: Request, connection: &Connection) -> Response {
        match request.uri().path() {
            "/panic" => panic!("asked for"),
            "/slow" => {
                tokio::time::sleep(Duration::from_millis(400)).await;
                Response::new(Body::full("slow but done"))
            }
            "/worker" => Response::new(Body::full(connection.worker.to_string())),
            // Whatever else the worker has to do is late.
            "/block" => {
                std::thread::park_timeout(BLOCK);
                empty(StatusCode::NO_CONTENT)
            }
            "/big" => Response::new(Body::full(vec![b'x'; BIG_BYTES])),
            "/echo" => {
                match read_body(request.into_body(), BodyLimits::default(), Encoding::Identity).await {
                    Ok(bytes) => Response::new(Body::full(bytes)),
                    Err(error) => Problem::from(&error).into_response(),
                }
            }
            _ => empty(StatusCode::NO_CONTENT),
        }
    }
}

pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) stop: Stop,
    pub(crate) served: JoinHandle<Result<(), ServeError>>,
}

pub(crate) async fn start(limits: HttpLimits) -> Running {
    let tcp = bind("127.0.0.1:0".parse().unwrap(), "--http").unwrap();
    let address = tcp.local_addr().unwrap();
    let stop = Stop::new();
    let served = tokio::spawn(serve(Listener::clear(tcp), Arc::new(Example), limits, stop.clone()));
    Running { address, stop, served }
}

/// Sends bytes on a connection of their own; all that comes back until it is closed, or `None`
/// if it stays open.
pub(crate) async fn answer_to(address: SocketAddr, sent: &[u8]) -> Option<String> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(sent).await.unwrap();
    rest(&mut stream).await
}

pub(crate) async fn rest(stream: &mut TcpStream) -> Option<String> {
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(8), stream.read_to_end(&mut answer)).await;
    // A reset ends it as well.
    read.ok().map(|_| String::from_utf8_lossy(&answer).into_owned())
}

/// One request on an open connection; the head of the answer.
pub(crate) async fn ask(stream: &mut TcpStream, path: &str) -> std::io::Result<String> {
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await?;
    let mut answer = vec![0; 4096];
    let count = stream.read(&mut answer).await?;
    if count == 0 {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    Ok(String::from_utf8_lossy(&answer[..count]).into_owned())
}

pub(crate) fn resident_mib() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    (statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096) >> 20
}
