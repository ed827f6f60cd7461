//! Who carries a command out: the server that owns the data folder, or this process.

use std::sync::Arc;
use std::time::Duration;

use crate::admin::Office;
use crate::admin::request::{AdminError, AdminRequest, AdminResponse};
use crate::app;
use crate::cli::lock::{DataLock, LockError};
use crate::cli::output::{Failure, print};
use crate::cli::socket::AdminClient;
use crate::config::Config;
use crate::config::engine::DatabaseUrl;
use crate::dns::Dns;
use crate::store::Store;
use crate::types::clock::Clock;

/// How long a server that is starting (or stopping) may take to open its socket.
const PATIENCE: Duration = Duration::from_secs(10);
const STEP: Duration = Duration::from_millis(50);

/// Carries requests out.
pub enum Admin {
    /// The server does it.
    Server(Box<AdminClient>),
    /// No server runs on this folder: it is done here, under the lock of the folder when the
    /// database is in it.
    Here { office: Box<Office>, store: Store, _lock: Option<DataLock> },
}

impl Admin {
    /// Finds the server of the data folder; when there is none, takes the folder's lock and opens
    /// the store itself. Where there is no store yet, one is made only when `may_begin`.
    pub async fn open(config: &Config, may_begin: bool) -> Result<Admin, Failure> {
        let folder = config.data.display();
        let DatabaseUrl::Sqlite(database) = &config.database_url else {
            // Others work on that database as well; a server of this folder hears of it sooner.
            return match AdminClient::connect(&config.data).await {
                Ok(client) => Ok(Admin::Server(Box::new(client))),
                Err(_) => Admin::open_here(config, None).await,
            };
        };
        if !may_begin && !database.exists() {
            return Err(Failure::new(format!(
                "there is no mail store in {folder} yet ({} is missing); set `data` or POSTRIDER_DATA to the folder \
                 of the server, or begin with: postrider domain add example.org",
                database.display()
            )));
        }
        let mut waited = Duration::ZERO;
        loop {
            match DataLock::take(&config.data) {
                Ok(lock) => return Admin::open_here(config, Some(lock)).await,
                Err(LockError::Io(error)) => {
                    return Err(Failure::new(format!(
                        "the data folder {folder} cannot be used: {error}; set `data` or POSTRIDER_DATA to one that can"
                    )));
                }
                Err(LockError::Held) => match AdminClient::connect(&config.data).await {
                    Ok(client) => return Ok(Admin::Server(Box::new(client))),
                    Err(error) if waited >= PATIENCE => {
                        return Err(Failure::new(format!(
                            "the data folder {folder} is in use, but {folder}/admin.sock does not answer ({error}); \
                             run the command as the user of the server, or wait for the other command to end"
                        )));
                    }
                    Err(_) => {}
                },
            }
            tokio::time::sleep(STEP).await;
            waited += STEP;
        }
    }

    async fn open_here(config: &Config, lock: Option<DataLock>) -> Result<Admin, Failure> {
        let app = app::open(Arc::new(config.clone()), Clock::system()).await;
        let app = app.map_err(|error| Failure::new(error.to_string()))?;
        let office = Office::new(app.store.clone(), app.blobs, config);
        let office = Box::new(match Dns::new(&config.dns) {
            Ok(dns) => office.with_dns(dns),
            Err(_) => office,
        });
        Ok(Admin::Here { office, store: app.store, _lock: lock })
    }

    /// Carries a request out.
    pub async fn ask(&mut self, request: AdminRequest) -> Result<AdminResponse, AdminError> {
        match self {
            Admin::Server(client) => client.ask(&request).await,
            Admin::Here { office, .. } => office.answer(request).await,
        }
    }

    /// Carries out a request whose answer is one line, and prints that.
    pub async fn ask_done(&mut self, request: AdminRequest) -> Result<(), Failure> {
        match self.ask(request).await? {
            AdminResponse::Done(done) => print(&format!("{done}\n")),
            other => Err(Failure::unexpected(&other)),
        }
    }

    /// Ends the work on the data folder in order.
    pub async fn close(self) {
        if let Admin::Here { store, .. } = self {
            store.close().await;
            // Servers hear of what was done here.
            store.bus().close().await;
        }
    }
}
