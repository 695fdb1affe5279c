//! The terminal: taken over, given back whatever happens, and its input.

use crate::engine::{Events, PollHandle};
use crate::top::{Look, State};
use anyhow::{Context, bail};
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::event::{self, DisableMouseCapture, EnableMouseCapture, Event, MouseEventKind};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    BeginSynchronizedUpdate, Clear, ClearType, EndSynchronizedUpdate, EnterAlternateScreen,
    LeaveAlternateScreen, disable_raw_mode, enable_raw_mode, size,
};
use ratatui::layout::Rect;
use ratatui::{Terminal, TerminalOptions, Viewport};
use signal_hook::consts::{SIGCONT, SIGTSTP, SIGWINCH};
use signal_hook::iterator::Signals;
use std::collections::VecDeque;
use std::io::{self, IsTerminal, Stdout};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Input from the terminal, or a change of it.
pub enum Input {
    /// A key, or the mouse.
    Event(Event),
    /// It has another size.
    Resized,
    /// It is to be left to the shell for a while.
    Suspend,
    /// It was left for a while, by no doing of ours.
    Continued,
    /// It can no longer be read.
    Gone(io::Error),
}

/// True while the terminal is ours: a panic may come at any time.
static TAKEN: AtomicBool = AtomicBool::new(false);

fn take() -> io::Result<()> {
    TAKEN.store(true, Ordering::SeqCst);
    enable_raw_mode()?;
    execute!(io::stdout(), EnterAlternateScreen, EnableMouseCapture)
}

fn give_back() {
    if TAKEN.swap(false, Ordering::SeqCst) {
        // There is nobody to tell, and each is worth a try.
        let _ =
            execute!(io::stdout(), EndSynchronizedUpdate, DisableMouseCapture, LeaveAlternateScreen, Show);
        let _ = disable_raw_mode();
    }
}

/// Largest size that is used of a terminal, in columns and lines: it may claim any, and each cell takes memory.
const WIDEST: u16 = 2000;
const HIGHEST: u16 = 1000;

/// The terminal, empty, as large as it is now. It is of a fixed size for ratatui: where that follows the terminal's size by
/// itself, it asks the terminal where the cursor is, and reads the answer, which the thread that reads keys would take away.
fn terminal() -> io::Result<Terminal<CrosstermBackend<Stdout>>> {
    execute!(io::stdout(), Clear(ClearType::All))?;
    let (width, height) = size()?;
    let area = Rect { x: 0, y: 0, width: width.clamp(1, WIDEST), height: height.clamp(1, HIGHEST) };
    let viewport = Viewport::Fixed(area);
    Terminal::with_options(CrosstermBackend::new(io::stdout()), TerminalOptions { viewport })
}

/// Makes sure that standard input and output are a terminal.
///
/// # Errors
/// If one of them is none.
pub fn check() -> anyhow::Result<()> {
    for (what, is_terminal) in
        [("standard input", io::stdin().is_terminal()), ("standard output", io::stdout().is_terminal())]
    {
        if !is_terminal {
            bail!(
                "top needs a terminal, and {what} is none; for files and pipes there is `exitscope stat -i 1s`"
            );
        }
    }
    Ok(())
}

/// Terminal that is taken over until this is dropped.
pub struct Screen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
    inputs: Arc<Mutex<VecDeque<Input>>>,
    look: Look,
}

