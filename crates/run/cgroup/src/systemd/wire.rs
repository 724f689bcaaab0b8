//! D-Bus messages as bytes (D-Bus specification, "Message Protocol"): what systemd's manager needs.
//!
//! ```text
//! endianness | type | flags | version 1 | body length | serial | fields a(yv) | padding to 8 | body
//! ```

/// The greatest message that is read; what systemd answers takes some hundred bytes.
pub(crate) const MESSAGE_MAX: usize = 1 << 20;
/// How deep values may stand in each other.
const DEPTH_MAX: usize = 16;

/// A value with its type.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Byte(u8),
    Bool(bool),
    I32(i32),
    U32(u32),
    I64(i64),
    U64(u64),
    F64(f64),
    Str(String),
    Path(String),
    Signature(String),
    /// The signature of its elements, which may be none.
    Array(String, Vec<Value>),
    Struct(Vec<Value>),
    Variant(Box<Value>),
}

impl Value {
    pub(crate) fn str(text: impl Into<String>) -> Value {
        Value::Str(text.into())
    }

    pub(crate) fn variant(value: Value) -> Value {
        Value::Variant(Box::new(value))
    }

    /// Its signature.
    pub(crate) fn signature(&self) -> String {
        match self {
            Value::Byte(_) => "y".to_owned(),
            Value::Bool(_) => "b".to_owned(),
            Value::I32(_) => "i".to_owned(),
            Value::U32(_) => "u".to_owned(),
            Value::I64(_) => "x".to_owned(),
            Value::U64(_) => "t".to_owned(),
            Value::F64(_) => "d".to_owned(),
            Value::Str(_) => "s".to_owned(),
            Value::Path(_) => "o".to_owned(),
            Value::Signature(_) => "g".to_owned(),
            Value::Variant(_) => "v".to_owned(),
            Value::Array(of, _) => format!("a{of}"),
            Value::Struct(fields) => {
                format!("({})", fields.iter().map(Value::signature).collect::<String>())
            }
        }
    }

    /// Its text, where it is one.
    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Value::Str(text) | Value::Path(text) | Value::Signature(text) => Some(text),
            Value::Variant(value) => value.text(),
            _ => None,
        }
    }
}

/// Alignment of the type that a signature begins with.
fn alignment(signature: &str) -> usize {
    match signature.as_bytes().first() {
        Some(b'y' | b'g' | b'v') => 1,
        Some(b'x' | b't' | b'd' | b'(' | b'{') => 8,
        _ => 4,
    }
}

/// Bytes of values; each is aligned as counted from the beginning.
#[derive(Debug, Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn align(&mut self, to: usize) {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
    }

    fn number(&mut self, bytes: &[u8]) {
        self.align(bytes.len());
        self.0.extend(bytes);
    }

    fn text(&mut self, text: &str) {
        self.number(&(text.len() as u32).to_le_bytes());
        self.0.extend(text.as_bytes());
        self.0.push(0);
    }

    fn signature(&mut self, text: &str) {
        // Those of this module are short.
        self.0.push(text.len() as u8);
        self.0.extend(text.as_bytes());
        self.0.push(0);
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Byte(n) => self.0.push(*n),
            Value::Bool(n) => self.number(&u32::from(*n).to_le_bytes()),
            Value::I32(n) => self.number(&n.to_le_bytes()),
            Value::U32(n) => self.number(&n.to_le_bytes()),
            Value::I64(n) => self.number(&n.to_le_bytes()),
            Value::U64(n) => self.number(&n.to_le_bytes()),
            Value::F64(n) => self.number(&n.to_le_bytes()),
            Value::Str(text) | Value::Path(text) => self.text(text),
            Value::Signature(text) => self.signature(text),
            Value::Variant(value) => {
                self.signature(&value.signature());
                self.value(value);
            }
            Value::Struct(fields) => {
                self.align(8);
                fields.iter().for_each(|field| self.value(field));
            }
            Value::Array(of, items) => {
                self.number(&0u32.to_le_bytes());
                let length_at = self.0.len() - 4;
                // Counted are the items, not what aligns the first.
                self.align(alignment(of));
                let start = self.0.len();
                items.iter().for_each(|item| self.value(item));
                let length = (self.0.len() - start) as u32;
                self.0[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
            }
        }
    }
}

