//! Clients that are not ours: a JMAP library and an SMTP library do a day's mail against the
//! server, through their own ideas of the protocols.

use std::time::Duration;

use futures_util::{Stream, StreamExt};
use jmap_client::DataType;
use jmap_client::client::{Client as JmapClient, Credentials};
use jmap_client::core::query::Filter;
use jmap_client::core::set::SetObject;
use jmap_client::email::query::{Comparator as EmailSort, Filter as EmailFilter};
use jmap_client::email::{EmailBodyPart, Property};
use jmap_client::event_source::PushNotification;
use jmap_client::mailbox::Role;
use jmap_client::mailbox::query::Filter as MailboxFilter;
use lettre::message::{Attachment, MultiPart};
use lettre::transport::smtp::authentication::Credentials as SmtpCredentials;
use lettre::{Message, SmtpTransport, Transport};

use crate::support::server::{PASSWORD, Server};
use crate::support::smtp_sink::Sink;

/// A runtime for the library, which waits asynchronously.
fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(60), work).await.expect("done within a minute")
    })
}

async fn connect(server: &Server, address: &str) -> JmapClient {
    JmapClient::new()
        .credentials(Credentials::basic(address, PASSWORD))
        .connect(&server.url())
        .await
        .expect("the session is understood")
}

async fn mailbox_of(client: &JmapClient, role: Role) -> String {
    let mut found =
        client.mailbox_query(MailboxFilter::role(role).into(), None::<Vec<_>>).await.expect("Mailbox/query");
    found.take_ids().pop().expect("a mailbox of that role")
}

/// Waits until the stream tells of a change of the type in the account.
async fn wait_for_change(
    events: &mut (impl Stream<Item = jmap_client::Result<PushNotification>> + Unpin),
    account: &str,
    of: DataType,
) {
    while let Some(event) = events.next().await {
        if let PushNotification::StateChange(mut changes) = event.expect("an event that is understood")
            && changes.account_changes(account).is_some_and(|types| types.contains_key(&of))
        {
            return;
        }
    }
    panic!("the stream ended without a change of {of:?}");
}

const MESSAGE: &[u8] = b"From: Ann Other <ann@sender.test>\r\nTo: me@example.test\r\n\
Subject: Testing a client\r\nDate: Tue, 04 Mar 2025 10:20:30 +0100\r\n\
Message-ID: <client@sender.test>\r\n\r\nThis is a test.\r\n";

#[test]
fn the_jmap_client_library_reads_and_organises_mail() {
    let server = Server::shared();
    let address = server.account().address;
    run(async {
        let client = connect(server, &address).await;
        let inbox = mailbox_of(&client, Role::Inbox).await;
        let trash = mailbox_of(&client, Role::Trash).await;

        let mut imported = client
            .email_import(MESSAGE.to_vec(), [&inbox], Some(["$draft"]), Some(1_741_080_030))
            .await
            .expect("Email/import");
        let id = imported.take_id();

        let found = client
            .email_query(
                Some(Filter::and([
                    EmailFilter::subject("testing"),
                    EmailFilter::in_mailbox(&inbox),
                    EmailFilter::has_keyword("$draft"),
                ])),
                Some([EmailSort::from(), EmailSort::received_at().descending()]),
            )
            .await
            .expect("Email/query");
        assert_eq!(found.ids(), [id.clone()]);

        let read = client
            .email_get(
                &id,
                Some([Property::Subject, Property::Preview, Property::Keywords, Property::ReceivedAt]),
            )
            .await
            .expect("Email/get")
            .expect("the Email");
        assert_eq!(read.subject(), Some("Testing a client"));
        assert_eq!(read.preview(), Some("This is a test."));
        assert_eq!(read.keywords(), ["$draft"]);
        assert_eq!(read.received_at(), Some(1_741_080_030));

        client.email_set_keyword(&id, "$draft", false).await.expect("a keyword goes");
        client.email_set_keywords(&id, ["$seen", "important"]).await.expect("keywords are replaced");
        client.email_set_mailboxes(&id, [&trash]).await.expect("it moves");
        let moved = client
            .email_get(
                &id,
                Some([Property::Keywords, Property::MailboxIds, Property::ThreadId, Property::BlobId]),
            )
            .await
            .expect("Email/get")
            .expect("the Email");
        let mut keywords = moved.keywords();
        keywords.sort_unstable();
        assert_eq!(keywords, ["$seen", "important"]);
        assert_eq!(moved.mailbox_ids(), [trash.as_str()]);

        let thread = client.thread_get(moved.thread_id().expect("a thread")).await.expect("Thread/get");
        assert_eq!(thread.expect("the thread").email_ids(), [id.clone()]);
        let blob = moved.blob_id().expect("a blob").to_owned();
        assert_eq!(client.download(&blob).await.expect("download"), MESSAGE);
        let parsed = client
            .email_parse(&blob, Some([Property::Subject]), None::<Vec<_>>, None)
            .await
            .expect("Email/parse");
        assert_eq!(parsed.subject(), Some("Testing a client"));
        let snippets = client
            .search_snippet_get(Some(EmailFilter::subject("testing")), [&id])
            .await
            .expect("SearchSnippet/get");
        assert_eq!(
            snippets.snippet(&id).and_then(|snippet| snippet.subject()),
            Some("<mark>Testing</mark> a client")
        );

        client.email_destroy(&id).await.expect("it is destroyed");
        assert!(client.email_get(&id, None::<Vec<Property>>).await.expect("Email/get").is_none());
    });
}

