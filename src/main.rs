//! argv -> role -> run -> exit code.

fn main() -> std::process::ExitCode {
    rgunicorn::cli::main()
}
