//! The network of an inner VM.

use std::fs::File;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use crate::command::{output, tool};
use crate::error::Error;

/// Inner VMs that can have a network at once: their addresses are 10.77.N.0/30.
const NETWORKS: u8 = 200;

/// A tap device with an address, gone when this is dropped.
pub(super) struct Tap {
    pub(super) number: u8,
    pub(super) device: String,
    /// Locked: nobody else takes this number.
    _claim: File,
}

impl Tap {
    pub(super) fn new() -> Result<Self, Error> {
        output(tool("modprobe")?.arg("tun"))?;
        let directory = Path::new("/run/lab");
        for number in 0..NETWORKS {
            let path = directory.join(format!("tap-{number}"));
            let claim = File::create(&path).map_err(Error::io(&path))?;
            if flock(&claim, FlockOperation::NonBlockingLockExclusive).is_err() {
                continue;
            }
            let tap = Self { number, device: format!("lab{number}"), _claim: claim };
            output(tool("busybox")?.args(["tunctl", "-t", &tap.device]))?;
            let address = format!("{}/30", tap.outer());
            output(tool("busybox")?.args(["ip", "address", "add", &address, "dev", &tap.device]))?;
            output(tool("busybox")?.args(["ip", "link", "set", &tap.device, "up"]))?;
            return Ok(tap);
        }
        Err(Error::Usage(format!("all {NETWORKS} networks for inner VMs are taken")))
    }

    pub(super) fn outer(&self) -> String {
        format!("10.77.{}.1", self.number)
    }

    pub(super) fn guest(&self) -> String {
        format!("10.77.{}.2", self.number)
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        // A device that stays is found and taken by the next one with this number.
        let _ = tool("busybox").and_then(|mut busybox| output(busybox.args(["tunctl", "-d", &self.device])));
    }
}
