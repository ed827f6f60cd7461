//! The life of a WebSocket: requests run beside each other, changes are pushed between their answers,
//! and whoever does not answer a ping is let go.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{CapacityError, Error, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{CloseFrame, Frame};
use tokio_tungstenite::tungstenite::{Bytes, Message, Utf8Bytes};

use crate::http::auth::expiry_of;
use crate::http::limits::Kind;
use crate::http::state::HttpState;
use crate::http::websocket::live::{self, LiveQueries, Reading, Wanted};
use crate::http::websocket::message::{self, Incoming, Refused};
use crate::jmap::call::Caller;
use crate::jmap::error::RequestError;
use crate::jmap::limits::MAX_CONCURRENT_REQUESTS;
use crate::jmap::request::Request;
use crate::jmap::session;
use crate::push::hub::{Listener, Told, Wake};
use crate::push::online::Online;
use crate::types::id::AccountId;
use crate::types::object_type::ObjectType;

/// A client is asked whether it is there when nothing was heard of it for so long, and let go when it
/// does not answer within as long again.
const PING_EVERY: Duration = Duration::from_secs(60);
/// For a client to take the next piece of what is written to it.
const WRITE_TIME: Duration = Duration::from_secs(60);
/// For requests under way when the server goes down.
const DRAIN_TIME: Duration = Duration::from_secs(6);
/// For a client to take the last frame, and to say good-bye.
const CLOSE_TIME: Duration = Duration::from_secs(2);
/// Octets of a frame. The buffer of a connection grows to this size and keeps it, so large answers go
/// in pieces (RFC 6455, 5.4).
const FRAME: usize = 8 << 10;

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// A connection: whose it is, and what it is told of.
pub struct Connection {
    shared: Arc<Shared>,
    listener: Listener,
    is_pushing: bool,
    live: LiveQueries,
    running: JoinSet<Done>,
    _online: Online,
}

/// What its requests need.
struct Shared {
    http: HttpState,
    caller: Caller,
    base_url: String,
}

/// Why a connection ends.
enum End {
    /// We say so, with a code (RFC 6455, 7.4.1) and a reason.
    Say(CloseCode, &'static str),
    /// The client says so, and is answered.
    Said,
    /// The client is gone.
    Gone,
}

/// What has run.
enum Done {
    /// A request; the message that answers it.
    Answer(String),
    /// The reading of a live query.
    List { id: String, number: u64, list: Result<Vec<Value>, live::Refused> },
}

/// What happens next.
enum Next {
    LiveDue,
    Expired,
    Heard(Option<Result<Message, Error>>),
    Done(Option<Result<Done, tokio::task::JoinError>>),
    Woken(Wake),
    Silent,
}

impl Connection {
    /// Of a caller who has come in; the listener is for all of its accounts.
    pub fn new(http: HttpState, caller: Caller, base_url: String, listener: Listener) -> Connection {
        Connection {
            shared: Arc::new(Shared { http, caller, base_url }),
            listener,
            is_pushing: false,
            live: LiveQueries::default(),
            running: JoinSet::new(),
            _online: Online::web_socket(),
        }
    }

    /// Serves until one side ends it.
    pub async fn run(&mut self, socket: &mut Socket) {
        let end = self.serve(socket).await;
        Box::pin(self.finish(socket, end)).await;
    }

    async fn finish(&mut self, socket: &mut Socket, end: End) {
        if let End::Say(CloseCode::Away, _) = end {
            self.drain(socket).await;
        }
        // Nobody waits any more for what is still running; what it changes it changes.
        self.running.detach_all();
        let good_bye = async {
            match end {
                End::Say(code, reason) => {
                    let frame = CloseFrame { code, reason: Utf8Bytes::from_static(reason) };
                    if socket.close(Some(frame)).await.is_ok() {
                        while let Some(Ok(_)) = socket.next().await {}
                    }
                }
                // The answer is ready and has to be written.
                End::Said => drop(socket.flush().await),
                End::Gone => {}
            }
        };
        let _ = timeout(CLOSE_TIME, good_bye).await;
    }

