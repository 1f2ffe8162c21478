//! What a value says of its failure is kept, and nothing else changes.

use std::collections::BTreeMap;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{EnumAccess, VariantAccess, Visitor},
};

use crate::transfer::{decode, encode};

/// Is not written if it is 7, and not read if it is 9.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Particular(u32);

impl Serialize for Particular {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 == 7 { Err(serde::ser::Error::custom("seven?")) } else { self.0.serialize(serializer) }
    }
}

impl<'de> Deserialize<'de> for Particular {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = u32::deserialize(deserializer)?;
        if number == 9 { Err(serde::de::Error::custom("nine?")) } else { Ok(Self(number)) }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Any {
    Unit,
    Newtype(Particular),
    Tuple(Particular, Particular),
    Struct { a: bool, b: Particular },
    Some(Option<Particular>),
    Many(Vec<Particular>),
    Array([Particular; 2]),
    Key(BTreeMap<Particular, u8>),
    Value(BTreeMap<u8, Particular>),
    Nested(Box<Any>),
    Plain(PlainStruct, PlainTuple, PlainUnit),
    Numbers(i8, i16, i32, i64, i128, u8, u16, u32, u64, u128, f32, f64),
    Texts(char, String, ()),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct PlainStruct {
    a: Particular,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct PlainTuple(u8, Particular);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct PlainUnit;

/// One of each kind, with the number everywhere.
fn all(number: u32) -> Vec<Any> {
    let one = || Particular(number);
    vec![
        Any::Newtype(one()),
        Any::Tuple(Particular(0), one()),
        Any::Struct { a: true, b: one() },
        Any::Some(Some(one())),
        Any::Many(vec![Particular(1), one()]),
        Any::Array([Particular(2), one()]),
        Any::Key([(one(), 1)].into()),
        Any::Value([(1, one())].into()),
        Any::Nested(Box::new(Any::Newtype(one()))),
        Any::Plain(PlainStruct { a: Particular(3) }, PlainTuple(1, one()), PlainUnit),
        Any::Plain(PlainStruct { a: one() }, PlainTuple(1, Particular(3)), PlainUnit),
    ]
}

#[test]
fn what_a_value_says_of_its_failure_is_kept_wherever_it_stands() {
    for value in all(7) {
        let error = encode(&value).unwrap_err();
        assert_eq!(error.cause, "seven?", "{value:?}");
    }
    for value in all(9) {
        let bytes = encode(&value).unwrap().bytes;
        assert_eq!(decode::<Any>(&bytes, Vec::new()).unwrap_err().cause, "nine?", "{value:?}");
    }
    // Serde's own code has something to say as well, and what postcard finds is said in other words.
    let error = decode::<std::num::NonZeroU8>(&[0], Vec::new()).unwrap_err();
    assert!(error.cause.contains("nonzero"), "{error}");
    let error = decode::<u32>(&[], Vec::new()).unwrap_err();
    assert!(error.cause.starts_with("its bytes end too early; "), "{error}");
}

#[test]
fn all_but_integers_is_what_postcard_alone_writes_and_reads() {
    let plain = (-1_i8, -300_i16, 200_u8, 300_u16, i128::MIN, u128::MAX, 0.5_f32, -0.25_f64);
    let texts = (Some('ß'), vec!["text".to_owned()], Any::Unit, true);
    let bytes = encode(&(plain, &texts)).unwrap().bytes;
    assert_eq!(bytes, postcard::to_stdvec(&(plain, &texts)).unwrap());
    assert!(decode(&bytes, Vec::new()).is_ok_and(|read| (plain, texts) == read));
    for value in all(8) {
        let bytes = encode(&value).unwrap().bytes;
        assert_eq!(decode::<Any>(&bytes, Vec::new()).unwrap(), value);
    }
}

#[test]
fn integers_travel_as_they_are_whatever_float_that_would_be() {
    let numbers = Any::Numbers(-1, -2, -300, -70_000, -5, 200, 300, 70_000, u64::MAX, u128::MAX, 0.5, -0.25);
    let bytes = encode(&numbers).unwrap().bytes;
    assert_eq!(decode::<Any>(&bytes, Vec::new()).unwrap(), numbers);
    assert_eq!(encode(&(1_u32, 2_i64)).unwrap().bytes, [1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
    // Infinities, and what is no number: the quiet and the signalling.
    for sign in [0, 1 << 63] {
        for bits in
            [0x7ff0 << 48, 0x7ff0 << 48 | 1, 0x7ff4 << 48, 0x7ff8 << 48, 0x7ff8 << 48 | 1, u64::MAX >> 1]
        {
            let (long, short) = (sign | bits, (sign | bits) >> 32 | bits & 1);
            let numbers = (long, long.cast_signed(), short as u32, (short as u32).cast_signed(), [long; 3]);
            let bytes = encode(&numbers).unwrap().bytes;
            assert_eq!(bytes[..8], long.to_le_bytes());
            assert_eq!(decode::<(u64, i64, u32, i32, [u64; 3])>(&bytes, Vec::new()).unwrap(), numbers);
        }
    }
}

/// An enum by hand, which asks for the number of its variant as a number.
#[derive(Debug, PartialEq)]
struct Numbered(u64);

impl Serialize for Numbered {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_newtype_variant("Numbered", 300, "Other", &self.0)
    }
}

impl<'de> Deserialize<'de> for Numbered {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Variant;

        impl<'de> Visitor<'de> for Variant {
            type Value = Numbered;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a variant")
            }

            fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<Numbered, A::Error> {
                let (number, variant) = data.variant::<u32>()?;
                assert_eq!(number, 300);
                variant.newtype_variant().map(Numbered)
            }
        }

        deserializer.deserialize_enum("Numbered", &["Other"], Variant)
    }
}

#[test]
fn the_number_of_a_variant_may_be_read_as_one() {
    let bytes = encode(&Numbered(5)).unwrap().bytes;
    assert_eq!(decode::<Numbered>(&bytes, Vec::new()).unwrap(), Numbered(5));
}
