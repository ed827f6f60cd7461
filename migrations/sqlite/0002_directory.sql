-- Where a login is found by its name, and a token by the hash of its secret. On a sharded database a
-- login, its tokens and its rights are in the shard of its id, and these in that of what is asked for.
create table login_name (
  name text not null primary key,
  login_id integer not null
) strict, without rowid;
insert into login_name (name, login_id) select name, id from login;

create table token_secret (
  secret_hash blob not null primary key,
  login_id integer not null,
  token_id integer not null
) strict, without rowid;
insert into token_secret (secret_hash, login_id, token_id) select secret_hash, login_id, id from token;

-- Keys that all processes of a server share: what one has signed, the others can read.
create table server_key (
  name text not null primary key,
  key blob not null
) strict, without rowid;