/// A method to call.
#[derive(Debug, Clone)]
pub(crate) struct Call<'a> {
    pub(crate) destination: &'a str,
    pub(crate) path: &'a str,
    pub(crate) interface: &'a str,
    pub(crate) member: &'a str,
    pub(crate) body: Vec<Value>,
}

impl Call<'_> {
    /// The message.
    pub(crate) fn encode(&self, serial: u32) -> Vec<u8> {
        let mut body = Writer::default();
        self.body.iter().for_each(|value| body.value(value));
        let field =
            |code: u8, value: Value| Value::Struct(vec![Value::Byte(code), Value::variant(value)]);
        let mut fields = vec![
            field(1, Value::Path(self.path.to_owned())),
            field(2, Value::str(self.interface)),
            field(3, Value::str(self.member)),
            field(6, Value::str(self.destination)),
        ];
        let signature: String = self.body.iter().map(Value::signature).collect();
        if !signature.is_empty() {
            fields.push(field(8, Value::Signature(signature)));
        }
        let mut message = Writer(vec![b'l', 1, 0, 1]);
        message.number(&(body.0.len() as u32).to_le_bytes());
        message.number(&serial.to_le_bytes());
        message.value(&Value::Array("(yv)".to_owned(), fields));
        message.align(8);
        message.0.extend(body.0);
        message.0
    }
}

/// Kinds of messages.
pub(crate) const REPLY: u8 = 2;
/// An error.
pub(crate) const ERROR: u8 = 3;
/// A signal.
pub(crate) const SIGNAL: u8 = 4;

/// A message that came.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Message {
    pub(crate) kind: u8,
    /// The call that it answers.
    pub(crate) reply_to: u32,
    pub(crate) member: String,
    pub(crate) error: String,
    pub(crate) body: Vec<Value>,
}

/// Length of the part that says how long the message is.
pub(crate) const PREFIX: usize = 16;

/// How long the message is that begins so; `None` where it is none, or too long.
pub(crate) fn length(prefix: &[u8; PREFIX]) -> Option<usize> {
    let mut reader = Reader::new(prefix)?;
    reader.at = 4;
    let body = reader.u32()? as usize;
    reader.at = 12;
    let fields = reader.u32()? as usize;
    let all = PREFIX.checked_add(fields)?.checked_next_multiple_of(8)?.checked_add(body)?;
    (prefix[3] == 1 && all <= MESSAGE_MAX).then_some(all)
}

/// Reads a whole message; `None` where it is not one.
pub(crate) fn decode(bytes: &[u8]) -> Option<Message> {
    let mut reader = Reader::new(bytes)?;
    let mut message = Message { kind: *bytes.get(1)?, ..Message::default() };
    reader.at = 12;
    let Value::Array(_, fields) = reader.array("(yv)", 0)? else { return None };
    let mut signature = String::new();
    for field in fields {
        let Value::Struct(pair) = field else { return None };
        let [Value::Byte(code), Value::Variant(value)] = pair.as_slice() else { return None };
        match (code, value.as_ref()) {
            (3, Value::Str(text)) => message.member.clone_from(text),
            (4, Value::Str(text)) => message.error.clone_from(text),
            (5, Value::U32(serial)) => message.reply_to = *serial,
            (8, Value::Signature(text)) => signature.clone_from(text),
            _ => {}
        }
    }
    reader.align(8)?;
    let mut rest = signature.as_str();
    while !rest.is_empty() {
        let (one, after) = split(rest, 0)?;
        message.body.push(reader.value(one, 0)?);
        rest = after;
    }
    Some(message)
}

