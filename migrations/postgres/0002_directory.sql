-- Where a login is found by its name, and a token by the hash of its secret. On a sharded database a
-- login, its tokens and its rights are in the shard of its id, and these in that of what is asked for.
create table login_name (
  name text collate "C" not null primary key,
  login_id bigint not null
);
insert into login_name (name, login_id) select name, id from login;
alter table login drop constraint login_name_key;

create table token_secret (
  secret_hash bytea not null primary key,
  login_id bigint not null,
  token_id bigint not null
);
insert into token_secret (secret_hash, login_id, token_id) select secret_hash, login_id, id from token;
alter table token drop constraint token_secret_hash_key;
alter table token drop constraint token_pkey;
alter table token add primary key (login_id, id);
drop index token_login;

-- Keys that all processes of a server share: what one has signed, the others can read.
create table server_key (
  name text collate "C" not null primary key,
  key bytea not null
);
