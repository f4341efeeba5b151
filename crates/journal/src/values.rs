//! How each type of `quantity` and `facts` is a field's value. This is a disk format: it may grow,
//! never change.

use facts::{
    Api, AttemptReason, ChargeLine, Charged, End, MessageShape, Role, RouteSource, ToldCost,
    Verdict,
};
use quantity::{
    Billable, Doubts, ExchangeId, Fingerprint, Money, PriceRowId, TokenClass, TokenCount, Unit,
    UnitPrice, UnixTime, Usage, UsageSource,
};

use crate::fields::{
    Cursor, Field, Problem, Value, put_bytes, put_fixed, put_number, put_parts, put_varint,
    unzigzag, zigzag,
};

const BEYOND: Problem = "is beyond its range";
const NEWER: Problem = "has a number that this version does not know";
const NOT_A_VARINT: Problem = "is no varint";
const NOT_BYTES: Problem = "is no bytes";

impl Value<'_> {
    fn number<T: TryFrom<u128>>(self) -> Result<T, Problem> {
        match self {
            Self::Varint(value) => T::try_from(value).map_err(|_| BEYOND),
            Self::Fixed(_) | Self::Bytes(_) => Err(NOT_A_VARINT),
        }
    }

    fn fixed(self) -> Result<u64, Problem> {
        match self {
            Self::Fixed(value) => Ok(value),
            Self::Varint(_) | Self::Bytes(_) => Err("is no 8 bytes"),
        }
    }
}

impl<'a> Value<'a> {
    fn bytes(self) -> Result<&'a [u8], Problem> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            Self::Varint(_) | Self::Fixed(_) => Err(NOT_BYTES),
        }
    }

    /// Takes all parts with `parts`; nothing may be left.
    fn parts<T>(
        self,
        parts: impl FnOnce(&mut Cursor<'a>) -> Result<T, Problem>,
    ) -> Result<T, Problem> {
        let mut cursor = Cursor(self.bytes()?);
        let value = parts(&mut cursor)?;
        cursor.end()?;
        Ok(value)
    }
}

impl Cursor<'_> {
    fn number<T: TryFrom<u128>>(&mut self) -> Result<T, Problem> {
        T::try_from(self.varint()?).map_err(|_| BEYOND)
    }

    fn count(&mut self) -> Result<TokenCount, Problem> {
        TokenCount::new(self.number()?).ok_or(BEYOND)
    }

    fn text(&mut self) -> Result<String, Problem> {
        text(self.counted()?)
    }
}

fn text(bytes: &[u8]) -> Result<String, Problem> {
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| "is not UTF-8")
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_varint(out, text.len() as u128);
    out.extend_from_slice(text.as_bytes());
}

macro_rules! unsigned {
    ($($type:ty),+) => {$(
        /// A varint.
        impl Field for $type {
            fn put(&self, out: &mut Vec<u8>, number: u32) {
                put_number(out, number, u128::from(*self));
            }
            fn take(value: Value<'_>) -> Result<Self, Problem> {
                value.number()
            }
        }
    )+};
}
unsigned!(u16, u32, u64);

macro_rules! closed_lists {
    ($($type:ty),+) => {$(
        /// A varint: its number. One that this version does not know is an error, for the record
        /// would say something else without it.
        impl Field for $type {
            fn put(&self, out: &mut Vec<u8>, number: u32) {
                put_number(out, number, u128::from(self.number()));
            }
            fn take(value: Value<'_>) -> Result<Self, Problem> {
                Self::from_number(value.number()?).ok_or(NEWER)
            }
        }
    )+};
}
closed_lists!(Api, AttemptReason, End, RouteSource, UsageSource, Verdict);

/// A varint, 0 or 1.
impl Field for bool {
    fn put(&self, out: &mut Vec<u8>, number: u32) {
        put_number(out, number, u128::from(*self));
    }
    fn take(value: Value<'_>) -> Result<Self, Problem> {
        match value.number()? {
            0_u8 => Ok(false),
            1 => Ok(true),
            _ => Err("is neither 0 nor 1"),
        }
    }
}

/// UTF-8.
impl Field for String {
    fn put(&self, out: &mut Vec<u8>, number: u32) {
        put_bytes(out, number, self.as_bytes());
    }
    fn take(value: Value<'_>) -> Result<Self, Problem> {
        text(value.bytes()?)
    }
}

