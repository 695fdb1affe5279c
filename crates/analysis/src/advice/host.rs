//! Facts of the host that rules look at.

use exitscope_model::{About, Memory};
use std::collections::BTreeMap;

/// Host on which an interval was counted, as far as advice depends on it. A fact that is not known is not there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// Parameters of KVM's modules (`/sys/module/kvm*/parameters`), by module and name.
    pub parameters: BTreeMap<(String, String), String>,
    /// Other facts, by name: `clocksource`, `apicv` and `avic` (`yes` where the CPU has it).
    pub facts: BTreeMap<String, String>,
    /// CPUs of the host; 0 where it is not known.
    pub cpus: u32,
    /// Memory of VMMs that run, by process.
    pub memory: BTreeMap<u32, Memory>,
}

impl Host {
    /// Returns a module's parameter as it is written there.
    pub fn parameter(&self, module: &str, name: &str) -> Option<&str> {
        self.parameters.get(&(module.to_owned(), name.to_owned())).map(String::as_str)
    }

    /// Returns a module's switch: `Y` and numbers other than 0 are on, `N` and 0 are off.
    pub fn switch(&self, module: &str, name: &str) -> Option<bool> {
        match self.parameter(module, name)? {
            "Y" | "y" => Some(true),
            "N" | "n" => Some(false),
            number => number.parse::<i64>().ok().map(|number| number != 0),
        }
    }

    /// Returns another fact by its name.
    pub fn fact(&self, name: &str) -> Option<&str> {
        self.facts.get(name).map(String::as_str)
    }
}

impl From<&About> for Host {
    fn from(about: &About) -> Host {
        Host {
            parameters: about.kvm.clone(),
            facts: about.facts.clone(),
            cpus: about.cpus,
            memory: BTreeMap::new(),
        }
    }
}
