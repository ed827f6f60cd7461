//! `postrider demo`: a server on the embedded default with two accounts and some mail.
//!
//! The mail is imported, with days and keywords of its own, when the accounts are made. A second
//! start finds them there and changes nothing.

pub mod mail;
pub mod page;

use std::net::SocketAddr;

use crate::admin::Office;
use crate::admin::request::{AdminRequest, AdminResponse};
use crate::cli::demo::mail::{Owner, mail_of};
use crate::cli::demo::page::{ACCOUNTS, DOMAIN, Running, page};
use crate::cli::output::{Failure, print};
use crate::cli::serve::Server;
use crate::config::Config;
use crate::types::clock::Clock;
use crate::types::network::Network;
use crate::types::secret::Secret;

/// Runs the command.
pub async fn run(mut config: Config) -> Result<(), Failure> {
    // Whoever tries webhooks has the receiver on this machine.
    if config.push_networks.is_empty() {
        config.push_networks = vec![Network::loopback()];
    }
    let server = Server::start(config).await?;
    let prepared = prepare(&server.office, Clock::system().now_ms()).await;
    let (is_new, account_id) = match prepared {
        Ok(prepared) => prepared,
        Err(failure) => {
            server.stop().await?;
            return Err(failure);
        }
    };
    let config = server.config();
    let shown = |address: Option<SocketAddr>| address.map(|address| address.to_string());
    let running = Running {
        url: config.public_url.clone().unwrap_or_else(|| format!("http://{}", server.http)),
        smtp: shown(server.smtp),
        submission: shown(server.submission),
        account_id,
        data: config.data.display().to_string(),
        is_new,
    };
    print(&page(&running))?;
    server.run().await
}

/// Makes domain, accounts and mail where they are missing; whether they were, and Alice's id.
async fn prepare(office: &Office, now_ms: i64) -> Result<(bool, String), Failure> {
    let domains = match office.answer(AdminRequest::DomainList).await? {
        AdminResponse::Domains(rows) => rows,
        other => return Err(Failure::unexpected(&other)),
    };
    let is_new = !domains.iter().any(|row| row.domain == DOMAIN);
    if let Some(other) = domains.iter().find(|row| row.domain != DOMAIN).filter(|_| is_new) {
        return Err(Failure::new(format!(
            "this data folder is not the demo's: it holds {}, and the demo adds accounts whose passwords \
             everybody knows; give it a folder of its own: POSTRIDER_DATA=./demo-data postrider demo",
            other.domain
        )));
    }
    if is_new {
        let domain = DOMAIN.to_owned();
        office.answer(AdminRequest::DomainAdd { domain, postmaster: None, catch_all: None }).await?;
    }
    let known = accounts(office).await?;
    for ((address, password), owner) in ACCOUNTS.into_iter().zip([Owner::Alice, Owner::Bob]) {
        if known.iter().any(|(known, _)| known == address) {
            continue;
        }
        let (account, password) = (address.to_owned(), Secret::new(password));
        office.answer(AdminRequest::AccountAdd { address: account.clone(), password, quota: None }).await?;
        office
            .answer(AdminRequest::Import { account, messages: mail_of(owner, now_ms), begins: true })
            .await?;
    }
    let alice = ACCOUNTS[0].0;
    let known = accounts(office).await?;
    let id = known.into_iter().find(|(address, _)| address == alice).map(|(_, id)| id);
    let missing =
        || Failure::new(format!("the account {alice} is missing; delete the data folder to begin anew"));
    Ok((is_new, id.ok_or_else(missing)?))
}

/// Addresses and ids.
async fn accounts(office: &Office) -> Result<Vec<(String, String)>, Failure> {
    match office.answer(AdminRequest::AccountList).await? {
        AdminResponse::Accounts(rows) => Ok(rows.into_iter().map(|row| (row.address, row.id)).collect()),
        other => Err(Failure::unexpected(&other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::tests::Fixture;
    use crate::store::mailbox;
    use crate::store::testing::OWNER;

    #[tokio::test]
    async fn the_second_start_keeps_what_is_there() {
        // The domain and Alice are there already: nothing of hers may be touched.
        let fixture = Fixture::new().await;
        let now_ms = fixture.clock.now_ms();
        let (_, id) = prepare(&fixture.office, now_ms).await.unwrap();
        assert_eq!(id, fixture.account.to_string());
        let bob = accounts(&fixture.office)
            .await
            .unwrap()
            .into_iter()
            .find(|(address, _)| address.starts_with("bob"));
        let bob = bob.unwrap().1.parse().unwrap();
        let totals = async |account| -> i64 {
            let mailboxes =
                mailbox::all(&mut fixture.store.read().await.unwrap(), account, OWNER).await.unwrap();
            mailboxes.iter().map(|mailbox| mailbox.counts.total_emails).sum()
        };
        assert_eq!((totals(fixture.account).await, totals(bob).await), (0, 6));
        assert!(!prepare(&fixture.office, now_ms + 1_000).await.unwrap().0);
        assert_eq!((totals(fixture.account).await, totals(bob).await), (0, 6));
    }
}
