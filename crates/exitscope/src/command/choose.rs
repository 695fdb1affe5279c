//! Finds the VMs that `-p` and `-g` name.

use anyhow::bail;
use exitscope_collect::identity::{Identity, VmProcesses};
use exitscope_model::{Labels, Vm};
use exitscope_view::text;
use glob::Pattern;
use std::path::Path;

/// Maximum number of VMs that are listed when none fits.
const LISTED: usize = 50;

/// Argument of `-g`: a name, UUID, id, domain or pod, or a pattern of them.
pub struct Wanted {
    text: String,
    pattern: Option<Pattern>,
}

impl Wanted {
    /// Parses `text`. With `*`, `?` or `[` in it, it is a pattern too.
    pub fn new(text: &str) -> Wanted {
        let is_pattern = text.contains(['*', '?', '[']);
        Wanted { text: text.to_owned(), pattern: is_pattern.then(|| Pattern::new(text).ok()).flatten() }
    }

    /// Returns true if a VM has this name, UUID, Proxmox id, libvirt domain, pod or container.
    pub fn is(&self, name: &str, labels: &Labels) -> bool {
        let uuid = labels.uuid.as_ref().is_some_and(|uuid| uuid.eq_ignore_ascii_case(&self.text));
        uuid || known_as(name, labels).any(|known| known == self.text)
    }

    /// True if it is a pattern that fits one of these.
    pub fn fits(&self, name: &str, labels: &Labels) -> bool {
        let Some(pattern) = &self.pattern else { return false };
        known_as(name, labels).any(|known| pattern.matches(&known))
    }
}

/// VMs of a recording that `-p` and `-g` name; all, where neither is given.
pub struct Named {
    pids: Vec<u32>,
    guests: Vec<Wanted>,
}

impl Named {
    /// Takes the arguments of `-p` and `-g`.
    pub fn new(pids: &[u32], guests: &[String]) -> Named {
        Named { pids: pids.to_vec(), guests: guests.iter().map(|guest| Wanted::new(guest)).collect() }
    }

    /// Returns true for a VM that is named.
    pub fn has(&self, vm: &Vm) -> bool {
        let is = |wanted: &Wanted| wanted.is(&vm.name, &vm.labels) || wanted.fits(&vm.name, &vm.labels);
        (self.pids.is_empty() && self.guests.is_empty())
            || self.pids.contains(&vm.pid)
            || self.guests.iter().any(is)
    }

    /// Checks that a recording has a VM that is named.
    ///
    /// # Errors
    /// If it has none of those; the text lists the VMs that it has.
    pub fn check<'a>(&self, file: &Path, vms: impl Iterator<Item = &'a Vm> + Clone) -> anyhow::Result<()> {
        if vms.clone().any(|vm| self.has(vm)) || vms.clone().next().is_none() {
            return Ok(());
        }
        let count = vms.clone().count();
        let mut seen: Vec<String> = vms.take(LISTED).map(|vm| listed(vm.pid, &vm.name, &vm.labels)).collect();
        if count > LISTED {
            seen.push(format!("{} more", count - LISTED));
        }
        bail!("{} has no VM that -p or -g names; it has {}", file.display(), seen.join(", "))
    }
}

/// All that a VM is known as.
fn known_as(name: &str, labels: &Labels) -> impl Iterator<Item = String> {
    let mut all = vec![name.to_owned()];
    all.extend(
        labels
            .pairs()
            .into_iter()
            // Neither is one VM's alone.
            .filter(|(key, _)| !["namespace", "cgroup"].contains(key))
            .filter_map(|(_, text)| text.map(str::to_owned)),
    );
    if let Some(namespace) = &labels.namespace {
        all.push(format!("{namespace}/{name}"));
        all.extend(labels.pod.as_ref().map(|pod| format!("{namespace}/{pod}")));
        // KubeVirt's domains are called NAMESPACE_NAME.
        let of_kubevirt = name.strip_prefix(namespace.as_str()).and_then(|rest| rest.strip_prefix('_'));
        all.extend(of_kubevirt.into_iter().flat_map(|vm| [vm.to_owned(), format!("{namespace}/{vm}")]));
    }
    // As container engines show an id.
    all.extend(labels.container.as_ref().and_then(|id| id.get(..12)).map(str::to_owned));
    all.into_iter()
}

