//! A process that rewrites its own command line.

use std::fs;
use std::io;
use std::thread;

/// Letters that the name consists of, in turns.
const LETTERS: [u8; 2] = [b'a', b'b'];

/// Starts a thread that writes its letters over every `a` and `b` of the last argument, all of one and then all of the other,
/// for ever.
///
/// # Errors
/// If the kernel does not say where the arguments are.
pub fn rewrite() -> io::Result<()> {
    // Fields 48 and 49, from the one behind the name in parentheses on (proc(5)).
    let stat = fs::read_to_string("/proc/self/stat")?;
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let field =
        |number: usize| rest.split_ascii_whitespace().nth(number - 3).and_then(|n| n.parse::<usize>().ok());
    let (Some(begin), Some(end)) = (field(48), field(49)) else {
        return Err(io::Error::other("no arguments in /proc/self/stat"));
    };
    let line = fs::read("/proc/self/cmdline")?;
    let last =
        line[..line.len().saturating_sub(1)].iter().rposition(|byte| *byte == 0).map_or(0, |at| at + 1);
    let places: Vec<usize> = (last..line.len().min(end - begin))
        .filter(|at| LETTERS.contains(&line[*at]))
        .map(|at| begin + at)
        .collect();
    thread::spawn(move || {
        for letter in LETTERS.into_iter().cycle() {
            for place in &places {
                // SAFETY: the arguments lie on the first stack, which is writable and stays; nobody else here uses them by now.
                unsafe { std::ptr::with_exposed_provenance_mut::<u8>(*place).write_volatile(letter) };
            }
        }
    });
    Ok(())
}
