//! The ports on which everything is encrypted from the first octet, and their certificate.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use crate::support::ports::free_port;
use crate::support::server::{PASSWORD, Server};
use crate::support::tls::{self, Certificate, Stream};
use crate::support::{eventually, message};

/// A connection that is encrypted at once.
fn open(port: u16) -> std::io::Result<Stream> {
    let stream = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    tls::connect(stream, "mx.example.test")
}

/// The certificate that a port shows, in DER.
fn shown(port: u16) -> Option<Vec<u8>> {
    let mut stream = open(port).ok()?;
    // The handshake comes with the first octets.
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").ok()?;
    let _ = stream.read(&mut [0; 16]);
    let Stream::Client(stream) = &stream else { return None };
    Some(stream.conn.peer_certificates()?.first()?.to_vec())
}

fn converse(stream: &mut Stream, line: &str, until: &str) -> String {
    stream.write_all(line.as_bytes()).expect("sent");
    let mut seen = Vec::new();
    let mut octets = [0; 1_024];
    while !String::from_utf8_lossy(&seen).contains(until) {
        match stream.read(&mut octets) {
            Ok(0) | Err(_) => break,
            Ok(count) => seen.extend_from_slice(&octets[..count]),
        }
    }
    String::from_utf8_lossy(&seen).into_owned()
}

#[test]
fn https_and_submissions_speak_tls_from_the_start_and_take_over_new_certificates() {
    let folder = tempfile::tempdir().expect("folder");
    let (certificate, key) = (folder.path().join("c.pem"), folder.path().join("k.pem"));
    let write = |made: &Certificate| {
        std::fs::write(&key, &made.key_pem).expect("key");
        std::fs::write(&certificate, &made.certificate_pem).expect("certificate");
    };
    write(&Certificate::make(&["mx.example.test"]));
    let (https, submissions) = (free_port(), free_port());
    let server = Server::builder()
        .env("POSTRIDER_TLS_CERT", certificate.to_str().expect("path"))
        .env("POSTRIDER_TLS_KEY", key.to_str().expect("path"))
        .env("POSTRIDER_HTTPS_LISTEN", format!("127.0.0.1:{https}"))
        .env("POSTRIDER_SUBMISSIONS_LISTEN", format!("127.0.0.1:{submissions}"))
        .start();
    let client = server.account();

    let mut stream = open(https).expect("HTTPS");
    let asked = format!(
        "GET /.well-known/jmap HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: {}\r\n\r\n",
        client.authorization
    );
    let answer = converse(&mut stream, &asked, "primaryAccounts");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");

    let mut stream = open(submissions).expect("submissions");
    assert!(converse(&mut stream, "", "\r\n").starts_with("220"));
    let offered = converse(&mut stream, "EHLO me\r\n", "250 ");
    assert!(offered.contains("AUTH") && !offered.contains("STARTTLS"), "{offered}");
    use base64::Engine;
    let password = format!("\0{}\0{PASSWORD}", client.address);
    let password = base64::engine::general_purpose::STANDARD.encode(password);
    assert!(converse(&mut stream, &format!("AUTH PLAIN {password}\r\n"), "\r\n").starts_with("235"));
    let from = client.address.clone();
    assert!(converse(&mut stream, &format!("MAIL FROM:<{from}>\r\n"), "\r\n").starts_with("250"));
    assert!(converse(&mut stream, &format!("RCPT TO:<{from}>\r\n"), "\r\n").starts_with("250"));
    assert!(converse(&mut stream, "DATA\r\n", "\r\n").starts_with("354"));
    let mail = message::text(&from, &from, "encrypted", "text");
    assert!(converse(&mut stream, &format!("{mail}\r\n.\r\n"), "\r\n").starts_with("250"));
    client.wait_for_subject("encrypted");

    let before = shown(https).expect("a certificate");
    write(&Certificate::make(&["mx.example.test"]));
    eventually("the new certificate is shown", || shown(https).filter(|now| *now != before));
}

#[test]
fn without_a_certificate_nobody_listens_there() {
    let (https, submissions) = (free_port(), free_port());
    let server = Server::builder()
        .without_domain()
        .env("POSTRIDER_HTTPS_LISTEN", format!("127.0.0.1:{https}"))
        .env("POSTRIDER_SUBMISSIONS_LISTEN", format!("127.0.0.1:{submissions}"))
        .start();
    for port in [https, submissions] {
        assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "{port}");
    }
    drop(server);
}
