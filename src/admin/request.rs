//! Administrative acts as values. A command makes an [`AdminRequest`]; it is answered by the same
//! code whether it came through the socket of a running server or not.

use serde::{Deserialize, Serialize};

use crate::types::secret::Secret;

/// One administrative act. Addresses stand as they were typed.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum AdminRequest {
    /// Makes a domain local and its DKIM keys. Answer: [`AdminResponse::DomainAdded`].
    DomainAdd {
        domain: String,
        /// The account that gets mail to `postmaster`; else the first one added to the domain.
        postmaster: Option<String>,
        /// The account that gets mail to unknown addresses.
        catch_all: Option<String>,
    },
    /// Answer: [`AdminResponse::Domains`].
    DomainList,
    /// The DNS records of a domain again. Answer: [`AdminResponse::DomainAdded`].
    DomainShow { domain: String },
    /// The same, and whether they are set. Answer: [`AdminResponse::DomainChecked`].
    DomainCheck { domain: String },
    /// Sets what is given and leaves the rest.
    DomainSet {
        domain: String,
        /// The account that gets mail to `postmaster`.
        postmaster: Option<String>,
        /// The account that gets mail to unknown addresses; `none` for no one.
        catch_all: Option<String>,
    },
    /// Refused while the domain has accounts or aliases.
    DomainRemove { domain: String },
    /// Makes account and login. Answer: [`AdminResponse::Done`].
    AccountAdd {
        address: String,
        password: Secret,
        /// Octets; `None` takes the configured default.
        quota: Option<Quota>,
    },
    /// Answer: [`AdminResponse::Accounts`].
    AccountList,
    /// Removes account, login, aliases and all mail.
    AccountRemove { address: String },
    /// Sets a password; sessions made with the old one end.
    AccountPassword { address: String, password: Secret },
    /// Sets a quota.
    AccountQuota { address: String, quota: Quota },
    /// Lets mail to an address go to accounts.
    AliasAdd { alias: String, accounts: Vec<String> },
    /// Answer: [`AdminResponse::Aliases`].
    AliasList,
    /// Takes accounts from an alias, or removes it when none is named.
    AliasRemove { alias: String, accounts: Vec<String> },
    /// Lets a login use an account.
    AccessGrant { login: String, account: String, read_only: bool },
    /// Who may use which account. Answer: [`AdminResponse::Accesses`].
    AccessList,
    /// Takes the right away.
    AccessRevoke { login: String, account: String },
    /// Makes an API token. Answer: [`AdminResponse::TokenAdded`].
    TokenAdd {
        login: String,
        name: String,
        /// Milliseconds from now; `None` is for ever.
        lifetime_ms: Option<i64>,
        /// What it is for: names of scopes. None: read, write and send.
        scopes: Vec<String>,
        /// One account that it is for, of those that the login may use.
        account: Option<String>,
        /// A domain over which it goes, `*` for all.
        domain: Option<String>,
    },
    /// The tokens of a login, or of all. Answer: [`AdminResponse::Tokens`].
    TokenList { login: Option<String> },
    /// Makes a token worthless at once.
    TokenRevoke { id: String },
    /// Answer: [`AdminResponse::Queue`].
    QueueList {
        queue: Option<QueueName>,
        /// Only what was set aside after too many tries.
        failed_only: bool,
    },
    /// Answer: [`AdminResponse::QueueItem`].
    QueueShow { id: String },
    /// Tries now. Answer: [`AdminResponse::Done`].
    QueueRetry { id: String },
    /// Removes a row: nothing is sent or filed, nobody is told.
    QueueDrop { id: String },
    /// Sets a row aside until it is retried. Answer: [`AdminResponse::Done`].
    QueueHold { id: String },
    /// What administrators have done, the newest first. Answer: [`AdminResponse::Audit`].
    AuditList {
        /// About one domain; else all.
        domain: Option<String>,
        /// At most 1,000.
        limit: usize,
        /// Those before an entry.
        #[serde(default)]
        before: Option<String>,
    },
    /// Which of these keys were imported before. Answer: [`AdminResponse::Known`].
    ImportKnown { account: String, keys: Vec<String> },
    /// Orders the next Emails of an account, after one or from the first, to be indexed again. Answer:
    /// [`AdminResponse::IndexQueued`].
    IndexQueue { account: String, after: Option<String> },
    /// How much of an account waits for the index. Answer: [`AdminResponse::IndexWaiting`].
    IndexWaiting { account: String },
    /// Files messages. Answer: [`AdminResponse::Imported`].
    Import {
        account: String,
        messages: Vec<ImportItem>,
        /// Whether they are the first ones of many.
        #[serde(default)]
        begins: bool,
    },
}

