-- What has happened to mail, written in the transactions in which it happens, until it is in the log of its
-- domain. `n` counts within the transaction.
create table event_outbox (
  lane bigint not null,
  account_id bigint not null,
  modseq bigint not null,
  n bigint not null,
  id bigint not null,
  created_at bigint not null,
  kind bigint not null,
  submission_id bigint not null,
  data text not null,
  primary key (lane, account_id, modseq, n)
);

-- Which process takes the rows of a lane to the logs. It saves work and no more: two may do it at once.
create table event_lease (
  lane bigint not null primary key,
  holder bigint not null,
  ends_at bigint not null
);

-- The last number of each log, and the last one that went with its age.
create table event_head (
  domain text collate "C" not null primary key,
  seq bigint not null,
  trimmed_seq bigint not null default 0
);

-- The log of a domain, in the order of its numbers; of an account, in that of its transactions.
create table event_log (
  domain text collate "C" not null,
  seq bigint not null,
  account_id bigint not null,
  modseq bigint not null,
  n bigint not null,
  id bigint not null,
  created_at bigint not null,
  kind bigint not null,
  submission_id bigint not null,
  account_name text not null,
  data text not null,
  primary key (domain, seq)
);
create unique index event_log_account on event_log (domain, account_id, modseq, n);
create index event_log_submission on event_log (domain, account_id, submission_id, modseq, n)
  where submission_id <> 0;

-- Where events are posted to: those of one account (0: of all of the domain), from a place of its log on.
-- `kinds` has a bit for each kind. Without a `disabled_at` it is at work.
create table webhook (
  domain text collate "C" not null,
  id bigint not null,
  account_id bigint not null,
  url text not null,
  description text not null,
  kinds bigint not null,
  secrets text not null,
  created_at bigint not null,
  seq bigint not null,
  modseq bigint not null,
  n bigint not null,
  failing_since bigint not null default 0,
  disabled_at bigint not null default 0,
  last_error text not null default '',
  primary key (domain, id)
);

-- A webhook for which something has been logged.
create table webhook_queue (
  lane bigint not null,
  id bigint not null,
  due bigint not null,
  attempts bigint not null default 0,
  tries bigint not null default 0,
  is_leased bigint not null default 0,
  created_at bigint not null,
  is_held bigint not null default 0,
  domain text collate "C" not null,
  webhook_id bigint not null,
  seq bigint not null,
  last_error text not null default '',
  primary key (lane, id)
);
create index webhook_queue_due on webhook_queue (lane, due, id);
create unique index webhook_queue_webhook on webhook_queue (lane, webhook_id);

-- Addresses to which programs do not send for an account: they bounced for good, or complained.
create table suppression (
  account_id bigint not null,
  address text collate "C" not null,
  reason text not null,
  detail text not null,
  created_at bigint not null,
  primary key (account_id, address)
);

-- Messages with places for what differs.
create table template (
  account_id bigint not null,
  name text collate "C" not null,
  subject text not null,
  text_body text not null,
  html_body text not null,
  updated_at bigint not null,
  primary key (account_id, name)
);

-- What administrators have done, by the domain that it was about (nothing: the server).
create table audit (
  domain text collate "C" not null,
  id bigint not null,
  created_at bigint not null,
  actor text not null,
  act text not null,
  object text not null,
  outcome text not null,
  primary key (domain, id)
);
create index audit_id on audit (id);

-- The tokens that administer a domain.
create index token_domain on token (domain) where domain <> '';
