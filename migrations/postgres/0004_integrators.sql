-- What an API key may do (a bit for each scope; 7 is read, write and send), and how far it goes: one account
-- (0: those of its login), or a domain (`*`: all; nothing: none).
alter table token add column scopes bigint not null default 7;
alter table token add column account_id bigint not null default 0;
alter table token add column domain text not null default '';
