//! One try: the hosts of a destination one after the other, until one has answered for each
//! recipient. One transaction for all recipients of the row.
//!
//! The lease is renewed, fence and all, right before DATA: who has lost it sends nothing.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::bus::Queue;
use crate::deliver::Shared;
use crate::deliver::destination::{Crowded, Place};
use crate::deliver::message::{Signer, for_peer, has_utf8_header};
use crate::deliver::report::Report;
use crate::deliver::route::Hop;
use crate::smtp::client::error::{ClientError, ErrorKind};
use crate::smtp::client::tls::{TlsPolicy, TlsSettings};
use crate::smtp::client::transaction::{OutgoingEnvelope, OutgoingRecipient as Recipient};
use crate::smtp::client::{Client, ClientOptions};
use crate::smtp::parameters::{Notify, OriginalRecipient, Ret};
use crate::smtp::reply::EnhancedCode;
use crate::smtp::sasl::Credentials;
use crate::store::queue::claim::{self, LEASE_MS};
use crate::store::queue::outgoing::OutgoingRow;
use crate::types::address::normalize_domain;
use crate::types::envelope::{DsnReturn, OutgoingRecipient};

/// Addresses that one try goes through at most: a domain may list hundreds to keep us busy.
const MOST_ADDRESSES: usize = 8;

/// What a try came to.
#[derive(Debug)]
pub enum Tried {
    /// Something was said of each pending recipient, given by its place.
    Said(Vec<(usize, Report)>),
    /// Too many wait for the host.
    Crowded(Crowded),
    /// The lease is lost.
    Lost,
    /// The process is to stop, and nothing has been sent.
    Stopped,
}

/// A message and what is known of it.
pub struct Parcel<'a> {
    /// The row.
    pub row: &'a OutgoingRow,
    /// Its pending recipients with their places.
    pub pending: &'a [(usize, OutgoingRecipient)],
    /// The message with its trace.
    pub message: &'a Bytes,
    /// Who signs it.
    pub signer: Option<&'a Signer>,
}

/// How a conversation with one address ended.
enum Conversation {
    /// It said something of all recipients.
    Said(Vec<Report>),
    /// It was not reached, or broke off before it took anything: another may be asked about those
    /// recipients about which nothing was said.
    Next { said: Vec<Option<Report>>, why: Report, is_unreachable: bool },
    /// The message may have been taken although its answer was not heard: nobody else is asked.
    Unknown { said: Vec<Option<Report>>, why: Report },
    /// The lease was lost before DATA.
    Lost,
}

/// Tries the hosts of a route.
pub async fn deliver(
    shared: &Arc<Shared>,
    parcel: &Parcel<'_>,
    hops: &[Hop],
    stop: &CancellationToken,
) -> Tried {
    let mut said: Vec<(usize, Report)> = Vec::new();
    let mut open: Vec<(usize, OutgoingRecipient)> = parcel.pending.to_vec();
    let mut addresses_left = MOST_ADDRESSES;
    // Refused for good only when every host that was asked did so.
    let mut why_not: Option<Report> = None;
    for hop in hops {
        if addresses_left == 0 {
            break;
        }
        if let Some(reply) = shared.destinations.unreachable(&hop.name) {
            why_not = Some(less_final(why_not, unreachable(&hop.name, reply)));
            continue;
        }
        let place = match stop.run_until_cancelled(shared.destinations.enter(&hop.name)).await {
            None => return Tried::Stopped,
            Some(Err(crowded)) => return Tried::Crowded(crowded),
            Some(Ok(place)) => Arc::new(place),
        };
        let mut is_unreachable = true;
        for address in hop.addresses.iter().take(addresses_left) {
            let Some(Ok(worker)) = stop.run_until_cancelled(shared.workers.acquire()).await else {
                return Tried::Stopped;
            };
            addresses_left -= 1;
            let conversation = converse(shared, parcel, &open, hop, *address, &place, stop).await;
            drop(worker);
            match conversation {
                None => return Tried::Stopped,
                Some(Conversation::Lost) => return Tried::Lost,
                Some(Conversation::Said(reports)) => {
                    said.extend(open.iter().map(|(place, _)| *place).zip(reports));
                    shared.destinations.note_answer(&hop.name);
                    return Tried::Said(said);
                }
                Some(Conversation::Unknown { said: known, why }) => {
                    settle(&mut said, &mut open, known);
                    said.extend(open.iter().map(|(place, _)| (*place, why.clone())));
                    return Tried::Said(said);
                }
                Some(Conversation::Next { said: known, why, is_unreachable: was_unreachable }) => {
                    settle(&mut said, &mut open, known);
                    is_unreachable &= was_unreachable;
                    tracing::info!(row = %parcel.row.claim.id, host = hop.name, %address, reason = why.reply,
                        "a mail host did not take mail");
                    why_not = Some(less_final(why_not, why));
                    if open.is_empty() {
                        return Tried::Said(said);
                    }
                }
            }
        }
        if is_unreachable && let Some(report) = &why_not {
            shared.destinations.note_unreachable(&hop.name, report.reply.clone());
        }
    }
    let why = why_not.unwrap_or_else(|| Report::later(EnhancedCode(4, 4, 1), "No host could be asked"));
    said.extend(open.iter().map(|(place, _)| (*place, why.clone())));
    Tried::Said(said)
}

