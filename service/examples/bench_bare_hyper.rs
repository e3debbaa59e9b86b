//! Answers 204 to everything with nothing but hyper's HTTP/1: `bench_bare_hyper ADDRESS`.
//! The floor for `bench_echo204`.

use std::convert::Infallible;

use http_body_util::Empty;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).ok_or("name an address, such as 127.0.0.1:8080")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(address).await?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::spawn(async move {
                let answer = |_| async {
                    let mut response = http::Response::new(Empty::<bytes::Bytes>::new());
                    *response.status_mut() = http::StatusCode::NO_CONTENT;
                    Ok::<_, Infallible>(response)
                };
                http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer)).await
            });
        }
    })
}
