//! A relay on the way from the program to a server that it uses, which can be cut, closed, or stopped at
//! a certain piece of what goes over it.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What is to happen instead of the piece being passed on, after so many others.
struct Trap {
    after: u64,
    act: Box<dyn FnOnce() + Send>,
}

struct Shared {
    target: SocketAddr,
    is_over: AtomicBool,
    is_open: AtomicBool,
    streams: Mutex<Vec<TcpStream>>,
    trap: Mutex<Option<Trap>>,
}

/// The relay. Dropped, it takes no more connections and breaks those that it has.
pub struct Relay {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Relay {
    #[track_caller]
    pub fn start(target: SocketAddr) -> Relay {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let address = listener.local_addr().expect("its address");
        let shared = Arc::new(Shared {
            target,
            is_over: AtomicBool::new(false),
            is_open: AtomicBool::new(true),
            streams: Mutex::default(),
            trap: Mutex::default(),
        });
        let relay = shared.clone();
        std::thread::spawn(move || {
            for client in listener.incoming() {
                if relay.is_over.load(Ordering::SeqCst) {
                    return;
                }
                if let Ok(client) = client
                    && relay.is_open.load(Ordering::SeqCst)
                {
                    relay.serve(client);
                }
            }
        });
        Relay { address, shared }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Breaks what is connected.
    pub fn cut(&self) {
        for stream in lock(&self.shared.streams).drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Breaks what is connected, and everything that connects from now on.
    pub fn close(&self) {
        self.shared.is_open.store(false, Ordering::SeqCst);
        self.cut();
    }

    pub fn open(&self) {
        self.shared.is_open.store(true, Ordering::SeqCst);
    }

    /// Lets so many pieces pass on the way to the server, then acts; what the program sends from then on
    /// never arrives.
    pub fn set_trap(&self, after: u64, act: impl FnOnce() + Send + 'static) {
        *lock(&self.shared.trap) = Some(Trap { after, act: Box::new(act) });
    }

    /// How many more pieces pass before the trap acts.
    pub fn pieces_left(&self) -> Option<u64> {
        lock(&self.shared.trap).as_ref().map(|trap| trap.after)
    }

    /// Takes the trap away; whether it was still there.
    pub fn take_trap(&self) -> bool {
        lock(&self.shared.trap).take().is_some()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        self.close();
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn serve(self: &Arc<Self>, client: TcpStream) {
        let Ok(server) = TcpStream::connect(self.target) else { return };
        let _ = client.set_nodelay(true);
        let _ = server.set_nodelay(true);
        let copies = (client.try_clone(), server.try_clone(), client.try_clone(), server.try_clone());
        let (Ok(from_client), Ok(to_server), Ok(to_client), Ok(from_server)) = copies else { return };
        lock(&self.streams).extend([client, server]);
        let shared = self.clone();
        std::thread::spawn(move || pass(from_client, to_server, || shared.may_pass()));
        std::thread::spawn(move || pass(from_server, to_client, || true));
    }

    /// Counts a piece on its way to the server.
    fn may_pass(&self) -> bool {
        let mut place = lock(&self.trap);
        match &mut *place {
            Some(trap) if trap.after == 0 => {
                if let Some(trap) = place.take() {
                    (trap.act)();
                }
                false
            }
            Some(trap) => {
                trap.after -= 1;
                true
            }
            None => true,
        }
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, may_pass: impl Fn() -> bool) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if !may_pass() || to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
