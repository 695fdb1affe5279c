//! The `exitscope` command.

fn main() -> std::process::ExitCode {
    exitscope::run()
}
