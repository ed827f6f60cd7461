-- Everything of an account leads with account_id in its primary key, every unique key and every
-- query. Times are milliseconds since 1970, ids are 63-bit numbers made by the program, 0 means
-- "none". Queue tables lead with their lane.

create table domain (
  name text not null primary key,
  created_at integer not null,
  postmaster_account_id integer not null,
  catch_all_account_id integer not null default 0,
  dkim_keys text not null
) strict;

create table account (
  id integer not null primary key,
  name text not null,
  created_at integer not null,
  lane integer not null,
  epoch integer not null,
  modseq integer not null default 0,
  log_floor integer not null default 0,
  log_day integer not null default 0,
  quota_bytes integer not null default 0,
  used_bytes integer not null default 0,
  used_emails integer not null default 0,
  used_threads integer not null default 0,
  removed_at integer not null default 0
) strict;
create index account_removed on account (removed_at) where removed_at > 0;

-- Where mail for an address goes; an alias may name several accounts.
create table address (
  address text not null,
  account_id integer not null,
  domain text not null,
  is_primary integer not null,
  created_at integer not null,
  primary key (address, account_id)
) strict, without rowid;
create index address_account on address (account_id, address);
create index address_domain on address (domain, is_primary, account_id);

create table login (
  id integer not null primary key,
  name text not null unique,
  password_hash text not null,
  version integer not null,
  created_at integer not null
) strict;

-- What a login may reach; the account's name is repeated, so that a session is one range read.
create table access (
  login_id integer not null,
  account_id integer not null,
  account_name text not null,
  is_read_only integer not null,
  is_personal integer not null,
  primary key (login_id, account_id)
) strict, without rowid;
create index access_account on access (account_id, login_id);

create table token (
  id integer not null primary key,
  login_id integer not null,
  secret_hash blob not null unique,
  name text not null,
  created_at integer not null,
  expires_at integer not null default 0,
  last_used_at integer not null default 0
) strict;
create index token_login on token (login_id, id);

create table mailbox (
  account_id integer not null,
  id integer not null,
  parent_id integer not null,
  name text not null,
  role text,
  sort_order integer not null,
  total_emails integer not null default 0,
  unread_emails integer not null default 0,
  total_threads integer not null default 0,
  unread_threads integer not null default 0,
  primary key (account_id, id),
  unique (account_id, parent_id, name)
) strict, without rowid;
create unique index mailbox_role on mailbox (account_id, role) where role is not null;

-- What a login has said on whether it wants to see a mailbox. Without a row, the owner of the account
-- does and nobody else.
create table mailbox_subscription (
  account_id integer not null,
  mailbox_id integer not null,
  login_id integer not null,
  is_subscribed integer not null,
  primary key (account_id, mailbox_id, login_id)
) strict, without rowid;

-- The immutable part of an Email. `list_properties` is JSON ready to be copied into answers.
create table email (
  account_id integer not null,
  id integer not null,
  thread_id integer not null,
  blob_hash blob not null,
  size integer not null,
  received_at integer not null,
  sent_at integer not null,
  has_attachment integer not null,
  from_key text not null,
  to_key text not null,
  subject_key text not null,
  list_properties text not null,
  primary key (account_id, id)
) strict, without rowid;
create index email_thread on email (account_id, thread_id, received_at, id);
create index email_blob on email (account_id, blob_hash, id);

create table email_structure (
  account_id integer not null,
  email_id integer not null,
  structure text not null,
  primary key (account_id, email_id)
) strict, without rowid;

-- What lists are read from: one row for each mailbox of an Email, and one for mailbox 0, which
-- stands for all mail. Partial indexes repeat their condition literally in the queries.
create table membership (
  account_id integer not null,
  mailbox_id integer not null,
  received_at integer not null,
  email_id integer not null,
  thread_id integer not null,
  flags integer not null,
  primary key (account_id, mailbox_id, received_at, email_id)
) strict, without rowid;
create index membership_email on membership (account_id, email_id, mailbox_id, received_at, thread_id, flags);
create index membership_unread on membership (account_id, mailbox_id, received_at, email_id, thread_id, flags)
  where flags & 1 = 0;
create index membership_flagged on membership (account_id, mailbox_id, received_at, email_id, thread_id, flags)
  where flags & 4 = 4;

-- Keywords without a flag bit.
create table keyword (
  account_id integer not null,
  keyword text not null,
  received_at integer not null,
  email_id integer not null,
  primary key (account_id, keyword, received_at, email_id)
) strict, without rowid;
create index keyword_email on keyword (account_id, email_id, keyword);

-- How many Emails of a thread are in a mailbox and how many of them are unread. Mailbox 0 counts
-- the Emails that are somewhere else than in the trash alone.
create table thread_mailbox (
  account_id integer not null,
  thread_id integer not null,
  mailbox_id integer not null,
  total integer not null,
  unread integer not null,
  primary key (account_id, thread_id, mailbox_id)
) strict, without rowid;
create index thread_mailbox_mailbox on thread_mailbox (account_id, mailbox_id, thread_id, total, unread);

-- Only while the trash has changed and not all threads have been counted anew: threads from
-- from_thread on, up to the next row's, are still counted with trash_id as the trash (0: none).
create table trash_recount (
  account_id integer not null,
  from_thread integer not null,
  trash_id integer not null,
  primary key (account_id, from_thread)
) strict, without rowid;

