//! Whatever reads a value whose long runs came apart reads what was written, and owns their memory if it wants to.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, Visitor},
};

use super::{LONG, Long};
use crate::transfer::{DecodeError, decode, decode_with, encode, encode_each};

/// Bytes that are written as such and read in one of several ways.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Bytes<const HOW: u8>(Vec<u8>);

const OWNED: u8 = 0;
const LENT: u8 = 1;
const ONE_BY_ONE: u8 = 2;

impl<const HOW: u8> Serialize for Bytes<HOW> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de, const HOW: u8> Deserialize<'de> for Bytes<HOW> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AsBytes;

        impl Visitor<'_> for AsBytes {
            type Value = Vec<u8>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
                Ok(bytes.to_vec())
            }

            fn visit_byte_buf<E: de::Error>(self, bytes: Vec<u8>) -> Result<Vec<u8>, E> {
                Ok(bytes)
            }
        }

        match HOW {
            OWNED => deserializer.deserialize_byte_buf(AsBytes),
            LENT => deserializer.deserialize_bytes(AsBytes),
            _ => Vec::deserialize(deserializer),
        }
        .map(Self)
    }
}

/// Is written as a text in three parts.
struct Shown(String);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<")?;
        f.write_str(&self.0)?;
        f.write_str(">")
    }
}

impl Serialize for Shown {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A text that is read as one that is only lent.
#[derive(Debug, PartialEq, Eq)]
struct Lent(String);

impl<'de> Deserialize<'de> for Lent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AsText;

        impl Visitor<'_> for AsText {
            type Value = String;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<String, E> {
                Ok(text.to_owned())
            }
        }

        deserializer.deserialize_str(AsText).map(Self)
    }
}

/// The encoded value, without its long runs, and these.
fn apart<T: Serialize>(value: &T) -> (Vec<u8>, Vec<Long>) {
    let (mut short, mut long) = (Vec::new(), Vec::new());
    let mut take = |at, bytes: &[u8]| {
        long.push(Long { at, bytes: bytes.to_vec() });
        true
    };
    encode_each([value], &mut short, &mut take, |_, _| true).unwrap();
    (short, long)
}

fn there_and_back<T: Serialize, R: de::DeserializeOwned>(value: &T, runs: usize) -> R {
    let (short, mut long) = apart(value);
    assert_eq!(long.len(), runs);
    assert!(short.len() < 2 * LONG);
    decode_with(&short, &mut long, Vec::new()).unwrap()
}

fn bytes<const HOW: u8>(len: usize) -> Bytes<HOW> {
    Bytes((0..len).map(|i| (i % 251) as u8).collect())
}

#[test]
fn long_runs_are_found_where_they_belong() {
    let value = (
        (7_u8, bytes::<OWNED>(LONG), "short".to_owned()),
        (bytes::<ONE_BY_ONE>(LONG + 1), bytes::<OWNED>(LONG), bytes::<OWNED>(LONG - 1)),
        ("é".repeat(LONG), bytes::<LENT>(2 * LONG), 1.5_f64, String::new(), bytes::<OWNED>(0)),
        vec![Some(bytes::<LENT>(LONG)), None, Some(bytes(LONG))],
    );
    let back = there_and_back(&value, 7);
    assert!(value == back);
    // As if they had not been apart.
    assert!(value == decode(&encode(&value).unwrap().bytes, Vec::new()).unwrap());
    assert!(there_and_back::<_, (u8, f32)>(&(1_u8, 2.5_f32), 0) == (1, 2.5));
}

#[test]
fn their_memory_is_handed_over() {
    let value = (1_u8, bytes::<OWNED>(LONG), "x".repeat(LONG), bytes::<LENT>(LONG));
    let (short, mut long) = apart(&value);
    let memory: Vec<_> = long.iter().map(|long| long.bytes.as_ptr()).collect();
    let back: (u8, Bytes<OWNED>, String, Bytes<LENT>) = decode_with(&short, &mut long, Vec::new()).unwrap();
    assert!(value == back);
    let got = [back.1.0.as_ptr(), back.2.as_ptr(), back.3.0.as_ptr()];
    assert_eq!((got[0], got[1]), (memory[0], memory[1]));
    assert_ne!(got[2], memory[2]);
}

/// Here the long run is but a part of what is read at once.
#[test]
fn what_lies_across_an_end_is_read_as_well() {
    let text = "x".repeat(LONG);
    let value = (Shown(text.clone()), bytes::<OWNED>(LONG), 3.5_f64);
    let expected = format!("<{text}>");
    let owned: (String, Bytes<OWNED>, f64) = there_and_back(&value, 2);
    assert!(owned == (expected.clone(), bytes(LONG), 3.5));
    let lent: (Lent, Bytes<ONE_BY_ONE>, f64) = there_and_back(&value, 2);
    assert!(lent == (Lent(expected), bytes(LONG), 3.5));
}

#[test]
fn nonsense_is_an_error() {
    let value = (bytes::<OWNED>(LONG), 1_u8);
    type Value = (Bytes<OWNED>, u8);
    let read = |short: &[u8], mut long: Vec<Long>| -> Result<Value, DecodeError> {
        decode_with(short, &mut long, Vec::new())
    };
    let (short, _) = apart(&value);
    let long = |at, len| Long { at, bytes: vec![0; len] };
    let at = short.len() - 1;
    read(&short, vec![long(at, LONG)]).unwrap();
    for wrong in [
        vec![],
        vec![long(at, LONG - 1)],
        vec![long(at, LONG + 1)],
        vec![long(at + 2, LONG)],
        vec![long(at, LONG), long(at + 1, 1)],
        vec![long(at, LONG), long(at - 1, 1)],
        vec![long(usize::MAX, LONG)],
    ] {
        read(&short, wrong).unwrap_err();
    }
    read(&short[..at], vec![long(at, LONG)]).unwrap_err();
    let mut latin = vec![Long { at: short.len() - 1, bytes: vec![0xff; LONG] }];
    decode_with::<(String, u8)>(&short, &mut latin, Vec::new()).unwrap_err();
    // And nothing of it is left for the next.
    assert_eq!(decode::<String>(&encode("").unwrap().bytes, Vec::new()).unwrap(), "");
}

/// A `Deserialize` that fails, or decodes something else meanwhile, gets and leaves nothing that is another's.
#[test]
fn values_within_values_keep_apart() {
    #[derive(Debug)]
    struct Nesting(Vec<u8>);

    impl<'de> Deserialize<'de> for Nesting {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let (short, mut long) = apart(&bytes::<OWNED>(LONG + 3));
            let inner: Bytes<OWNED> = decode_with(&short, &mut long, Vec::new()).unwrap();
            assert_eq!(inner.0.len(), LONG + 3);
            assert_eq!(decode::<String>(&[0], Vec::new()).unwrap(), "");
            Bytes::<OWNED>::deserialize(deserializer).map(|bytes| Self(bytes.0))
        }
    }

    let back: Nesting = there_and_back(&bytes::<OWNED>(LONG), 1);
    assert!(back.0 == bytes::<OWNED>(LONG).0);
}
