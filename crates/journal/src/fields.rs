//! Field-tagged bodies.
//!
//! Each field is a tag, `number << 3 | wire type`, and a value:
//!
//! | wire type | value |
//! |---|---|
//! | 0 | varint: LEB128, up to 128 bits; signed ones are zigzag |
//! | 1 | 8 bytes, little-endian |
//! | 2 | a varint length and that many bytes |
//!
//! A field of no value is left out, a list is its field repeated. What has parts of its own (a
//! message's shape, a charge) is a value of wire type 2 whose parts stand in a fixed order: it never
//! grows, a newer version puts a new field beside it. So fields that this version does not know are
//! always whole, and are kept as they are.

/// What is wrong with a value.
pub(crate) type Problem = &'static str;

const ENDS: Problem = "ends in mid-value";
const VARINT: u64 = 0;
const FIXED: u64 = 1;
const BYTES: u64 = 2;

/// A field's value as it lies in the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    Varint(u128),
    Fixed(u64),
    Bytes(&'a [u8]),
}

/// How a type is the value of a field.
pub(crate) trait Field: Sized {
    /// Appends the field.
    fn put(&self, out: &mut Vec<u8>, number: u32);

    /// The value it was.
    fn take(value: Value<'_>) -> Result<Self, Problem>;
}

pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u128) {
    while value >= 0x80 {
        out.push(0x80 | low_bits(value));
        value >>= 7;
    }
    out.push(low_bits(value));
}

fn low_bits(value: u128) -> u8 {
    value.to_le_bytes()[0] & 0x7f
}

pub(crate) fn zigzag(value: i128) -> u128 {
    ((value << 1) ^ (value >> 127)).cast_unsigned()
}

pub(crate) fn unzigzag(value: u128) -> i128 {
    (value >> 1).cast_signed() ^ -((value & 1).cast_signed())
}

fn put_tag(out: &mut Vec<u8>, number: u32, wire: u64) {
    put_varint(out, u128::from(u64::from(number) << 3 | wire));
}

pub(crate) fn put_number(out: &mut Vec<u8>, number: u32, value: u128) {
    put_tag(out, number, VARINT);
    put_varint(out, value);
}

pub(crate) fn put_fixed(out: &mut Vec<u8>, number: u32, value: u64) {
    put_tag(out, number, FIXED);
    out.extend_from_slice(&value.to_le_bytes());
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, number: u32, value: &[u8]) {
    put_tag(out, number, BYTES);
    put_varint(out, value.len() as u128);
    out.extend_from_slice(value);
}

/// A value of parts, which `parts` appends.
pub(crate) fn put_parts(out: &mut Vec<u8>, number: u32, parts: impl FnOnce(&mut Vec<u8>)) {
    put_tag(out, number, BYTES);
    let start = out.len();
    parts(out);
    let length = out.len() - start;
    put_varint(out, length as u128);
    // The length was not known before the parts were there; it belongs before them.
    out[start..].rotate_left(length);
}

/// Takes values from the front of some bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cursor<'a>(pub(crate) &'a [u8]);

impl<'a> Cursor<'a> {
    pub(crate) fn bytes(&mut self, count: usize) -> Result<&'a [u8], Problem> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(ENDS)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(crate) fn varint(&mut self) -> Result<u128, Problem> {
        let mut value = 0_u128;
        for shift in (0..).step_by(7) {
            let (&byte, rest) = self.0.split_first().ok_or(ENDS)?;
            self.0 = rest;
            let low = u128::from(byte & 0x7f);
            // 18 bytes hold 126 bits; a 19th adds the last two.
            if shift > 126 || (shift == 126 && low > 3) {
                return Err("is a varint beyond 128 bits");
            }
            value |= low << shift;
            if byte < 0x80 {
                break;
            }
        }
        Ok(value)
    }

    pub(crate) fn fixed(&mut self) -> Result<u64, Problem> {
        let bytes = self.bytes(8)?;
        Ok(u64::from_le_bytes(std::array::from_fn(|i| bytes[i])))
    }

    /// A varint length and that many bytes.
    pub(crate) fn counted(&mut self) -> Result<&'a [u8], Problem> {
        let length = usize::try_from(self.varint()?).map_err(|_| ENDS)?;
        self.bytes(length)
    }

    /// Nothing may follow.
    pub(crate) fn end(self) -> Result<(), Problem> {
        if self.0.is_empty() { Ok(()) } else { Err("has parts after its last") }
    }

    fn field(&mut self) -> Result<(u32, Value<'a>), Problem> {
        let tag = u64::try_from(self.varint()?).map_err(|_| "has a tag beyond 64 bits")?;
        let number = u32::try_from(tag >> 3).map_err(|_| "has a number beyond 32 bits")?;
        let value = match tag & 7 {
            VARINT => Value::Varint(self.varint()?),
            FIXED => Value::Fixed(self.fixed()?),
            BYTES => Value::Bytes(self.counted()?),
            _ => return Err("has an unknown wire type"),
        };
        Ok((number, value))
    }
}