impl Screen {
    /// Takes the terminal over; from here on `events` say when there is something in [`Screen::inputs`].
    pub fn open(events: &Events) -> anyhow::Result<Screen> {
        check()?;
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            give_back();
            before(panic);
        }));
        let look = Look { color: crate::engine::sinks::may_color(&io::stdout()) };
        let inputs: Arc<Mutex<VecDeque<Input>>> = Arc::default();
        // From here on, an early end gives it back.
        let screen = take().and_then(|()| terminal());
        let terminal = match screen {
            Ok(terminal) => terminal,
            Err(error) => {
                give_back();
                return Err(error).context("cannot take over the terminal");
            }
        };
        let screen = Screen { terminal, inputs, look };
        screen.listen(events.poll_handle())?;
        screen.listen_for_signals(events.poll_handle())?;
        Ok(screen)
    }

    fn listen(&self, poll: PollHandle) -> io::Result<()> {
        let inputs = self.inputs.clone();
        std::thread::Builder::new().name("keys".into()).spawn(move || {
            loop {
                let (input, is_last) = match event::read() {
                    // Heard as a signal, because among keys it is not always told of.
                    Ok(Event::Resize(..)) => continue,
                    // Nothing happens by it, and there may be hundreds a second.
                    Ok(Event::Mouse(mouse)) if mouse.kind == MouseEventKind::Moved => continue,
                    Ok(event) => (Input::Event(event), false),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => (Input::Gone(error), true),
                };
                push(&inputs, input, &poll);
                if is_last {
                    break;
                }
            }
        })?;
        Ok(())
    }

    fn listen_for_signals(&self, poll: PollHandle) -> io::Result<()> {
        let inputs = self.inputs.clone();
        let mut signals = Signals::new([SIGTSTP, SIGCONT, SIGWINCH])?;
        std::thread::Builder::new().name("job".into()).spawn(move || {
            for signal in signals.forever() {
                let input = match signal {
                    SIGTSTP => Input::Suspend,
                    SIGCONT => Input::Continued,
                    _ => Input::Resized,
                };
                push(&inputs, input, &poll);
            }
        })?;
        Ok(())
    }

    /// Takes the inputs since the last call.
    pub fn inputs(&self) -> VecDeque<Input> {
        std::mem::take(&mut self.inputs.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Draws the state.
    pub fn draw(&mut self, state: &mut State) -> anyhow::Result<()> {
        let look = self.look;
        // Terminals that know this show all of it at once; others do not mind.
        execute!(io::stdout(), BeginSynchronizedUpdate).context("cannot write to the terminal")?;
        let drawn = self.terminal.draw(|frame| {
            let area = frame.area();
            state.draw(look, area, frame.buffer_mut());
            if let Some(cursor) = state.hits.cursor {
                frame.set_cursor_position(cursor);
            }
        });
        drawn.map(drop).context("cannot write to the terminal")?;
        execute!(io::stdout(), EndSynchronizedUpdate).context("cannot write to the terminal")
    }

    /// Draws everything anew, whatever is on the terminal and however large it is: at another size it may have lost some.
    pub fn renew(&mut self) -> anyhow::Result<()> {
        self.terminal = terminal().context("cannot write to the terminal")?;
        Ok(())
    }

    /// Leaves the terminal to the shell until we are continued.
    pub fn suspend(&mut self) -> anyhow::Result<()> {
        give_back();
        stop();
        self.again()
    }

    /// Takes the terminal over again: whoever had it meanwhile may have changed it.
    pub fn again(&mut self) -> anyhow::Result<()> {
        give_back();
        take().context("cannot take over the terminal again")?;
        self.renew()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

/// Adds an input, and asks for a poll with the first of those that are taken together.
fn push(inputs: &Mutex<VecDeque<Input>>, input: Input, poll: &PollHandle) {
    let mut inputs = inputs.lock().unwrap_or_else(PoisonError::into_inner);
    inputs.push_back(input);
    if inputs.len() == 1 {
        poll.request();
    }
}

/// Stops this process as SIGTSTP does where nobody handles it: not at all where no shell would continue it.
fn stop() {
    // SAFETY: plain system calls; the action that was there, which another library put there, is put back as it was.
    unsafe {
        let mut before: libc::sigaction = std::mem::zeroed();
        let mut default: libc::sigaction = std::mem::zeroed();
        default.sa_sigaction = libc::SIG_DFL;
        if libc::sigaction(SIGTSTP, &default, &mut before) == 0 {
            libc::raise(SIGTSTP);
            libc::sigaction(SIGTSTP, &before, std::ptr::null_mut());
        }
    }
}

// Shared with the tests on terminals; not all of it is used here.
#[cfg(test)]
#[allow(dead_code)]
#[path = "../../../tests/common/screen.rs"]
mod shown;

#[cfg(test)]
mod tests {
    use super::shown::Shown;
    use super::*;
    use crate::top::Mode;
    use std::process::Command;
    use std::time::Duration;

    #[test]
    #[ignore = "is run by the test below, on a terminal of its own"]
    fn panics_in_the_middle_of_it() {
        let events = Events::listen().unwrap();
        let mut screen = Screen::open(&events).unwrap();
        screen.draw(&mut State::new(Mode::Live, Duration::from_secs(1))).unwrap();
        panic!("as planned");
    }

    /// The panic's message is on the terminal, not on the screen that is gone.
    #[test]
    fn a_panic_gives_the_terminal_back_before_it_is_told() {
        let before = Shown::start(&mut Command::new("true"), 80, 24).end().1;
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([
            "--exact",
            "command::top::screen::tests::panics_in_the_middle_of_it",
            "--ignored",
            "--nocapture",
        ]);
        let (status, after, screen) = Shown::start(command.env("RUST_BACKTRACE", "0"), 80, 24).end();
        assert!(!status.success());
        let text = screen.contents();
        assert!(text.contains("as planned") && !text.contains("waiting for the first look"), "{text}");
        assert!(!screen.alternate_screen() && !screen.hide_cursor());
        assert_eq!(screen.mouse_protocol_mode(), vt100::MouseProtocolMode::None);
        assert_eq!(before.local_modes.bits(), after.local_modes.bits());
        assert_eq!(before.output_modes.bits(), after.output_modes.bits());
    }
}
