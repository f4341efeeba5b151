//! Records: what each kind says, by field number. This is a disk format: numbers are never reused.
//!
//! | kind | record |
//! |---|---|
//! | 1 | admitted |
//! | 2 | dispatched |
//! | 3 | attempt ended |
//! | 4 | settled |
//! | 5 | adjusted |
//! | 6 | gap |
//! | 7 | outcome (reserved) |
//! | 8 | price |
//! | 9 | imported (reserved) |

use facts::{
    Adjustment, Admission, AttemptEnd, Dispatch, Gap, Labels, PriceRecord, PromptShape, Settlement,
};
use quantity::{Metered, WriterId};

use crate::JournalError;
use crate::fields::{FieldProblem, Fields};
use crate::frame::{Batch, Parsed, RawRecord, parse, split};

/// A record of the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The stream it belongs to.
    pub writer: WriterId,
    /// Its place in the stream, from 1.
    pub sequence: u64,
    /// What it says.
    pub body: Body,
    /// Fields of a known kind that this version does not know, as they lay there.
    pub unknown: Vec<u8>,
}

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// An exchange was admitted.
    Admitted(Admission),
    /// An attempt is about to be sent.
    Dispatched(Dispatch),
    /// An attempt has ended.
    AttemptEnded(AttemptEnd),
    /// An exchange is settled.
    Settled(Settlement),
    /// A settled attempt is priced otherwise.
    Adjusted(Adjustment),
    /// A price came into use.
    Price(PriceRecord),
    /// Exchanges ended that the journal does not have.
    Gap(Gap),
    /// A record of a kind or version that this version does not know.
    Unknown {
        /// Its kind.
        kind: u8,
        /// The version of its body.
        version: u8,
        /// Its flags.
        flags: u16,
        /// Its body.
        bytes: Vec<u8>,
    },
}

impl Record {
    /// One record outside of any journal, framed and checked as in one.
    ///
    /// # Errors
    /// [`JournalError::TooLarge`].
    pub fn seal(entry: &impl Entry) -> Result<Vec<u8>, JournalError> {
        let mut batch = Batch::new();
        batch.push(entry)?;
        Ok(batch.finish(WriterId(0), 0).to_vec())
    }

    /// What [`seal`](Self::seal) made; `None` if it is not whole.
    #[must_use]
    pub fn unseal(bytes: &[u8]) -> Option<Self> {
        match parse(bytes, WriterId(0)) {
            Parsed::Whole(whole) if whole == bytes.len() => split(bytes).decode().ok(),
            Parsed::Whole(_) | Parsed::Short(_) | Parsed::Bad { .. } => None,
        }
    }
}

/// What can be put on the journal: the facts themselves, or a [`Record`] read from another one.
pub trait Entry {
    /// Kind, version and flags.
    fn head(&self) -> (u8, u8, u16);

    /// Appends the body.
    fn encode(&self, out: &mut Vec<u8>);
}

impl Batch {
    /// Adds one record.
    ///
    /// # Errors
    /// [`JournalError::TooLarge`]; the batch is then as before.
    pub fn push(&mut self, entry: &impl Entry) -> Result<(), JournalError> {
        let (kind, version, flags) = entry.head();
        self.push_raw(kind, version, flags, |out| entry.encode(out))
    }
}

impl RawRecord<'_> {
    /// Decodes the body.
    ///
    /// # Errors
    /// [`JournalError::Field`] for a body of a known kind and version that is not one.
    pub fn decode(&self) -> Result<Record, JournalError> {
        let (body, unknown) = self.body().map_err(|FieldProblem(field, problem)| {
            JournalError::Field { writer: self.writer, sequence: self.sequence, field, problem }
        })?;
        Ok(Record { writer: self.writer, sequence: self.sequence, body, unknown })
    }

    fn body(&self) -> Result<(Body, Vec<u8>), FieldProblem> {
        if self.version != VERSION || self.flags != 0 {
            return Ok((self.unknown(), Vec::new()));
        }
        Ok(match self.kind {
            Admission::KIND => take(self.body, Body::Admitted)?,
            Dispatch::KIND => take(self.body, Body::Dispatched)?,
            AttemptEnd::KIND => take(self.body, Body::AttemptEnded)?,
            Settlement::KIND => take(self.body, Body::Settled)?,
            Adjustment::KIND => take(self.body, Body::Adjusted)?,
            PriceRecord::KIND => take(self.body, Body::Price)?,
            Gap::KIND => take(self.body, Body::Gap)?,
            _ => (self.unknown(), Vec::new()),
        })
    }

    fn unknown(&self) -> Body {
        let Self { kind, version, flags, .. } = *self;
        Body::Unknown { kind, version, flags, bytes: self.body.to_vec() }
    }
}

fn take<T: Layout>(
    body: &[u8],
    wrap: impl FnOnce(T) -> Body,
) -> Result<(Body, Vec<u8>), FieldProblem> {
    let mut fields = Fields::new(body)?;
    let value = T::take(&mut fields)?;
    Ok((wrap(value), fields.rest()))
}

/// The version of every body so far. A new field needs no new version: older readers keep it. A
/// change of meaning does: older readers then keep the whole record.
const VERSION: u8 = 1;

