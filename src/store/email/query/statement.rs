//! The statements of a query, put together from its driver, its conditions and its order.
//!
//! Every list has a total order: what the client asks for, then the received date, then the id. The
//! place of an Email in it is its key, the values of all of these; "before" and "from" compare keys.

use crate::store::db::{Conn, Query, sql};
use crate::store::email::query::driver::Driver;
use crate::store::email::query::{Filter, Sort, SortBy};
use crate::store::error::StoreError;
use crate::store::value::Value;
use crate::types::id::{AccountId, Id};
use crate::types::keyword::{Flags, flag_of};

/// The pieces of the statements.
#[derive(Clone, Debug)]
pub struct Statement {
    values: Vec<Value>,
    /// How each arm begins: from where, with the conditions that choose the driving rows.
    arms: Vec<Arm>,
    conditions: Vec<String>,
    order: Vec<Term>,
    needs_email: bool,
    is_by_date: bool,
    /// The alias of the rows that give the order: those of the keyword when it drives.
    leading: &'static str,
}

#[derive(Clone, Debug)]
struct Arm {
    from: &'static str,
    condition: String,
}

/// One term of the order.
#[derive(Clone, Debug)]
struct Term {
    text: String,
    is_ascending: bool,
    is_text: bool,
}

/// The place of an Email in a list: the values of the terms of the order.
#[derive(Clone, Debug, PartialEq)]
pub struct Key(Vec<Value>);

impl Key {
    /// In a list by date.
    pub fn of_date(received_at: i64, id: Id) -> Key {
        Key(vec![received_at.into(), id.into()])
    }
}

/// Where something is in the list, as seen from a key.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Before,
    From,
    After,
}

impl Statement {
    /// For conditions that must all hold beside what the driver decides.
    pub fn new(account: AccountId, driver: Driver, conditions: &[Filter], sort: &[Sort]) -> Statement {
        let mut statement = Statement {
            values: vec![account.into()],
            arms: Vec::new(),
            conditions: Vec::new(),
            order: Vec::new(),
            needs_email: false,
            is_by_date: matches!(sort, [] | [Sort { by: SortBy::ReceivedAt, .. }]),
            leading: "m",
        };
        match driver {
            Driver::Mailbox(id) => statement.arm("membership m", "m.mailbox_id = ", id),
            Driver::Mailboxes(ids) => {
                ids.into_iter().for_each(|id| statement.arm("membership m", "m.mailbox_id = ", id));
            }
            // The sign takes the mailbox away from the planner: it would read all of it, in the
            // order that is wanted, rather than look up the ids and sort them.
            Driver::Listed(id) => statement.arm("membership m", "+m.mailbox_id = ", id),
            Driver::Keyword { keyword, mailbox } => {
                let keyword = statement.bind(keyword.into());
                statement.arm("keyword k cross join membership m", "m.mailbox_id = ", mailbox);
                statement.conditions.push(format!(
                    "k.account_id = $1 and k.keyword = {keyword} and m.received_at = k.received_at \
                     and m.email_id = k.email_id"
                ));
                statement.leading = "k";
            }
        }
        for condition in conditions {
            let text = statement.filter(condition);
            statement.conditions.push(text);
        }
        statement.order = statement.order_of(sort);
        statement
    }

    /// A page of the list: email, thread, received date.
    pub fn rows(&self, limit: i64, offset: i64) -> Query {
        let mut paged = self.clone();
        let end = (paged.arms.len() > 1).then(|| paged.bind(limit.saturating_add(offset).into()));
        let (limit, offset) = (paged.bind(limit.into()), paged.bind(offset.into()));
        let what = "m.email_id, m.thread_id, m.received_at";
        let terms: Vec<String> =
            paged.order.iter().map(|term| format!("{}{}", term.text, term.direction())).collect();
        let mut order = terms.join(", ");
        let mut arms: Vec<String> = paged.arms.iter().map(|arm| paged.arm_text(arm, what)).collect();
        if let Some(end) = end {
            // No more of an arm is read than the page can hold. The order of a compound is told by
            // its columns.
            arms.iter_mut()
                .for_each(|arm| *arm = format!("select * from ({arm} order by {order} limit {end}) arm"));
            let direction = paged.order[0].direction();
            order = format!("received_at{direction}, email_id{direction}");
        }
        paged.query(format!("{} order by {order} limit {limit} offset {offset}", arms.join(" union ")))
    }

    /// The threads of the list, in no order and as often as they come.
    pub fn threads(&self) -> Query {
        self.query(self.distinct("m.thread_id, m.email_id"))
    }

    /// How many Emails are in the list.
    pub fn count(&self) -> Query {
        self.query(self.counted())
    }