/// Moves the recipients about whom something was said from `open` to `said`.
fn settle(
    said: &mut Vec<(usize, Report)>,
    open: &mut Vec<(usize, OutgoingRecipient)>,
    known: Vec<Option<Report>>,
) {
    let mut known = known.into_iter();
    open.retain(|(place, _)| match known.next().flatten() {
        Some(report) => {
            said.push((*place, report));
            false
        }
        None => true,
    });
}

/// Of two reasons the one that leaves hope, the later one of equals.
fn less_final(before: Option<Report>, now: Report) -> Report {
    use crate::deliver::report::Fate;
    match before {
        Some(before) if before.fate == Fate::Later && now.fate == Fate::Failed => before,
        _ => now,
    }
}

/// What was said when the host was not reached a short time ago, said again.
fn unreachable(host: &str, reply: String) -> Report {
    Report { host: Some(host.to_owned()), reply, ..Report::later(EnhancedCode(4, 4, 1), "") }
}

/// A connection, and a transaction over it. `None` when the process is to stop before anything was
/// sent; a transaction that has begun is finished.
async fn converse(
    shared: &Arc<Shared>,
    parcel: &Parcel<'_>,
    open: &[(usize, OutgoingRecipient)],
    hop: &Hop,
    address: IpAddr,
    place: &Arc<Place>,
    stop: &CancellationToken,
) -> Option<Conversation> {
    let nothing_said = || vec![None; open.len()];
    let connected = stop.run_until_cancelled(connect(shared, hop, address)).await?;
    metrics::counter!("postrider_delivery_connections_total",
        "result" => if connected.is_ok() { "ok" } else { "failed" })
    .increment(1);
    let mut client = match connected {
        Ok(client) => client,
        Err(error) => {
            let why = session_failure(shared, hop, &error);
            let is_unreachable = error.reply().is_none();
            return Some(Conversation::Next { said: nothing_said(), why, is_unreachable });
        }
    };
    let message = {
        let (message, signer) = (parcel.message.clone(), parcel.signer.cloned());
        let takes_eight_bit = client.capabilities().eight_bit_mime;
        let now_ms = shared.store.clock().now_ms();
        let made =
            tokio::task::spawn_blocking(move || for_peer(&message, takes_eight_bit, signer.as_ref(), now_ms));
        match made.await {
            Ok(Ok(message)) => message,
            // RFC 6152, 3; RFC 3463, 3.7
            Ok(Err(_)) => {
                let text = "The server takes 7 bits only, and the message cannot be converted";
                let report =
                    Report { host: Some(hop.name.clone()), ..Report::failed(EnhancedCode(5, 6, 3), text) };
                part(client, place.clone());
                return Some(Conversation::Said(vec![report; open.len()]));
            }
            Err(error) => {
                let why = Report::later(EnhancedCode(4, 3, 0), &format!("The message was not made: {error}"));
                return Some(Conversation::Next { said: nothing_said(), why, is_unreachable: false });
            }
        }
    };
    if stop.is_cancelled() {
        return None;
    }
    let envelope = envelope(parcel, open, &message, client.capabilities().smtputf8);
    let claim = parcel.row.claim;
    let before_data = async {
        let held = claim::renew(&shared.store, Queue::Outgoing, vec![claim], LEASE_MS).await;
        held.is_ok_and(|held| held.contains(&claim))
    };
    match client.send(&envelope, &message, before_data).await {
        Ok(results) => {
            part(client, place.clone());
            Some(Conversation::Said(
                results.iter().map(|result| Report::of_result(&hop.name, result)).collect(),
            ))
        }
        Err(failure) if matches!(failure.error.kind, ErrorKind::Aborted) => Some(Conversation::Lost),
        Err(failure) => {
            let said = failure
                .results
                .iter()
                .map(|result| result.as_ref().map(|result| Report::of_result(&hop.name, result)))
                .collect();
            let why = session_failure(shared, hop, &failure.error).for_now();
            if failure.error.after_final_dot {
                return Some(Conversation::Unknown { said, why });
            }
            Some(Conversation::Next { said, why, is_unreachable: false })
        }
    }
}

/// Says good-bye without anybody waiting for it; the place is taken until then.
fn part(client: Client<TcpStream>, place: Arc<Place>) {
    tokio::spawn(async move {
        client.quit().await;
        drop(place);
    });
}

