//! A terminal of some size, and what stands on it while a command runs.

use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::num::NonZeroU16;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

/// A terminal with a command that writes its standard error there.
pub(crate) struct Terminal {
    pub(crate) child: Child,
    master: File,
    chunks: mpsc::Receiver<Vec<u8>>,
    parser: vt100::Parser,
}

impl Terminal {
    /// Starts the command on a terminal of so many rows and columns.
    pub(crate) fn run(mut command: Command, rows: u16, columns: u16) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let master = File::from(master);
        resize(&master, rows, columns);
        let slave = OpenOptions::new().read(true).write(true).open(name).unwrap();
        command.env_remove("NO_COLOR").env("TERM", "xterm").stdout(Stdio::null()).stderr(slave);
        let child = command.spawn().unwrap();
        // The command has the only other end that is open.
        drop(command);
        let mut reader = master.try_clone().unwrap();
        let (sender, chunks) = mpsc::channel();
        thread::spawn(move || {
            let mut buffer = [0; 16 << 10];
            // Linux says that the other end is closed with an error.
            while let Ok(count @ 1..) = reader.read(&mut buffer) {
                if sender.send(buffer[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self { child, master, chunks, parser: vt100::Parser::new(some(rows), some(columns), 1000) }
    }

    /// Waits until something new was written, and gives what stands there then; nothing once the command has ended.
    pub(crate) fn next(&mut self) -> Option<Vec<String>> {
        let chunk = self.chunks.recv_timeout(Duration::from_secs(60)).ok()?;
        self.parser.process(&chunk);
        // A frame is written at once; what came with it belongs to it.
        while let Ok(chunk) = self.chunks.try_recv() {
            self.parser.process(&chunk);
        }
        Some(self.lines())
    }

    /// What stands there, without the empty lines.
    pub(crate) fn lines(&self) -> Vec<String> {
        let contents = self.parser.screen().contents();
        contents.lines().map(|line| line.trim_end().to_owned()).filter(|line| !line.is_empty()).collect()
    }

    /// The same with its colours, as the terminal was told.
    pub(crate) fn formatted(&self) -> String {
        self.parser.screen().contents_formatted()
    }

    /// The window gets another size.
    pub(crate) fn resize(&mut self, rows: u16, columns: u16) {
        resize(&self.master, rows, columns);
        self.parser.screen_mut().set_size(some(rows), some(columns));
    }

    /// Waits for lines of which this holds.
    #[track_caller]
    pub(crate) fn until(&mut self, what: &str, holds: impl Fn(&[String]) -> bool) -> Vec<String> {
        let mut last = Vec::new();
        while let Some(lines) = self.next() {
            if holds(&lines) {
                return lines;
            }
            last = lines;
        }
        panic!("{what}: not before the end. At last there stood\n{}", last.join("\n"));
    }
}

fn some(number: u16) -> NonZeroU16 {
    NonZeroU16::new(number).unwrap()
}

fn resize(master: &File, rows: u16, columns: u16) {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(master, size).unwrap();
}
