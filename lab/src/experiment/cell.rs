//! Cells of the experiment's matrix: machine, system and disk.

use std::fmt;

use crate::machine::Machine;
use crate::system::{Bus, System};

/// One cell of the matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// The outer machine.
    pub machine: Machine,
    /// The inner VM's system.
    pub system: System,
    /// The bus that the system's disk is attached to.
    pub bus: Bus,
}

/// Returns every combination, in the order of the arguments.
#[must_use]
pub fn cells(machines: &[Machine], systems: &[System], buses: &[Bus]) -> Vec<Cell> {
    let mut all = Vec::new();
    for &machine in machines {
        for &system in systems {
            all.extend(buses.iter().map(|&bus| Cell { machine, system, bus }));
        }
    }
    all
}

impl Cell {
    /// Returns the word for the bus on the command line.
    #[must_use]
    pub fn bus_name(&self) -> &'static str {
        match self.bus {
            Bus::Ide => "ide",
            Bus::Virtio => "virtio",
        }
    }

    /// Returns the name of a run's files, without extension.
    pub(super) fn file(&self, number: u32) -> String {
        format!("{}-{}-{}-{number}", self.machine.name(), self.system.name(), self.bus_name())
    }

    /// Returns the cell's name without its machine, for tables of one processor.
    pub(super) fn short(&self) -> String {
        format!("{}, {}", self.system.name(), self.bus_name())
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let machine = match self.machine {
            Machine::Host => "host".into(),
            machine => machine.name().to_uppercase(),
        };
        write!(f, "{machine}, {}, {}", self.system.name(), self.bus_name())
    }
}
