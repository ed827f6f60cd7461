-- Everything of an account leads with account_id in its primary key, every unique key and every
-- query. Times are milliseconds since 1970, ids are 63-bit numbers made by the program, 0 means
-- "none". Queue tables lead with their lane.

create table domain (
  name text collate "C" not null primary key,
  created_at bigint not null,
  postmaster_account_id bigint not null,
  catch_all_account_id bigint not null default 0,
  dkim_keys text collate "C" not null
);

create table account (
  id bigint not null primary key,
  name text collate "C" not null,
  created_at bigint not null,
  lane bigint not null,
  epoch bigint not null,
  modseq bigint not null default 0,
  log_floor bigint not null default 0,
  log_day bigint not null default 0,
  quota_bytes bigint not null default 0,
  used_bytes bigint not null default 0,
  used_emails bigint not null default 0,
  used_threads bigint not null default 0,
  removed_at bigint not null default 0
);
create index account_removed on account (removed_at) where removed_at > 0;

-- Where mail for an address goes; an alias may name several accounts.
create table address (
  address text collate "C" not null,
  account_id bigint not null,
  domain text collate "C" not null,
  is_primary bigint not null,
  created_at bigint not null,
  primary key (address, account_id)
);
create index address_account on address (account_id, address);
create index address_domain on address (domain, is_primary, account_id);

create table login (
  id bigint not null primary key,
  name text collate "C" not null unique,
  password_hash text collate "C" not null,
  version bigint not null,
  created_at bigint not null
);

-- What a login may reach; the account's name is repeated, so that a session is one range read.
create table access (
  login_id bigint not null,
  account_id bigint not null,
  account_name text collate "C" not null,
  is_read_only bigint not null,
  is_personal bigint not null,
  primary key (login_id, account_id)
);
create index access_account on access (account_id, login_id);

create table token (
  id bigint not null primary key,
  login_id bigint not null,
  secret_hash bytea not null unique,
  name text collate "C" not null,
  created_at bigint not null,
  expires_at bigint not null default 0,
  last_used_at bigint not null default 0
);
create index token_login on token (login_id, id);

create table mailbox (
  account_id bigint not null,
  id bigint not null,
  parent_id bigint not null,
  name text collate "C" not null,
  role text collate "C",
  sort_order bigint not null,
  total_emails bigint not null default 0,
  unread_emails bigint not null default 0,
  total_threads bigint not null default 0,
  unread_threads bigint not null default 0,
  primary key (account_id, id),
  unique (account_id, parent_id, name)
);
create unique index mailbox_role on mailbox (account_id, role) where role is not null;

-- What a login has said on whether it wants to see a mailbox. Without a row, the owner of the account
-- does and nobody else.
create table mailbox_subscription (
  account_id bigint not null,
  mailbox_id bigint not null,
  login_id bigint not null,
  is_subscribed bigint not null,
  primary key (account_id, mailbox_id, login_id)
);

-- The immutable part of an Email. `list_properties` is JSON values, one a line, ready to be copied
-- into answers.
create table email (
  account_id bigint not null,
  id bigint not null,
  thread_id bigint not null,
  blob_hash bytea not null,
  size bigint not null,
  received_at bigint not null,
  sent_at bigint not null,
  has_attachment bigint not null,
  from_key text collate "C" not null,
  to_key text collate "C" not null,
  subject_key text collate "C" not null,
  list_properties text collate "C" not null,
  primary key (account_id, id)
);
create index email_thread on email (account_id, thread_id, received_at, id);
create index email_blob on email (account_id, blob_hash, id);

create table email_structure (
  account_id bigint not null,
  email_id bigint not null,
  structure text collate "C" not null,
  primary key (account_id, email_id)
);

-- What lists are read from: one row for each mailbox of an Email, and one for mailbox 0, which
-- stands for all mail. Partial indexes repeat their condition literally in the queries. The key
-- carries what lists need, so that they are read from the index alone.
create table membership (
  account_id bigint not null,
  mailbox_id bigint not null,
  received_at bigint not null,
  email_id bigint not null,
  thread_id bigint not null,
  flags bigint not null,
  primary key (account_id, mailbox_id, received_at, email_id) include (thread_id, flags)
);
create index membership_email on membership (account_id, email_id, mailbox_id)
  include (received_at, thread_id, flags);