/// Two texts, each with its length.
impl Field for (String, String) {
    fn put(&self, out: &mut Vec<u8>, number: u32) {
        put_parts(out, number, |out| {
            put_text(out, &self.0);
            put_text(out, &self.1);
        });
    }
    fn take(value: Value<'_>) -> Result<Self, Problem> {
        value.parts(|cursor| Ok((cursor.text()?, cursor.text()?)))
    }
}

/// 16 bytes.
impl Field for ExchangeId {
    fn put(&self, out: &mut Vec<u8>, number: u32) {
        put_bytes(out, number, &self.to_bytes());
    }
    fn take(value: Value<'_>) -> Result<Self, Problem> {
        Ok(Self::from_bytes(sixteen(value.bytes()?)?))
    }
}

/// 16 bytes.
impl Field for PriceRowId {
    fn put(&self, out: &mut Vec<u8>, number: u32) {
        put_bytes(out, number, &self.to_bytes());
    }
    fn take(value: Value<'_>) -> Result<Self, Problem> {
        Ok(Self::from_bytes(sixteen(value.bytes()?)?))
    }
}

fn sixteen(bytes: &[u8]) -> Result<[u8; 16], Problem> {
    bytes.try_into().map_err(|_| "is no 16 bytes")
}

/// 8 bytes: nanoseconds since the Unix epoch, in two's complement.
impl Field for UnixTime {
    fn put(&self, out: &mut Vec<u8>, number: u32) {
        put_fixed(out, number, self.nanos().cast_unsigned());
    }
    fn take(value: Value<'_>) -> Result<Self, Problem> {
        Ok(Self::from_nanos(value.fixed()?.cast_signed()))
    }
}

/// 8 bytes.
impl Field for Fingerprint {
    fn put(&self, out: &mut Vec<u8>, number: u32) {
        put_fixed(out, number, self.0);
    }
    fn take(value: Value<'_>) -> Result<Self, Problem> {
        value.fixed().map(Self)
    }
}

/// A varint below 2^63.
impl Field for TokenCount {
    fn put(&self, out: &mut Vec<u8>, number: u32) {
        put_number(out, number, u128::from(self.get()));
    }
    fn take(value: Value<'_>) -> Result<Self, Problem> {
        Self::new(value.number()?).ok_or(BEYOND)
    }
}

/// A zigzag varint: pico-dollars.
impl Field for Money {
    fn put(&self, out: &mut Vec<u8>, number: u32) {
        put_number(out, number, zigzag(self.pico()));
    }
    fn take(value: Value<'_>) -> Result<Self, Problem> {
        value.number().map(unzigzag).map(Self::from_pico)
    }
}

/// A varint: bit n is the doubt with number n. Unknown bits are kept.
impl Field for Doubts {
    fn put(&self, out: &mut Vec<u8>, number: u32) {
        put_number(out, number, u128::from(self.bits()));
    }
    fn take(value: Value<'_>) -> Result<Self, Problem> {
        value.number().map(Self::from_bits)
    }
}

/// How many classes have tokens; number and count of each; the same for units.
impl Field for Usage {
    fn put(&self, out: &mut Vec<u8>, number: u32) {
        put_parts(out, number, |out| {
            put_counts(out, || self.tokens.iter().map(|(class, count)| (class.number(), *count)));
            put_counts(out, || self.units.iter().map(|(unit, count)| (unit.number(), *count)));
        });
    }
    fn take(value: Value<'_>) -> Result<Self, Problem> {
        value.parts(|cursor| {
            let mut usage = Self::default();
            for _ in 0..cursor.number::<u64>()? {
                let class = TokenClass::from_number(cursor.number()?).ok_or(NEWER)?;
                usage.tokens[class] = cursor.count()?;
            }
            for _ in 0..cursor.number::<u64>()? {
                let unit = Unit::from_number(cursor.number()?).ok_or(NEWER)?;
                usage.units[unit] = cursor.count()?;
            }
            Ok(usage)
        })
    }
}

fn put_counts<I: Iterator<Item = (u8, TokenCount)>>(out: &mut Vec<u8>, counts: impl Fn() -> I) {
    let some = || counts().filter(|(_, count)| *count != TokenCount::ZERO);
    put_varint(out, some().count() as u128);
    for (number, count) in some() {
        put_varint(out, u128::from(number));
        put_varint(out, u128::from(count.get()));
    }
}

