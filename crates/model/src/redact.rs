//! Command lines without the secrets in them.
//!
//! A command line can be read by every user of a host while its process runs; a recording or a page lasts longer and goes
//! further. So passwords, tokens and keys are taken out before a command line is kept. There is no list of all that may be
//! a secret: names are recognised by the words in them, and where it is doubtful a value is taken out.

/// Stands in place of a secret.
pub const REDACTED: &str = "***";

/// Words that make a name that of a secret, wherever in the name they are.
const WORDS: [&str; 9] =
    ["password", "passwd", "passphrase", "secret", "token", "apikey", "credential", "ticket", "authkey"];

/// Words that do so where they stand alone between `-`, `_` and `.`.
const PARTS: [&str; 6] = ["pass", "pwd", "pw", "psk", "cookie", "auth"];

/// Ends of names whose value says where a secret is, not which: files, descriptors, ids of QEMU's objects.
const PLACES: [&str; 8] =
    ["file", "path", "fd", "password-secret", "key-secret", "passwordid", "disable-ticketing", "keyboard"];

/// Values that are switches.
const SWITCHES: [&str; 8] = ["", "on", "off", "yes", "no", "true", "false", "auto"];

/// Options whose value is a command line in itself, of a kernel or a shell.
const NESTED: [&str; 8] = [
    "-append",
    "--append",
    "--cmdline",
    "--kernel-cmdline",
    "--params",
    "--boot-args",
    "-c",
    "-kernel-cmdline",
];

/// Returns the arguments of a command line with `***` in place of each secret.
///
/// ```
/// use exitscope_model::redact::redact;
/// let kept = redact(["qemu", "-object", "secret,id=s0,data=hunter2", "--password", "x", "TOKEN=y"]);
/// assert_eq!(kept, ["qemu", "-object", "secret,id=s0,data=***", "--password", "***", "TOKEN=***"]);
/// ```
pub fn redact<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let arguments: Vec<&str> = arguments.into_iter().collect();
    // A process that sets its title leaves all arguments in one.
    if let [title] = arguments[..] {
        return vec![nested(title)];
    }
    let mut before = "";
    let mut kept = Vec::new();
    for argument in arguments {
        kept.push(one(before, argument));
        before = argument;
    }
    kept
}

/// One argument, which follows another.
fn one(before: &str, argument: &str) -> String {
    if is_option(before) && !before.contains('=') && is_secret(option_name(before)) {
        let is_value = !argument.starts_with("--") && !SWITCHES.contains(&argument);
        return if is_value { REDACTED.to_owned() } else { argument.to_owned() };
    }
    let is_nested = NESTED.contains(&before);
    if is_nested && argument.contains(char::is_whitespace) {
        return nested(argument);
    }
    if ["-u", "--user", "--proxy-user"].contains(&before)
        && let Some((user, _)) = argument.split_once(':')
    {
        return format!("{user}:{REDACTED}");
    }
    // `--password=…` and `PASSWORD=…`: all of what follows, with what separates parts elsewhere.
    if let Some((name, value)) = argument.split_once('=')
        && is_secret(option_name(name))
        && name.chars().all(is_of_name)
    {
        return if is_switch(value) { argument.to_owned() } else { format!("{name}={REDACTED}") };
    }
    urls(&parts(before, argument))
}

/// A command line in one argument.
fn nested(line: &str) -> String {
    let mut before = "";
    let mut kept = String::new();
    for word in line.split_inclusive(char::is_whitespace) {
        let bare = word.trim_end();
        kept.push_str(&one(before, bare));
        kept.push_str(&word[bare.len()..]);
        if !bare.is_empty() {
            before = bare;
        }
    }
    kept
}

/// `name=value` and `"name": "value"` within an argument.
fn parts(before: &str, argument: &str) -> String {
    let lower = argument.to_ascii_lowercase();
    // The data of QEMU's secrets, what a guest is handed over as such, and systemd's credentials.
    let holds_secret = lower.contains("secret");
    let is_handed = ["-fw_cfg", "--fw_cfg"].contains(&before);
    let mut credential = false;
    let (mut kept, mut rest) = (String::new(), argument);
    while let Some(at) = rest.find(['=', ':']) {
        let (head, tail) = rest.split_at(at);
        let name = head.rsplit(|c| !is_of_name(c) && c != '"').next().unwrap_or("").trim_matches('"');
        credential |= head.to_ascii_lowercase().contains("credential");
        let separator = &tail[..1];
        let is_named = is_secret(name)
            || (holds_secret && name.eq_ignore_ascii_case("data"))
            || (is_handed && name.eq_ignore_ascii_case("string"));
        // A colon ends a name in JSON, and in what systemd calls `NAME:VALUE`.
        let counts = separator == "=" || head.ends_with('"');
        kept.push_str(head);
        kept.push_str(separator);
        rest = &tail[1..];
        if !counts || !(is_named || (credential && separator == "=")) {
            continue;
        }
        credential = false;
        let length = value_length(rest);
        if is_switch(&rest[..length]) {
            continue;
        }
        let quoted = rest.trim_start().starts_with('"');
        kept.push_str(if quoted { "\"***\"" } else { REDACTED });
        rest = &rest[length..];
    }
    kept + rest
}

/// The bytes of a value: up to the quote that ends it, or to a comma, of which two are one in QEMU's options.
fn value_length(text: &str) -> usize {
    let start = text.len() - text.trim_start().len();
    let bytes = text.as_bytes();
    let mut at = start;
    if bytes.get(at) == Some(&b'"') {
        at += 1;
        while at < bytes.len() && bytes[at] != b'"' {
            at += if bytes[at] == b'\\' { 2 } else { 1 };
        }
        return (at + 1).min(bytes.len());
    }
    while at < bytes.len() && ![b',', b'&'].contains(&bytes[at]) || bytes[at..].starts_with(b",,") {
        at += if bytes[at..].starts_with(b",,") { 2 } else { 1 };
    }
    at.min(bytes.len())
}