/// The kind and the fields of a record.
trait Layout: Sized {
    const KIND: u8;
    fn put(&self, out: &mut Vec<u8>);
    fn take(fields: &mut Fields<'_>) -> Result<Self, FieldProblem>;
}

impl<T: Layout> Entry for T {
    fn head(&self) -> (u8, u8, u16) {
        (T::KIND, VERSION, 0)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        self.put(out);
    }
}

impl Entry for Body {
    fn head(&self) -> (u8, u8, u16) {
        match self {
            Self::Admitted(body) => body.head(),
            Self::Dispatched(body) => body.head(),
            Self::AttemptEnded(body) => body.head(),
            Self::Settled(body) => body.head(),
            Self::Adjusted(body) => body.head(),
            Self::Price(body) => body.head(),
            Self::Gap(body) => body.head(),
            Self::Unknown { kind, version, flags, .. } => (*kind, *version, *flags),
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Admitted(body) => body.put(out),
            Self::Dispatched(body) => body.put(out),
            Self::AttemptEnded(body) => body.put(out),
            Self::Settled(body) => body.put(out),
            Self::Adjusted(body) => body.put(out),
            Self::Price(body) => body.put(out),
            Self::Gap(body) => body.put(out),
            Self::Unknown { bytes, .. } => out.extend_from_slice(bytes),
        }
    }
}

/// With the fields that this version does not know.
impl Entry for Record {
    fn head(&self) -> (u8, u8, u16) {
        self.body.head()
    }

    fn encode(&self, out: &mut Vec<u8>) {
        self.body.encode(out);
        out.extend_from_slice(&self.unknown);
    }
}

/// Puts a field that is always there, may be left out, or is a list; `Fields` takes by the same
/// names.
mod put {
    use crate::fields::Field;

    pub(super) fn one<T: Field>(out: &mut Vec<u8>, number: u32, value: &T) {
        value.put(out, number);
    }

    pub(super) fn maybe<T: Field>(out: &mut Vec<u8>, number: u32, value: &Option<T>) {
        value.iter().for_each(|value| value.put(out, number));
    }

    pub(super) fn list<T: Field>(out: &mut Vec<u8>, number: u32, values: &[T]) {
        values.iter().for_each(|value| value.put(out, number));
    }
}

/// Declares the fields of a record: number, how often, name. Those of a part stand with the rest.
macro_rules! layout {
    (
        $type:ident = $kind:literal {
            $($number:literal $often:ident $field:ident,)*
            $($part:ident: $part_type:ident {
                $($part_number:literal $part_often:ident $part_field:ident,)*
            })*
        }
    ) => {
        impl Layout for $type {
            const KIND: u8 = $kind;

            fn put(&self, out: &mut Vec<u8>) {
                $(put::$often(out, $number, &self.$field);)*
                $($(put::$part_often(out, $part_number, &self.$part.$part_field);)*)*
            }

            fn take(fields: &mut Fields<'_>) -> Result<Self, FieldProblem> {
                Ok(Self {
                    $($field: fields.$often($number)?,)*
                    $($part: $part_type {
                        $($part_field: fields.$part_often($part_number)?,)*
                    },)*
                })
            }
        }
    };
}

layout! {
    Admission = 1 {
        1 one exchange,
        2 one at,
        3 one api,
        4 one stream,
        5 maybe model_asked,
        6 maybe max_tokens,
        7 maybe choices,
        8 maybe tier_asked,
        9 maybe caller,
        10 maybe client_retry,
        11 one request_bytes,
        22 maybe key,
        23 maybe path,
        labels: Labels {
            12 one route,
            13 one route_source,
            14 maybe task,
            15 maybe task_type,
            16 maybe user,
            17 maybe team,
            18 list tags,
        }
        prompt: PromptShape {
            19 list messages,
            20 list tools,
            21 one tool_schema_bytes,
        }
    }
}

layout! {
    Dispatch = 2 {
        1 one exchange,
        2 one ordinal,
        3 one at,
        4 one reason,
        5 one upstream,
        6 maybe provider,
        7 maybe model,
        8 one input_estimate,
        9 maybe bound,
        10 maybe region,
    }
}

layout! {
    AttemptEnd = 3 {
        1 one exchange,
        2 one ordinal,
        3 maybe first_byte_at,
        4 maybe first_token_at,
        5 maybe last_token_at,
        6 one at,
        7 maybe status,
        8 one end,
        9 maybe error,
        10 maybe response_id,
        11 maybe model_served,
        12 maybe tier_served,
        13 maybe finish_reason,
        14 maybe raw_usage,
        15 one response_bytes,
        16 list tools_called,
        17 one charged,
        21 maybe told,
        22 maybe region_served,
        metered: Metered {
            18 one usage,
            19 one source,
            20 one doubts,
        }
    }
}

layout! {
    Settlement = 4 {
        1 one exchange,
        2 one at,
        3 one verdict,
    }
}

layout! {
    Adjustment = 5 {
        1 one exchange,
        2 one ordinal,
        3 one at,
        4 one provider,
        5 one model,
        6 maybe from,
        7 one to,
        8 one contracted,
        9 one list,
    }
}

layout! {
    Gap = 6 {
        1 one since,
        2 one until,
        3 one exchanges,
        4 one attempts,
        5 maybe cost,
        6 maybe tokens,
        7 one cause,
    }
}

/// A row of a book has fields 1 (id) and 2 (canonical text). The hourly cost of an upstream has 3
/// (its name), 4 (dollars an hour; left out where it ends) and 5 (from when).
impl Layout for PriceRecord {
    const KIND: u8 = 8;

    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::PerUse { row, text } => {
                put::one(out, 1, row);
                put::one(out, 2, text);
            }
            Self::PerHour { upstream, cost, from } => {
                put::one(out, 3, upstream);
                put::maybe(out, 4, cost);
                put::one(out, 5, from);
            }
        }
    }

    fn take(fields: &mut Fields<'_>) -> Result<Self, FieldProblem> {
        if let Some(upstream) = fields.maybe(3)? {
            return Ok(Self::PerHour { upstream, cost: fields.maybe(4)?, from: fields.one(5)? });
        }
        Ok(Self::PerUse { row: fields.one(1)?, text: fields.one(2)? })
    }
}
