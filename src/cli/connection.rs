//! Who carries a command out: the server that owns the data folder, or this process.

use std::time::Duration;

use crate::cli::lock::{DataLock, LockError};
use crate::cli::output::{Failure, print};
use crate::cli::request::{AdminError, AdminRequest, AdminResponse};
use crate::cli::socket::AdminClient;
use crate::config::Config;

/// How long a server that is starting (or stopping) may take to open its socket.
const PATIENCE: Duration = Duration::from_secs(10);

/// Carries requests out.
pub enum Admin {
    /// The server does it.
    Server(Box<AdminClient>),
}

impl Admin {
    /// Finds the server of the data folder; when there is none, takes the folder's lock and opens
    /// the store itself.
    pub async fn open(config: &Config) -> Result<Admin, Failure> {
        let mut waited = Duration::ZERO;
        loop {
            match DataLock::take(&config.data) {
                Ok(_lock) => {
                    let folder = config.data.display();
                    return Err(Failure::new(format!(
                        "no server runs on the data folder {folder}; start one"
                    )));
                }
                Err(LockError::Io(error)) => {
                    let folder = config.data.display();
                    return Err(Failure::new(format!(
                        "the data folder {folder} cannot be used: {error}; set `data` or POSTRIDER_DATA to one that can"
                    )));
                }
                Err(LockError::Held) => match AdminClient::connect(&config.data).await {
                    Ok(client) => return Ok(Admin::Server(Box::new(client))),
                    Err(error) if waited >= PATIENCE => {
                        let folder = config.data.display();
                        return Err(Failure::new(format!(
                            "the data folder {folder} is in use, but {folder}/admin.sock does not answer ({error}); \
                             run the command as the user of the server, or end the other command"
                        )));
                    }
                    Err(_) => {}
                },
            }
            let step = Duration::from_millis(100);
            tokio::time::sleep(step).await;
            waited += step;
        }
    }

    /// Carries a request out.
    pub async fn ask(&mut self, request: AdminRequest) -> Result<AdminResponse, AdminError> {
        match self {
            Admin::Server(client) => client.ask(&request).await,
        }
    }

    /// Carries out a request whose answer is one line, and prints that.
    pub async fn ask_done(&mut self, request: AdminRequest) -> Result<(), Failure> {
        match self.ask(request).await? {
            AdminResponse::Done(done) => print(&format!("{done}\n")),
            other => Err(Failure::unexpected(&other)),
        }
    }
}
