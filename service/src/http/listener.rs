//! A bound socket, with or without TLS.

use std::io;
use std::net::SocketAddr;

use thiserror::Error;
use tokio::net::TcpListener;

use crate::tls::TlsHandle;

/// Connections that the kernel may hold for us; it cuts this to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Why a listener cannot be opened.
#[derive(Debug, Error)]
pub enum BindError {
    #[error(
        "{address} is already in use by another process: stop that process, or give this listener another address ({option})"
    )]
    InUse { address: SocketAddr, option: String },
    #[error(
        "this process may not listen on {address}: ports below 1024 need CAP_NET_BIND_SERVICE; grant it or use a higher port ({option})"
    )]
    Forbidden { address: SocketAddr, option: String },
    #[error("{address} is not an address of this machine: use one that `ip address` shows ({option})")]
    NotHere { address: SocketAddr, option: String },
    #[error("cannot listen on {address} ({option}): {source}")]
    Other { address: SocketAddr, option: String, source: io::Error },
}

/// Binds `address`. `option` is what the operator changes to choose another
/// address, such as `--http` or `http.listen`; it stands in the error.
pub fn bind(address: SocketAddr, option: &str) -> Result<TcpListener, BindError> {
    open(address).map_err(|source| {
        let option = option.to_owned();
        match source.kind() {
            io::ErrorKind::AddrInUse => BindError::InUse { address, option },
            io::ErrorKind::PermissionDenied => BindError::Forbidden { address, option },
            io::ErrorKind::AddrNotAvailable => BindError::NotHere { address, option },
            _ => BindError::Other { address, option, source },
        }
    })
}

fn open(address: SocketAddr) -> io::Result<TcpListener> {
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
    // A restart must not wait for connections of the last run to time out.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// A bound socket and, if it speaks TLS, its certificate, which can be changed
/// while it runs.
#[derive(Debug)]
pub struct Listener {
    pub tcp: TcpListener,
    pub tls: Option<TlsHandle>,
}

impl Listener {
    #[must_use]
    pub fn clear(tcp: TcpListener) -> Self {
        Self { tcp, tls: None }
    }

    #[must_use]
    pub fn tls(tcp: TcpListener, handle: TlsHandle) -> Self {
        Self { tcp, tls: Some(handle) }
    }

    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}