#[test]
fn the_jmap_client_library_arranges_mailboxes() {
    let server = Server::shared();
    let address = server.account().address;
    run(async {
        let client = connect(server, &address).await;
        let inbox = mailbox_of(&client, Role::Inbox).await;
        let id = client
            .mailbox_create("Plans", None::<String>, Role::None)
            .await
            .expect("Mailbox/set create")
            .take_id();
        client.mailbox_rename(&id, "Plans for spring").await.expect("rename");
        client.mailbox_move(&id, Some(&inbox)).await.expect("move");
        client.mailbox_subscribe(&id, false).await.expect("unsubscribe");
        client.mailbox_update_sort_order(&id, 7).await.expect("sort order");
        let mailbox = client.mailbox_get(&id, None::<Vec<_>>).await.expect("get").expect("the mailbox");
        assert_eq!(mailbox.name(), Some("Plans for spring"));
        assert_eq!(mailbox.parent_id(), Some(inbox.as_str()));
        assert_eq!((mailbox.sort_order(), mailbox.is_subscribed()), (7, false));

        client.email_import(MESSAGE.to_vec(), [&id], None::<Vec<String>>, None).await.expect("Email/import");
        let full = client.mailbox_destroy(&id, false).await.expect_err("it holds mail");
        assert!(full.to_string().contains("mailboxHasEmail"), "{full}");
        client.mailbox_destroy(&id, true).await.expect("destroyed with its mail");

        // One request: what the query found is got by reference.
        let mut request = client.build();
        let found = request.query_mailbox().filter(MailboxFilter::has_any_role(true)).result_reference();
        request.get_mailbox().ids_ref(found);
        let mut answers = request.send().await.expect("sent").unwrap_method_responses();
        let got = answers.pop().expect("an answer").unwrap_get_mailbox().expect("Mailbox/get");
        assert!(got.list().len() >= 5, "{}", got.list().len());
    });
}

