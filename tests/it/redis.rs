//! Redis as cache and bus, over TLS: a server uses it, and loses nothing but speed with it.

use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::events::Event;
use crate::support::eventually;
use crate::support::http::Request;
use crate::support::ports::free_port;
use crate::support::server::Server;
use crate::support::tls::Certificate;

/// Killed when it is dropped.
struct Redis(Child);

impl Redis {
    fn start(folder: &Path, port: u16) -> Redis {
        let child = Command::new("redis-server")
            .args(["--port", "0", "--bind", "127.0.0.1", "--tls-port", &port.to_string(), "--save", ""])
            .args(["--tls-cert-file", "redis.pem", "--tls-key-file", "redis.key"])
            .args(["--tls-ca-cert-file", "redis.pem", "--tls-auth-clients", "no", "--requirepass", "geheim"])
            .current_dir(folder)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let redis = Redis(child.expect("tests need redis-server: apt-get install redis-server"));
        eventually("Redis listens", || TcpStream::connect(("127.0.0.1", port)).ok());
        redis
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn uses_redis(server: &Server, wanted: f64) {
    for name in ["postrider_bus_up", "postrider_cache_up"] {
        eventually(&format!("{name} is {wanted}"), || (server.metric(name)? == wanted).then_some(()));
    }
}

#[test]
fn a_server_goes_on_without_redis_and_tells_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let certificate = Certificate::make(&["127.0.0.1"]);
    let file = folder.path().join("redis.pem");
    std::fs::write(&file, &certificate.certificate_pem).expect("a certificate");
    std::fs::write(folder.path().join("redis.key"), &certificate.key_pem).expect("a key");
    let port = free_port();
    let redis = Redis::start(folder.path(), port);
    let server = Server::builder()
        .env("POSTRIDER_CACHE_URL", format!("rediss://:geheim@127.0.0.1:{port}"))
        .env("SSL_CERT_FILE", file.display().to_string())
        .start();
    uses_redis(&server, 1.0);
    let client = server.account();
    // Whoever comes in before the look that follows a loss is asked to come in again, as clients do by
    // themselves.
    let told = || {
        let once = || {
            let events = client.events("Email", "no", 0);
            let started = Instant::now();
            client.create_email(&client.mailbox("inbox"), "told", "text");
            let state = client.state("Email");
            let of_email = |event: &Event| Some(event.state_of(&client.account, "Email")? == state);
            let fits = |event: &Event| of_email(event)?.then(|| started.elapsed());
            events.look_for("Email", fits).ok()
        };
        (0..5).find_map(|_| once()).expect("a change is told")
    };
    told();
    drop(redis);
    uses_redis(&server, 0.0);
    assert_eq!(server.request(Request::get("/readyz")).status, 200);
    let took = told();
    assert!(took < Duration::from_secs(5), "{took:?}");
    let _redis = Redis::start(folder.path(), port);
    uses_redis(&server, 1.0);
    told();
    let log = server.log();
    for line in ["the bus is gone", "the bus is back", "the cache is gone", "the cache is back"] {
        assert_eq!(log.matches(line).count(), 1, "{line}");
    }
    assert!(!log.contains("geheim") && !server.cli(&["config"]).contains("geheim"));
}