    /// How many Emails of the list come before a key.
    pub fn count_before(&self, key: &Key) -> Query {
        self.sum_of(&self.places_before(key))
    }

    /// How many Emails of a list by date stand between two keys, of which the first comes first.
    pub fn count_between(&self, first: &Key, second: &Key) -> Query {
        self.sum_of(&self.places_between(first, second))
    }

    /// The list backwards.
    pub fn reversed(&self) -> Statement {
        let mut reversed = self.clone();
        reversed.order.iter_mut().for_each(|term| term.is_ascending = !term.is_ascending);
        reversed
    }

    /// Only what comes before a key.
    pub fn before(&self, key: &Key) -> Statement {
        self.beside(key, Side::Before)
    }

    /// Only what has a key or comes after it.
    pub fn from(&self, key: &Key) -> Statement {
        self.beside(key, Side::From)
    }

    /// Only what comes after a key, of a list by date.
    pub fn after(&self, key: &Key) -> Statement {
        self.beside(key, Side::After)
    }

    /// The key of an Email; `None` when it is not in the list.
    pub async fn key_of(&self, conn: &mut Conn, id: Id) -> Result<Option<Key>, StoreError> {
        Ok(self.keys_of(conn, &[id]).await?.into_iter().next().map(|(_, key)| key))
    }

    /// The Emails among these that are in the list, in its order, with their keys.
    pub async fn keys_of(&self, conn: &mut Conn, ids: &[Id]) -> Result<Vec<(Id, Key)>, StoreError> {
        let mut keys = self.clone();
        let ids = keys.bind(Value::from(ids));
        keys.conditions.push(format!("m.email_id = any({ids})"));
        // As above: the ids are looked up.
        for arm in keys.arms.iter_mut().filter(|arm| !arm.condition.starts_with('+')) {
            arm.condition.insert(0, '+');
        }
        let is_text: Vec<bool> = keys.order.iter().map(|term| term.is_text).collect();
        let terms: Vec<&str> = keys.order.iter().map(|term| term.text.as_str()).collect();
        let text = keys.distinct(&format!("m.email_id, {}", terms.join(", ")));
        let by_place = |place: usize| format!("{}{}", place + 2, keys.order[place].direction());
        let order: Vec<String> = (0..keys.order.len()).map(by_place).collect();
        sql(format!("{text} order by {}", order.join(", ")))
            .bind_all(keys.values.clone())
            .all(conn, |row| {
                let value = |(place, is_text): (usize, &bool)| {
                    Ok(if *is_text {
                        Value::Text(row.get(place + 1)?)
                    } else {
                        Value::Int(row.get(place + 1)?)
                    })
                };
                let values: Result<Vec<Value>, StoreError> = is_text.iter().enumerate().map(value).collect();
                Ok((row.get(0)?, Key(values?)))
            })
            .await
    }

    /// Binds a value; its placeholder.
    fn bind(&mut self, value: Value) -> String {
        self.values.push(value);
        format!("${}", self.values.len())
    }

    fn arm(&mut self, from: &'static str, condition: &str, mailbox: Id) {
        let mailbox = self.bind(mailbox.into());
        self.arms.push(Arm { from, condition: format!("{condition}{mailbox}") });
    }

    fn query(&self, text: String) -> Query {
        sql(text).bind_all(self.values.clone())
    }

    /// The rows of all arms, each Email once: `what` must tell Emails apart where there are several.
    fn distinct(&self, what: &str) -> String {
        let arms: Vec<String> = self.arms.iter().map(|arm| self.arm_text(arm, what)).collect();
        arms.join(" union ")
    }

    fn counted(&self) -> String {
        match self.arms.as_slice() {
            [only] => self.arm_text(only, "count(*)"),
            // The sign keeps the planner from reading all of an index that has the Emails in order.
            _ => format!("select count(*) from ({}) u", self.distinct("+m.email_id")),
        }
    }

    fn arm_text(&self, arm: &Arm, what: &str) -> String {
        let join =
            if self.needs_email { " join email e on e.account_id = $1 and e.id = m.email_id" } else { "" };
        let mut text =
            format!("select {what} from {}{join} where m.account_id = $1 and {}", arm.from, arm.condition);
        for condition in &self.conditions {
            text.push_str(" and ");
            text.push_str(condition);
        }
        text
    }

    /// The number of rows in any of some places, which do not overlap: each is a range of its own.
    fn sum_of(&self, places: &[(String, Vec<Value>)]) -> Query {
        let mut sum = self.clone();
        let mut counts = Vec::with_capacity(places.len());
        for (condition, values) in places {
            let condition = sum.bind_marks(condition.clone(), values.clone());
            let mut part = sum.clone();
            part.conditions.push(condition);
            counts.push(format!("({})", part.counted()));
        }
        sum.query(format!("select {}", counts.join(" + ")))
    }
}

