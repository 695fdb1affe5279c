//! Other names of a VM, and the source of its name.

/// The witness that gave a VM its name. In the order in which they are asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Witness {
    /// An option of the VMM that is there to name it.
    Option,
    /// The title that its starter gave the process (`argv[0]`), e.g. `microvm@web`.
    Title,
    /// A path in the command line that a management tool lays out always so, or a control socket's.
    Path,
    /// The control group, as libvirt, Proxmox and systemd name it.
    Machine,
    /// Its UUID, as there was no name.
    Uuid,
    /// The control group of a container or a pod, in which it is.
    Container,
    /// Nobody: the name is the program's.
    #[default]
    Program,
}

impl Witness {
    /// All, in the order in which they are asked.
    pub const ALL: [Witness; 7] = [
        Witness::Option,
        Witness::Title,
        Witness::Path,
        Witness::Machine,
        Witness::Uuid,
        Witness::Container,
        Witness::Program,
    ];

    /// The word for it, in JSON and recordings.
    pub fn word(self) -> &'static str {
        match self {
            Witness::Option => "option",
            Witness::Title => "title",
            Witness::Path => "path",
            Witness::Machine => "machine",
            Witness::Uuid => "uuid",
            Witness::Container => "container",
            Witness::Program => "program",
        }
    }
}

/// Other names of a VM. All of them are untrusted text of at most 256 bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels {
    /// Source of the VM's name.
    pub witness: Witness,
    /// Its UUID.
    pub uuid: Option<String>,
    /// Its name in libvirt.
    pub domain: Option<String>,
    /// Its id in Proxmox VE.
    pub vmid: Option<String>,
    /// The namespace of the pod, or of the tool that runs it.
    pub namespace: Option<String>,
    /// The name of the Kubernetes pod in which it runs.
    pub pod: Option<String>,
    /// The UID of that pod.
    pub pod_uid: Option<String>,
    /// The id of the container in which it runs.
    pub container: Option<String>,
    /// The path of its process' control group, as `/proc/PID/cgroup` has it.
    pub cgroup: Option<String>,
}

impl Labels {
    /// Each label with its key, as JSON and recordings have them.
    pub fn pairs(&self) -> [(&'static str, Option<&str>); 8] {
        [
            ("uuid", self.uuid.as_deref()),
            ("domain", self.domain.as_deref()),
            ("vmid", self.vmid.as_deref()),
            ("namespace", self.namespace.as_deref()),
            ("pod", self.pod.as_deref()),
            ("pod_uid", self.pod_uid.as_deref()),
            ("container", self.container.as_deref()),
            ("cgroup", self.cgroup.as_deref()),
        ]
    }

    /// Sets the label with this key. Returns false if there is none.
    pub fn set(&mut self, key: &str, value: String) -> bool {
        let label = match key {
            "uuid" => &mut self.uuid,
            "domain" => &mut self.domain,
            "vmid" => &mut self.vmid,
            "namespace" => &mut self.namespace,
            "pod" => &mut self.pod,
            "pod_uid" => &mut self.pod_uid,
            "container" => &mut self.container,
            "cgroup" => &mut self.cgroup,
            _ => return false,
        };
        *label = Some(value);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_by_key() {
        let mut labels = Labels::default();
        for (key, _) in labels.clone().pairs() {
            assert!(labels.set(key, key.to_owned()));
        }
        assert!(labels.pairs().iter().all(|(key, value)| *value == Some(key)));
        assert!(!labels.set("other", String::new()));
    }
}