create index membership_unread on membership (account_id, mailbox_id, received_at, email_id)
  include (thread_id, flags)
  where flags & 1 = 0;
create index membership_flagged on membership (account_id, mailbox_id, received_at, email_id)
  include (thread_id, flags)
  where flags & 4 = 4;

-- Keywords without a flag bit.
create table keyword (
  account_id bigint not null,
  keyword text collate "C" not null,
  received_at bigint not null,
  email_id bigint not null,
  primary key (account_id, keyword, received_at, email_id)
);
create index keyword_email on keyword (account_id, email_id, keyword);

-- How many Emails of a thread are in a mailbox and how many of them are unread. Mailbox 0 counts
-- the Emails that are somewhere else than in the trash alone.
create table thread_mailbox (
  account_id bigint not null,
  thread_id bigint not null,
  mailbox_id bigint not null,
  total bigint not null,
  unread bigint not null,
  primary key (account_id, thread_id, mailbox_id)
);
create index thread_mailbox_mailbox on thread_mailbox (account_id, mailbox_id, thread_id)
  include (total, unread);

-- Only while the trash has changed and not all threads have been counted anew: threads from
-- from_thread on, up to the next row's, are still counted with trash_id as the trash (0: none).
create table trash_recount (
  account_id bigint not null,
  from_thread bigint not null,
  trash_id bigint not null,
  primary key (account_id, from_thread)
);

-- (Message-ID, base subject) -> thread, for ids seen and ids only referred to.
create table thread_key (
  account_id bigint not null,
  message_id_hash bigint not null,
  subject_hash bigint not null,
  thread_id bigint not null,
  primary key (account_id, message_id_hash, subject_hash)
);
create index thread_key_thread on thread_key (account_id, thread_id);

create table change (
  account_id bigint not null,
  type bigint not null,
  modseq bigint not null,
  object_id bigint not null,
  kind bigint not null,
  properties bigint not null,
  primary key (account_id, type, modseq, object_id)
);

create table type_state (
  account_id bigint not null,
  type bigint not null,
  modseq bigint not null,
  primary key (account_id, type)
);

-- The first modseq of each day, by which the log is trimmed.
create table change_day (
  account_id bigint not null,
  day bigint not null,
  modseq bigint not null,
  primary key (account_id, day)
);

-- What keeps a blob in an account: an upload until it expires, an Email, a submission.
create table blob_reference (
  account_id bigint not null,
  hash bytea not null,
  source bigint not null,
  object_id bigint not null,
  size bigint not null,
  expires_at bigint not null,
  primary key (account_id, hash, source, object_id)
);
create index blob_reference_expiry on blob_reference (account_id, expires_at) where expires_at > 0;
create index blob_reference_hash on blob_reference (hash);

create table inline_blob (
  account_id bigint not null,
  hash bytea not null,
  size bigint not null,
  is_zstd bigint not null,
  body bytea not null,
  primary key (account_id, hash)
);

-- Blobs in the object store, whatever their account.
create table blob (
  hash bytea not null primary key,
  size bigint not null,
  touched_at bigint not null,
  deleting bigint not null default 0
);

create table identity (
  account_id bigint not null,
  id bigint not null,
  name text collate "C" not null,
  email text collate "C" not null,
  reply_to text collate "C",
  bcc text collate "C",
  text_signature text collate "C" not null,
  html_signature text collate "C" not null,
  is_own_address bigint not null,
  primary key (account_id, id)
);

