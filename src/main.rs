//! `postrider`: see `cli`.

fn main() -> std::process::ExitCode {
    postrider::cli::main()
}
