//! Options of a VM's command line, which its owner chose and which may be cut short.

/// Words of a command line.
#[derive(Clone, Copy, Debug)]
pub struct CommandLine<'a>(pub &'a str);

impl<'a> CommandLine<'a> {
    /// Returns true if nothing is known of the command line.
    pub fn is_empty(self) -> bool {
        self.0.trim().is_empty()
    }

    /// Returns the values of an option, given as `-cpu VALUE`, `--cpu VALUE` or `--cpu=VALUE`.
    pub fn values(self, option: &'a str) -> impl Iterator<Item = &'a str> {
        let mut words = self.0.split_ascii_whitespace().peekable();
        std::iter::from_fn(move || {
            loop {
                let word = words.next()?;
                let Some(name) = word.strip_prefix("--").or_else(|| word.strip_prefix('-')) else { continue };
                match name.split_once('=') {
                    Some((name, value)) if name == option => return Some(value),
                    None if name == option => return Some(words.peek().copied().unwrap_or_default()),
                    _ => {}
                }
            }
        })
    }

    /// Returns true if the option is there, with any value or none.
    pub fn has(self, option: &'a str) -> bool {
        self.values(option).next().is_some()
    }

    /// Returns true if any value of the option has this part, as `-cpu host,hv-time` has `hv-time`. QEMU writes `_` for
    /// `-` too, and `hv-time=on` for `hv-time`.
    pub fn has_part(self, option: &'a str, part: &str) -> bool {
        self.values(option).any(|value| {
            value.split(',').any(|word| {
                let word = word.replace('_', "-");
                word == part || word.strip_prefix(part).is_some_and(|rest| rest == "=on" || rest == "=true")
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_found_however_they_are_written() {
        let line = CommandLine(
            "qemu -cpu host,hv_time,hv-stimer=on -hda a.img --cpu=max -drive file=x,if=ide -nographic",
        );
        assert_eq!(line.values("cpu").collect::<Vec<_>>(), ["host,hv_time,hv-stimer=on", "max"]);
        assert!(line.has_part("cpu", "hv-time") && line.has_part("cpu", "hv-stimer"));
        assert!(!line.has_part("cpu", "hv-vapic") && line.has_part("drive", "if=ide"));
        assert!(line.has("hda") && line.has("nographic") && !line.has("hd") && !line.has("a.img"));
        assert!(CommandLine(" ").is_empty());
    }
}
