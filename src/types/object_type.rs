//! The types of objects that have a state.

/// The types that have a state. The numbers are on disk and never change.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ObjectType {
    /// RFC 8621, 2.
    Mailbox,
    /// RFC 8621, 3.
    Thread,
    /// RFC 8621, 4.
    Email,
    /// Changes only when mail is added (RFC 8621, 1.5); for push alone.
    EmailDelivery,
    /// RFC 8621, 6.
    Identity,
    /// RFC 8621, 7.
    EmailSubmission,
    /// RFC 8621, 8.
    VacationResponse,
    /// RFC 9425.
    Quota,
}

/// A bit for each of these types, as sets of them are kept in the store.
pub fn bits_of(types: &[ObjectType]) -> i64 {
    types.iter().fold(0, |bits, object_type| bits | object_type.bit())
}

impl ObjectType {
    /// The bit that stands for it in a set.
    pub fn bit(self) -> i64 {
        1 << self.number()
    }

    /// All types.
    pub const ALL: [ObjectType; 8] = [
        ObjectType::Mailbox,
        ObjectType::Thread,
        ObjectType::Email,
        ObjectType::EmailDelivery,
        ObjectType::Identity,
        ObjectType::EmailSubmission,
        ObjectType::VacationResponse,
        ObjectType::Quota,
    ];

    /// The name by which JMAP knows the type.
    pub fn name(self) -> &'static str {
        match self {
            ObjectType::Mailbox => "Mailbox",
            ObjectType::Thread => "Thread",
            ObjectType::Email => "Email",
            ObjectType::EmailDelivery => "EmailDelivery",
            ObjectType::Identity => "Identity",
            ObjectType::EmailSubmission => "EmailSubmission",
            ObjectType::VacationResponse => "VacationResponse",
            ObjectType::Quota => "Quota",
        }
    }

    /// The type of a name.
    pub fn named(name: &str) -> Option<ObjectType> {
        ObjectType::ALL.into_iter().find(|object_type| object_type.name() == name)
    }

    /// The number that stands for it on disk.
    pub fn number(self) -> i64 {
        self as i64 + 1
    }

    /// The type of a number.
    pub fn of_number(number: i64) -> Option<ObjectType> {
        ObjectType::ALL.into_iter().find(|object_type| object_type.number() == number)
    }

    /// Whether changes name objects, or only the state moves.
    pub fn has_objects(self) -> bool {
        self != ObjectType::EmailDelivery
    }
}