#[test]
fn the_jmap_client_library_writes_sends_and_is_told() {
    let sink = Sink::start();
    let server = Server::builder().env("POSTRIDER_RELAY", sink.relay()).start();
    let address = server.account().address;
    let account = server.sign_in(&address).account;
    run(async {
        let client = connect(&server, &address).await;
        let drafts = mailbox_of(&client, Role::Drafts).await;
        let mut events = client
            .event_source(Some([DataType::Email, DataType::EmailSubmission]), false, Some(5), None)
            .await
            .expect("the event stream opens");

        let image = client
            .upload(None, b"GIF89a fake".to_vec(), Some("image/gif"))
            .await
            .expect("upload")
            .take_blob_id();
        let mut request = client.build();
        let draft = request.set_email().create();
        draft
            .mailbox_ids([&drafts])
            .keywords(["$draft", "$seen"])
            .from([("Me Myself", address.as_str())])
            .to([("Zoë", "zoe@elsewhere.test")])
            .subject("Grüße")
            .body_value("text".to_owned(), "Schöne Grüße")
            .text_body(EmailBodyPart::new().part_id("text").content_type("text/plain"))
            .attachment(EmailBodyPart::new().blob_id(&image).content_type("image/gif").name("a.gif"));
        let creation_id = draft.create_id().expect("a creation id");
        let mut answer = request.send_set_email().await.expect("Email/set");
        let email = answer.created(&creation_id).expect("the draft").take_id();
        wait_for_change(&mut events, &account, DataType::Email).await;

        let mut request = client.build();
        request.get_identity();
        let mut identities = request.send_get_identity().await.expect("Identity/get").take_list();
        let identity = identities.pop().expect("an identity").take_id();
        client.email_submission_create(&email, &identity).await.expect("EmailSubmission/set");
        wait_for_change(&mut events, &account, DataType::EmailSubmission).await;
    });
    let delivery = sink.wait_for("zoe@elsewhere.test");
    let text = delivery.text();
    assert!(text.contains("filename=a.gif") || text.contains("filename=\"a.gif\""), "{text}");
}

/// A mail with text, HTML and an attachment, as the library writes it.
fn written_by_lettre(from: &str, to: &str) -> Message {
    let attachment = Attachment::new("plan é.txt".to_owned())
        .body("eins, zwei".to_owned(), "text/plain".parse().expect("a type"));
    Message::builder()
        .from(format!("Zoë <{from}>").parse().expect("an address"))
        .to(to.parse().expect("an address"))
        .subject("Schöne Grüße aus Köln")
        .multipart(
            MultiPart::mixed()
                .multipart(MultiPart::alternative_plain_html("Text".to_owned(), "<p>Text</p>".to_owned()))
                .singlepart(attachment),
        )
        .expect("a message")
}

#[test]
fn the_smtp_library_delivers_mail_with_an_attachment() {
    let server = Server::shared();
    let client = server.account();
    let smtp = SmtpTransport::builder_dangerous("127.0.0.1").port(server.smtp().port()).build();
    smtp.send(&written_by_lettre("zoe@sender.test", &client.address)).expect("accepted");
    smtp.send(&written_by_lettre("zoe@sender.test", &client.address))
        .expect("accepted on the same connection");

    let ids = client.wait_for_emails(serde_json::json!({ "subject": "koln" }), 2);
    let email = client.get("Email", &ids[0], &["subject", "from", "attachments", "hasAttachment", "preview"]);
    assert_eq!(email["subject"], "Schöne Grüße aus Köln");
    assert_eq!(email["from"][0]["name"], "Zoë");
    assert_eq!(email["preview"], "Text");
    assert_eq!(email["hasAttachment"], true);
    assert_eq!(email["attachments"][0]["name"], "plan é.txt");
}

#[test]
fn the_smtp_library_submits_mail_with_a_password() {
    let sink = Sink::start();
    let server = Server::builder().env("POSTRIDER_RELAY", sink.relay()).start();
    let client = server.account();
    let port = server.submission().port();
    let submit = |password: &str| {
        let credentials = SmtpCredentials::new(client.address.clone(), password.to_owned());
        SmtpTransport::builder_dangerous("127.0.0.1").port(port).credentials(credentials).build()
    };
    let message = written_by_lettre(&client.address, "zoe@elsewhere.test");
    let refused = submit("wrong").send(&message).expect_err("a wrong password is refused");
    assert!(refused.is_permanent(), "{refused}");
    submit(PASSWORD).send(&message).expect("accepted");
    sink.wait_for("zoe@elsewhere.test");
    assert_eq!(sink.deliveries().len(), 1);
}
