//! A slow link: a relay on this machine that lets so many bytes a second through to a registry.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

/// Relays connections from a free port to `to` for as long as the test runs; gives the port.
pub(crate) fn slow(to: u16, bytes_per_second: usize) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            let Ok(server) = TcpStream::connect(("127.0.0.1", to)) else { continue };
            let (client2, server2) = (connection.try_clone().unwrap(), server.try_clone().unwrap());
            thread::spawn(move || relay(connection, server, bytes_per_second));
            thread::spawn(move || relay(server2, client2, usize::MAX));
        }
    });
    port
}

fn relay(mut from: TcpStream, mut to: TcpStream, bytes_per_second: usize) {
    let mut buffer = [0; 4096];
    while let Ok(n) = from.read(&mut buffer) {
        if n == 0 || to.write_all(&buffer[..n]).is_err() {
            break;
        }
        thread::sleep(Duration::from_secs_f64(n as f64 / bytes_per_second as f64));
    }
    let _ = to.shutdown(Shutdown::Write);
    let _ = from.shutdown(Shutdown::Read);
}
