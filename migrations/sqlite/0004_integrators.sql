-- What an API key may do (a bit for each scope; 7 is read, write and send), and how far it goes: one account
-- (0: those of its login), or a domain (`*`: all; nothing: none).
alter table token add column scopes integer not null default 7;
alter table token add column account_id integer not null default 0;
alter table token add column domain text not null default '';

-- What programs say of the messages that they send: it is told back with them.
create table send_note (
  account_id integer not null,
  submission_id integer not null,
  tags text not null,
  metadata text not null,
  primary key (account_id, submission_id)
) strict, without rowid;

-- Answers to requests that must not be done twice, by the Idempotency-Key that came with them.
create table idempotency (
  account_id integer not null,
  idempotency_key text not null,
  request_hash blob not null,
  answer text not null,
  expires_at integer not null,
  primary key (account_id, idempotency_key)
) strict, without rowid;
create index idempotency_expiry on idempotency (account_id, expires_at);