    async fn serve(&mut self, socket: &mut Socket) -> End {
        let mut heard_at = Instant::now();
        let mut is_asked = false;
        let Shared { http, caller, .. } = &*self.shared;
        let mut expiry = Box::pin(expiry_of(caller.expires_at, http.app.clock.clone()));
        loop {
            // Whoever sends more than is run at once waits, and so does what it sends.
            let has_place = self.running.len() < MAX_CONCURRENT_REQUESTS;
            let silent_at = heard_at + if is_asked { 2 * PING_EVERY } else { PING_EVERY };
            let live_at = self.live.due_at();
            // In this order: whoever says much hears of changes all the same, and is cut off in time; and
            // an answer to a ping that has come counts before its time is over.
            let next = tokio::select! {
                biased;
                () = &mut expiry => Next::Expired,
                wake = self.listener.wake() => Next::Woken(wake),
                done = self.running.join_next(), if !self.running.is_empty() => Next::Done(done),
                heard = socket.next(), if has_place => Next::Heard(heard),
                () = sleep_until(live_at.unwrap_or(silent_at)), if live_at.is_some() => Next::LiveDue,
                () = sleep_until(silent_at), if has_place => Next::Silent,
            };
            let done = match next {
                Next::Heard(heard) => {
                    (heard_at, is_asked) = (Instant::now(), false);
                    // What is done now and then is boxed, so that who is idle has no room for it.
                    Box::pin(self.hear(socket, heard)).await
                }
                Next::Done(Some(Ok(Done::Answer(answer)))) => Box::pin(write(socket, answer)).await,
                Next::Done(Some(Ok(Done::List { id, number, list }))) => {
                    match self.live.read(&id, number, list) {
                        Some(message) => Box::pin(write(socket, message)).await,
                        None => Ok(()),
                    }
                }
                // A panic is a fault of ours, and logged.
                Next::Done(_) => Err(End::Say(CloseCode::Error, "the server failed")),
                Next::Expired => Err(End::Say(CloseCode::Policy, "the token has expired: sign in again")),
                Next::LiveDue => {
                    for reading in self.live.take_due() {
                        self.running.spawn(read_list(self.shared.clone(), reading));
                    }
                    Ok(())
                }
                Next::Woken(Wake::Accounts(accounts)) => Box::pin(self.changed(socket, &accounts)).await,
                Next::Woken(Wake::LoginChanged) => {
                    Err(End::Say(CloseCode::Policy, "the login has changed: sign in again"))
                }
                Next::Woken(Wake::Closing) => Err(End::Say(CloseCode::Away, "the server goes down")),
                Next::Silent if is_asked => {
                    Online::drop_of("silent");
                    Err(End::Gone)
                }
                Next::Silent => {
                    is_asked = true;
                    Box::pin(send(socket, Message::Ping(Bytes::new()))).await
                }
            };
            if let Err(end) = done {
                return end;
            }
        }
    }

    async fn hear(&mut self, socket: &mut Socket, heard: Option<Result<Message, Error>>) -> Result<(), End> {
        match heard {
            Some(Ok(Message::Text(text))) => match Incoming::parse(text.as_str()) {
                Ok(Incoming::Request { id, request }) => {
                    metrics::counter!("postrider_websocket_requests_total").increment(1);
                    self.running.spawn(answer(self.shared.clone(), id, request));
                    Ok(())
                }
                Ok(Incoming::PushEnable { types, push_state }) => {
                    self.is_pushing = true;
                    self.listener.hear_of(types);
                    // Who comes without a state hears of the present ones, so that it has one to come back with.
                    self.listener.assume_told(push_state.unwrap_or_default());
                    let accounts = self.listener.accounts();
                    self.push(socket, &accounts).await
                }
                Ok(Incoming::PushDisable) => {
                    self.is_pushing = false;
                    Ok(())
                }
                Ok(Incoming::LiveQuery { id, wanted }) => match self.add_live(&id, wanted) {
                    Ok(()) => Ok(()),
                    Err(refused) => write(socket, live::error(&id, &refused)).await,
                },
                Ok(Incoming::LiveQueryCancel { id }) => {
                    self.live.remove(&id);
                    Ok(())
                }
                Err(Refused { id, error }) => {
                    write(socket, message::request_error(id.as_deref(), &error)).await
                }
            },
            Some(Ok(Message::Binary(_))) => {
                Err(End::Say(CloseCode::Unsupported, "messages are text (RFC 8887, 4.2)"))
            }
            // The answer to a ping is sent when the next message is read.
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => Ok(()),
            Some(Ok(Message::Close(_))) => Err(End::Said),
            None => Err(End::Gone),
            Some(Err(error)) => Err(match error {
                Error::Capacity(CapacityError::MessageTooLong { .. }) => {
                    End::Say(CloseCode::Size, "a message may have 10000000 octets (maxSizeRequest)")
                }
                Error::Utf8(_) => End::Say(CloseCode::Invalid, "a message is UTF-8"),
                Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => End::Gone,
                Error::Protocol(_) => End::Say(CloseCode::Protocol, "not as RFC 6455 says"),
                _ => End::Gone,
            }),
        }
    }

