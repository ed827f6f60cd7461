//! The built program as a child process, in a folder and on ports of its own.

use std::cell::Cell;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::dns::Dns;
use crate::support::http::{Request, Response};
use crate::support::jmap::Client;
use crate::support::ports::free_port;
use crate::support::{PATIENCE, eventually, smtp, stack};

/// The domain that every server has from the start.
pub const DOMAIN: &str = "example.test";

/// The password of every account that [`Server::account`] makes.
pub const PASSWORD: &str = "correct horse battery";

/// How much of the log a failed test prints.
const LOG_TAIL: usize = 24_000;

/// Names and values of an environment.
pub type Variables = Vec<(String, String)>;

/// A running server. It is killed and its folder removed when it is dropped, and also when the
/// test process goes away in any other manner.
pub struct Server {
    folder: TempDir,
    host: Ipv4Addr,
    hostname: String,
    http_port: u16,
    smtp_port: u16,
    submission_port: u16,
    /// The engines that it shares with servers beside it.
    engines: Variables,
    environment: Variables,
    process: Mutex<Option<Child>>,
    watchdog: Mutex<Option<Child>>,
    next_account: AtomicU32,
    /// Answers the server's DNS questions; every name is unknown until a test adds it.
    pub dns: Arc<Dns>,
}

/// A server in the making.
pub struct Builder {
    environment: Variables,
    /// Engines and DNS of another server.
    beside: Option<(Variables, Arc<Dns>)>,
    without_domain: bool,
    host: Ipv4Addr,
    hostname: String,
    smtp_port: u16,
}

impl Builder {
    /// Listens on another address of the loopback than 127.0.0.1, under another name.
    pub fn host(mut self, host: Ipv4Addr, name: &str) -> Builder {
        self.host = host;
        self.hostname = name.to_owned();
        self
    }

    /// Listens for mail on this port.
    pub fn smtp_port(mut self, port: u16) -> Builder {
        self.smtp_port = port;
        self
    }

    /// Sets an environment variable of the server and of the commands.
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Builder {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// As [`Builder::env`], several.
    pub fn envs(mut self, variables: Variables) -> Builder {
        self.environment.extend(variables);
        self
    }

    /// Does the work of these roles alone.
    pub fn roles(self, roles: &str) -> Builder {
        self.env("POSTRIDER_ROLE", roles)
    }

    /// Is one more process of the system that `other` belongs to.
    pub fn beside(mut self, other: &Server) -> Builder {
        self.beside = Some((other.engines.clone(), other.dns.clone()));
        self.without_domain = true;
        self
    }

    /// Adds no domain: making its DKIM keys takes a moment.
    pub fn without_domain(mut self) -> Builder {
        self.without_domain = true;
        self
    }

    /// Has the embedded engines, whatever the tests run over.
    pub fn alone(mut self) -> Builder {
        self.beside = Some((Vec::new(), Arc::new(Dns::start())));
        self
    }

    /// Starts it and waits until it is ready.
    #[track_caller]
    pub fn start(self) -> Server {
        let without_domain = self.without_domain;
        let server = self.prepare();
        server.run();
        if !without_domain {
            server.cli(&["domain", "add", DOMAIN]);
        }
        server
    }

    /// Everything but its start: commands can be run.
    #[track_caller]
    pub fn prepare(self) -> Server {
        let (engines, dns) = self.beside.unwrap_or_else(|| (stack::environment(), Arc::new(Dns::start())));
        Server {
            folder: TempDir::with_prefix("postrider-test-").expect("temporary folder"),
            host: self.host,
            hostname: self.hostname,
            http_port: free_port(),
            smtp_port: self.smtp_port,
            submission_port: free_port(),
            environment: [engines.clone(), self.environment].concat(),
            engines,
            process: Mutex::new(None),
            watchdog: Mutex::new(None),
            next_account: AtomicU32::new(1),
            dns,
        }
    }
}

impl Server {
    /// A server of the test's own, for tests that break it or look at all of it.
    #[track_caller]
    pub fn start() -> Server {
        Server::builder().start()
    }

    pub fn builder() -> Builder {
        Builder {
            environment: Vec::new(),
            beside: None,
            without_domain: false,
            host: Ipv4Addr::LOCALHOST,
            hostname: "mx.example.test".to_owned(),
            smtp_port: free_port(),
        }
    }

    /// The one server that most tests share, each with accounts of its own.
    pub fn shared() -> &'static Server {
        static SHARED: OnceLock<Server> = OnceLock::new();
        SHARED.get_or_init(Server::start)
    }

    pub fn http(&self) -> SocketAddr {
        SocketAddr::from((self.host, self.http_port))
    }

    pub fn smtp(&self) -> SocketAddr {
        SocketAddr::from((self.host, self.smtp_port))
    }

