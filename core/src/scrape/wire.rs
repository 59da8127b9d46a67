//! Protobuf's wire format: messages as fields, each a number behind its tag. Read by hand, as they lie in the body, without
//! a tree of objects between.

/// The error says what is wrong with the body.
pub(super) type Result<T> = std::result::Result<T, String>;

#[derive(Clone, Copy)]
pub(super) enum Field<'a> {
    Varint(u64),
    Fixed(u64),
    Bytes(&'a [u8]),
    /// Of a kind that the schema does not use.
    Other,
}

/// Walks the fields of a message.
pub(super) struct Fields<'a> {
    pub(super) rest: &'a [u8],
}

fn cut() -> String {
    "unexpected end of a protobuf message".into()
}

impl<'a> Fields<'a> {
    pub(super) fn new(message: &'a [u8]) -> Fields<'a> {
        Fields { rest: message }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        if length > self.rest.len() {
            return Err(cut());
        }
        let (taken, rest) = self.rest.split_at(length);
        self.rest = rest;
        Ok(taken)
    }

    fn varint(&mut self) -> Result<u64> {
        let mut value = 0u64;
        for shift in (0..70).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err("a protobuf number has more than 64 bits".into())
    }

    fn fixed(&mut self) -> Result<u64> {
        let bytes: [u8; 8] = self.take(8)?.try_into().map_err(|_| cut())?;
        Ok(u64::from_le_bytes(bytes))
    }

    pub(super) fn bytes(&mut self) -> Result<&'a [u8]> {
        let length = self.varint()?;
        self.take(usize::try_from(length).map_err(|_| cut())?)
    }

    /// The next field's number and value; None at the end.
    pub(super) fn next(&mut self) -> Result<Option<(u64, Field<'a>)>> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let field = match tag & 7 {
            0 => Field::Varint(self.varint()?),
            1 => Field::Fixed(self.fixed()?),
            2 => Field::Bytes(self.bytes()?),
            5 => {
                self.take(4)?;
                Field::Other
            }
            kind => return Err(format!("a protobuf field has wire type {kind}, which this format does not use")),
        };
        Ok(Some((tag >> 3, field)))
    }
}

impl<'a> Field<'a> {
    fn wrong(what: &str) -> String {
        format!("a protobuf field is no {what}")
    }

    pub(super) fn message(self) -> Result<Fields<'a>> {
        match self {
            Field::Bytes(bytes) => Ok(Fields::new(bytes)),
            _ => Err(Field::wrong("message")),
        }
    }

    pub(super) fn text(self) -> Result<&'a str> {
        match self {
            Field::Bytes(bytes) => {
                std::str::from_utf8(bytes).map_err(|_| format!("{:?} is not UTF-8", String::from_utf8_lossy(bytes)))
            }
            _ => Err(Field::wrong("text")),
        }
    }

    pub(super) fn float(self) -> Result<f64> {
        match self {
            Field::Fixed(bits) => Ok(f64::from_bits(bits)),
            _ => Err(Field::wrong("double")),
        }
    }

    pub(super) fn integer(self) -> Result<u64> {
        match self {
            Field::Varint(value) => Ok(value),
            _ => Err(Field::wrong("integer")),
        }
    }

    pub(super) fn signed(self) -> Result<i64> {
        self.integer().map(unzigzag)
    }

    /// A repeated number, one by one or packed.
    pub(super) fn signed_all(self, out: &mut Vec<i64>) -> Result<()> {
        match self {
            Field::Bytes(packed) => {
                let mut fields = Fields::new(packed);
                while !fields.rest.is_empty() {
                    out.push(unzigzag(fields.varint()?));
                }
            }
            one => out.push(one.signed()?),
        }
        Ok(())
    }

    pub(super) fn floats_all(self, out: &mut Vec<f64>) -> Result<()> {
        match self {
            Field::Bytes(packed) => {
                let mut fields = Fields::new(packed);
                while !fields.rest.is_empty() {
                    out.push(f64::from_bits(fields.fixed()?));
                }
            }
            one => out.push(one.float()?),
        }
        Ok(())
    }
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}