    fn add_live(&mut self, id: &str, wanted: Result<Wanted, live::Refused>) -> Result<(), live::Refused> {
        let wanted = wanted?;
        if self.shared.caller.account(wanted.account).is_none() {
            return Err(live::Refused::account_not_found());
        }
        self.live.add(id.to_owned(), wanted)
    }

    async fn changed(&mut self, socket: &mut Socket, accounts: &[AccountId]) -> Result<(), End> {
        if !self.live.is_empty() {
            for account in accounts {
                // Without an answer the list is read, which says what is wrong.
                let state = self.listener.state_of(*account, ObjectType::Email).await.unwrap_or_default();
                self.live.changed(*account, state);
            }
        }
        if self.is_pushing { self.push(socket, accounts).await } else { Ok(()) }
    }

    async fn push(&mut self, socket: &mut Socket, accounts: &[AccountId]) -> Result<(), End> {
        let news = self.news(accounts).await?;
        if news.is_empty() {
            return Ok(());
        }
        write(socket, message::push(&news, self.listener.told())).await?;
        self.listener.is_written();
        Ok(())
    }

    async fn news(&mut self, accounts: &[AccountId]) -> Result<Told, End> {
        self.listener.news(accounts).await.map_err(|error| {
            tracing::warn!(%error, "states could not be read; a WebSocket ends");
            End::Say(CloseCode::Again, "the server is busy: come back in a few seconds")
        })
    }

    /// Answers what was asked before the server went down.
    async fn drain(&mut self, socket: &mut Socket) {
        let answers = async {
            while let Some(Ok(done)) = self.running.join_next().await {
                if let Done::Answer(answer) = done
                    && write(socket, answer).await.is_err()
                {
                    return;
                }
            }
        };
        let _ = timeout(DRAIN_TIME, answers).await;
    }
}

/// Runs a request; the message that answers it.
async fn answer(shared: Arc<Shared>, id: Option<String>, request: Request) -> Done {
    Done::Answer(match run(&shared, request).await {
        Ok(answer) => message::response(id.as_deref(), &answer),
        Err(error) => message::request_error(id.as_deref(), &error),
    })
}

/// Reads the list of a live query.
async fn read_list(shared: Arc<Shared>, reading: Reading) -> Done {
    let Reading { id, number, wanted } = reading;
    let list = match Request::from_value(wanted.request()) {
        Ok(request) => match run(&shared, request).await {
            Ok(answer) => Wanted::list_of(&answer),
            // The requests of the login go first.
            Err(_) => Err(live::Refused::busy()),
        },
        Err(_) => Err(live::Refused::busy()),
    };
    Done::List { id, number, list }
}

async fn run(shared: &Shared, request: Request) -> Result<String, RequestError> {
    let Shared { http, caller, base_url } = shared;
    let _place = http.concurrency.enter(Kind::Request, caller.login_id).await?;
    let state = session::state(&http.jmap, base_url, caller);
    Ok(request.run(&http.jmap, caller, &state).await)
}

/// Writes a text message, in pieces that the client has to take in time.
async fn write(socket: &mut Socket, text: String) -> Result<(), End> {
    let mut rest = Bytes::from(text);
    let mut kind = Data::Text;
    loop {
        let piece = rest.split_to(rest.len().min(FRAME));
        let frame = Frame::message(piece, OpCode::Data(kind), rest.is_empty());
        send(socket, Message::Frame(frame)).await?;
        if rest.is_empty() {
            return Ok(());
        }
        kind = Data::Continue;
    }
}

async fn send(socket: &mut Socket, message: Message) -> Result<(), End> {
    match timeout(WRITE_TIME, socket.send(message)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(End::Gone),
        Err(_) => {
            Online::drop_of("slow");
            Err(End::Gone)
        }
    }
}
