-- What an API key may do (a bit for each scope; 7 is read, write and send), and how far it goes: one account
-- (0: those of its login), or a domain (`*`: all; nothing: none).
alter table token add column scopes bigint not null default 7;
alter table token add column account_id bigint not null default 0;
alter table token add column domain text not null default '';

-- What programs say of the messages that they send: it is told back with them.
create table send_note (
  account_id bigint not null,
  submission_id bigint not null,
  tags text not null,
  metadata text not null,
  primary key (account_id, submission_id)
);

-- Answers to requests that must not be done twice, by the Idempotency-Key that came with them.
create table idempotency (
  account_id bigint not null,
  idempotency_key text collate "C" not null,
  request_hash bytea not null,
  answer text not null,
  expires_at bigint not null,
  primary key (account_id, idempotency_key)
);
create index idempotency_expiry on idempotency (account_id, expires_at);
