//! Slow, long and poor links: relays on this machine between layercast and a registry.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use rustix::net::sockopt::{set_socket_linger, set_socket_recv_buffer_size};

/// A link that lets so many bytes a second through to `to` for as long as the test runs; gives its port.
pub(crate) fn slow(to: u16, bytes_per_second: usize) -> u16 {
    relays(
        to,
        move |bytes| Duration::from_secs_f64(bytes as f64 / bytes_per_second as f64),
        |_| Duration::ZERO,
    )
}

/// A link on which everything takes so long, each way.
pub(crate) fn long(to: u16, delay: Duration) -> u16 {
    relays(to, move |_| delay, move |_| delay)
}

/// A link that counts what it carries to a registry, and resets connections.
pub(crate) struct PoorLink {
    pub(crate) port: u16,
    carried: Arc<AtomicU64>,
    resets: Arc<AtomicU64>,
    open: Arc<()>,
}

impl PoorLink {
    /// A link to `to` with so many bytes a second for all connections together. It resets the first connections that carry more
    /// than these numbers of bytes, one after the other; those that carry little are let alone.
    pub(crate) fn new(to: u16, bytes_per_second: usize, breaks_after: &[u64]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        // What waits in the buffers of this machine was sent, and is on no link.
        set_socket_recv_buffer_size(&listener, 64 << 10).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (carried, resets) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let open = Arc::new(());
        let link = Self {
            port,
            carried: Arc::clone(&carried),
            resets: Arc::clone(&resets),
            open: Arc::clone(&open),
        };
        let breaks: Arc<[u64]> = breaks_after.into();
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(("127.0.0.1", to)) else { continue };
                let (client2, server2) = (connection.try_clone().unwrap(), server.try_clone().unwrap());
                let (carried, resets, breaks) =
                    (Arc::clone(&carried), Arc::clone(&resets), Arc::clone(&breaks));
                let open = Arc::clone(&open);
                thread::spawn(move || {
                    carry(connection, server, bytes_per_second, &carried, &resets, &breaks);
                    drop(open);
                });
                thread::spawn(move || relay(server2, client2, |_| Duration::ZERO));
            }
        });
        link
    }

    /// `http://127.0.0.1:PORT`
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The bytes that it was given for the registry.
    pub(crate) fn carried(&self) -> u64 {
        self.carried.load(Ordering::Relaxed)
    }

    /// Whether nothing is on its way any more: what the ends of its connections had taken was carried, and they are closed.
    pub(crate) fn is_idle(&self) -> bool {
        // One is ours, one is for connections to come.
        Arc::strong_count(&self.open) == 2
    }

    pub(crate) fn resets(&self) -> u64 {
        self.resets.load(Ordering::Relaxed)
    }
}

fn carry(
    mut from: TcpStream,
    mut to: TcpStream,
    bytes_per_second: usize,
    carried: &AtomicU64,
    resets: &AtomicU64,
    breaks_after: &[u64],
) {
    let mut buffer = [0; 16 << 10];
    let mut here = 0;
    while let Ok(n) = from.read(&mut buffer) {
        if n == 0 || to.write_all(&buffer[..n]).is_err() {
            break;
        }
        thread::sleep(Duration::from_secs_f64(n as f64 / bytes_per_second as f64));
        carried.fetch_add(n as u64, Ordering::Relaxed);
        here += n as u64;
        let next = usize::try_from(resets.load(Ordering::Relaxed)).unwrap();
        if breaks_after.get(next).is_some_and(|bytes| here >= *bytes) {
            resets.fetch_add(1, Ordering::Relaxed);
            let _ = set_socket_linger(&from, Some(Duration::ZERO));
            let _ = set_socket_linger(&to, Some(Duration::ZERO));
            let _ = from.shutdown(Shutdown::Read);
            let _ = to.shutdown(Shutdown::Both);
            return;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
    let _ = from.shutdown(Shutdown::Read);
}

/// Relays connections from a free port to `to`; waits before it hands on what it has read.
fn relays(
    to: u16,
    there: impl Fn(usize) -> Duration + Copy + Send + 'static,
    back: impl Fn(usize) -> Duration + Copy + Send + 'static,
) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            let Ok(server) = TcpStream::connect(("127.0.0.1", to)) else { continue };
            let (client2, server2) = (connection.try_clone().unwrap(), server.try_clone().unwrap());
            thread::spawn(move || relay(connection, server, there));
            thread::spawn(move || relay(server2, client2, back));
        }
    });
    port
}

fn relay(mut from: TcpStream, mut to: TcpStream, wait: impl Fn(usize) -> Duration) {
    let mut buffer = [0; 4096];
    while let Ok(n) = from.read(&mut buffer) {
        thread::sleep(wait(n));
        if n == 0 || to.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
    let _ = from.shutdown(Shutdown::Read);
}
