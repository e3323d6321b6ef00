//! A loopback TCP proxy that can fall silent.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::Result;

const PAUSE: Duration = Duration::from_millis(5);

/// Forwards connections of a loopback port to another one. While it is cut, nothing passes and nobody is told; what was
/// sent meanwhile passes when it is healed. Dropping it closes the connections.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    is_cut: AtomicBool,
    is_closed: AtomicBool,
}

impl Proxy {
    /// A proxy in front of that port.
    ///
    /// # Errors
    /// No port is free.
    pub fn start(target: u16) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        listener.set_nonblocking(true)?;
        let state = Arc::new(State::default());
        let accepting = state.clone();
        thread::spawn(move || accept(&listener, target, &accepting));
        Ok(Self { port, state })
    }

    /// Port of the proxy.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Lets nothing pass, in both directions.
    pub fn cut(&self) {
        self.state.is_cut.store(true, Ordering::Release);
    }

    /// Lets everything pass again, what has waited first.
    pub fn heal(&self) {
        self.state.is_cut.store(false, Ordering::Release);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.is_closed.store(true, Ordering::Release);
    }
}

impl State {
    /// Waits while the proxy is cut; says whether it is still there.
    fn wait(&self) -> bool {
        while self.is_cut.load(Ordering::Acquire) && !self.is_closed.load(Ordering::Acquire) {
            thread::sleep(PAUSE);
        }
        !self.is_closed.load(Ordering::Acquire)
    }
}

fn accept(listener: &TcpListener, target: u16, state: &Arc<State>) {
    while state.wait() {
        let Ok((client, _)) = listener.accept() else {
            thread::sleep(PAUSE);
            continue;
        };
        let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, target)) else { continue };
        forward(&client, &server, state);
        forward(&server, &client, state);
    }
}

fn forward(from: &TcpStream, to: &TcpStream, state: &Arc<State>) {
    let (Ok(mut from), Ok(mut to), state) = (from.try_clone(), to.try_clone(), state.clone()) else { return };
    thread::spawn(move || {
        let _blocking = from.set_nonblocking(false);
        let _timeout = from.set_read_timeout(Some(PAUSE * 10));
        let mut bytes = vec![0; 64 << 10];
        while !state.is_closed.load(Ordering::Acquire) {
            let count = match from.read(&mut bytes) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => continue,
                Err(_) => break,
            };
            if !state.wait() || to.write_all(&bytes[..count]).is_err() {
                break;
            }
        }
        // The other direction ends with this one.
        let _closed = to.shutdown(std::net::Shutdown::Both);
        let _closed = from.shutdown(std::net::Shutdown::Both);
    });
}
