//! The page that the demo prints: addresses, passwords, lines to paste.

/// The domain of the demo.
pub const DOMAIN: &str = "example.test";
/// Accounts with their passwords, which are no secret.
pub const ACCOUNTS: [(&str, &str); 2] =
    [("alice@example.test", "alice-password"), ("bob@example.test", "bob-password")];

/// What the page tells of the running server.
#[derive(Clone, Debug)]
pub struct Running {
    /// Such as `http://127.0.0.1:8080`.
    pub url: String,
    /// `host:port`.
    pub smtp: Option<String>,
    /// `host:port`.
    pub submission: Option<String>,
    /// Alice's account.
    pub account_id: String,
    /// The data folder, and whether its data was there before.
    pub data: String,
    pub is_new: bool,
}

/// The page.
pub fn page(running: &Running) -> String {
    let Running { url, account_id, .. } = running;
    let [(alice, alice_password), (bob, bob_password)] = ACCOUNTS;
    let api = format!("{url}/jmap/api");
    let login = format!("-u {alice}:{alice_password}");
    let off = "off".to_owned();
    let smtp = running.smtp.as_ref().unwrap_or(&off);
    let submission = running.submission.as_ref().unwrap_or(&off);
    let age = if running.is_new { "new" } else { "kept from an earlier start" };
    let send = format!(
        r#"{{"from":{{"email":"{alice}"}},"to":[{{"email":"{bob}"}}],"subject":"Hello","text":"By one request."}}"#
    );
    let mut page = format!(
        "\
Postrider demo: mail for {DOMAIN}. Stop it with Ctrl-C; delete {data} to begin anew.

  JMAP        {url}/.well-known/jmap
  REST        {url}/docs
  SMTP        {smtp}, mail from other servers
  Submission  {submission}, mail from mail programs
  Data        {data} ({age})

  Login       {alice}    password {alice_password}
              {bob}      password {bob_password}

The JMAP session:

  curl -s {login} {url}/.well-known/jmap

Alice's newest mail, with who sent it and how it begins:

  curl -s {login} -H 'Content-Type: application/json' {api} -d '{query}'

Search, here for a word inside a Japanese sentence:

  curl -s {login} -H 'Content-Type: application/json' {api} -d '{search}'

Watch what happens (leave it running, then send something):

  curl -sN {login} '{url}/jmap/eventsource?types=*&closeafter=no&ping=30'

The same for programs: send by one request, and follow what becomes of it (`postrider token add` makes keys for programs):

  curl -s {login} -H 'Content-Type: application/json' {url}/api/v1/sends -d '{send}'
  curl -sN {login} -H 'Accept: text/event-stream' {url}/api/v1/events
",
        data = running.data,
        query = list_request(account_id, "{}"),
        search = list_request(account_id, r#"{"text":"新幹線"}"#),
    );
    if let Some(smtp) = &running.smtp {
        page.push_str(&format!(
            "
Mail from another server to Alice, by SMTP:

  swaks --server {smtp} --from carla@harbour.example --to {alice} --header 'Subject: Hello'

or, without swaks:

  printf 'From: carla@harbour.example\\r\\nTo: {alice}\\r\\nSubject: Hello\\r\\n\\r\\nHello Alice!\\r\\n' |
    curl -s smtp://{smtp} --mail-from carla@harbour.example --mail-rcpt {alice} -T -
"
        ));
    }
    if let Some(submission) = &running.submission {
        page.push_str(&format!(
            "
Mail from Alice to Bob, as a mail program sends it:

  printf 'From: {alice}\\r\\nTo: {bob}\\r\\nSubject: Hi\\r\\n\\r\\nHi Bob!\\r\\n' |
    curl -s smtp://{submission} {login} --mail-from {alice} --mail-rcpt {bob} -T -
"
        ));
    }
    page
}

/// A request that finds Emails and gets them, on one line.
fn list_request(account_id: &str, filter: &str) -> String {
    format!(
        r##"{{"using":["urn:ietf:params:jmap:core","urn:ietf:params:jmap:mail"],"methodCalls":[["Email/query",{{"accountId":"{account_id}","filter":{filter},"sort":[{{"property":"receivedAt","isAscending":false}}],"limit":10}},"0"],["Email/get",{{"accountId":"{account_id}","#ids":{{"resultOf":"0","name":"Email/query","path":"/ids"}},"properties":["from","subject","receivedAt","preview"]}},"1"]]}}"##
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_of_the_page_are_json_and_fit_into_quotes() {
        let running = Running {
            url: "http://127.0.0.1:8080".into(),
            smtp: Some("127.0.0.1:2525".into()),
            submission: None,
            account_id: "abc".into(),
            data: "./data".into(),
            is_new: true,
        };
        let page = page(&running);
        let requests: Vec<&str> =
            page.lines().filter_map(|line| line.split_once("-d '")?.1.strip_suffix('\'')).collect();
        assert_eq!(requests.len(), 3);
        for request in requests {
            assert!(!request.contains('\''));
            assert!(serde_json::from_str::<serde_json::Value>(request).is_ok(), "{request}");
        }
        assert!(page.contains("smtp://127.0.0.1:2525") && !page.contains("as a mail program sends it"));
    }
}
