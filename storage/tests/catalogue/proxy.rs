//! A way to a server that can stop answering, or break after so many messages.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[derive(Clone)]
pub(crate) struct Proxy {
    pub(crate) port: u16,
    /// Nothing moves, in either direction, on any connection; new ones are accepted.
    holds: Arc<AtomicBool>,
    /// Messages from the client that still come through; the connection breaks after the last.
    left: Arc<AtomicU32>,
}

impl Proxy {
    /// A proxy to a port of this machine.
    pub(crate) async fn to(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Self {
            port: listener.local_addr().unwrap().port(),
            holds: Arc::default(),
            left: Arc::new(AtomicU32::new(u32::MAX)),
        };
        let accepting = proxy.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(accepting.clone().serve(client, target));
            }
        });
        proxy
    }

    pub(crate) fn hold(&self, holds: bool) {
        self.holds.store(holds, Ordering::SeqCst);
    }

    /// Breaks after so many messages from the client; the server gets the last one.
    pub(crate) fn break_after(&self, messages: u32) {
        self.left.store(messages, Ordering::SeqCst);
    }

    /// Whether the break has come.
    pub(crate) fn is_broken(&self) -> bool {
        self.left.load(Ordering::SeqCst) == 0
    }

    async fn serve(self, client: TcpStream, target: u16) {
        if self.holds.load(Ordering::SeqCst) {
            // A connection that began on hold stays so: nobody will ever answer on it.
            std::future::pending::<()>().await;
        }
        let server = TcpStream::connect(("127.0.0.1", target)).await.unwrap();
        let (mut client_in, mut client_out) = client.into_split();
        let (mut server_in, mut server_out) = server.into_split();
        let answers = self.clone();
        let back = tokio::spawn(async move {
            let mut buffer = vec![0; 64 << 10];
            while let Ok(read @ 1..) = server_in.read(&mut buffer).await {
                answers.pause().await;
                if answers.is_broken() || client_out.write_all(&buffer[..read]).await.is_err() {
                    return;
                }
            }
        });
        let mut buffer = vec![0; 64 << 10];
        while let Ok(read @ 1..) = client_in.read(&mut buffer).await {
            self.pause().await;
            if self.is_broken() {
                break;
            }
            let left = self.left.fetch_sub(1, Ordering::SeqCst);
            if server_out.write_all(&buffer[..read]).await.is_err() {
                break;
            }
            if left == 1 {
                // The server does what it was told; its answer never comes.
                server_out.flush().await.ok();
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                break;
            }
        }
        back.abort();
    }

    async fn pause(&self) {
        if self.holds.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
    }
}