/// Role, bytes of text and media as varints, 8 bytes of content and 8 of chain.
impl Field for MessageShape {
    fn put(&self, out: &mut Vec<u8>, number: u32) {
        put_parts(out, number, |out| {
            put_varint(out, u128::from(self.role.number()));
            put_varint(out, u128::from(self.text_bytes));
            put_varint(out, u128::from(self.media));
            out.extend_from_slice(&self.content.0.to_le_bytes());
            out.extend_from_slice(&self.chain.0.to_le_bytes());
        });
    }
    fn take(value: Value<'_>) -> Result<Self, Problem> {
        value.parts(|cursor| {
            Ok(Self {
                role: Role::from_number(cursor.number()?).ok_or(NEWER)?,
                text_bytes: cursor.number()?,
                media: cursor.number()?,
                content: Fingerprint(cursor.fixed()?),
                chain: Fingerprint(cursor.fixed()?),
            })
        })
    }
}

const PRICED: u8 = 1;
const HOSTED: u8 = 2;
const NOT_BILLED: u8 = 3;
const UNPRICED: u8 = 4;

/// A varint says which: 1 priced, with 16 bytes of row, how many lines, and the lines; 2 hosted;
/// 3 not billed; 4 unpriced, with the text of its reason.
impl Field for Charged {
    fn put(&self, out: &mut Vec<u8>, number: u32) {
        put_parts(out, number, |out| match self {
            Self::Priced { row, lines } => {
                out.push(PRICED);
                out.extend_from_slice(&row.to_bytes());
                put_varint(out, lines.len() as u128);
                lines.iter().for_each(|line| put_line(out, line));
            }
            Self::Hosted => out.push(HOSTED),
            Self::NotBilled => out.push(NOT_BILLED),
            Self::Unpriced { reason } => {
                out.push(UNPRICED);
                put_text(out, reason);
            }
        });
    }
    fn take(value: Value<'_>) -> Result<Self, Problem> {
        value.parts(|cursor| match cursor.number()? {
            PRICED => {
                let row = PriceRowId::from_bytes(sixteen(cursor.bytes(16)?)?);
                let count = cursor.number::<u64>()?;
                let lines = (0..count).map(|_| take_line(cursor)).collect::<Result<_, _>>()?;
                Ok(Self::Priced { row, lines })
            }
            HOSTED => Ok(Self::Hosted),
            NOT_BILLED => Ok(Self::NotBilled),
            UNPRICED => Ok(Self::Unpriced { reason: cursor.text()? }),
            _ => Err(NEWER),
        })
    }
}

const COST: u8 = 1;
const REFUSED: u8 = 2;

/// A varint says which: 1 a cost, with pico-dollars as a zigzag varint; 2 refused.
impl Field for ToldCost {
    fn put(&self, out: &mut Vec<u8>, number: u32) {
        put_parts(out, number, |out| match self {
            Self::Of(cost) => {
                out.push(COST);
                put_varint(out, zigzag(cost.pico()));
            }
            Self::Refused => out.push(REFUSED),
        });
    }
    fn take(value: Value<'_>) -> Result<Self, Problem> {
        value.parts(|cursor| match cursor.number()? {
            COST => Ok(Self::Of(Money::from_pico(unzigzag(cursor.varint()?)))),
            REFUSED => Ok(Self::Refused),
            _ => Err(NEWER),
        })
    }
}

const TOKENS: u8 = 1;
const UNITS: u8 = 2;

/// 1 for tokens or 2 for units, number, count and price as varints, list and contracted as zigzag
/// varints.
fn put_line(out: &mut Vec<u8>, line: &ChargeLine) {
    let (kind, number) = match line.item {
        Billable::Tokens(class) => (TOKENS, class.number()),
        Billable::Unit(unit) => (UNITS, unit.number()),
    };
    out.push(kind);
    put_varint(out, u128::from(number));
    put_varint(out, u128::from(line.count.get()));
    put_varint(out, u128::from(line.price.pico()));
    put_varint(out, zigzag(line.list.pico()));
    put_varint(out, zigzag(line.contracted.pico()));
}

fn take_line(cursor: &mut Cursor<'_>) -> Result<ChargeLine, Problem> {
    let (kind, number) = (cursor.number()?, cursor.number()?);
    let item = match kind {
        TOKENS => TokenClass::from_number(number).map(Billable::Tokens),
        UNITS => Unit::from_number(number).map(Billable::Unit),
        _ => None,
    };
    Ok(ChargeLine {
        item: item.ok_or(NEWER)?,
        count: cursor.count()?,
        price: UnitPrice::from_pico(cursor.number()?).ok_or(BEYOND)?,
        list: Money::from_pico(unzigzag(cursor.varint()?)),
        contracted: Money::from_pico(unzigzag(cursor.varint()?)),
    })
}
