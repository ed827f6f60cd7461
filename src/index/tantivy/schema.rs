//! How a message stands in the tantivy index: the schema, and the terms that begin with the
//! account's id.

use ::tantivy::schema::{
    BytesOptions, FAST, Field, IndexRecordOption, Schema, TextFieldIndexing, TextOptions,
};
use ::tantivy::tokenizer::{Token, TokenStream, Tokenizer};
use ::tantivy::{TantivyDocument, Term};

use crate::index::document::{Part, values};
use crate::index::token::Tokens;
use crate::mail::text::SearchText;
use crate::types::id::{AccountId, Id};

/// The number of an Email, for answers.
pub const EMAIL: &str = "email";
/// Bytes of an account's id in its shown form.
const ACCOUNT_LEN: usize = 13;

const LINE_TOKENIZER: &str = "line";
const BODY_TOKENIZER: &str = "body";
const HEADER_TOKENIZER: &str = "header";

/// The fields of the schema.
#[derive(Clone, Debug)]
pub struct Fields {
    account: Field,
    /// Account and Email.
    key: Field,
    email: Field,
    /// In the order of `Part::ALL`.
    parts: Vec<Field>,
}

/// The schema and its fields. Nothing is stored but the Email's number: texts are in the blobs.
pub fn build() -> (Schema, Fields) {
    let mut schema = Schema::builder();
    let exact = BytesOptions::default().set_indexed();
    let account = schema.add_bytes_field("account", exact.clone());
    let key = schema.add_bytes_field("key", exact);
    let email = schema.add_i64_field(EMAIL, FAST);
    let parts = Part::ALL
        .iter()
        .map(|part| {
            let (name, tokenizer) = match part {
                Part::From => ("from", LINE_TOKENIZER),
                Part::To => ("to", LINE_TOKENIZER),
                Part::Cc => ("cc", LINE_TOKENIZER),
                Part::Bcc => ("bcc", LINE_TOKENIZER),
                Part::Subject => ("subject", LINE_TOKENIZER),
                Part::Body => ("body", BODY_TOKENIZER),
                Part::AttachmentName => ("attachment", LINE_TOKENIZER),
                Part::Header => ("header", HEADER_TOKENIZER),
            };
            let indexing = TextFieldIndexing::default()
                .set_tokenizer(tokenizer)
                .set_fieldnorms(false)
                .set_index_option(IndexRecordOption::WithFreqsAndPositions);
            schema.add_text_field(name, TextOptions::default().set_indexing_options(indexing))
        })
        .collect();
    (schema.build(), Fields { account, key, email, parts })
}

/// Makes the tokenizers known to an index.
pub fn register(index: &::tantivy::Index) {
    let line = MailTokenizer { max_positions: Part::Subject.max_positions(), header: false };
    index.tokenizers().register(LINE_TOKENIZER, line.clone());
    index.tokenizers().register(HEADER_TOKENIZER, MailTokenizer { header: true, ..line });
    let body = MailTokenizer { max_positions: Part::Body.max_positions(), header: false };
    index.tokenizers().register(BODY_TOKENIZER, body);
}

impl Fields {
    /// The term that one Email has alone.
    pub fn key_term(&self, account: AccountId, email: Id) -> Term {
        Term::from_field_bytes(self.key, &key(account, email))
    }

    /// The term that all Emails of an account have.
    pub fn account_term(&self, account: AccountId) -> Term {
        Term::from_field_bytes(self.account, &account.get().to_be_bytes())
    }

    /// The field of the account's own term.
    pub fn account(&self) -> Field {
        self.account
    }

    /// The field of a part.
    pub fn of(&self, part: Part) -> Field {
        self.parts[part as usize]
    }

    /// What is written of one Email.
    pub fn document(&self, account: AccountId, email: Id, text: &SearchText) -> TantivyDocument {
        let mut document = TantivyDocument::default();
        document.add_bytes(self.account, &account.get().to_be_bytes());
        document.add_bytes(self.key, &key(account, email));
        document.add_i64(self.email, email.0);
        for value in values(text) {
            if value.text.is_empty() && value.header.is_none() {
                continue;
            }
            let start = value_start(account, value.header.as_deref());
            document.add_text(self.of(value.part), start + value.text);
        }
        document
    }
}

fn key(account: AccountId, email: Id) -> [u8; 16] {
    let number = (u128::from(account.get().cast_unsigned()) << 64) | u128::from(email.0.cast_unsigned());
    number.to_be_bytes()
}

/// What the terms of an account begin with, and what stands before a value so that the tokenizer
/// knows: the account's id, and for header fields the name and a colon. That alone is also the
/// term of a header field that is there.
pub fn value_start(account: AccountId, header: Option<&str>) -> String {
    match header {
        Some(name) => format!("{account}{name}:"),
        None => account.to_string(),
    }
}

/// Our tokens as tantivy takes them.
#[derive(Clone, Debug)]
struct MailTokenizer {
    max_positions: u32,
    header: bool,
}

struct MailTokens<'a> {
    start: &'a str,
    tokens: Tokens<'a>,
    /// The term of a header field that is there is still to come.
    announce: bool,
    token: Token,
}

impl Tokenizer for MailTokenizer {
    type TokenStream<'a> = MailTokens<'a>;

    fn token_stream<'a>(&'a mut self, text: &'a str) -> MailTokens<'a> {
        let end = if self.header { text.find(':').map_or(text.len(), |at| at + 1) } else { ACCOUNT_LEN };
        let (start, text) = text.split_at_checked(end).unwrap_or((text, ""));
        MailTokens {
            start,
            tokens: Tokens::new(text, self.max_positions),
            announce: self.header,
            token: Token::default(),
        }
    }
}

impl TokenStream for MailTokens<'_> {
    fn advance(&mut self) -> bool {
        self.token.text.clear();
        self.token.text.push_str(self.start);
        if self.announce {
            self.announce = false;
            self.token.position = 0;
            return true;
        }
        let Some(token) = self.tokens.advance() else {
            return false;
        };
        self.token.text.push_str(&token.text);
        self.token.position = token.position as usize;
        // A gram of two characters reaches over the next position, at which there may be no token:
        // the value that follows must not begin there.
        self.token.position_length = 2;
        true
    }

    fn token(&self) -> &Token {
        &self.token
    }

    fn token_mut(&mut self) -> &mut Token {
        &mut self.token
    }
}