/// The fields of a body, to be taken by number.
pub(crate) struct Fields<'a> {
    fields: Vec<Taken<'a>>,
    /// Where the search begins: fields are mostly taken in the order they were put.
    next: usize,
}

struct Taken<'a> {
    number: u32,
    value: Value<'a>,
    raw: &'a [u8],
    taken: bool,
}

/// A problem with the field of this number; 0 if the fields could not be told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FieldProblem(pub(crate) u32, pub(crate) Problem);

impl<'a> Fields<'a> {
    pub(crate) fn new(body: &'a [u8]) -> Result<Self, FieldProblem> {
        let mut cursor = Cursor(body);
        let mut fields = Vec::with_capacity(32);
        while !cursor.0.is_empty() {
            let whole = cursor.0;
            let (number, value) = cursor.field().map_err(|problem| FieldProblem(0, problem))?;
            let raw = &whole[..whole.len() - cursor.0.len()];
            fields.push(Taken { number, value, raw, taken: false });
        }
        Ok(Self { fields, next: 0 })
    }

    /// A field that every record of the kind has.
    pub(crate) fn one<T: Field>(&mut self, number: u32) -> Result<T, FieldProblem> {
        self.maybe(number)?.ok_or(FieldProblem(number, "is missing"))
    }

    /// A field that may be left out.
    pub(crate) fn maybe<T: Field>(&mut self, number: u32) -> Result<Option<T>, FieldProblem> {
        let order = (self.next..self.fields.len()).chain(0..self.next.min(self.fields.len()));
        for index in order {
            let field = &mut self.fields[index];
            if field.number == number && !field.taken {
                field.taken = true;
                self.next = index + 1;
                let value = T::take(field.value);
                return value.map(Some).map_err(|problem| FieldProblem(number, problem));
            }
        }
        Ok(None)
    }

    /// A list.
    pub(crate) fn list<T: Field>(&mut self, number: u32) -> Result<Vec<T>, FieldProblem> {
        let mut list = Vec::new();
        for (index, field) in self.fields.iter_mut().enumerate() {
            if field.number == number && !field.taken {
                field.taken = true;
                self.next = index + 1;
                let value = T::take(field.value);
                list.push(value.map_err(|problem| FieldProblem(number, problem))?);
            }
        }
        Ok(list)
    }

    /// What nobody took, as it lay there.
    pub(crate) fn rest(&self) -> Vec<u8> {
        let left = self.fields.iter().filter(|field| !field.taken);
        left.flat_map(|field| field.raw).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_reach_from_end_to_end_and_no_further() {
        for value in [0, 1, 0x7f, 0x80, u128::from(u64::MAX), 1 << 126, u128::MAX] {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value);
            let mut cursor = Cursor(&bytes);
            assert_eq!(cursor.varint(), Ok(value));
            assert_eq!(cursor.end(), Ok(()));
            assert_eq!(Cursor(&bytes[..bytes.len() - 1]).varint(), Err(ENDS));
        }
        let nineteenth = |last| [&[0xff; 18][..], &[last]].concat();
        assert_eq!(Cursor(&nineteenth(3)).varint(), Ok(u128::MAX));
        for beyond in [nineteenth(4), nineteenth(0x83), vec![0x80; 30]] {
            assert!(Cursor(&beyond).varint().is_err());
        }
        for value in [0, -1, 1, i128::MIN, i128::MAX] {
            assert_eq!(unzigzag(zigzag(value)), value);
        }
        assert_eq!([0, -1, 1, -2].map(zigzag), [0, 1, 2, 3]);
    }
}
