-- Devices that are told of changes at a URL (RFC 8620, 7.2). `token_id` is the token that made it, 0 for
-- the password: it goes with that. `types` has a bit for each type.
create table push_subscription (
  login_id bigint not null,
  id bigint not null,
  token_id bigint not null,
  device_client_id text not null,
  url text not null,
  p256dh bytea not null,
  auth bytea not null,
  verification_code text not null,
  is_verified bigint not null default 0,
  expires_at bigint not null,
  types bigint not null,
  email_push text not null default '',
  created_at bigint not null,
  primary key (login_id, id)
);
create index push_subscription_expiry on push_subscription (expires_at);

-- Which of them hear of an account: a hint beside the account, so that its transactions can order pushes.
-- Emails up to the modseq `told_modseq` were pushed; nothing is before `rests_until`.
create table push_interest (
  account_id bigint not null,
  subscription_id bigint not null,
  login_id bigint not null,
  types bigint not null,
  told_modseq bigint not null,
  rests_until bigint not null default 0,
  primary key (account_id, subscription_id)
);

-- The types that any of them wants to hear of.
alter table account add column push_types bigint not null default 0;

-- An account of which a subscription is to be told; without types it is told its verification code.
create table push_queue (
  lane bigint not null,
  id bigint not null,
  due bigint not null,
  attempts bigint not null default 0,
  tries bigint not null default 0,
  is_leased bigint not null default 0,
  created_at bigint not null,
  is_held bigint not null default 0,
  account_id bigint not null,
  login_id bigint not null,
  subscription_id bigint not null,
  types bigint not null,
  modseq bigint not null,
  last_error text not null default '',
  primary key (lane, id)
);
create index push_queue_due on push_queue (lane, due, id);
create unique index push_queue_subscription on push_queue (lane, account_id, subscription_id);
