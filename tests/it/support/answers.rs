//! Servers that say one thing to everybody.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::sync::Arc;

use parking_lot::Mutex;
use std::thread;

/// A server on a free port that answers every request alike, and the first lines of what it was asked.
pub(crate) struct Parrot {
    pub(crate) port: u16,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Parrot {
    /// `status` as in `500 Internal Server Error`.
    pub(crate) fn saying(status: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let ears = Arc::clone(&heard);
        thread::spawn(move || {
            for mut connection in listener.incoming().flatten() {
                let mut lines = BufReader::new(connection.try_clone().unwrap()).lines();
                let Some(Ok(first)) = lines.next() else { continue };
                ears.lock().push(first);
                // Up to the end of the head; none of these requests has a body.
                while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
                let _ =
                    write!(connection, "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            }
        });
        Self { port, heard }
    }

    pub(crate) fn heard(&self) -> Vec<String> {
        self.heard.lock().clone()
    }
}
