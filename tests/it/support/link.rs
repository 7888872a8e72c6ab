//! Slow and long links: relays on this machine between layercast and a registry.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

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
