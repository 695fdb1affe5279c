//! Parser of the file of a KVM that counts its own exits (`kernel/exitscope/file.rs`; docs/kernel.md
//! describes the format).

/// Version of the format that is understood here.
const VERSION: &str = "1";

/// Content of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Intel's processor, not AMD's.
    pub vmx: bool,
    /// Exits are counted.
    pub on: bool,
    /// vCPUs that ended so long ago that they are not listed any more.
    pub evicted: u64,
    /// vCPUs that live, and vCPUs that ended not long ago.
    pub vcpus: Vec<Vcpu>,
}

/// One vCPU.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vcpu {
    /// Serial number, different for each vCPU.
    pub serial: u64,
    /// Its VM.
    pub vm: u64,
    /// Its number in the VM.
    pub id: u32,
    /// The vCPU has ended.
    pub ended: bool,
    /// KVM's own statistic at the same moment.
    pub kvm_exits: u64,
    /// Its guest has run guests of its own.
    pub nested: bool,
    /// Its figures may be of slightly different moments.
    pub torn: bool,
    /// The process that made it.
    pub pid: u32,
    /// Start of that process, in nanoseconds since the host's.
    pub started_ns: u64,
    /// Name of that process. Untrusted.
    pub comm: String,
    /// Ancestors of that process, nearest first.
    pub parents: Vec<u32>,
    /// Each code with its count, since KVM was loaded.
    pub exits: Vec<(i64, u64)>,
    /// Exits whose codes were too many.
    pub rest: u64,
}

impl Counts {
    /// Reads the whole text.
    pub fn parse(text: &str) -> Result<Counts, String> {
        let mut lines = text.lines().enumerate().map(|(number, line)| (number + 1, line));
        let (_, head) = lines.next().ok_or("it is empty")?;
        let mut counts = Counts::head(head)?;
        // Counters of CPUs come first; they are for people.
        let mut in_cpu = false;
        for (number, line) in lines {
            if line == "end" {
                return Ok(counts);
            }
            let known = match line.split_once(' ') {
                Some(("cpu", _)) => {
                    in_cpu = true;
                    Some(())
                }
                Some(("vcpu", rest)) => {
                    in_cpu = false;
                    Vcpu::parse(rest).map(|vcpu| counts.vcpus.push(vcpu))
                }
                Some(("exit" | "rest", _)) if in_cpu => Some(()),
                Some(("exit", rest)) => {
                    counts.vcpus.last_mut().zip(exit(rest)).map(|(vcpu, exit)| vcpu.exits.push(exit))
                }
                Some(("rest", rest)) => {
                    let ever = rest.split(' ').nth(1).and_then(|word| word.parse().ok());
                    counts.vcpus.last_mut().zip(ever).map(|(vcpu, rest)| vcpu.rest = rest)
                }
                _ => None,
            };
            known.ok_or_else(|| format!("its line {number} is not understood: {line:?}"))?;
        }
        Err("it ends in the middle".into())
    }

    fn head(line: &str) -> Result<Counts, String> {
        let mut words = line.split(' ');
        match (words.next(), words.next()) {
            (Some("exitscope"), Some(VERSION)) => {}
            (Some("exitscope"), Some(version)) => {
                return Err(format!(
                    "it has the format {version}, and this exitscope knows {VERSION}: take exitscope and KVM's modules \
                     from the same version"
                ));
            }
            _ => return Err(format!("its first line is not understood: {line:?}")),
        }
        let mut counts = Counts::default();
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            match key {
                "isa" => counts.vmx = value == "vmx",
                "on" => counts.on = value == "1",
                "evicted" => counts.evicted = value.parse().map_err(|_| format!("evicted={value:?}"))?,
                _ => {}
            }
        }
        Ok(counts)
    }
}

impl Vcpu {
    fn parse(line: &str) -> Option<Vcpu> {
        let mut words = line.split(' ');
        let mut vcpu = Vcpu { serial: words.next()?.parse().ok()?, ..Vcpu::default() };
        // How many of those that there must be.
        let mut found = 0;
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            found += 1;
            match key {
                "vm" => vcpu.vm = value.parse().ok()?,
                "id" => vcpu.id = value.parse().ok()?,
                "ended" => vcpu.ended = value == "1",
                "kvm" => vcpu.kvm_exits = value.parse().ok()?,
                "nested" => vcpu.nested = value == "1",
                "torn" => vcpu.torn = value == "1",
                "pid" => vcpu.pid = value.parse().ok()?,
                "started" => vcpu.started_ns = value.parse().ok()?,
                "comm" => vcpu.comm = word(value),
                "parents" => vcpu.parents = list(value)?,
                _ => found -= 1,
            }
        }
        (found == 10).then_some(vcpu)
    }
}

/// `0x7b 12 34 IOIO`: the code, the count since somebody reset it, and ever.
fn exit(line: &str) -> Option<(i64, u64)> {
    let mut words = line.split(' ');
    let code = u64::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok()?;
    Some((code.cast_signed(), words.nth(1)?.parse().ok()?))
}

fn list(text: &str) -> Option<Vec<u32>> {
    if text == "-" {
        return Some(Vec::new());
    }
    text.split(',').map(|number| number.parse().ok()).collect()
}

/// A word with `%` and two hexadecimal digits for what could not stand there.
fn word(text: &str) -> String {
    if text == "-" {
        return String::new();
    }
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let digit =
            |byte: Option<u8>| char::from(byte?).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        if byte == b'%'
            && let (Some(high), Some(low)) = (digit(rest.next()), digit(rest.next()))
        {
            bytes.push(high << 4 | low);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "exitscope 1 isa=svm on=1 every=10000 resets=1 evicted=2\n\
        cpu 0\nexit 0x72 5 2010 CPUID\nrest 1 1\n\
        vcpu 7 vm=6 pid=812 id=1 ended=1 kvm=2013 nested=0 torn=1 started=99 comm=qemu%20x parents=811,4 more=1\n\
        exit 0x72 3 2003 CPUID\nexit 0xffffffffffffffff 1 1 INVALID\nrest 2 9\n\
        vcpu 8 vm=8 pid=813 id=0 ended=0 kvm=0 nested=1 torn=0 started=100 comm=- parents=-\nend\n";

    #[test]
    fn all_of_it_is_read() {
        let counts = Counts::parse(TEXT).unwrap();
        assert_eq!((counts.vmx, counts.on, counts.evicted), (false, true, 2));
        let first = Vcpu {
            serial: 7,
            vm: 6,
            id: 1,
            ended: true,
            kvm_exits: 2013,
            nested: false,
            torn: true,
            pid: 812,
            started_ns: 99,
            comm: "qemu x".into(),
            parents: vec![811, 4],
            exits: vec![(0x72, 2003), (-1, 1)],
            rest: 9,
        };
        let second = Vcpu { serial: 8, vm: 8, nested: true, pid: 813, started_ns: 100, ..Vcpu::default() };
        assert_eq!(counts.vcpus, [first, second]);
    }

    #[test]
    fn anything_else_is_refused_with_its_place() {
        for (from, to, said) in [
            ("exitscope 1", "exitscope 2", "format 2"),
            ("exitscope 1", "kvm 1", "first line"),
            ("end\n", "", "in the middle"),
            ("kvm=2013 ", "", "line 5"),
            ("vcpu 7", "vcpu x", "line 5"),
            ("exit 0xff", "exit ff", "line 7"),
            ("rest 2 9", "rest 2", "line 8"),
            ("rest 2 9", "other", "line 8"),
        ] {
            let error = Counts::parse(&TEXT.replace(from, to)).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
        assert!(Counts::parse("").is_err());
    }
}