/// A limit on the octets of an account.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Quota {
    Unlimited,
    Octets(u64),
}

/// The queues that hold mail.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Debug,
    Serialize,
    Deserialize,
    clap::ValueEnum,
    utoipa::ToSchema,
)]
#[serde(rename_all = "kebab-case")]
#[schema(as = Queue)]
pub enum QueueName {
    Incoming,
    Outgoing,
}

/// A message to file. Its octets travel beside the request, not in its JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ImportItem {
    /// Paths of mailbox names, at least one.
    pub mailboxes: Vec<Vec<String>>,
    /// In lower case.
    pub keywords: Vec<String>,
    /// Milliseconds since 1970.
    pub received_at_ms: i64,
    /// Tells the message from others; a second message of the same key is not filed.
    pub key: String,
    /// Octets of `raw`.
    pub size: u64,
    /// The message, its lines ending in CRLF.
    #[serde(skip)]
    pub raw: bytes::Bytes,
}

/// The answer to a request that could be done.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "answer", content = "value", rename_all = "kebab-case")]
pub enum AdminResponse {
    /// It was done; a line that says what.
    Done(String),
    DomainAdded(DomainAdded),
    DomainChecked(Vec<CheckedRecord>),
    Domains(Vec<DomainRow>),
    Accounts(Vec<AccountRow>),
    Aliases(Vec<AliasRow>),
    Accesses(Vec<AccessRow>),
    TokenAdded(TokenAdded),
    Tokens(Vec<TokenRow>),
    Queue(Vec<QueueRow>),
    QueueItem(Box<QueueItem>),
    Audit(Vec<AuditRow>),
    IndexQueued(IndexQueued),
    /// Emails.
    IndexWaiting(u64),
    /// In the order of the keys.
    Known(Vec<bool>),
    /// In the order of the messages.
    Imported(Vec<ImportOutcome>),
}

/// What was ordered to be indexed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct IndexQueued {
    /// Emails.
    pub count: u64,
    /// The last of them; `None` when there was none left.
    pub last: Option<String>,
}

/// What became of a message.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImportOutcome {
    Imported,
    AlreadyThere,
    /// Why it was not filed.
    Failed(String),
}

/// A new domain and what its DNS must say.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DomainAdded {
    pub domain: String,
    pub records: Vec<DnsRecord>,
}

/// A DNS record to set.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DnsRecord {
    pub name: String,
    pub r#type: String,
    pub value: String,
}

/// A DNS record to set, and what is there.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CheckedRecord {
    #[serde(flatten)]
    pub record: DnsRecord,
    pub state: RecordState,
    /// What the DNS says of the kind: for SPF the records that begin so, for MX the hosts.
    pub found: Vec<String>,
}

/// Whether a DNS record is set.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum RecordState {
    /// As it should be.
    Set,
    /// Another one of the kind is there: it may be right all the same.
    Differs,
    /// There is none.
    Missing,
    /// The DNS did not answer.
    Unknown,
}

/// A line of `domain list`.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Domain)]
pub struct DomainRow {
    pub domain: String,
    /// `null` until the domain has an account.
    pub postmaster: Option<String>,
    pub catch_all: Option<String>,
    /// UTCDate.
    #[schema(format = DateTime)]
    pub created_at: String,
}

/// A line of `account list`.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Account)]
pub struct AccountRow {
    pub id: String,
    pub address: String,
    /// Octets; `null` is no limit.
    pub quota: Option<u64>,
    /// Octets.
    pub used: u64,
    pub messages: u64,
    /// UTCDate.
    #[schema(format = DateTime)]
    pub created_at: String,
}

/// A line of `alias list`.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = Alias)]
pub struct AliasRow {
    pub alias: String,
    pub accounts: Vec<String>,
}

/// A line of `access list`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AccessRow {
    pub login: String,
    pub account: String,
    pub read_only: bool,
}

/// A new token. It is told this once.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TokenAdded {
    pub id: String,
    pub token: Secret,
}

