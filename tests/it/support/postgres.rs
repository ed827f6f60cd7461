//! A PostgreSQL server of a test's own, which may be restarted.

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::support::eventually;
use crate::support::ports::free_port;

pub struct Postgres {
    /// A short path, which the user of the database can reach as well.
    folder: TempDir,
    programs: PathBuf,
    port: u16,
}

impl Postgres {
    #[track_caller]
    pub fn start() -> Postgres {
        let folder = tempfile::Builder::new().prefix("pg").tempdir_in("/tmp").expect("a folder");
        let postgres = Postgres { folder, programs: programs(), port: free_port() };
        if is_root() {
            run(Command::new("chown").arg("postgres").arg(postgres.folder.path()));
        }
        run(postgres.command("initdb").args([
            "-U",
            "postrider",
            "--auth=trust",
            "-E",
            "UTF8",
            "--locale=C.UTF-8",
        ]));
        postgres.begin();
        postgres
    }

    /// What a database's address begins with.
    pub fn url(&self) -> String {
        format!("postgres://postrider@{}", self.address())
    }

    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// Ends it as a crash does, and starts it again.
    #[track_caller]
    pub fn crash(&self) {
        run(self.command("pg_ctl").args(["stop", "-m", "immediate", "-s"]));
        self.begin();
    }

    #[track_caller]
    fn begin(&self) {
        let folder = self.folder.path().display();
        let options = format!(
            "-p {} -k {folder} -c listen_addresses=127.0.0.1 -c max_connections=200 -c shared_buffers=64MB",
            self.port
        );
        let log = self.folder.path().join("log").display().to_string();
        run(self.command("pg_ctl").args(["start", "-w", "-s", "-l", &log, "-o", &options]));
        eventually("PostgreSQL listens", || TcpStream::connect(self.address()).ok());
    }

    /// One of its programs, on its data, run by a user that it accepts.
    fn command(&self, program: &str) -> Command {
        let path = self.programs.join(program);
        let mut command = if is_root() {
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--"]).arg(path);
            command
        } else {
            Command::new(path)
        };
        command.current_dir("/").arg("-D").arg(self.folder.path().join("data"));
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let _ = self.command("pg_ctl").args(["stop", "-m", "immediate", "-s"]).status();
    }
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

/// Debian keeps the server's programs outside the path.
fn programs() -> PathBuf {
    let folders = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> =
        folders.map(|entry| entry.path().join("bin")).filter(|bin| bin.join("initdb").exists()).collect();
    found.sort();
    found.pop().unwrap_or_else(|| Path::new("").to_owned())
}

#[track_caller]
fn run(command: &mut Command) {
    // A server that goes on in the background must not hold a pipe of ours.
    let status = command.stdout(std::process::Stdio::null()).status();
    assert!(status.as_ref().is_ok_and(|status| status.success()), "{command:?}: {status:?}");
}
