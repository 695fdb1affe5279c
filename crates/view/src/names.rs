//! Names of VMs for people: harmless, and no two alike.

use super::prose::{NAME, vm_name};
use super::text::{self, is_unsafe};
use exitscope_model::{Vm, VmId};
use std::collections::{BTreeSet, HashMap, HashSet};
use unicode_security::confusable_detection::skeleton;

/// The names of some VMs. Those that look alike have their process id beside them.
pub struct Names {
    alike: HashSet<VmId>,
}

impl Names {
    /// Finds out which look alike.
    pub fn of<'a>(vms: impl IntoIterator<Item = &'a Vm> + Clone) -> Names {
        let mut looks: HashMap<String, Vec<VmId>> = HashMap::new();
        for vm in vms {
            for key in looks_like(&vm.name) {
                looks.entry(key).or_default().push(vm.id);
            }
        }
        let alike = looks.into_values().filter(|ids| ids.iter().any(|id| *id != ids[0]));
        Names { alike: alike.flatten().collect() }
    }

    /// The name to show.
    pub fn show(&self, vm: &Vm) -> String {
        let name = vm_name(vm);
        if self.alike.contains(&vm.id) || ends_like_a_process(&name) {
            format!("{name} ({})", vm.pid)
        } else {
            name
        }
    }
}

/// Returns a name as it is shown, and as an eye sees it: without what is invisible, without spaces, with one letter for all that
/// look like it (Unicode Technical Standard 39, "Confusable Detection"), in any case.
fn looks_like(name: &str) -> BTreeSet<String> {
    let seen: String = name.chars().filter(|c| !is_unsafe(*c) && !c.is_whitespace()).collect();
    let look = |text: &str| text::clean(&skeleton(text).collect::<String>(), NAME);
    [text::clean(name, NAME), look(&seen), look(&seen.to_lowercase())].into()
}

/// Returns true for a name like `web (4242)`, which would look like that of another VM with its process id.
fn ends_like_a_process(name: &str) -> bool {
    let number = name.strip_suffix(')').and_then(|rest| rest.rsplit_once('(')).map(|(_, number)| number);
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_look_alike_have_their_process_beside_them() {
        let names = [
            "web",
            "db",
            "we\u{200b}b",
            "WEB ",
            "cache",
            "db (8)",
            "\u{200b}x",
            r"\u{200b}x",
            &format!("{}-{}", "long".repeat(20), "end".repeat(20)),
            &format!("{}+{}", "long".repeat(20), "end".repeat(20)),
            "",
            " ",
            // Letters of Cyrillic, digits for letters, and two letters for one.
            "c\u{430}che",
            "ru1es",
            "rules",
            "modern",
            "rnodem",
            "alone",
        ];
        let vm = |(id, name): (u32, &&str)| Vm {
            id: VmId(id.into()),
            pid: 7 + id,
            name: (*name).into(),
            vmm: "qemu".into(),
            command: "".into(),
            labels: Default::default(),
            ended: false,
        };
        let vms: Vec<Vm> = (0..).zip(&names).map(vm).collect();
        let shown = Names::of(&vms);
        let shown: Vec<String> = vms.iter().map(|vm| shown.show(vm)).collect();
        let long = "longlonglonglong…endendendendend";
        assert_eq!(
            shown,
            [
                "web (7)",
                "db",
                r"we\u{200b}b (9)",
                "WEB  (10)",
                "cache (11)",
                "db (8) (12)",
                r"\u{200b}x (13)",
                r"\u{200b}x (14)",
                &format!("{long} (15)"),
                &format!("{long} (16)"),
                "(no name) (17)",
                "(no name) (18)",
                "c\u{430}che (19)",
                "ru1es (20)",
                "rules (21)",
                "modern (22)",
                "rnodem (23)",
                "alone",
            ]
        );
        let unique: HashSet<&String> = shown.iter().collect();
        assert_eq!(unique.len(), shown.len());
    }
}
