//! Logs go to stderr: text for people or a JSON object a line, chosen by `RUST_LOG`.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config::value::LogFormat;

/// Starts logging; `default` is what is logged without `RUST_LOG`.
pub fn start(format: LogFormat, default: &str) {
    let chosen = std::env::var("RUST_LOG").ok().filter(|chosen| !chosen.is_empty());
    let filter = EnvFilter::builder().parse_lossy(chosen.as_deref().unwrap_or(default));
    let is_colourful = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(is_colourful);
    // A second start (tests) changes nothing.
    let _ = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
}
