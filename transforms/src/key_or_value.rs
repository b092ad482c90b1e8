//! The key form and the value form of a transformation, once for all.
//!
//! Most transformations change one payload of a record and don't care which. They implement [`Change`]; [`OnPayload`] turns
//! that into a [`Transformation`] of the key or of the value.

use ottla_api::config::ConfigValue;
use ottla_api::prelude::*;

/// Which payload of a record is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ConfigValue)]
pub(crate) enum KeyOrValue {
    /// The value.
    Value,
    /// The key.
    Key,
}

impl KeyOrValue {
    /// That payload of this record.
    pub(crate) fn of(self, record: &mut Record) -> &mut Payload {
        match self {
            Self::Key => &mut record.key,
            Self::Value => &mut record.value,
        }
    }
}

/// The option `on` of the native transformations.
#[derive(Debug, Clone, Config)]
pub(crate) struct On {
    /// `value` works on the record's value, `key` on its key. What is null passes untouched.
    #[config(name = "on", default = "value", importance = "low")]
    pub(crate) on: KeyOrValue,
}

/// What becomes of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It goes on.
    Keep,
    /// It ends here; its offset still moves on.
    Drop,
}

/// A change of one payload.
pub(crate) trait Change: Send + 'static {
    /// Whether a null payload is a matter for this change. The native ones let tombstones pass; some of Apache's refuse or
    /// wrap them.
    const TAKES_NULL: bool = false;

    /// Changes the payload, or drops the record.
    fn change(&mut self, payload: &mut Payload) -> Result<Fate>;
}

/// A change applied to the key or to the value.
#[derive(Debug)]
pub(crate) struct OnPayload<C> {
    on: KeyOrValue,
    change: C,
}

impl<C: Change> OnPayload<C> {
    /// The transformation that applies `change`.
    pub(crate) fn boxed(on: KeyOrValue, change: C) -> Box<dyn Transformation> {
        Box::new(Self { on, change })
    }
}

impl<C: Change> Transformation for OnPayload<C> {
    fn apply(&mut self, mut record: Record) -> Result<Option<Record>> {
        let payload = self.on.of(&mut record);
        if payload.is_null() && !C::TAKES_NULL {
            return Ok(Some(record));
        }
        Ok(match self.change.change(payload)? {
            Fate::Keep => Some(record),
            Fate::Drop => None,
        })
    }
}
