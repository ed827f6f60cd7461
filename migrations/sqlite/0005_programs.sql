-- What has happened to mail, written in the transactions in which it happens, until it is in the log of its
-- domain. `n` counts within the transaction.
create table event_outbox (
  lane integer not null,
  account_id integer not null,
  modseq integer not null,
  n integer not null,
  id integer not null,
  created_at integer not null,
  kind integer not null,
  submission_id integer not null,
  data text not null,
  primary key (lane, account_id, modseq, n)
) strict, without rowid;

-- Which process takes the rows of a lane to the logs. It saves work and no more: two may do it at once.
create table event_lease (
  lane integer not null primary key,
  holder integer not null,
  ends_at integer not null
) strict, without rowid;

-- The last number of each log, and the last one that went with its age.
create table event_head (
  domain text not null primary key,
  seq integer not null,
  trimmed_seq integer not null default 0
) strict, without rowid;

-- The log of a domain, in the order of its numbers; of an account, in that of its transactions.
create table event_log (
  domain text not null,
  seq integer not null,
  account_id integer not null,
  modseq integer not null,
  n integer not null,
  id integer not null,
  created_at integer not null,
  kind integer not null,
  submission_id integer not null,
  account_name text not null,
  data text not null,
  primary key (domain, seq)
) strict, without rowid;
create unique index event_log_account on event_log (domain, account_id, modseq, n);
create index event_log_submission on event_log (domain, account_id, submission_id, modseq, n)
  where submission_id <> 0;

-- Where events are posted to: those of one account (0: of all of the domain), from a place of its log on.
-- `kinds` has a bit for each kind. Without a `disabled_at` it is at work.
create table webhook (
  domain text not null,
  id integer not null,
  account_id integer not null,
  url text not null,
  description text not null,
  kinds integer not null,
  secrets text not null,
  created_at integer not null,
  seq integer not null,
  modseq integer not null,
  n integer not null,
  failing_since integer not null default 0,
  disabled_at integer not null default 0,
  last_error text not null default '',
  primary key (domain, id)
) strict, without rowid;

-- A webhook for which something has been logged.
create table webhook_queue (
  lane integer not null,
  id integer not null,
  due integer not null,
  attempts integer not null default 0,
  tries integer not null default 0,
  is_leased integer not null default 0,
  created_at integer not null,
  is_held integer not null default 0,
  domain text not null,
  webhook_id integer not null,
  seq integer not null,
  last_error text not null default '',
  primary key (lane, id)
) strict, without rowid;
create index webhook_queue_due on webhook_queue (lane, due, id);
create unique index webhook_queue_webhook on webhook_queue (lane, webhook_id);

-- Addresses to which programs do not send for an account: they bounced for good, or complained.
create table suppression (
  account_id integer not null,
  address text not null,
  reason text not null,
  detail text not null,
  created_at integer not null,
  primary key (account_id, address)
) strict, without rowid;

-- Messages with places for what differs.
create table template (
  account_id integer not null,
  name text not null,
  subject text not null,
  text_body text not null,
  html_body text not null,
  updated_at integer not null,
  primary key (account_id, name)
) strict, without rowid;

-- What administrators have done, by the domain that it was about (nothing: the server).
create table audit (
  domain text not null,
  id integer not null,
  created_at integer not null,
  actor text not null,
  act text not null,
  object text not null,
  outcome text not null,
  primary key (domain, id)
) strict, without rowid;
create index audit_id on audit (id);

-- The tokens that administer a domain.
create index token_domain on token (domain) where domain <> '';