impl Term {
    fn direction(&self) -> &'static str {
        if self.is_ascending { "" } else { " desc" }
    }

    /// What compares a value that comes earlier in the list.
    fn earlier(&self) -> &'static str {
        if self.is_ascending { "<" } else { ">" }
    }

    fn later(&self) -> &'static str {
        if self.is_ascending { ">" } else { "<" }
    }
}

/// Conditions on keys. A `?` stands for the next value.
impl Statement {
    fn beside(&self, key: &Key, side: Side) -> Statement {
        let mut beside = self.clone();
        let condition = if self.is_by_date {
            // One comparison of pairs, which is a range of the index.
            let placeholders: Vec<String> = key.0.iter().map(|value| beside.bind(value.clone())).collect();
            let (date, id) = (&self.order[0], &self.order[1]);
            let operator = match side {
                Side::Before => date.earlier().to_owned(),
                Side::From => format!("{}=", date.later()),
                Side::After => date.later().to_owned(),
            };
            format!("({}, {}) {operator} ({})", date.text, id.text, placeholders.join(", "))
        } else {
            let (earlier, values) = self.earlier_than(key);
            let earlier = beside.bind_marks(earlier, values);
            match side {
                Side::Before => earlier,
                Side::From | Side::After => format!("not {earlier}"),
            }
        };
        beside.conditions.push(condition);
        beside
    }

    /// Binds the values of a condition's `?`.
    fn bind_marks(&mut self, mut condition: String, values: Vec<Value>) -> String {
        for value in values {
            let placeholder = self.bind(value);
            condition = condition.replacen('?', &placeholder, 1);
        }
        condition
    }

    /// Earlier in the first term, or the same there and earlier in the next, and so on.
    fn earlier_than(&self, key: &Key) -> (String, Vec<Value>) {
        let mut alternatives = Vec::new();
        let mut values = Vec::new();
        for (place, term) in self.order.iter().enumerate() {
            let mut terms: Vec<String> =
                self.order[..place].iter().map(|same| format!("{} = ?", same.text)).collect();
            terms.push(format!("{} {} ?", term.text, term.earlier()));
            alternatives.push(format!("({})", terms.join(" and ")));
            values.extend(key.0[..=place].iter().cloned());
        }
        (format!("({})", alternatives.join(" or ")), values)
    }

    fn places_before(&self, key: &Key) -> Vec<(String, Vec<Value>)> {
        if let ([date, id], [received_at, email]) = (self.order.as_slice(), key.0.as_slice())
            && self.is_by_date
        {
            // Two ranges cost half of one comparison of pairs.
            return vec![
                (format!("{} {} ?", date.text, date.earlier()), vec![received_at.clone()]),
                (
                    format!("{} = ? and {} {} ?", date.text, id.text, id.earlier()),
                    vec![received_at.clone(), email.clone()],
                ),
            ];
        }
        vec![self.earlier_than(key)]
    }

    fn places_between(&self, first: &Key, second: &Key) -> Vec<(String, Vec<Value>)> {
        let (date, id) = (&self.order[0], &self.order[1]);
        let ([date_1, id_1], [date_2, id_2]) = (first.0.as_slice(), second.0.as_slice()) else {
            return Vec::new();
        };
        let values = |values: [&Value; 2]| values.into_iter().cloned().collect::<Vec<_>>();
        let after_first = format!("{} {} ?", id.text, id.later());
        let before_second = format!("{} {} ?", id.text, id.earlier());
        if date_1 == date_2 {
            let condition = format!("{} = ? and {after_first} and {before_second}", date.text);
            return vec![(condition, vec![date_1.clone(), id_1.clone(), id_2.clone()])];
        }
        vec![
            (
                format!("{0} {1} ? and {0} {2} ?", date.text, date.later(), date.earlier()),
                values([date_1, date_2]),
            ),
            (format!("{} = ? and {after_first}", date.text), values([date_1, id_1])),
            (format!("{} = ? and {before_second}", date.text), values([date_2, id_2])),
        ]
    }
}