/// The first complete type of a signature, and what follows it.
fn split(signature: &str, depth: usize) -> Option<(&str, &str)> {
    if depth > DEPTH_MAX {
        return None;
    }
    let length = match signature.as_bytes().first()? {
        b'a' => 1 + split(signature.get(1..)?, depth + 1)?.0.len(),
        b'(' | b'{' => {
            let mut at = 1;
            while !matches!(signature.as_bytes().get(at)?, b')' | b'}') {
                at += split(signature.get(at..)?, depth + 1)?.0.len();
            }
            at + 1
        }
        _ => 1,
    };
    Some((signature.get(..length)?, signature.get(length..)?))
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    big: bool,
}

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8]) -> Option<Reader<'a>> {
        let big = match bytes.first()? {
            b'l' => false,
            b'B' => true,
            _ => return None,
        };
        Some(Reader { bytes, at: 0, big })
    }

    fn align(&mut self, to: usize) -> Option<()> {
        self.at = self.at.checked_next_multiple_of(to)?;
        (self.at <= self.bytes.len()).then_some(())
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(length)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    fn number<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.align(N)?;
        let mut bytes: [u8; N] = self.take(N)?.try_into().ok()?;
        if self.big {
            bytes.reverse();
        }
        Some(bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.number().map(u32::from_le_bytes)
    }

    fn text(&mut self, length: usize) -> Option<String> {
        let text = std::str::from_utf8(self.take(length)?).ok()?.to_owned();
        (self.take(1)? == [0]).then_some(text)
    }

    fn signature(&mut self) -> Option<String> {
        let length = self.take(1)?[0];
        self.text(length.into())
    }

    fn array(&mut self, of: &str, depth: usize) -> Option<Value> {
        let length = self.u32()? as usize;
        self.align(alignment(of))?;
        let end = self.at.checked_add(length).filter(|end| *end <= self.bytes.len())?;
        let mut items = Vec::new();
        while self.at < end {
            items.push(self.value(of, depth + 1)?);
        }
        (self.at == end).then(|| Value::Array(of.to_owned(), items))
    }

    fn value(&mut self, signature: &str, depth: usize) -> Option<Value> {
        if depth > DEPTH_MAX {
            return None;
        }
        Some(match signature.as_bytes().first()? {
            b'y' => Value::Byte(self.take(1)?[0]),
            b'b' => Value::Bool(self.u32()? != 0),
            b'i' => Value::I32(self.number().map(i32::from_le_bytes)?),
            b'u' => Value::U32(self.u32()?),
            b'x' => Value::I64(self.number().map(i64::from_le_bytes)?),
            b't' => Value::U64(self.number().map(u64::from_le_bytes)?),
            b'd' => Value::F64(self.number().map(f64::from_le_bytes)?),
            b's' | b'o' => {
                let length = self.u32()? as usize;
                let text = self.text(length)?;
                if signature == "o" { Value::Path(text) } else { Value::Str(text) }
            }
            b'g' => Value::Signature(self.signature()?),
            b'v' => {
                let signature = self.signature()?;
                let (one, rest) = split(&signature, 0)?;
                if !rest.is_empty() {
                    return None;
                }
                Value::variant(self.value(one, depth + 1)?)
            }
            b'a' => self.array(signature.get(1..)?, depth)?,
            b'(' | b'{' => {
                self.align(8)?;
                let mut fields = Vec::new();
                let mut rest = signature.get(1..signature.len().checked_sub(1)?)?;
                while !rest.is_empty() {
                    let (one, after) = split(rest, depth)?;
                    fields.push(self.value(one, depth + 1)?);
                    rest = after;
                }
                // Or an array of them would have no end.
                if fields.is_empty() {
                    return None;
                }
                Value::Struct(fields)
            }
            _ => return None,
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a peer would send: a call's bytes with another kind and reply serial.
    pub(crate) fn answer(kind: u8, reply_to: u32, member: &str, body: Vec<Value>) -> Vec<u8> {
        let mut values = Writer::default();
        body.iter().for_each(|value| values.value(value));
        let field =
            |code: u8, value: Value| Value::Struct(vec![Value::Byte(code), Value::variant(value)]);
        let mut fields = vec![field(5, Value::U32(reply_to))];
        let name = if kind == ERROR { 4 } else { 3 };
        fields.push(field(name, Value::str(member)));
        let signature = body.iter().map(Value::signature).collect();
        fields.push(field(8, Value::Signature(signature)));
        let mut message = Writer(vec![b'l', kind, 0, 1]);
        message.number(&(values.0.len() as u32).to_le_bytes());
        message.number(&7u32.to_le_bytes());
        message.value(&Value::Array("(yv)".to_owned(), fields));
        message.align(8);
        message.0.extend(values.0);
        message.0
    }

    #[test]
    fn a_call_is_the_specifications_bytes() {
        let call = Call {
            destination: "org.freedesktop.DBus",
            path: "/org/freedesktop/DBus",
            interface: "org.freedesktop.DBus",
            member: "Hello",
            body: vec![],
        };
        // As dbus-send(1) and sd-bus write it, but for the order of fields, which is free.
        let expected = b"l\x01\0\x01\0\0\0\0\x01\0\0\0m\0\0\0\
            \x01\x01o\0\x15\0\0\0/org/freedesktop/DBus\0\0\0\
            \x02\x01s\0\x14\0\0\0org.freedesktop.DBus\0\0\0\0\
            \x03\x01s\0\x05\0\0\0Hello\0\0\0\
            \x06\x01s\0\x14\0\0\0org.freedesktop.DBus\0\0\0\0";
        let bytes = call.encode(1);
        assert_eq!(bytes, expected, "{}", bytes.escape_ascii());
    }

    #[test]
    fn properties_of_units_are_the_specifications_bytes() {
        let pids = Value::Array("u".to_owned(), vec![Value::U32(7)]);
        let property = Value::Struct(vec![Value::str("PIDs"), Value::variant(pids)]);
        let value = Value::Array("(sv)".to_owned(), vec![property]);
        assert_eq!(value.signature(), "a(sv)");
        let mut writer = Writer::default();
        writer.value(&value);
        let expected = b"\x18\0\0\0\0\0\0\0\x04\0\0\0PIDs\0\x02au\0\0\0\0\x04\0\0\0\x07\0\0\0";
        assert_eq!(writer.0, expected, "{}", writer.0.escape_ascii());
    }

    #[test]
    fn answers_are_read_in_either_byte_order() {
        let body = vec![
            Value::U32(5),
            Value::Path("/job/5".to_owned()),
            Value::str("a.scope"),
            Value::Array("(sv)".to_owned(), vec![]),
            Value::variant(Value::Bool(true)),
            Value::F64(0.5),
        ];
        let bytes = answer(SIGNAL, 3, "JobRemoved", body.clone());
        let prefix: &[u8; PREFIX] = bytes[..PREFIX].try_into().unwrap();
        assert_eq!(length(prefix), Some(bytes.len()));
        let message = decode(&bytes).unwrap();
        assert_eq!((message.kind, message.reply_to), (SIGNAL, 3));
        assert_eq!((message.member.as_str(), &message.body), ("JobRemoved", &body));
        let big = b"B\x02\0\x01\0\0\0\x04\0\0\0\x01\0\0\0\x0f\
            \x05\x01u\0\0\0\0\x09\x08\x01g\0\x01u\0\0\0\0\0\x2a";
        let message = decode(big).unwrap();
        assert_eq!((message.reply_to, message.body), (9, vec![Value::U32(42)]));
    }

    #[test]
    fn what_is_cut_off_or_absurd_is_refused() {
        let body = vec![Value::str("text"), Value::variant(Value::U64(1))];
        let bytes = answer(REPLY, 1, "x", body);
        for end in 0..bytes.len() {
            assert_eq!(decode(&bytes[..end]), None, "{end}");
        }
        let mut prefix =
            [b'l', 1, 0, 1, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff];
        assert_eq!(length(&prefix), None);
        prefix[0] = b'x';
        assert_eq!(length(&prefix), None);
        assert_eq!(split(&"a".repeat(100), 0), None);
        assert_eq!(split("(s", 0), None);
        assert_eq!(decode(&answer(REPLY, 1, "x", vec![Value::Struct(vec![])])), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..200),
            at in 0usize..200,
            change in any::<u8>(),
        ) {
            let _read = decode(&bytes);
            bytes = answer(SIGNAL, 3, "JobRemoved", vec![Value::variant(Value::str("x")), Value::Array("(sv)".to_owned(), vec![])]);
            if let Some(byte) = bytes.get_mut(at) {
                *byte = change;
            }
            let _read = decode(&bytes);
        }
    }
}
