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
        let value_of = |row: &&Setting| json!({ "key": row.name, "value": without_password(&row.value), "from": origin(row) });
        return print_json(&rows.iter().map(value_of).collect::<Vec<_>>());
    }
    let rows: Vec<[String; 4]> = rows
        .iter()
        .map(|row| {
            let meaning = key_of(row.name).map_or("", |key| key.meaning);
            [row.name.to_owned(), without_password(&row.value), origin(row), meaning.to_owned()]
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

/// A URL without the passwords in it.
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
}