/// The processes of the VMs that `pids` and `guests` name, in order.
///
/// # Errors
/// Where a process runs no VM, where nothing fits, and where a name that is no pattern fits several; the text lists the VMs
/// that there are.
pub fn choose(pids: &[u32], guests: &[String], here: &VmProcesses) -> anyhow::Result<Vec<u32>> {
    let mut chosen = Vec::new();
    for &pid in pids {
        if !here.vms.iter().any(|vm| vm.pid == pid) {
            let exists = Path::new(&format!("/proc/{pid}")).exists();
            let what = if exists { "runs no VM" } else { "does not exist" };
            bail!("-p {pid}: that process {what}; {}", all(here));
        }
        chosen.push(pid);
    }
    for guest in guests {
        let wanted = Wanted::new(guest);
        let called = |test: &dyn Fn(&Identity) -> bool| -> Vec<u32> {
            here.vms.iter().filter(|vm| test(&vm.identity)).map(|vm| vm.pid).collect()
        };
        let exact = called(&|identity| wanted.is(&identity.name, &identity.labels));
        let shown = text::clean(guest, 60);
        match exact[..] {
            [pid] => chosen.push(pid),
            [] => {
                let fitting = called(&|identity| wanted.fits(&identity.name, &identity.labels));
                if fitting.is_empty() {
                    let is_pattern = wanted.pattern.is_some();
                    let what = if is_pattern { "no VM fits that" } else { "no VM has that name" };
                    bail!("-g {shown}: {what}; {}", all(here));
                }
                chosen.extend(fitting);
            }
            _ => bail!(
                "-g {shown}: {} VMs have that name, the processes {exact:?}; choose by -p; {}",
                exact.len(),
                all(here)
            ),
        }
    }
    chosen.sort_unstable();
    chosen.dedup();
    Ok(chosen)
}

/// The VMs that there are, each with its process and what else it is known as.
fn all(here: &VmProcesses) -> String {
    let mut names: Vec<String> = here
        .vms
        .iter()
        .take(LISTED)
        .map(|vm| listed(vm.pid, &vm.identity.name, &vm.identity.labels))
        .collect();
    if here.vms.len() > LISTED {
        names.push(format!("{} more", here.vms.len() - LISTED));
    }
    let seen =
        if names.is_empty() { "no VM runs".to_owned() } else { format!("running: {}", names.join(", ")) };
    match here.unreadable {
        0 => seen,
        n => format!("{seen}; {n} processes could not be looked into: run this as root"),
    }
}

