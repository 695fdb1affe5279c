//! The switch of a KVM that counts its own exits.

use std::convert::Infallible;
use std::fs;
use std::path::Path;

use crate::error::Error;

/// There where KVM can count.
const SWITCH: &str = "/sys/module/kvm/parameters/exitscope";

/// Switches the counters on or off, where there are any.
pub(super) fn switch(on: bool) -> Result<(), Error> {
    if !Path::new(SWITCH).exists() {
        return Ok(());
    }
    fs::write(SWITCH, if on { "1" } else { "0" }).map_err(Error::io(SWITCH))
}

/// Has KVM count until this is killed.
///
/// # Errors
/// [`Error::Bench`] where KVM cannot; [`Error::Io`].
pub fn counters() -> Result<Infallible, Error> {
    if !Path::new(SWITCH).exists() {
        let kernel = "make kernel, then lab bench --kernel target/kernel/vmlinuz --modules target/kernel";
        return Err(Error::Bench(format!(
            "this KVM does not count its own exits; build one that does: {kernel}"
        )));
    }
    switch(true)?;
    loop {
        std::thread::park();
    }
}
