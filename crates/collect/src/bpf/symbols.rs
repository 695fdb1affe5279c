//! Addresses of the kernel's variables, by /proc/kallsyms.

use std::fs;

/// File that has them.
const FILE: &str = "/proc/kallsyms";

/// The kernel's symbols: a line each, of an address, a letter and the name; that of a module has its name behind.
pub struct Symbols(String);

impl Symbols {
    /// Reads them.
    ///
    /// # Errors
    /// The reason, with the file's name.
    pub fn read() -> Result<Symbols, String> {
        fs::read_to_string(FILE).map(Symbols).map_err(|error| format!("{FILE}: {error}"))
    }

    /// Returns the address of a symbol of the kernel itself.
    ///
    /// # Errors
    /// If there is none, or the kernel hides addresses.
    pub fn address(&self, name: &str) -> Result<u64, String> {
        self.find(name, &format!(" {name}\n"))
    }

    /// Returns the address of a symbol of a module.
    ///
    /// # Errors
    /// Those of [`Symbols::address`].
    pub fn address_in(&self, module: &str, name: &str) -> Result<u64, String> {
        self.find(name, &format!(" {name}\t[{module}]\n"))
    }

    /// Searches the text as a whole, because it has some hundred thousand lines.
    fn find(&self, name: &str, end: &str) -> Result<u64, String> {
        let Symbols(text) = self;
        let before = text.find(end).map(|end| &text[..end]);
        let line = before.map(|before| &before[before.rfind('\n').map_or(0, |begin| begin + 1)..]);
        match line.and_then(|line| u64::from_str_radix(line.split(' ').next()?, 16).ok()) {
            None => Err(format!("{FILE} has no {name}")),
            Some(0) => Err(format!("{FILE} hides the address of {name}: set kernel.kptr_restrict to 0 or 1")),
            Some(address) => Ok(address),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_are_found_by_their_whole_name() {
        let symbols = "ffffffff81000000 T _text\nffffffff82f00000 d old_tk_fast_mono\n\
                       ffffffff82f01234 d tk_fast_mono\nffffffffc0000000 d tk_fast_mono\t[other]\n0 d hidden\n";
        let symbols = Symbols(symbols.to_owned());
        assert_eq!(symbols.address("tk_fast_mono"), Ok(0xffff_ffff_82f0_1234));
        assert_eq!(symbols.address_in("other", "tk_fast_mono"), Ok(0xffff_ffff_c000_0000));
        assert_eq!(symbols.address("_text"), Ok(0xffff_ffff_8100_0000));
        assert_eq!(symbols.address("fast_mono"), Err("/proc/kallsyms has no fast_mono".to_owned()));
        assert!(symbols.address("hidden").is_err_and(|why| why.contains("kernel.kptr_restrict")));
        assert!(symbols.address_in("kvm", "_text").is_err());
    }
}
