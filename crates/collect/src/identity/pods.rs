//! Names of Kubernetes pods by their UIDs, from the directory in which the kubelet keeps their logs.

use std::path::Path;

/// Where the kubelet keeps logs, in directories called `NAMESPACE_POD_UID`.
pub const LOGS: &str = "/var/log/pods";
/// No node has more pods.
const MOST: usize = 10_000;

/// Namespace and name of the pod with this UID; `None` where the kubelet keeps no logs here.
pub fn name_of(logs: &Path, uid: &str) -> Option<(String, String)> {
    logs.read_dir().ok()?.take(MOST).find_map(|entry| {
        let name = entry.ok()?.file_name();
        let (rest, found) = name.to_str()?.rsplit_once('_')?;
        // Neither namespaces nor pods have an underscore in their names.
        let (namespace, pod) = rest.split_once('_')?;
        (found == uid).then(|| (namespace.to_owned(), pod.to_owned()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods() {
        let logs = std::env::temp_dir().join(format!("exitscope-pods-{}", std::process::id()));
        for name in ["default_web-0_uid-1", "kube-system_dns_uid-2", "stray", "a_uid-3"] {
            std::fs::create_dir_all(logs.join(name)).unwrap();
        }
        assert_eq!(name_of(&logs, "uid-1"), Some(("default".into(), "web-0".into())));
        assert_eq!(name_of(&logs, "uid-2"), Some(("kube-system".into(), "dns".into())));
        assert_eq!(name_of(&logs, "uid-3"), None);
        std::fs::remove_dir_all(&logs).unwrap();
        assert_eq!(name_of(&logs, "uid-1"), None);
    }
}
