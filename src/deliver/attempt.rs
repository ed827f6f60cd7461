//! One try: the hosts of a destination one after the other, until one has answered for each
//! recipient. One transaction for all recipients of the row, over a connection that earlier mail left
//! open where there is one.
//!
//! The lease is renewed, fence and all, right before DATA: who has lost it sends nothing.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use crate::bus::Queue;
use crate::deliver::Shared;
use crate::deliver::connect;
use crate::deliver::destination::{Crowded, Entry, Line, Place};
use crate::deliver::message::{Signer, for_peer, has_utf8_header};
use crate::deliver::report::Report;
use crate::deliver::route::Hop;
use crate::smtp::client::error::{ClientError, ErrorKind};
use crate::smtp::client::transaction::{OutgoingEnvelope, OutgoingRecipient as Recipient};
use crate::smtp::parameters::{Notify, OriginalRecipient, Ret};
use crate::smtp::reply::EnhancedCode;
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
    /// The connection was one that earlier mail had used, and had ended meanwhile; nothing was said.
    Stale,
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
        let (mut kept, place) = match stop.run_until_cancelled(shared.destinations.enter(&hop.name)).await {
            None => return Tried::Stopped,
            Some(Err(crowded)) => return Tried::Crowded(crowded),
            Some(Ok(Entry::Kept(line))) => {
                let place = line.place.clone();
                (Some(line), place)
            }
            Some(Ok(Entry::New(place))) => (None, place),
        };
        let mut is_unreachable = true;
        let mut addresses = hop.addresses.iter().take(addresses_left);
        loop {
            let Some(Ok(worker)) = stop.run_until_cancelled(shared.workers.acquire()).await else {
                return Tried::Stopped;
            };
            let conversation = match kept.take() {
                Some(line) => converse(shared, parcel, &open, hop, *line, stop).await,
                None => {
                    let Some(address) = addresses.next() else { break };
                    addresses_left -= 1;
                    match connect(shared, hop, *address, &place, stop).await {
                        None => None,
                        Some(Ok(line)) => converse(shared, parcel, &open, hop, line, stop).await,
                        Some(Err(error)) => Some(Conversation::Next {
                            said: vec![None; open.len()],
                            why: session_failure(shared, hop, &error),
                            is_unreachable: error.reply().is_none(),
                        }),
                    }
                }
            };
            drop(worker);
            match conversation {
                None => return Tried::Stopped,
                Some(Conversation::Stale) => {}
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
                    tracing::info!(row = %parcel.row.claim.id, host = hop.name, reason = why.reply,
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

/// Connects to an address. `None` when the process is to stop.
async fn connect(
    shared: &Shared,
    hop: &Hop,
    address: IpAddr,
    place: &Arc<Place>,
    stop: &CancellationToken,
) -> Option<Result<Line, ClientError>> {
    let connected = stop.run_until_cancelled(connect::connect(shared, hop, address)).await?;
    metrics::counter!("postrider_delivery_connections_total",
        "result" => if connected.is_ok() { "ok" } else { "failed" })
    .increment(1);
    Some(connected.map(|client| Line { client, place: place.clone(), messages: 0 }))
}

/// A transaction over a connection. `None` when the process is to stop before anything was sent; a
/// transaction that has begun is finished.
async fn converse(
    shared: &Arc<Shared>,
    parcel: &Parcel<'_>,
    open: &[(usize, OutgoingRecipient)],
    hop: &Hop,
    mut line: Line,
    stop: &CancellationToken,
) -> Option<Conversation> {
    let nothing_said = || vec![None; open.len()];
    let client = &mut line.client;
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
                line.keep();
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
            let offers_dsn = client.capabilities().dsn;
            let report = |result| Report { offers_dsn, ..Report::of_result(&hop.name, result) };
            line.messages += 1;
            line.keep();
            Some(Conversation::Said(results.iter().map(report).collect()))
        }
        Err(failure) if matches!(failure.error.kind, ErrorKind::Aborted) => Some(Conversation::Lost),
        // A server may end a connection between two messages, with 421 or without a word.
        Err(failure)
            if line.messages > 0
                && !failure.error.after_final_dot
                && failure.results.iter().all(Option::is_none) =>
        {
            Some(Conversation::Stale)
        }
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
