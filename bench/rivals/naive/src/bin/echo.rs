//! The floor: tokio and httparse answer 204 and do nothing else: `echo LISTEN`.
//!
//! What a beacon costs above this is what is done with it. One thread, as a worker of Fanal.

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const ANSWER: &[u8] = b"HTTP/1.1 204 No Content\r\ncache-control: no-store\r\n\r\n";
const HEAD_BYTES_MAX: usize = 16 << 10;
const HEADERS_MAX: usize = 64;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let listen = std::env::args().nth(1).context("usage: echo LISTEN")?;
    let listener = TcpListener::bind(&listen).await.with_context(|| format!("cannot listen on {listen}"))?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        // A client that goes away ends its connection, and nothing else.
        tokio::spawn(async move { drop(answer(stream).await) });
    }
}

async fn answer(mut stream: TcpStream) -> Result<()> {
    let mut head = vec![0; HEAD_BYTES_MAX];
    let mut filled = 0;
    loop {
        let read = stream.read(&mut head[filled..]).await?;
        anyhow::ensure!(read > 0, "the client is gone, or its head is too long");
        filled += read;
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        if httparse::Request::new(&mut headers).parse(&head[..filled])?.is_complete() {
            stream.write_all(ANSWER).await?;
            filled = 0;
        }
    }
}
