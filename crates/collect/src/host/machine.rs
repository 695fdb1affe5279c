//! Description of a host, kept with its figures for readers elsewhere.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// A host, as far as figures depend on it. What could not be read is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// Its name.
    pub name: String,
    /// The kernel's release and version.
    pub kernel: String,
    /// The CPU's model.
    pub cpu: String,
    /// Number of CPUs.
    pub cpus: u32,
    /// The parameters of KVM's modules (`/sys/module/kvm*/parameters`), by module and name.
    pub kvm: BTreeMap<(String, String), String>,
    /// Other facts that figures depend on, by name: `clocksource`; `mitigations`, as the kernel's command line has it; `apicv` and `avic`, which are `yes` where the CPU has
    /// it and `no` where it has not.
    pub facts: BTreeMap<String, String>,
}

impl Machine {
    /// Reads the description of this host.
    pub fn probe() -> Machine {
        let line = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let kernel = [line("/proc/sys/kernel/osrelease"), line("/proc/sys/kernel/version")]
            .join(" ")
            .trim()
            .to_owned();
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let (cpu, cpus) = cpu(&cpuinfo);
        let clocksource = line("/sys/devices/system/clocksource/clocksource0/current_clocksource");
        let mut facts = features(&cpuinfo);
        if !clocksource.is_empty() {
            facts.insert("clocksource".to_owned(), clocksource);
        }
        let command_line = line("/proc/cmdline");
        let mut mitigations =
            command_line.split_ascii_whitespace().filter_map(|word| word.strip_prefix("mitigations="));
        facts.extend(mitigations.next_back().map(|value| ("mitigations".to_owned(), value.to_owned())));
        Machine { name: line("/proc/sys/kernel/hostname"), kernel, cpu, cpus, kvm: parameters(), facts }
    }
}

/// Model and number of the CPUs.
fn cpu(cpuinfo: &str) -> (String, u32) {
    let values = |name: &'static str| {
        cpuinfo.lines().filter_map(move |line| {
            let (key, value) = line.split_once(':')?;
            (key.trim() == name).then(|| value.trim())
        })
    };
    let cpus = values("processor").count();
    (values("model name").next().unwrap_or_default().to_owned(), u32::try_from(cpus).unwrap_or(u32::MAX))
}

/// Finds out if the CPU virtualizes the APIC: Intel's APICv (`vmx flags`, since Linux 5.10) and AMD's AVIC (`flags`).
fn features(cpuinfo: &str) -> BTreeMap<String, String> {
    let has = |list: &str, flag: &str| {
        let line =
            cpuinfo.lines().find(|line| line.split(':').next().is_some_and(|key| key.trim() == list))?;
        Some(line.split_ascii_whitespace().any(|word| word == flag))
    };
    let known = [("apicv", has("vmx flags", "apicv")), ("avic", has("flags", "avic"))];
    known
        .into_iter()
        .filter_map(|(name, has)| Some((name.to_owned(), if has? { "yes" } else { "no" }.to_owned())))
        .collect()
}

fn parameters() -> BTreeMap<(String, String), String> {
    let mut found = BTreeMap::new();
    for module in super::modules() {
        let Ok(entries) = Path::new("/sys/module").join(&module).join("parameters").read_dir() else {
            continue;
        };
        for entry in entries.flatten() {
            // Some may only be written.
            let Ok(value) = fs::read_to_string(entry.path()) else { continue };
            let name = entry.file_name().to_string_lossy().into_owned();
            found.insert((module.clone(), name), value.trim().to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpu_has_a_model_and_a_number() {
        let text =
            "processor\t: 0\nmodel name\t: A CPU @ 2: GHz\n\nprocessor\t: 1\nmodel name\t: A CPU @ 2: GHz\n";
        assert_eq!(cpu(text), ("A CPU @ 2: GHz".to_owned(), 2));
        assert_eq!(cpu(""), (String::new(), 0));
    }

    #[test]
    fn what_virtualizes_the_apic_is_known_only_where_the_kernel_says_it() {
        let intel = features("processor\t: 0\nflags\t\t: fpu vmx\nvmx flags\t: vnmi ept apicv\n");
        assert_eq!((intel.get("apicv").map(String::as_str), intel["avic"].as_str()), (Some("yes"), "no"));
        let amd = features("flags\t\t: fpu svm avic\n");
        assert_eq!((amd.get("apicv"), amd["avic"].as_str()), (None, "yes"));
        assert!(features("").is_empty());
    }
}
