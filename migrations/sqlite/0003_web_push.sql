-- Devices that are told of changes at a URL (RFC 8620, 7.2). `token_id` is the token that made it, 0 for
-- the password: it goes with that. `types` has a bit for each type.
create table push_subscription (
  login_id integer not null,
  id integer not null,
  token_id integer not null,
  device_client_id text not null,
  url text not null,
  p256dh blob not null,
  auth blob not null,
  verification_code text not null,
  is_verified integer not null default 0,
  expires_at integer not null,
  types integer not null,
  email_push text not null default '',
  created_at integer not null,
  primary key (login_id, id)
) strict, without rowid;
create index push_subscription_expiry on push_subscription (expires_at);

-- Which of them hear of an account: a hint beside the account, so that its transactions can order pushes.
-- Emails up to the modseq `told_modseq` were pushed; nothing is before `rests_until`.
create table push_interest (
  account_id integer not null,
  subscription_id integer not null,
  login_id integer not null,
  types integer not null,
  told_modseq integer not null,
  rests_until integer not null default 0,
  primary key (account_id, subscription_id)
) strict, without rowid;

-- The types that any of them wants to hear of.
alter table account add column push_types integer not null default 0;

-- An account of which a subscription is to be told; without types it is told its verification code.
create table push_queue (
  lane integer not null,
  id integer not null,
  due integer not null,
  attempts integer not null default 0,
  tries integer not null default 0,
  is_leased integer not null default 0,
  created_at integer not null,
  is_held integer not null default 0,
  account_id integer not null,
  login_id integer not null,
  subscription_id integer not null,
  types integer not null,
  modseq integer not null,
  last_error text not null default '',
  primary key (lane, id)
) strict, without rowid;
create index push_queue_due on push_queue (lane, due, id);
create unique index push_queue_subscription on push_queue (lane, account_id, subscription_id);