/// `web (4242)`, or with the labels that are not its name: `web (4242, vmid 100)`.
fn listed(pid: u32, name: &str, labels: &Labels) -> String {
    let labels: Vec<String> = labels
        .pairs()
        .into_iter()
        .filter(|(key, text)| ["vmid", "namespace", "pod"].contains(key) && *text != Some(name))
        .filter_map(|(key, text)| Some(format!(", {key} {}", text::clean(text?, 60))))
        .collect();
    format!("{} ({pid}{})", text::clean(name, 60), labels.concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use exitscope_collect::identity::{VmProcess, from_args};

    const UUID: &str = "6d7e3b9a-1c2d-4e5f-8a9b-0c1d2e3f4a5b";

    fn here() -> VmProcesses {
        let lines = [
            format!("kvm -id 100 -name web-1 -uuid {UUID}"),
            "kvm -id 101 -name web-2".to_owned(),
            "qemu-kvm -name guest=prod_db -smbios type=1,family=KubeVirt".to_owned(),
            "firecracker --api-sock /x/shim-base/default#fn/firecracker.sock".to_owned(),
            "lkvm run --name twin".to_owned(),
            "crosvm run --name twin".to_owned(),
            "lkvm run --name a*b".to_owned(),
            "lkvm run --name we\u{200b}b-1".to_owned(),
        ];
        let vm = |(pid, line): (u32, &String)| VmProcess {
            pid,
            descriptors: 1,
            identity: from_args(line.replace(' ', "\0").as_bytes(), ""),
        };
        VmProcesses { vms: (1..).zip(&lines).map(vm).collect(), unreadable: 0 }
    }

    fn chosen(guests: &[&str]) -> Result<Vec<u32>, String> {
        let guests: Vec<String> = guests.iter().map(|&guest| guest.to_owned()).collect();
        choose(&[], &guests, &here()).map_err(|error| error.to_string())
    }

    #[test]
    fn by_whatever_a_vm_is_known_as() {
        for (guest, pids) in [
            ("web-1", &[1][..]),
            (UUID, &[1]),
            (&UUID.to_uppercase(), &[1]),
            ("100", &[1]),
            ("101", &[2]),
            ("prod_db", &[3]),
            ("db", &[3]),
            ("prod/db", &[3]),
            ("fn", &[4]),
            ("default/fn", &[4]),
            ("web-*", &[1, 2]),
            ("web-[12]", &[1, 2]),
            ("prod/*", &[3]),
            ("t?in", &[5, 6]),
            // A VM that is called like a pattern is meant alone.
            ("a*b", &[7]),
            ("*", &[1, 2, 3, 4, 5, 6, 7, 8]),
        ] {
            assert_eq!(chosen(&[guest]).as_deref(), Ok(pids), "{guest}");
        }
        assert_eq!(chosen(&["web-2", "100", "web-*"]), Ok(vec![1, 2]));
    }

    #[test]
    fn vms_of_a_recording_are_chosen_in_the_same_way() {
        let here = here();
        let vms: Vec<Vm> = (1..)
            .zip(&here.vms)
            .map(|(id, vm)| vm.identity.vm(exitscope_model::VmId(id), vm.pid, false))
            .collect();
        let named = |pids: &[u32], guests: &[&str]| {
            let guests: Vec<String> = guests.iter().map(|&guest| guest.to_owned()).collect();
            let named = Named::new(pids, &guests);
            let found: Vec<u32> = vms.iter().filter(|vm| named.has(vm)).map(|vm| vm.pid).collect();
            named.check(Path::new("x.rec"), vms.iter()).map(|()| found).map_err(|error| error.to_string())
        };
        assert_eq!(named(&[], &[]).unwrap().len(), vms.len());
        assert_eq!(named(&[2], &["100", "prod/*"]), Ok(vec![1, 2, 3]));
        assert_eq!(named(&[], &[UUID]), Ok(vec![1]));
        let error = named(&[99], &["web"]).unwrap_err();
        assert!(
            error.starts_with("x.rec has no VM that -p or -g names; it has web-1 (1, vmid 100), web-2"),
            "{error}"
        );
    }

    #[test]
    fn what_there_is_where_nothing_or_too_much_fits() {
        let list = "running: web-1 (1, vmid 100), web-2 (2, vmid 101), prod_db (3, namespace prod), \
                    fn (4, namespace default), twin (5), twin (6), a*b (7), we\\u{200b}b-1 (8)";
        assert_eq!(chosen(&["web"]).unwrap_err(), format!("-g web: no VM has that name; {list}"));
        assert_eq!(chosen(&["x*"]).unwrap_err(), format!("-g x*: no VM fits that; {list}"));
        assert_eq!(chosen(&["["]).unwrap_err(), format!("-g [: no VM has that name; {list}"));
        let expected = format!("-g twin: 2 VMs have that name, the processes [5, 6]; choose by -p; {list}");
        assert_eq!(chosen(&["twin"]).unwrap_err(), expected);
        let none = VmProcesses { vms: Vec::new(), unreadable: 3 };
        let error = choose(&[], &["web".into()], &none).unwrap_err().to_string();
        assert!(
            error.ends_with("no VM runs; 3 processes could not be looked into: run this as root"),
            "{error}"
        );
        let error = choose(&[std::process::id()], &[], &none).unwrap_err().to_string();
        assert!(error.contains("that process runs no VM; no VM runs"), "{error}");
    }
}
