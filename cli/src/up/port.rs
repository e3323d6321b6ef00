//! Ports for servers that must find them again.

use std::net::{IpAddr, TcpListener};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Below the range from which the kernel takes the ports of outgoing connections: those of clients that try to reach a
/// restarting server would otherwise take its port.
const FIRST: u32 = 20_000;
const COUNT: u32 = 12_000;

/// How long the processes of an `up` that was killed may take to end. Clients find their server at its old address only.
const ENDING: Duration = Duration::from_secs(5);

/// Whether nobody listens there, now or in a moment.
pub(super) fn becomes_free(address: IpAddr, port: u16) -> bool {
    let until = Instant::now() + ENDING;
    while !is_free(address, port) {
        if Instant::now() >= until {
            return false;
        }
        sleep(Duration::from_millis(20));
    }
    true
}

fn is_free(address: IpAddr, port: u16) -> bool {
    TcpListener::bind((address, port)).is_ok()
}

/// `kept` where it is free, else another free port; none of those that are taken for what is not started yet.
pub(super) fn choose(address: IpAddr, kept: Option<u16>, taken: &[u16]) -> Result<u16> {
    if let Some(port) = kept.filter(|port| !taken.contains(port) && becomes_free(address, *port)) {
        return Ok(port);
    }
    // Processes that start at the same time start looking at different places.
    let start = std::process::id().wrapping_mul(7_919);
    for step in 0..COUNT {
        let port = u16::try_from(FIRST + start.wrapping_add(step) % COUNT)?;
        if !taken.contains(&port) && is_free(address, port) {
            return Ok(port);
        }
    }
    bail!("no free port on {address}")
}