/// A line of `token list`.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ApiKey)]
pub struct TokenRow {
    pub id: String,
    pub login: String,
    pub name: String,
    /// UTCDate.
    #[schema(format = DateTime)]
    pub created_at: String,
    /// UTCDate; `null` is for ever.
    #[schema(format = DateTime)]
    pub expires_at: Option<String>,
    /// UTCDate; `null` is never.
    #[schema(format = DateTime)]
    pub last_used_at: Option<String>,
    /// What it is for: read, write, send, admin.
    pub scopes: Vec<String>,
    /// The one account that it is for.
    pub account: Option<String>,
    /// The domain over which it goes, `*` for all.
    pub domain: Option<String>,
}

/// A line of `queue list`.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Queued)]
pub struct QueueRow {
    pub id: String,
    /// The id of the message in SMTP replies, Received fields and logs.
    pub message: String,
    pub queue: QueueName,
    /// `waiting`, `claimed`, `failed`, or `held` by an administrator.
    pub state: String,
    /// The domain to which it goes; `null` for what is to be filed here.
    #[serde(default)]
    pub destination: Option<String>,
    /// MAIL FROM; empty for a null sender.
    pub sender: String,
    pub recipients: Vec<String>,
    /// Octets.
    pub size: u64,
    pub attempts: u64,
    /// UTCDate.
    #[schema(format = DateTime)]
    pub created_at: String,
    /// When it is tried next, as UTCDate; `null` when it is not.
    #[schema(format = DateTime)]
    pub due_at: Option<String>,
    /// Why the last try failed.
    pub reason: Option<String>,
}

/// `queue show`.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = QueuedMessage)]
pub struct QueueItem {
    #[serde(flatten)]
    pub row: QueueRow,
    /// The header fields of the message.
    pub headers: String,
}

/// A line of `audit`: something that an administrator has done.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AuditEntry)]
pub struct AuditRow {
    pub id: String,
    /// UTCDate.
    pub at: String,
    /// Who: `command line`, or a login and its key.
    pub actor: String,
    /// What.
    pub act: String,
    /// On what.
    pub object: String,
    /// The domain that it was about; empty for the server.
    pub domain: String,
    /// `done`; `begun` when the server ended before it was; else why it was not.
    pub outcome: String,
}

/// What kind of thing kept a request from being done.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    /// The request is wrong as it stands.
    Invalid,
    /// It names something that is not there.
    NotFound,
    /// It does not go with what is there.
    Conflict,
    /// Something behind is down or busy: the same request may do later.
    Unavailable,
    /// Something failed that should not.
    #[default]
    Failed,
}

/// Why a request could not be done, in words for the one who asked.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AdminError {
    /// What kind of thing it is.
    #[serde(default)]
    pub refusal: Refusal,
    /// What failed, where, and how to mend it.
    pub message: String,
    /// The command that shows more, for whoever asks by commands.
    #[serde(default)]
    pub see: Option<String>,
}

impl AdminError {
    pub(super) fn new(refusal: Refusal, message: impl Into<String>) -> AdminError {
        AdminError { refusal, message: message.into(), see: None }
    }

    /// And the command that shows more.
    pub fn see(mut self, command: &str) -> AdminError {
        self.see = Some(command.to_owned());
        self
    }

    /// Something failed that should not.
    pub fn failed(message: impl Into<String>) -> AdminError {
        AdminError::new(Refusal::Failed, message)
    }

    /// The request is wrong as it stands.
    pub fn invalid(message: impl Into<String>) -> AdminError {
        AdminError::new(Refusal::Invalid, message)
    }

    /// It names something that is not there.
    pub fn not_found(message: impl Into<String>) -> AdminError {
        AdminError::new(Refusal::NotFound, message)
    }

    /// It does not go with what is there.
    pub fn conflict(message: impl Into<String>) -> AdminError {
        AdminError::new(Refusal::Conflict, message)
    }
}

impl std::fmt::Display for AdminError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for AdminError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_in_the_debug_form() {
        let request = AdminRequest::AccountAdd {
            address: "a@b.test".into(),
            password: Secret::new("geheim"),
            quota: None,
        };
        assert!(!format!("{request:?}").contains("geheim"));
        let line = serde_json::to_string(&request).expect("JSON");
        assert!(line.starts_with(r#"{"do":"account-add""#) && line.contains("geheim"), "{line}");
    }
}
