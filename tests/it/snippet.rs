//! Search snippets (RFC 8621, 5).

use serde_json::{Value, json};

use crate::support::jmap::{Client, MAIL, strings};
use crate::support::server::Server;

fn snippet(client: &Client, email: &str, filter: Value) -> Value {
    let answer = client.call("SearchSnippet/get", json!({ "filter": filter, "emailIds": [email] }));
    assert_eq!(answer["accountId"], json!(client.account));
    assert_eq!(answer["notFound"], Value::Null);
    assert_eq!(answer["list"].as_array().map(Vec::len), Some(1), "{answer}");
    answer["list"][0].clone()
}

#[test]
fn matches_are_marked_and_the_rest_is_escaped() {
    let client = Server::shared().account();
    let inbox = client.mailbox("inbox");
    let email = client.create_email(&inbox, "Fish & <chips> menu", "We have <b>fish</b> & more on Friday.");
    let found = snippet(&client, &email, json!({ "text": "fish" }));
    assert_eq!(
        found,
        json!({
            "emailId": email,
            "subject": "<mark>Fish</mark> &amp; &lt;chips&gt; menu",
            "preview": "We have &lt;b&gt;<mark>fish</mark>&lt;/b&gt; &amp; more on Friday.",
        })
    );
    assert!(found.get("id").is_none());
    let subject = snippet(&client, &email, json!({ "subject": "menu" }));
    assert_eq!(subject["preview"], Value::Null, "{subject}");
    assert_eq!(subject["subject"], "Fish &amp; &lt;chips&gt; <mark>menu</mark>");
    let body = snippet(&client, &email, json!({ "body": "friday" }));
    assert_eq!(body["subject"], Value::Null, "{body}");
    assert!(body["preview"].as_str().is_some_and(|text| text.contains("<mark>Friday</mark>")), "{body}");
    for filter in [Value::Null, json!({ "hasAttachment": false }), json!({ "text": "cherries" })] {
        let nothing = json!({ "emailId": email, "subject": null, "preview": null });
        assert_eq!(snippet(&client, &email, filter), nothing);
    }
}

#[test]
fn a_preview_is_plain_text_around_the_match_and_short() {
    let client = Server::shared().account();
    let inbox = client.mailbox("inbox");
    let long =
        format!("{} needle {}", "straw \u{8449}\u{20ac} & ".repeat(400), "more \u{8449} < ".repeat(400));
    let email = client.create_email(&inbox, "long", &long);
    let preview = snippet(&client, &email, json!({ "text": "needle" }))["preview"].clone();
    let preview = preview.as_str().expect("a preview");
    assert!(preview.contains("<mark>needle</mark>") && preview.contains("straw"), "{preview}");
    assert!(preview.len() <= 255, "{} octets", preview.len());
    let html = "From: a@x.test\r\nSubject: page\r\nMIME-Version: 1.0\r\nContent-Type: text/html\r\n\r\n\
                <style>needle{}</style><p>The <b>pin</b> &amp; the <i>needle</i>.</p>\r\n";
    let email = client.import(&inbox, html);
    let preview = snippet(&client, &email, json!({ "text": "needle" }))["preview"].clone();
    assert_eq!(preview, "The pin &amp; the <mark>needle</mark>.");
    let email = client.create_email(&inbox, "\u{6771}\u{4eac}\u{90fd}\u{5e81}", "x");
    let found = snippet(&client, &email, json!({ "text": "\u{4eac}\u{90fd}" }));
    assert_eq!(found["subject"], "\u{6771}<mark>\u{4eac}\u{90fd}</mark>\u{5e81}");
}

#[test]
fn a_search_and_its_snippets_are_one_request() {
    let client = Server::shared().account();
    let inbox = client.mailbox("inbox");
    let wanted = client.create_email(&inbox, "the heron", "flies");
    client.create_email(&inbox, "the crow", "walks");
    let filter = json!({ "operator": "AND", "conditions": [{ "inMailbox": inbox }, { "text": "heron" }] });
    let answers = client.calls(json!([
        ["Email/query", { "accountId": client.account, "filter": filter }, "0"],
        ["SearchSnippet/get", {
            "accountId": client.account, "filter": filter,
            "#emailIds": { "resultOf": "0", "name": "Email/query", "path": "/ids" },
        }, "1"],
    ]));
    assert_eq!(strings(&answers[0].arguments["ids"]), [wanted.clone()]);
    assert_eq!(answers[1].arguments["list"][0]["emailId"], json!(wanted));
    assert_eq!(answers[1].arguments["list"][0]["subject"], "the <mark>heron</mark>");
}

#[test]
fn what_cannot_be_answered_has_its_error() {
    let client = Server::shared().account();
    let email = client.create_email(&client.mailbox("inbox"), "here", "text");
    let answer = client.call("SearchSnippet/get", json!({ "filter": null, "emailIds": [email, "nobody"] }));
    assert_eq!(answer["notFound"], json!(["nobody"]));
    assert_eq!(answer["list"].as_array().map(Vec::len), Some(1));
    let error = |arguments: Value| client.error("SearchSnippet/get", arguments);
    assert_eq!(error(json!({ "filter": { "nonsense": 1 }, "emailIds": [] })), "unsupportedFilter");
    assert_eq!(error(json!({ "filter": null })), "invalidArguments");
    assert_eq!(error(json!({ "filter": null, "emailIds": "x" })), "invalidArguments");
    assert_eq!(error(json!({ "filter": null, "emailIds": [], "properties": [] })), "invalidArguments");
    let many: Vec<String> = (0..4_097).map(|number| format!("e{number}")).collect();
    assert_eq!(error(json!({ "filter": null, "emailIds": many })), "requestTooLarge");
    assert!(client.session["accounts"][&client.account]["accountCapabilities"][MAIL].is_object());
}