create table submission (
  account_id bigint not null,
  id bigint not null,
  identity_id bigint not null,
  email_id bigint not null,
  thread_id bigint not null,
  envelope text collate "C" not null,
  send_at bigint not null,
  undo_status bigint not null,
  delivery_status text collate "C" not null,
  dsn_blob_ids text collate "C" not null,
  mdn_blob_ids text collate "C" not null,
  message_id_hash bigint not null,
  primary key (account_id, id)
);
create index submission_send_at on submission (account_id, send_at, id);
create index submission_email on submission (account_id, email_id, id);
create index submission_thread on submission (account_id, thread_id, id);
create index submission_message_id on submission (account_id, message_id_hash, id);

create table vacation (
  account_id bigint not null primary key,
  is_enabled bigint not null,
  from_date bigint,
  to_date bigint,
  subject text collate "C",
  text_body text collate "C",
  html_body text collate "C"
);

create table vacation_sent (
  account_id bigint not null,
  address text collate "C" not null,
  sent_at bigint not null,
  primary key (account_id, address)
);
create index vacation_sent_age on vacation_sent (account_id, sent_at);

-- Deliveries that have been filed, so that a second try files nothing.
create table delivered (
  account_id bigint not null,
  delivery_id text collate "C" not null,
  filed_at bigint not null,
  primary key (account_id, delivery_id)
);
create index delivered_age on delivered (account_id, filed_at);

-- Queue rows: `attempts` counts claims, only grows and is the fence of a lease; `tries` is the same
-- count since an operator last released the row. `due` of a leased row is the end of its lease; a row
-- set aside is due at the end of time.
create table incoming (
  lane bigint not null,
  id bigint not null,
  due bigint not null,
  attempts bigint not null default 0,
  tries bigint not null default 0,
  is_leased bigint not null default 0,
  created_at bigint not null,
  is_held bigint not null default 0,
  envelope text collate "C" not null,
  body_hash bytea not null,
  size bigint not null,
  is_staged bigint not null,
  last_error text collate "C" not null default '',
  primary key (lane, id)
);
create index incoming_due on incoming (lane, due, id);
create index incoming_staged on incoming (body_hash) where is_staged = 1;

create table incoming_body (
  lane bigint not null,
  id bigint not null,
  body bytea not null,
  primary key (lane, id)
);

create table outgoing (
  lane bigint not null,
  id bigint not null,
  due bigint not null,
  attempts bigint not null default 0,
  tries bigint not null default 0,
  is_leased bigint not null default 0,
  created_at bigint not null,
  is_held bigint not null default 0,
  account_id bigint not null,
  submission_id bigint not null,
  domain text collate "C" not null,
  envelope text collate "C" not null,
  recipients text collate "C" not null,
  body_hash bytea not null,
  size bigint not null,
  last_error text collate "C" not null default '',
  primary key (lane, id)
);
create index outgoing_due on outgoing (lane, due, id);
create index outgoing_submission on outgoing (lane, account_id, submission_id);

-- An Email to be indexed or forgotten; email_id 0 with is_delete stands for all of the account.
create table index_queue (
  lane bigint not null,
  id bigint not null,
  due bigint not null,
  attempts bigint not null default 0,
  tries bigint not null default 0,
  is_leased bigint not null default 0,
  created_at bigint not null,
  is_held bigint not null default 0,
  account_id bigint not null,
  email_id bigint not null,
  is_delete bigint not null,
  last_error text collate "C" not null default '',
  primary key (lane, id)
);
create index index_queue_due on index_queue (lane, due, id);
create index index_queue_account on index_queue (lane, account_id, email_id);

-- A number for each recent transaction on an account or a lane (which stands in account_id then), so
-- that a commit whose answer was lost can be looked up.
create table commit_mark (
  account_id bigint not null,
  id bigint not null,
  created_at bigint not null,
  primary key (account_id, id)
);
create index commit_mark_age on commit_mark (created_at);

-- Rows that change often leave dead versions behind, which the lists would step over: vacuum early.
alter table membership set (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);
alter table thread_mailbox set (autovacuum_vacuum_scale_factor = 0.02);
alter table account set (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02);
alter table mailbox set (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02);
alter table type_state set (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02);
alter table incoming set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
alter table incoming_body set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
alter table outgoing set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
alter table index_queue set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
alter table commit_mark set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000);