/// Conditions and orders as text.
impl Statement {
    fn filter(&mut self, filter: &Filter) -> String {
        let leading = self.leading;
        match filter {
            Filter::And(parts) => self.join(parts, " and ", "1 = 1"),
            Filter::Or(parts) => self.join(parts, " or ", "1 = 0"),
            Filter::Not(parts) => format!("not {}", self.join(parts, " or ", "1 = 0")),
            Filter::InMailbox(id) => {
                let mailbox = self.bind((*id).into());
                format!("exists ({OTHER_ROWS} and x.mailbox_id = {mailbox})")
            }
            Filter::InMailboxOtherThan(ids) => {
                let list = self.bind(Value::from(ids));
                format!("exists ({OTHER_ROWS} and x.mailbox_id <> 0 and not (x.mailbox_id = any({list})))")
            }
            Filter::Before(ms) => format!("{leading}.received_at < {}", self.bind((*ms).into())),
            Filter::After(ms) => format!("{leading}.received_at >= {}", self.bind((*ms).into())),
            Filter::MinSize(size) => {
                self.needs_email = true;
                format!("e.size >= {}", self.bind((*size).into()))
            }
            Filter::MaxSize(size) => {
                self.needs_email = true;
                format!("e.size < {}", self.bind((*size).into()))
            }
            Filter::Keyword(keyword, on) => self.keyword("m", keyword, *on),
            Filter::AllInThread(keyword) => {
                let lacks = self.keyword("a", keyword, false);
                format!("not exists ({THREAD_ROWS} and {lacks})")
            }
            Filter::SomeInThread(keyword) => {
                let has = self.keyword("a", keyword, true);
                format!("exists ({THREAD_ROWS} and {has})")
            }
            Filter::HasAttachment(has) => {
                self.needs_email = true;
                format!("e.has_attachment = {}", i64::from(*has))
            }
            Filter::Ids(ids) => {
                let list = self.bind(Value::from(ids));
                format!("m.email_id = any({list})")
            }
        }
    }

    fn join(&mut self, parts: &[Filter], operator: &str, empty: &str) -> String {
        let texts: Vec<String> = parts.iter().map(|part| self.filter(part)).collect();
        if texts.is_empty() { format!("({empty})") } else { format!("({})", texts.join(operator)) }
    }

    /// Whether the membership row `alias` has a keyword. The two literal forms of the partial
    /// indexes come out of here for `$seen` absent and `$flagged` present.
    fn keyword(&mut self, alias: &str, keyword: &str, on: bool) -> String {
        if let Some(Flags(bit)) = flag_of(keyword) {
            let wanted = if on { bit } else { 0 };
            return format!("{alias}.flags & {bit} = {wanted}");
        }
        let keyword = self.bind(keyword.into());
        let not = if on { "" } else { "not " };
        format!(
            "{not}exists (select 1 from keyword l where l.account_id = $1 and l.keyword = {keyword} \
             and l.received_at = {alias}.received_at and l.email_id = {alias}.email_id)"
        )
    }

    fn order_of(&mut self, sort: &[Sort]) -> Vec<Term> {
        let mut terms = Vec::new();
        let leading = self.leading;
        for Sort { by, is_ascending } in sort {
            let text = match by {
                SortBy::ReceivedAt => format!("{leading}.received_at"),
                SortBy::SentAt => self.email_column("sent_at"),
                SortBy::Size => self.email_column("size"),
                SortBy::From => self.email_column("from_key"),
                SortBy::To => self.email_column("to_key"),
                SortBy::Subject => self.email_column("subject_key"),
                SortBy::Keyword(keyword) => as_number(&self.keyword("m", keyword, true)),
                SortBy::AllInThread(keyword) => {
                    as_number(&self.filter(&Filter::AllInThread(keyword.clone())))
                }
                SortBy::SomeInThread(keyword) => {
                    as_number(&self.filter(&Filter::SomeInThread(keyword.clone())))
                }
            };
            let is_text = matches!(by, SortBy::From | SortBy::To | SortBy::Subject);
            terms.push(Term { text, is_ascending: *is_ascending, is_text });
        }
        // The order must be total, and the same in every query: newest first where the client does
        // not say, by id last, in the direction of the received date so that an index serves both.
        let received = sort.iter().find(|sort| sort.by == SortBy::ReceivedAt);
        let last = |column: &str, is_ascending| Term {
            text: format!("{leading}.{column}"),
            is_ascending,
            is_text: false,
        };
        if received.is_none() {
            terms.push(last("received_at", false));
        }
        terms.push(last("email_id", received.is_some_and(|sort| sort.is_ascending)));
        terms
    }

    fn email_column(&mut self, column: &str) -> String {
        self.needs_email = true;
        format!("e.{column}")
    }
}

/// The other membership rows of the Email in hand.
const OTHER_ROWS: &str = "select 1 from membership x where x.account_id = $1 and x.email_id = m.email_id";
/// The all-mail rows of the thread in hand.
const THREAD_ROWS: &str = "select 1 from email t join membership a on a.account_id = $1 and a.mailbox_id = 0 \
                           and a.received_at = t.received_at and a.email_id = t.id \
                           where t.account_id = $1 and t.thread_id = m.thread_id";

fn as_number(condition: &str) -> String {
    format!("case when {condition} then 1 else 0 end")
}