-- (Message-ID, base subject) -> thread, for ids seen and ids only referred to.
create table thread_key (
  account_id integer not null,
  message_id_hash integer not null,
  subject_hash integer not null,
  thread_id integer not null,
  primary key (account_id, message_id_hash, subject_hash)
) strict, without rowid;
create index thread_key_thread on thread_key (account_id, thread_id);

create table change (
  account_id integer not null,
  type integer not null,
  modseq integer not null,
  object_id integer not null,
  kind integer not null,
  properties integer not null,
  primary key (account_id, type, modseq, object_id)
) strict, without rowid;

create table type_state (
  account_id integer not null,
  type integer not null,
  modseq integer not null,
  primary key (account_id, type)
) strict, without rowid;

-- The first modseq of each day, by which the log is trimmed.
create table change_day (
  account_id integer not null,
  day integer not null,
  modseq integer not null,
  primary key (account_id, day)
) strict, without rowid;

-- What keeps a blob in an account: an upload until it expires, an Email, a submission.
create table blob_reference (
  account_id integer not null,
  hash blob not null,
  source integer not null,
  object_id integer not null,
  size integer not null,
  expires_at integer not null,
  primary key (account_id, hash, source, object_id)
) strict, without rowid;
create index blob_reference_expiry on blob_reference (account_id, expires_at) where expires_at > 0;
create index blob_reference_hash on blob_reference (hash);

create table inline_blob (
  account_id integer not null,
  hash blob not null,
  size integer not null,
  is_zstd integer not null,
  body blob not null,
  primary key (account_id, hash)
) strict;

-- Blobs in the object store, whatever their account.
create table blob (
  hash blob not null primary key,
  size integer not null,
  touched_at integer not null,
  deleting integer not null default 0
) strict;

create table identity (
  account_id integer not null,
  id integer not null,
  name text not null,
  email text not null,
  reply_to text,
  bcc text,
  text_signature text not null,
  html_signature text not null,
  is_own_address integer not null,
  primary key (account_id, id)
) strict, without rowid;

create table submission (
  account_id integer not null,
  id integer not null,
  identity_id integer not null,
  email_id integer not null,
  thread_id integer not null,
  envelope text not null,
  send_at integer not null,
  undo_status integer not null,
  delivery_status text not null,
  dsn_blob_ids text not null,
  mdn_blob_ids text not null,
  message_id_hash integer not null,
  primary key (account_id, id)
) strict, without rowid;
create index submission_send_at on submission (account_id, send_at, id);
create index submission_email on submission (account_id, email_id, id);
create index submission_thread on submission (account_id, thread_id, id);
create index submission_message_id on submission (account_id, message_id_hash, id);

create table vacation (
  account_id integer not null primary key,
  is_enabled integer not null,
  from_date integer,
  to_date integer,
  subject text,
  text_body text,
  html_body text
) strict;

create table vacation_sent (
  account_id integer not null,
  address text not null,
  sent_at integer not null,
  primary key (account_id, address)
) strict, without rowid;
create index vacation_sent_age on vacation_sent (account_id, sent_at);

-- Deliveries that have been filed, so that a second try files nothing.
create table delivered (
  account_id integer not null,
  delivery_id text not null,
  filed_at integer not null,
  primary key (account_id, delivery_id)
) strict, without rowid;
create index delivered_age on delivered (account_id, filed_at);

-- Queue rows: `attempts` counts claims, only grows and is the fence of a lease; `tries` is the same
-- count since an operator last released the row. `due` of a leased row is the end of its lease; a row
-- set aside is due at the end of time.
create table incoming (
  lane integer not null,
  id integer not null,
  due integer not null,
  attempts integer not null default 0,
  tries integer not null default 0,
  is_leased integer not null default 0,
  created_at integer not null,
  is_held integer not null default 0,
  envelope text not null,
  body_hash blob not null,
  size integer not null,
  is_staged integer not null,
  last_error text not null default '',
  primary key (lane, id)
) strict, without rowid;
create index incoming_due on incoming (lane, due, id);
create index incoming_staged on incoming (body_hash) where is_staged = 1;

create table incoming_body (
  lane integer not null,
  id integer not null,
  body blob not null,
  primary key (lane, id)
) strict;

create table outgoing (
  lane integer not null,
  id integer not null,
  due integer not null,
  attempts integer not null default 0,
  tries integer not null default 0,
  is_leased integer not null default 0,
  created_at integer not null,
  is_held integer not null default 0,
  account_id integer not null,
  submission_id integer not null,
  domain text not null,
  envelope text not null,
  recipients text not null,
  body_hash blob not null,
  size integer not null,
  last_error text not null default '',
  primary key (lane, id)
) strict, without rowid;
create index outgoing_due on outgoing (lane, due, id);
create index outgoing_submission on outgoing (lane, account_id, submission_id);

-- An Email to be indexed or forgotten; email_id 0 with is_delete stands for all of the account.
create table index_queue (
  lane integer not null,
  id integer not null,
  due integer not null,
  attempts integer not null default 0,
  tries integer not null default 0,
  is_leased integer not null default 0,
  created_at integer not null,
  is_held integer not null default 0,
  account_id integer not null,
  email_id integer not null,
  is_delete integer not null,
  last_error text not null default '',
  primary key (lane, id)
) strict, without rowid;
create index index_queue_due on index_queue (lane, due, id);
create index index_queue_account on index_queue (lane, account_id, email_id);
