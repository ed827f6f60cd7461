//! The arguments of a method call, taken one by one; what is left over at the end is an error.

use serde_json::{Map, Value};

use crate::jmap::error::MethodError;
use crate::types::state::State;

/// The arguments not yet taken.
#[derive(Debug)]
pub struct Arguments(Map<String, Value>);

fn wrong(name: &str, wanted: &str) -> MethodError {
    MethodError::InvalidArguments(format!("{name}: {wanted} is wanted"))
}

impl Arguments {
    /// Of a call, result references resolved.
    pub fn new(arguments: Map<String, Value>) -> Arguments {
        Arguments(arguments)
    }

    /// Takes an argument; `None` when it is absent or null.
    pub fn take(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name).filter(|value| !value.is_null())
    }

    /// Takes a text.
    pub fn string(&mut self, name: &str) -> Result<Option<String>, MethodError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(wrong(name, "a String")),
        }
    }

    /// Takes a text that must be there.
    pub fn required_string(&mut self, name: &str) -> Result<String, MethodError> {
        self.string(name)?.ok_or_else(|| wrong(name, "a String"))
    }

    /// Takes a truth value; false when absent.
    pub fn boolean(&mut self, name: &str) -> Result<bool, MethodError> {
        match self.take(name) {
            None => Ok(false),
            Some(Value::Bool(value)) => Ok(value),
            Some(_) => Err(wrong(name, "a Boolean")),
        }
    }

    /// Takes an Int (RFC 8620, 1.3: -2^53+1 to 2^53-1).
    pub fn integer(&mut self, name: &str) -> Result<Option<i64>, MethodError> {
        const MAX: i64 = (1 << 53) - 1;
        match self.take(name) {
            None => Ok(None),
            Some(value) => match value.as_i64() {
                Some(number) if (-MAX..=MAX).contains(&number) => Ok(Some(number)),
                _ => Err(wrong(name, "an Int")),
            },
        }
    }

    /// Takes an UnsignedInt.
    pub fn unsigned(&mut self, name: &str) -> Result<Option<usize>, MethodError> {
        match self.integer(name)? {
            None => Ok(None),
            Some(number) => usize::try_from(number).map(Some).map_err(|_| wrong(name, "an UnsignedInt")),
        }
    }

    /// Takes a list of texts.
    pub fn strings(&mut self, name: &str) -> Result<Option<Vec<String>>, MethodError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let Value::Array(items) = value else { return Err(wrong(name, "a String[]")) };
        items
            .into_iter()
            .map(|item| match item {
                Value::String(text) => Ok(text),
                _ => Err(wrong(name, "a String[]")),
            })
            .collect::<Result<_, _>>()
            .map(Some)
    }

    /// Takes a list of texts that must be there.
    pub fn required_strings(&mut self, name: &str) -> Result<Vec<String>, MethodError> {
        self.strings(name)?.ok_or_else(|| wrong(name, "a String[]"))
    }

    /// Takes an object.
    pub fn object(&mut self, name: &str) -> Result<Option<Map<String, Value>>, MethodError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Object(object)) => Ok(Some(object)),
            Some(_) => Err(wrong(name, "an object")),
        }
    }

    /// Takes a state that must be there. A text that is no state of ours is one that changes
    /// cannot be calculated from, not a wrong argument.
    pub fn since(&mut self, name: &str) -> Result<State, MethodError> {
        self.required_string(name)?.parse().map_err(|_| MethodError::CannotCalculateChanges)
    }

    /// All that nobody took, as it came.
    pub fn into_value(self) -> Value {
        Value::Object(self.0)
    }

    /// Refuses what nobody took.
    pub fn finish(self) -> Result<(), MethodError> {
        match self.0.iter().find(|(_, value)| !value.is_null()) {
            None => Ok(()),
            Some((name, _)) => {
                Err(MethodError::InvalidArguments(format!("{name}: the method has no such argument")))
            }
        }
    }
}