/// `scheme://user:password@host`.
fn urls(argument: &str) -> String {
    let (mut kept, mut rest) = (String::new(), argument);
    while let Some(at) = rest.find("://") {
        let (head, tail) = rest.split_at(at + 3);
        kept.push_str(head);
        let authority = &tail[..tail.find(['/', '?', '#', ',', ' ']).unwrap_or(tail.len())];
        rest = tail;
        if let Some(end) = authority.rfind('@') {
            let user = authority[..end].split([':', '%']).next().unwrap_or("");
            if user.len() < end {
                kept.push_str(user);
                kept.push(':');
                kept.push_str(REDACTED);
                rest = &tail[end..];
            }
        }
    }
    kept + rest
}

fn is_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-_.".contains(c)
}

fn is_option(argument: &str) -> bool {
    argument.starts_with('-') && argument.len() > 1
}

fn option_name(argument: &str) -> &str {
    argument.trim_start_matches('-')
}

fn is_switch(value: &str) -> bool {
    SWITCHES.contains(&value.trim_matches('"').to_ascii_lowercase().as_str())
}

/// Returns true for the name of something that is a secret.
fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    if PLACES.iter().any(|place| name.ends_with(place)) {
        return false;
    }
    let last = name.rsplit(['-', '_', '.']).next().unwrap_or("");
    WORDS.iter().any(|word| name.contains(word))
        || name.split(['-', '_', '.']).any(|part| PARTS.contains(&part))
        || last.ends_with("key")
        || last.ends_with("passwd")
        || last.ends_with("pw")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Secret that must not be left anywhere.
    const SECRET: &str = "hunter2";

    #[test]
    fn no_secret_is_kept() {
        let lines: [&[&str]; 25] = [
            &["qemu: guest -spice port=1,password=hunter2 --token hunter2"],
            &["qemu", "-object", "secret,id=s,data=hunter2"],
            &["qemu", "-object", "secret,data=a,,hunter2,id=s"],
            &["qemu", "-object", "secret,id=s,data=two hunter2"],
            &["qemu", "-object", r#"{"qom-type":"secret","id":"s","data":"a\"hunter2"}"#],
            &["qemu", "-object", r#"{"qom-type": "secret", "data": "hunter2"}"#],
            &["qemu", "-spice", "port=5900,password=hunter2,addr=::1"],
            &["qemu", "-vnc", "0:1,password=hunter2"],
            &["qemu", "-drive", "file=rbd:pool/img:id=admin:key=hunter2:auth_supported=cephx"],
            &["qemu", "-drive", "file=iscsi://user%hunter2@host/iqn/1"],
            &["qemu", "-drive", "file=https://user:hunter2@host/disk"],
            &["qemu", "-iscsi", "user=me,password=hunter2"],
            &["qemu", "-append", "console=ttyS0 rd.luks.key=hunter2 quiet"],
            &["qemu", "-append", "ds=nocloud;s=http://me:hunter2@host/ root_pw=hunter2"],
            &["qemu", "-append", "systemd.set_credential=x:hunter2"],
            &["qemu", "-smbios", "type=11,value=io.systemd.credential:x=hunter2"],
            &["qemu", "-fw_cfg", "name=opt/io.systemd.credentials/x,string=hunter2"],
            &["qemu", "-fw_cfg", "name=opt/com.coreos/config,string=hunter2"],
            &["vmm", "--password", "hunter2"],
            &["vmm", "--password=a,hunter2"],
            &["vmm", "-client-secret", "hunter2"],
            &["vmm", "--api-token=hunter2", "x"],
            &["env", "DB_PASSWORD=a=hunter2", "qemu"],
            &["sh", "-c", "AWS_SECRET_ACCESS_KEY=hunter2 qemu --token hunter2"],
            &["curl", "-u", "me:hunter2"],
        ];
        for line in lines {
            let kept = redact(line.iter().copied());
            assert_eq!(kept.len(), line.len());
            assert!(kept.iter().all(|word| !word.contains(SECRET)), "{kept:?}");
            assert!(kept.iter().any(|word| word.contains(REDACTED)), "{kept:?}");
        }
    }

    #[test]
    fn all_else_is_kept() {
        let line = [
            "qemu-system-x86_64",
            "-name",
            "guest=web,debug-threads=on",
            "-object",
            "secret,id=masterKey0,format=raw,file=/run/key",
            "-drive",
            "file=a.qcow2,encrypt.key-secret=masterKey0,if=virtio",
            "-vnc",
            ":0,password=on",
            "-spice",
            "port=5900,disable-ticketing=on,password-secret=s",
            "-netdev",
            "user,id=n,hostfwd=tcp::2222-:22",
            "-append",
            "console=ttyS0 root=/dev/vda quiet",
            "-k",
            "en-us",
            "--no-shutdown",
            "http://host:80/path",
        ];
        assert_eq!(redact(line), line);
        let kept = redact(["-spice", "port=5900,password=x,addr=::1"]);
        assert_eq!(kept, ["-spice", "port=5900,password=***,addr=::1"]);
    }

    proptest! {
        #[test]
        fn any_arguments_are_taken(line in proptest::collection::vec("[-a-z=:,\"\\\\@/ é]{0,20}|secret|data=|password", 0..6)) {
            prop_assert_eq!(redact(line.iter().map(String::as_str)).len(), line.len());
        }
    }
}