    pub fn submission(&self) -> SocketAddr {
        SocketAddr::from((self.host, self.submission_port))
    }

    /// What the session's URLs begin with.
    pub fn url(&self) -> String {
        format!("http://{}", self.http())
    }

    /// The folder that holds the server's data.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// A folder for whatever a test wants to write.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Sends an HTTP request to it.
    #[track_caller]
    pub fn request(&self, request: Request) -> Response {
        request.send(self.http())
    }

    /// A new account with an address that no other test has, signed in.
    #[track_caller]
    pub fn account(&self) -> Client {
        self.account_named("user")
    }

    /// As [`Server::account`], with a prefix for the address.
    #[track_caller]
    pub fn account_named(&self, prefix: &str) -> Client {
        let number = self.next_account.fetch_add(1, Ordering::Relaxed);
        let address = format!("{prefix}{number}@{DOMAIN}");
        self.cli(&["account", "add", &address, "--password", PASSWORD]);
        let client = self.sign_in(&address);
        if stack::is_meilisearch() {
            // An index that is new answers nothing until some process has marked it as filled.
            let query = json!({ "filter": { "text": "anything" } });
            eventually("searches are answered", || {
                (client.answer("Email/query", query.clone()).name != "error").then_some(())
            });
        }
        client
    }

    /// A client of an account that exists.
    #[track_caller]
    pub fn sign_in(&self, address: &str) -> Client {
        let mut client = Client::connect(self.http(), address, PASSWORD);
        client.log = Some(Arc::new(LogOnFailure(self.log_path())));
        client
    }

    /// Delivers a message by SMTP; the server must take it.
    #[track_caller]
    pub fn deliver(&self, from: &str, to: &str, message: impl AsRef<[u8]>) {
        smtp::send(self.smtp(), from, &[to], message);
    }

