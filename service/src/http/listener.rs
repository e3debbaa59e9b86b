//! Bound sockets, with or without TLS.
//!
//! What must stay true: a port that another program listens on is refused, unless the
//! operator asked to share it with the process that is to be replaced.

use std::io;
use std::net::SocketAddr;

use thiserror::Error;
use tokio::net::TcpListener;

use super::HttpLimits;
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

/// Who else may listen on an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// Nobody.
    Alone,
    /// A process of the same user that shares too: the one that this process replaces.
    TakeOver,
}

/// Binds `address` for this process alone. `option` is what the operator changes to choose
/// another address, such as `--http` or `http.listen`; it stands in the error.
pub fn bind(address: SocketAddr, option: &str) -> Result<TcpListener, BindError> {
    bind_as(address, option, Sharing::Alone)
}

/// Binds one socket to `address`.
pub fn bind_as(address: SocketAddr, option: &str, sharing: Sharing) -> Result<TcpListener, BindError> {
    let opened = match sharing {
        Sharing::Alone => bound(address, false),
        Sharing::TakeOver => bound(address, true),
    };
    opened
        .and_then(listening)
        .and_then(TcpListener::from_std)
        .map_err(|source| failed(address, option, source))
}

/// One address with a socket for each worker.
#[derive(Debug)]
pub struct Sockets {
    pub(super) sockets: Vec<std::net::TcpListener>,
    /// Somebody else holds them open too: connections that we do not accept wait for our successor.
    pub(super) are_kept: bool,
}

impl Sockets {
    /// Binds `workers` sockets to `address`; the kernel spreads connections over them. Port 0
    /// is one port for all of them. `option` as in [`bind`].
    ///
    /// The sockets can be shared, so that a successor can take the address over. Where that was
    /// not asked for, whether anybody listens is found out first. Two processes that start within
    /// the same millisecond can slip through; those of one data folder are told apart by its lock.
    pub fn bind(
        address: SocketAddr,
        option: &str,
        workers: usize,
        sharing: Sharing,
    ) -> Result<Self, BindError> {
        let open = || {
            if sharing == Sharing::Alone && address.port() != 0 {
                drop(bound(address, false)?);
            }
            let first = bound(address, true)?;
            let chosen = first.local_addr()?.as_socket().unwrap_or(address);
            let mut bound_sockets = vec![first];
            for _ in 1..workers {
                bound_sockets.push(bound(chosen, true)?);
            }
            bound_sockets.into_iter().map(listening).collect::<io::Result<Vec<_>>>()
        };
        let sockets = open().map_err(|source| failed(address, option, source))?;
        Ok(Self { sockets, are_kept: false })
    }

    /// Sockets that the supervisor holds open over restarts, such as those of a systemd socket unit.
    pub fn kept(sockets: Vec<std::net::TcpListener>) -> io::Result<Self> {
        for socket in &sockets {
            socket.set_nonblocking(true)?;
        }
        Ok(Self { sockets, are_kept: true })
    }

    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.sockets.first().ok_or(io::ErrorKind::NotConnected)?.local_addr()
    }
}

fn failed(address: SocketAddr, option: &str, source: io::Error) -> BindError {
    let option = option.to_owned();
    match source.kind() {
        io::ErrorKind::AddrInUse => BindError::InUse { address, option },
        io::ErrorKind::PermissionDenied => BindError::Forbidden { address, option },
        io::ErrorKind::AddrNotAvailable => BindError::NotHere { address, option },
        _ => BindError::Other { address, option, source },
    }
}

fn bound(address: SocketAddr, is_shared: bool) -> io::Result<socket2::Socket> {
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
    // A restart must not wait for connections of the last run to time out.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(is_shared)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn listening(socket: socket2::Socket) -> io::Result<std::net::TcpListener> {
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// What accepted sockets inherit from the listening one, so that it costs nothing per connection.
pub(super) fn prepare(socket: &std::net::TcpListener, limits: &HttpLimits) -> io::Result<()> {
    let socket = socket2::SockRef::from(socket);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_user_timeout(Some(limits.peer_timeout))
}

/// Lets the kernel begin no new connection on this socket, while those that have begun go on.
/// Clients whose first packet is ignored send it again after a second, to whoever listens then.
pub(super) fn begin_none(socket: &TcpListener) -> io::Result<()> {
    // Of the TCP header's flags (byte 13): SYN alone opens a connection.
    const LOAD_BYTE: u16 = 0x30;
    const AND: u16 = 0x54;
    const JUMP_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    const FLAGS: u32 = 13;
    const SYN_ACK: u32 = 0x12;
    const SYN: u32 = 0x02;
    let filter = [
        socket2::SockFilter::new(LOAD_BYTE, 0, 0, FLAGS),
        socket2::SockFilter::new(AND, 0, 0, SYN_ACK),
        socket2::SockFilter::new(JUMP_EQUAL, 0, 1, SYN),
        socket2::SockFilter::new(RETURN, 0, 0, 0),
        socket2::SockFilter::new(RETURN, 0, 0, u32::MAX),
    ];
    socket2::SockRef::from(socket).attach_filter(&filter)
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
