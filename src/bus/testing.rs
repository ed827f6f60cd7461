//! Redis servers for tests: each test starts its own on loopback, in a folder that goes with it.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use deadpool_redis::redis::{self, Client, Connection};
use rustix::process::{Pid, Signal, kill_process};

use crate::config::engine::{CacheUrl, cache_url};

/// A running server.
pub struct Server {
    child: Child,
    /// Where it listens.
    pub port: u16,
    arguments: Vec<String>,
    folder: tempfile::TempDir,
}

/// A port that nobody listens on, from below the range of outgoing connections: a killed server comes
/// back to it.
fn free_port() -> u16 {
    const FIRST: u32 = 12_000;
    const COUNT: u32 = 18_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let start = std::process::id().wrapping_mul(97) % COUNT;
    let mut ports =
        (0..COUNT).map(|_| (FIRST + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT) as u16);
    ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).unwrap()
}

impl Server {
    /// One server.
    pub fn start() -> Server {
        Server::with(&[])
    }

    /// A server with more arguments.
    pub fn with(arguments: &[&str]) -> Server {
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
        let mut all = vec!["--save".to_owned(), String::new(), "--appendonly".to_owned(), "no".to_owned()];
        all.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        let child = spawn(&folder, port, &all);
        let server = Server { child, port, arguments: all, folder };
        server.wait();
        server
    }

    /// A Sentinel that watches a server as `mymaster`.
    pub fn sentinel(of: &Server) -> Server {
        let folder = tempfile::tempdir().unwrap();
        let text = format!(
            "sentinel monitor mymaster 127.0.0.1 {} 1\nsentinel down-after-milliseconds mymaster 1000\n\
             sentinel failover-timeout mymaster 3000\n",
            of.port
        );
        let file = folder.path().join("sentinel.conf");
        std::fs::write(&file, text).unwrap();
        let arguments = vec![file.display().to_string(), "--sentinel".to_owned()];
        let port = free_port();
        let child = spawn(&folder, port, &arguments);
        let server = Server { child, port, arguments, folder };
        server.wait();
        server
    }

    /// Three masters that share all slots.
    pub fn cluster() -> Vec<Server> {
        let start = |_| {
            let bus = free_port().to_string();
            Server::with(&[
                "--cluster-enabled",
                "yes",
                "--cluster-node-timeout",
                "2000",
                "--cluster-port",
                &bus,
            ])
        };
        let servers: Vec<Server> = (0..3).map(start).collect();
        for (number, server) in servers.iter().enumerate() {
            let (from, to) = [(0, 5_460), (5_461, 10_922), (10_923, 16_383)][number];
            server.command::<()>(&["cluster", "addslotsrange", &from.to_string(), &to.to_string()]);
            let first = &servers[0];
            let bus = first.arguments.last().unwrap().clone();
            if number > 0 {
                server.command::<()>(&["cluster", "meet", "127.0.0.1", &first.port.to_string(), &bus]);
            }
        }
        for server in &servers {
            wait_for("the cluster", || {
                let info: String = server.command(&["cluster", "info"]);
                info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3")
            });
        }
        servers
    }

    /// Its address.
    pub fn url(&self) -> CacheUrl {
        cache_url(&format!("redis://127.0.0.1:{}", self.port)).unwrap()
    }

    fn connect(&self) -> redis::RedisResult<Connection> {
        Client::open(format!("redis://127.0.0.1:{}", self.port))?
            .get_connection_with_timeout(Duration::from_secs(1))
    }

    fn wait(&self) {
        wait_for("the server", || {
            let answer = self.connect().and_then(|mut connection| redis::cmd("PING").query(&mut connection));
            matches!(answer, Ok(redis::Value::SimpleString(_)))
        });
    }

    /// What it answers.
    pub fn command<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        let mut command = redis::cmd(words[0]);
        for word in &words[1..] {
            command.arg(word);
        }
        command.query(&mut self.connect().unwrap()).unwrap()
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// It answers no more, and its connections stay open.
    pub fn hang(&self) {
        self.signal(Signal::STOP);
    }

    /// It goes on.
    pub fn go_on(&self) {
        self.signal(Signal::CONT);
    }

    /// It is gone, with all that it kept.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// An empty server in the place of a killed one.
    pub fn start_again(&mut self) {
        self.child = spawn(&self.folder, self.port, &self.arguments);
        self.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(folder: &tempfile::TempDir, port: u16, arguments: &[String]) -> Child {
    Command::new("redis-server")
        .args(arguments)
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--daemonize", "no", "--dir"])
        .arg(folder.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("tests need redis-server: apt-get install redis-server")
}

/// Looks again and again, for twenty seconds at the most.
#[track_caller]
pub fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < Duration::from_secs(20), "waited for {what} in vain");
        std::thread::sleep(Duration::from_millis(20));
    }
}
