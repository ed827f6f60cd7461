//! A small authoritative DNS server on the loopback, over UDP and TCP. Every name is unknown
//! until a test adds it.

use std::collections::{HashMap, HashSet};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A record's data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    A(Ipv4Addr),
    Aaaa(Ipv6Addr),
    /// Preference and host; the null MX of RFC 7505 is `(0, "")`.
    Mx(u16, String),
    Txt(String),
    Ptr(String),
    Cname(String),
}

/// How a name behaves instead of being answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// SERVFAIL.
    Fails,
    /// No answer at all.
    Silent,
}

const TTL: u32 = 1;
/// The largest answer over UDP without EDNS (RFC 1035, 4.2.1); longer ones go by TCP.
const UDP_MOST: usize = 512;

#[derive(Default)]
struct Zone {
    records: HashMap<String, Vec<Record>>,
    troubles: HashMap<String, Trouble>,
    /// For every name.
    trouble: Option<Trouble>,
    asked: Vec<(String, u16)>,
    unknown: HashSet<String>,
}

/// The running server. Dropped, it answers no more.
pub struct Dns {
    address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
    stopped: Arc<AtomicBool>,
}

impl Dns {
    #[track_caller]
    pub fn start() -> Dns {
        let (udp, tcp) = bind();
        let address = udp.local_addr().expect("address");
        let zone: Arc<Mutex<Zone>> = Arc::default();
        let stopped = Arc::new(AtomicBool::new(false));
        let (udp_zone, udp_stopped) = (Arc::clone(&zone), Arc::clone(&stopped));
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while !udp_stopped.load(Ordering::SeqCst) {
                let Ok((length, from)) = udp.recv_from(&mut buffer) else { continue };
                if let Some(mut reply) = respond(&udp_zone, &buffer[..length]) {
                    if reply.len() > UDP_MOST {
                        reply = truncated(&reply);
                    }
                    let _ = udp.send_to(&reply, from);
                }
            }
        });
        let (tcp_zone, tcp_stopped) = (Arc::clone(&zone), Arc::clone(&stopped));
        std::thread::spawn(move || {
            for stream in tcp.incoming() {
                if tcp_stopped.load(Ordering::SeqCst) {
                    return;
                }
                let zone = Arc::clone(&tcp_zone);
                std::thread::spawn(move || {
                    if let Ok(stream) = stream {
                        let _ = serve_tcp(&zone, stream);
                    }
                });
            }
        });
        Dns { address, zone, stopped }
    }

    /// The value of `POSTRIDER_DNS`.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Adds a record.
    pub fn add(&self, name: &str, record: Record) {
        lock(&self.zone).records.entry(key(name)).or_default().push(record);
    }

    /// Adds an address, A or AAAA.
    pub fn add_address(&self, name: &str, address: IpAddr) {
        self.add(
            name,
            match address {
                IpAddr::V4(address) => Record::A(address),
                IpAddr::V6(address) => Record::Aaaa(address),
            },
        );
    }

    /// A domain whose mail goes to one host at an address.
    pub fn add_mail_host(&self, domain: &str, host: &str, address: IpAddr) {
        self.add(domain, Record::Mx(10, host.to_owned()));
        self.add_address(host, address);
    }

    pub fn add_txt(&self, name: &str, text: &str) {
        self.add(name, Record::Txt(text.to_owned()));
    }

    /// Removes all records of a name.
    pub fn remove(&self, name: &str) {
        lock(&self.zone).records.remove(&key(name));
    }

    /// Makes a name misbehave, or behave again.
    pub fn set_trouble(&self, name: &str, trouble: Option<Trouble>) {
        let mut zone = lock(&self.zone);
        match trouble {
            Some(trouble) => zone.troubles.insert(key(name), trouble),
            None => zone.troubles.remove(&key(name)),
        };
    }

    /// Makes every name misbehave, or behave again.
    pub fn set_trouble_everywhere(&self, trouble: Option<Trouble>) {
        lock(&self.zone).trouble = trouble;
    }

    /// Whether a name has been asked for, with any type.
    pub fn was_asked(&self, name: &str) -> bool {
        let name = key(name);
        lock(&self.zone).asked.iter().any(|(asked, _)| *asked == name)
    }

    /// The names that were asked for and not found.
    pub fn unknown(&self) -> HashSet<String> {
        lock(&self.zone).unknown.clone()
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        if let Ok(socket) = UdpSocket::bind("127.0.0.1:0") {
            let _ = socket.send_to(&[], self.address);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn key(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

/// One port for both transports.
fn bind() -> (UdpSocket, TcpListener) {
    for _ in 0..100 {
        let port = crate::support::ports::free_port();
        if let (Ok(udp), Ok(tcp)) =
            (UdpSocket::bind(("127.0.0.1", port)), TcpListener::bind(("127.0.0.1", port)))
        {
            return (udp, tcp);
        }
    }
    panic!("no port for DNS");
}

fn serve_tcp(zone: &Mutex<Zone>, mut stream: TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    loop {
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut query)?;
        if let Some(reply) = respond(zone, &query) {
            let mut framed = u16::try_from(reply.len()).map_err(io::Error::other)?.to_be_bytes().to_vec();
            framed.extend_from_slice(&reply);
            stream.write_all(&framed)?;
        }
    }
}

/// The header and question only, with the TC bit.
fn truncated(reply: &[u8]) -> Vec<u8> {
    let mut end = 12;
    while reply[end] != 0 {
        end += usize::from(reply[end]) + 1;
    }
    let mut out = reply[..end + 5].to_vec();
    out[2] |= 0x02;
    out[6..12].fill(0);
    out
}

/// The reply to a query (RFC 1035, 4.1); `None` where silence is the answer.
fn respond(zone: &Mutex<Zone>, query: &[u8]) -> Option<Vec<u8>> {
    if query.len() < 17 || query[2] & 0x80 != 0 {
        return None;
    }
    let mut labels = Vec::new();
    let mut at = 12;
    while *query.get(at)? != 0 {
        let length = usize::from(query[at]);
        labels.push(String::from_utf8_lossy(query.get(at + 1..at + 1 + length)?).to_ascii_lowercase());
        at += length + 1;
    }
    let question = query.get(12..at + 5)?;
    let kind = u16::from_be_bytes([*query.get(at + 1)?, *query.get(at + 2)?]);
    let name = labels.join(".");

    let mut zone = lock(zone);
    zone.asked.push((name.clone(), kind));
    let mut answers = Vec::new();
    // QR, AA, and RD as asked; RA, so that stub resolvers are content.
    let mut code = 0u8;
    match zone.trouble.or_else(|| zone.troubles.get(&name).copied()) {
        Some(Trouble::Silent) => return None,
        Some(Trouble::Fails) => code = 2,
        None => {
            let mut owner = name.clone();
            // Follows aliases for a few steps.
            for _ in 0..8 {
                let Some(records) = zone.records.get(&owner) else { break };
                let mut alias = None;
                for record in records {
                    let (record_kind, data) = encode(record);
                    if record_kind == kind {
                        answers.push((owner.clone(), record_kind, data));
                    } else if let Record::Cname(target) = record {
                        answers.push((owner.clone(), record_kind, data));
                        alias = Some(key(target));
                    }
                }
                match alias {
                    Some(target) => owner = target,
                    None => break,
                }
            }
            let suffix = format!(".{name}");
            let exists =
                zone.records.contains_key(&name) || zone.records.keys().any(|known| known.ends_with(&suffix));
            if !exists {
                code = 3;
                zone.unknown.insert(name.clone());
            }
        }
    }
    let mut out = query[..2].to_vec();
    out.extend([0x84 | (query[2] & 0x01), 0x80 | code]);
    out.extend(1u16.to_be_bytes());
    out.extend((answers.len() as u16).to_be_bytes());
    // A negative answer says for how long it holds (RFC 2308, 3).
    let negative = answers.is_empty() && code != 2;
    out.extend(u16::from(negative).to_be_bytes());
    out.extend(0u16.to_be_bytes());
    out.extend_from_slice(question);
    for (owner, kind, data) in answers {
        push_record(&mut out, &owner, kind, &data);
    }
    if negative {
        let mut data = Vec::new();
        push_name(&mut data, "ns.test");
        push_name(&mut data, "hostmaster.test");
        for value in [1, 60, 60, 60, TTL] {
            data.extend(value.to_be_bytes());
        }
        push_record(&mut out, "", 6, &data);
    }
    Some(out)
}

fn push_record(out: &mut Vec<u8>, owner: &str, kind: u16, data: &[u8]) {
    push_name(out, owner);
    out.extend(kind.to_be_bytes());
    out.extend(1u16.to_be_bytes());
    out.extend(TTL.to_be_bytes());
    out.extend((data.len() as u16).to_be_bytes());
    out.extend_from_slice(data);
}

fn push_name(out: &mut Vec<u8>, name: &str) {
    for label in name.split('.').filter(|label| !label.is_empty()) {
        out.push(label.len() as u8);
        out.extend_from_slice(label.as_bytes());
    }
    out.push(0);
}

/// The type and data of a record.
fn encode(record: &Record) -> (u16, Vec<u8>) {
    let mut data = Vec::new();
    let kind = match record {
        Record::A(address) => {
            data.extend(address.octets());
            1
        }
        Record::Cname(target) => {
            push_name(&mut data, target);
            5
        }
        Record::Ptr(target) => {
            push_name(&mut data, target);
            12
        }
        Record::Mx(preference, host) => {
            data.extend(preference.to_be_bytes());
            push_name(&mut data, host);
            15
        }
        Record::Txt(text) => {
            for piece in text.as_bytes().chunks(255) {
                data.push(piece.len() as u8);
                data.extend_from_slice(piece);
            }
            16
        }
        Record::Aaaa(address) => {
            data.extend(address.octets());
            28
        }
    };
    (kind, data)
}