    /// Runs a command of the program, which must succeed; what it printed.
    #[track_caller]
    pub fn cli(&self, arguments: &[&str]) -> String {
        let output = self.try_cli(arguments, "");
        assert!(
            output.status.success(),
            "{arguments:?}: {}\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// As [`Server::cli`], with `--json` added and read.
    #[track_caller]
    pub fn cli_json(&self, arguments: &[&str]) -> Value {
        let arguments = [arguments, &["--json"]].concat();
        let printed = self.cli(&arguments);
        match serde_json::from_str(&printed) {
            Ok(value) => value,
            Err(error) => panic!("{arguments:?} printed no JSON ({error}): {printed}"),
        }
    }

    /// Starts a command and does not wait for it.
    #[track_caller]
    pub fn spawn_cli(&self, arguments: &[&str]) -> Child {
        let mut command = self.command();
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().expect("the program runs")
    }

    /// Runs a command with a text on its standard input.
    #[track_caller]
    pub fn try_cli(&self, arguments: &[&str], input: &str) -> Output {
        let mut child = self
            .command()
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program runs");
        if let Some(mut stdin) = child.stdin.take() {
            // A command that reads nothing may be gone already.
            let _ = stdin.write_all(input.as_bytes());
        }
        child.wait_with_output().expect("the program's output")
    }

    /// The program with this server's environment and nothing else of the tests'.
    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_postrider"));
        for (name, _) in std::env::vars() {
            if name.starts_with("POSTRIDER_") {
                command.env_remove(name);
            }
        }
        command
            .current_dir(self.folder.path())
            .env("POSTRIDER_DATA", self.data())
            .env("POSTRIDER_HTTP_LISTEN", self.http().to_string())
            .env("POSTRIDER_SMTP_LISTEN", self.smtp().to_string())
            .env("POSTRIDER_SUBMISSION_LISTEN", self.submission().to_string())
            .env("POSTRIDER_PUBLIC_URL", self.url())
            .env("POSTRIDER_HOSTNAME", &self.hostname)
            .env("POSTRIDER_DNS", self.dns.address().to_string())
            .env(
                "RUST_LOG",
                std::env::var("POSTRIDER_TEST_LOG").unwrap_or_else(|_| "info,postrider=debug".into()),
            )
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .env("NO_COLOR", "1");
        command
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("server.log")
    }

    /// Everything that the server has logged, of all its runs.
    pub fn log(&self) -> String {
        fs::read(self.log_path())
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// Starts the process and waits until it is ready.
    #[track_caller]
    fn run(&self) {
        self.run_until(|answer| answer.status == 200);
    }

    /// Starts the process and waits until it answers so when it is asked whether it is ready.
    #[track_caller]
    pub fn run_until(&self, is_enough: impl Fn(&Response) -> bool) {
        let log = open_log(&self.log_path());
        let also = log.try_clone().expect("log file");
        let child = self
            .command()
            .arg("serve")
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(also)
            .spawn()
            .expect("the program starts");
        *lock(&self.watchdog) = Some(watch(child.id(), self.folder.path()));
        *lock(&self.process) = Some(child);
        let start = Instant::now();
        loop {
            if Request::get("/readyz").try_send(self.http()).is_ok_and(|answer| is_enough(&answer)) {
                return;
            }
            let ended = lock(&self.process).as_mut().and_then(|child| child.try_wait().ok().flatten());
            if ended.is_some() || start.elapsed() > PATIENCE {
                panic!("the server is not ready ({ended:?}):\n{}", self.log());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The process id while it runs.
    pub fn pid(&self) -> Option<u32> {
        lock(&self.process).as_ref().map(Child::id)
    }

    /// Ends it as a power cut of the process does: SIGKILL.
    pub fn kill(&self) {
        let child = lock(&self.process).take();
        if let Some(mut child) = child {
            let _ = child.kill();
            let _ = child.wait();
        }
        self.dismiss_watchdog();
    }

    /// Whether it runs no more, without having been told to end.
    pub fn has_ended(&self) -> bool {
        lock(&self.process).as_mut().is_none_or(|child| child.try_wait().is_ok_and(|ended| ended.is_some()))
    }

    /// Starts it again after it has ended, on the same data and ports.
    #[track_caller]
    pub fn start_again(&self) {
        self.kill();
        self.run();
    }

    /// A variable of its environment.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.environment.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Sends a signal by its name, without waiting.
    #[track_caller]
    pub fn signal(&self, name: &str) {
        let pid = self.pid().expect("a running server");
        let sent = Command::new("sh").arg("-c").arg(format!("kill -{name} {pid}")).status();
        assert!(sent.is_ok_and(|status| status.success()), "SIG{name}");
    }

    /// Waits until the process has ended by itself.
    #[track_caller]
    pub fn wait_exit(&self, time: Duration) -> ExitStatus {
        let start = Instant::now();
        loop {
            {
                let mut process = lock(&self.process);
                let child = process.as_mut().expect("a running server");
                if let Some(status) = child.try_wait().expect("the child's status") {
                    *process = None;
                    drop(process);
                    self.dismiss_watchdog();
                    return status;
                }
            }
            assert!(start.elapsed() < time, "still running after {time:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// SIGTERM; it must end with exit code 0 within ten seconds.
    #[track_caller]
    pub fn terminate(&self) {
        self.signal("TERM");
        let status = self.wait_exit(Duration::from_secs(10));
        assert_eq!(status.code(), Some(0), "after SIGTERM: {status}");
    }

    /// Starts it again on the same data and ports.
    #[track_caller]
    pub fn restart(&self) {
        self.kill();
        self.run();
    }

    /// The value of a metric without labels, or the sum over all its labels.
    #[track_caller]
    pub fn metric(&self, name: &str) -> Option<f64> {
        let text = self.request(Request::get("/metrics")).expect(200).text();
        let mut sum = None;
        for line in text.lines() {
            let Some(rest) = line.strip_prefix(name) else { continue };
            if rest.starts_with(' ') || rest.starts_with('{') {
                let value: f64 = rest.rsplit(' ').next().and_then(|value| value.parse().ok()).unwrap_or(0.0);
                sum = Some(sum.unwrap_or(0.0) + value);
            }
        }
        sum
    }

    fn dismiss_watchdog(&self) {
        if let Some(mut watchdog) = lock(&self.watchdog).take() {
            let _ = watchdog.kill();
            let _ = watchdog.wait();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            print_log(&self.log());
        }
    }
}

/// Prints the end of a server's log when the test that holds it fails: a shared server is not
/// dropped.
#[derive(Debug)]
pub struct LogOnFailure(PathBuf);

impl Drop for LogOnFailure {
    fn drop(&mut self) {
        if std::thread::panicking() {
            print_log(&read_log(&self.0));
        }
    }
}

thread_local! {
    static LOG_PRINTED: Cell<bool> = const { Cell::new(false) };
}

fn read_log(path: &Path) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

fn print_log(log: &str) {
    if log.is_empty() || LOG_PRINTED.replace(true) {
        return;
    }
    let mut start = log.len().saturating_sub(LOG_TAIL);
    while !log.is_char_boundary(start) {
        start += 1;
    }
    eprintln!("---- the end of the server's log ----\n{}", &log[start..]);
}

fn open_log(path: &Path) -> File {
    OpenOptions::new().create(true).append(true).open(path).expect("log file")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A shell that waits for the end of this process, which closes its standard input, and then
/// kills the server and removes its folder: nothing else ends the shared server.
fn watch(pid: u32, folder: &Path) -> Child {
    Command::new("sh")
        .arg("-c")
        .arg("read -r _; kill -9 \"$0\" 2>/dev/null; sleep 0.2; rm -rf -- \"$1\"")
        .arg(pid.to_string())
        .arg(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("a shell")
}