/// What a failed connection means for the recipients.
fn session_failure(shared: &Shared, hop: &Hop, error: &ClientError) -> Report {
    let report = match error.reply() {
        Some(reply) => Report::of_reply(&hop.name, reply),
        None => {
            // RFC 3463, 3.5: no answer; bad connection. 3.8: security features.
            let status = match &error.kind {
                ErrorKind::Tls(_) | ErrorKind::TlsNotOffered | ErrorKind::AuthNotOffered => {
                    EnhancedCode(4, 7, 0)
                }
                ErrorKind::NotSmtp => EnhancedCode(4, 5, 0),
                ErrorKind::TimedOut(_) => EnhancedCode(4, 4, 1),
                _ => EnhancedCode(4, 4, 2),
            };
            let text = format!("{}: {error}", hop.name);
            Report { host: Some(hop.name.clone()), ..Report::later(status, &text) }
        }
    };
    // A relay that refuses us is badly configured; no mail fails for it.
    if shared.settings.relay.is_some() { report.for_now() } else { report }
}

async fn connect(shared: &Shared, hop: &Hop, address: IpAddr) -> Result<Client<TcpStream>, ClientError> {
    let options = options(shared, hop, address);
    let stream = open_stream(shared, hop, address).await?;
    match Client::start(stream, &options).await {
        // RFC 7435: no encryption is better than no delivery, where nothing secret is at stake.
        Err(ClientError { kind: ErrorKind::Tls(error), .. })
            if matches!(options.tls, TlsPolicy::Opportunistic(_)) && options.credentials.is_none() =>
        {
            tracing::info!(host = hop.name, %error, "TLS failed; sending without");
            let stream = open_stream(shared, hop, address).await?;
            Client::start(stream, &ClientOptions { tls: TlsPolicy::Never, ..options }).await
        }
        other => other,
    }
}

async fn open_stream(shared: &Shared, hop: &Hop, address: IpAddr) -> Result<TcpStream, ClientError> {
    let failed = |kind| ClientError { kind, after_final_dot: false };
    let within: Duration = shared.settings.connect_timeout;
    let connecting = TcpStream::connect(SocketAddr::new(address, hop.port));
    match tokio::time::timeout(within, connecting).await {
        Ok(Ok(stream)) => {
            // Commands are small; waiting for more of them would only make them late.
            let _ = stream.set_nodelay(true);
            Ok(stream)
        }
        Ok(Err(error)) => Err(failed(ErrorKind::Io(error))),
        Err(_) => Err(failed(ErrorKind::TimedOut(within))),
    }
}

fn options(shared: &Shared, hop: &Hop, address: IpAddr) -> ClientOptions {
    let server_name = ServerName::try_from(hop.name.clone()).unwrap_or_else(|_| ServerName::from(address));
    let login = shared.settings.relay.as_ref().and_then(|relay| relay.login.as_ref());
    let tls = |config: &Arc<rustls::ClientConfig>| TlsSettings { config: config.clone(), server_name };
    // A password goes over the network only to a host that has proved its name.
    let is_here = address.to_canonical().is_loopback();
    let tls = match login {
        Some(_) if !is_here => TlsPolicy::Required(tls(&shared.verifying)),
        _ => TlsPolicy::Opportunistic(tls(&shared.accepting_any)),
    };
    ClientOptions {
        host_name: shared.settings.ourselves.host_name.clone(),
        timeouts: shared.settings.timeouts.clone(),
        tls,
        credentials: login.map(|(login, password)| Credentials {
            login: login.clone(),
            password: password.reveal().to_owned(),
        }),
        allow_plaintext_auth: is_here,
    }
}

fn envelope(
    parcel: &Parcel<'_>,
    open: &[(usize, OutgoingRecipient)],
    message: &[u8],
    smtputf8_offered: bool,
) -> OutgoingEnvelope {
    let given = &parcel.row.envelope;
    let sender = with_ascii_domain(&given.mail_from);
    let recipients: Vec<Recipient> = open
        .iter()
        .map(|(_, recipient)| Recipient {
            address: with_ascii_domain(&recipient.address),
            notify: recipient.notify.as_deref().and_then(Notify::parse),
            orcpt: recipient.orcpt.as_deref().and_then(|orcpt| {
                let (address_type, address) = orcpt.split_once(';')?;
                let (address_type, address) = (address_type.to_ascii_lowercase(), address.to_owned());
                Some(OriginalRecipient { address_type, address })
            }),
        })
        .collect();
    let in_address = !sender.is_ascii() || recipients.iter().any(|recipient| !recipient.address.is_ascii());
    // A header with octets over 127 that nobody declared is older than SMTPUTF8; a server that
    // offers it is told, others have always got such messages.
    let in_header = has_utf8_header(message) && (given.smtputf8 || smtputf8_offered);
    OutgoingEnvelope {
        sender,
        recipients,
        ret: given.ret.map(|ret| match ret {
            DsnReturn::Full => Ret::Full,
            DsnReturn::Headers => Ret::Headers,
        }),
        envid: given.env_id.clone(),
        smtputf8: in_address || in_header,
    }
}

/// An address whose domain is in A-labels, its local part as it was given: only that can need
/// SMTPUTF8.
fn with_ascii_domain(address: &str) -> String {
    let Some((local, domain)) = address.rsplit_once('@') else { return address.to_owned() };
    match normalize_domain(domain) {
        Some(domain) if !address.is_ascii() => format!("{local}@{domain}"),
        _ => address.to_owned(),
    }
}
