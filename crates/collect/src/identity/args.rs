//! Reads a command line: options, their values, and lists of `key=value`.

/// The values of an option, given as `OPTION VALUE` or `OPTION=VALUE`.
pub fn values<'a>(args: &'a [&'a [u8]], options: &'a [&'a str]) -> impl Iterator<Item = &'a [u8]> {
    args.iter().enumerate().filter_map(move |(index, arg)| {
        options.iter().find_map(|option| {
            let rest = arg.strip_prefix(option.as_bytes())?;
            match rest.strip_prefix(b"=") {
                Some(value) => Some(value),
                None if rest.is_empty() => args.get(index + 1).copied(),
                None => None,
            }
        })
    })
}

/// A key's last value in `key=value,key=value`, where `,,` stands for a comma. With `implied`, a first item without
/// `=` is that key's value: QEMU's rules (util/qemu-option.c).
pub fn field(list: &[u8], key: &str, implied: bool) -> Option<Vec<u8>> {
    let mut items = vec![Vec::new()];
    let mut bytes = list.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        let item = items.last_mut()?;
        if byte != b',' || bytes.next_if_eq(&b',').is_some() {
            item.push(byte);
        } else {
            items.push(Vec::new());
        }
    }
    let mut found = None;
    for (index, item) in items.iter().enumerate() {
        match item.iter().position(|&byte| byte == b'=') {
            Some(at) if item[..at] == *key.as_bytes() => found = Some(item[at + 1..].to_vec()),
            None if implied && index == 0 => found = Some(item.clone()),
            _ => {}
        }
    }
    found
}

/// The first argument after the word `command` that is no option.
pub fn after<'a>(args: &[&'a [u8]], command: &str) -> Option<&'a [u8]> {
    let at = args.iter().position(|arg| *arg == command.as_bytes())?;
    args[at + 1..].iter().copied().find(|arg| !arg.starts_with(b"-"))
}

/// The last argument, if it is no option.
pub fn last<'a>(args: &[&'a [u8]]) -> Option<&'a [u8]> {
    args.last().copied().filter(|arg| !arg.starts_with(b"-"))
}

/// The first argument that is neither an option nor the value of one of those in `with_value`.
pub fn positional<'a>(args: &[&'a [u8]], with_value: &[&str]) -> Option<&'a [u8]> {
    let mut rest = args.iter().copied();
    while let Some(arg) = rest.next() {
        if with_value.iter().any(|option| arg == option.as_bytes()) {
            rest.next();
        } else if !arg.starts_with(b"-") {
            return Some(arg);
        }
    }
    None
}

/// The last part of a path.
pub fn basename(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positional_arguments() {
        let args: [&[u8]; 6] = [b"-c", b"2", b"--mem=3", b"kernel", b"x", b"-v"];
        assert_eq!(positional(&args, &["-c"]), Some(&b"kernel"[..]));
        assert_eq!(last(&args), None);
        assert_eq!(last(&args[..5]), Some(&b"x"[..]));
        assert_eq!(after(&args, "kernel"), Some(&b"x"[..]));
        assert_eq!(after(&args, "x"), None);
    }
}
