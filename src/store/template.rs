//! Templates of messages that programs send.

use crate::store::db::{Conn, sql};
use crate::store::error::StoreError;
use crate::store::tx::Tx;
use crate::store::value::Row;
use crate::types::id::AccountId;

/// Templates of an account.
pub const MAX_TEMPLATES: usize = 1_000;

/// A template. What it has not is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// By which it is named.
    pub name: String,
    /// Of the subject.
    pub subject: String,
    /// Of the text.
    pub text: String,
    /// Of the HTML.
    pub html: String,
    /// In milliseconds since 1970.
    pub updated_at: i64,
}

fn read_template(row: &Row<'_>) -> Result<Template, StoreError> {
    Ok(Template {
        name: row.get(0)?,
        subject: row.get(1)?,
        text: row.get(2)?,
        html: row.get(3)?,
        updated_at: row.get(4)?,
    })
}

/// The templates of an account by name, from the one after `after` on.
pub async fn list(
    conn: &mut Conn,
    account: AccountId,
    after: &str,
    limit: usize,
) -> Result<Vec<Template>, StoreError> {
    sql("select name, subject, text_body, html_body, updated_at from template \
         where account_id = $1 and name > $2 order by name limit $3")
    .bind(account)
    .bind(after)
    .bind(limit as i64)
    .all(conn, read_template)
    .await
}

/// Those of these names that there are.
pub async fn by_names(
    conn: &mut Conn,
    account: AccountId,
    names: Vec<String>,
) -> Result<Vec<Template>, StoreError> {
    sql("select name, subject, text_body, html_body, updated_at from template \
         where account_id = $1 and name = any($2)")
    .bind(account)
    .bind(names)
    .all(conn, read_template)
    .await
}

/// Makes a template, or replaces it; false when the account has too many.
pub async fn put(tx: &mut Tx, template: &Template) -> Result<bool, StoreError> {
    let account = tx.account();
    let others = sql("select count(*) from template where account_id = $1 and name <> $2")
        .bind(account)
        .bind(&template.name)
        .value::<i64>(tx)
        .await?;
    if others.unwrap_or_default() >= MAX_TEMPLATES as i64 {
        return Ok(false);
    }
    let now_ms = tx.now_ms();
    sql("insert into template (account_id, name, subject, text_body, html_body, updated_at) \
         values ($1, $2, $3, $4, $5, $6) on conflict (account_id, name) do update set subject = excluded.subject, \
         text_body = excluded.text_body, html_body = excluded.html_body, updated_at = excluded.updated_at")
    .bind(account)
    .bind(&template.name)
    .bind(&template.subject)
    .bind(&template.text)
    .bind(&template.html)
    .bind(now_ms)
    .run(tx)
    .await?;
    Ok(true)
}

/// Removes a template; whether it was there.
pub async fn delete(tx: &mut Tx, name: &str) -> Result<bool, StoreError> {
    let account = tx.account();
    let gone = sql("delete from template where account_id = $1 and name = $2")
        .bind(account)
        .bind(name)
        .run(tx)
        .await?;
    Ok(gone == 1)
}
