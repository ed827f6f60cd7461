//! `postrider config`: what is configured, where it was set, and what can be set.

use clap::Args;
use serde_json::json;

use crate::cli::output::{Failure, print, print_json, print_rows};
use crate::config::keys::{key_of, markdown_table};
use crate::config::settings::{Origin, Setting, Settings};

/// `config`.
#[derive(Args, Debug)]
pub struct ConfigArgs {
    /// Print JSON
    #[arg(long, conflicts_with = "markdown")]
    json: bool,
    /// Print the table of all keys with their defaults, as it stands in the documentation
    #[arg(long)]
    markdown: bool,
}

/// Prints the settings.
pub fn run(args: ConfigArgs, settings: &Settings) -> Result<(), Failure> {
    if args.markdown {
        return print(&markdown_table());
    }
    let rows: Vec<&Setting> = settings.iter().collect();
    if args.json {
        let value_of = |row: &&Setting| json!({ "key": row.name, "value": shown(row), "from": origin(row) });
        return print_json(&rows.iter().map(value_of).collect::<Vec<_>>());
    }
    let rows: Vec<[String; 4]> = rows
        .iter()
        .map(|row| {
            let meaning = key_of(row.name).map_or("", |key| key.meaning);
            [row.name.to_owned(), shown(row), origin(row), meaning.to_owned()]
        })
        .collect();
    print_rows(&rows, false, ["KEY", "VALUE", "FROM", "MEANING"], Clone::clone, "")
}

fn origin(setting: &Setting) -> String {
    match &setting.origin {
        Origin::Default => "default".to_owned(),
        Origin::File(file, line) => format!("{}:{line}", file.display()),
        Origin::Variable => "environment".to_owned(),
    }
}

/// The value, without what nobody is to read over a shoulder or in a ticket.
fn shown(setting: &Setting) -> String {
    let is_secret = key_of(setting.name).is_some_and(|key| key.is_secret);
    match is_secret && !setting.value.is_empty() {
        true => "[hidden]".to_owned(),
        false => without_password(&setting.value),
    }
}

/// A URL without the password in it.
fn without_password(value: &str) -> String {
    if let Some((before, rest)) = value.split_once("password=") {
        let after = rest.split_once('&').map_or(String::new(), |(_, after)| format!("&{after}"));
        return without_password(before) + "password=[hidden]" + &after;
    }
    let parts = value.split_once("://").and_then(|(scheme, rest)| {
        let (login, host) = rest.rsplit_once('@')?;
        let (user, _) = login.split_once(':')?;
        Some(format!("{scheme}://{user}:[hidden]@{host}"))
    });
    parts.unwrap_or_else(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_hidden() {
        assert_eq!(without_password("smtp://me:p@ss@host:25"), "smtp://me:[hidden]@host:25");
        assert_eq!(without_password("smtp://host:25"), "smtp://host:25");
        assert_eq!(
            without_password("redis+sentinel://:p@ss@host/m?sentinel_password=geheim&prefix=a"),
            "redis+sentinel://:[hidden]@host/m?sentinel_password=[hidden]&prefix=a"
        );
    }

    #[test]
    fn a_key_that_is_a_password_is_hidden_as_a_whole() {
        let setting = |name, value: &str| Setting { name, value: value.to_owned(), origin: Origin::Variable };
        assert_eq!(shown(&setting("s3_secret_access_key", "geheim")), "[hidden]");
        assert_eq!(shown(&setting("s3_secret_access_key", "")), "");
        assert_eq!(shown(&setting("s3_access_key_id", "me")), "me");
    }
}
