//! What a value's own code says of its failure, kept beside an error that cannot hold it.
//!
//! postcard's errors are one byte, which is good, and drop the text that a `Serialize` or a `Deserialize` gives
//! (`Error::custom`), which is not: it is often all that tells which value it was. So the codec's serializer and deserializer are
//! put into wrappers whose error is the same byte, and whose `custom` puts the text where [`take`] finds it. Everything else is
//! handed on, and nothing is left of it in an optimised build.

use std::{cell::Cell, fmt};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, DeserializeSeed, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor},
    ser,
};

thread_local! {
    static TEXT: Cell<Option<String>> = const { Cell::new(None) };
}

/// The text that was given last on this thread.
pub(super) fn take() -> Option<String> {
    TEXT.take()
}

/// Something with errors of its own, in a wrapper with errors that are [`Told`].
pub(super) struct Telling<T>(pub(super) T);

/// An error whose text was kept.
#[derive(Debug)]
pub(super) struct Told<E>(pub(super) E);

impl<E: fmt::Display> fmt::Display for Told<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<E: std::error::Error> std::error::Error for Told<E> {}

#[cold]
fn keep(text: &dyn fmt::Display) {
    TEXT.set(Some(text.to_string()));
}

impl<E: ser::Error> ser::Error for Told<E> {
    fn custom<T: fmt::Display>(text: T) -> Self {
        keep(&text);
        Self(E::custom(text))
    }
}

impl<E: de::Error> de::Error for Told<E> {
    fn custom<T: fmt::Display>(text: T) -> Self {
        keep(&text);
        Self(E::custom(text))
    }
}

/// Methods that only hand on what they get.
macro_rules! hand_on {
    ($ok:ty: $($name:ident($($arg:ident: $type:ty),*);)*) => {
        $(
            #[inline]
            fn $name(self, $($arg: $type),*) -> Result<$ok, Self::Error> {
                self.0.$name($($arg),*).map_err(Told)
            }
        )*
    };
}

/// The beginnings of compounds.
macro_rules! begin {
    ($($name:ident($($arg:ident: $type:ty),*) -> $compound:ident;)*) => {
        $(
            type $compound = Telling<S::$compound>;

            #[inline]
            fn $name(self, $($arg: $type),*) -> Result<Self::$compound, Self::Error> {
                self.0.$name($($arg),*).map(Telling).map_err(Told)
            }
        )*
    };
}

type Name = &'static str;

impl<S: Serializer> Serializer for Telling<S> {
    type Ok = S::Ok;
    type Error = Told<S::Error>;

    hand_on! { S::Ok:
        serialize_bool(v: bool);
        serialize_i8(v: i8);
        serialize_i16(v: i16);
        serialize_i32(v: i32);
        serialize_i64(v: i64);
        serialize_i128(v: i128);
        serialize_u8(v: u8);
        serialize_u16(v: u16);
        serialize_u32(v: u32);
        serialize_u64(v: u64);
        serialize_u128(v: u128);
        serialize_f32(v: f32);
        serialize_f64(v: f64);
        serialize_char(v: char);
        serialize_str(v: &str);
        serialize_bytes(v: &[u8]);
        serialize_none();
        serialize_unit();
        serialize_unit_struct(name: Name);
        serialize_unit_variant(name: Name, index: u32, variant: Name);
    }

    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, Self::Error> {
        self.0.serialize_some(&Telling(value)).map_err(Told)
    }

    #[inline]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: Name,
        value: &T,
    ) -> Result<S::Ok, Self::Error> {
        self.0.serialize_newtype_struct(name, &Telling(value)).map_err(Told)
    }

    #[inline]
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: Name,
        index: u32,
        variant: Name,
        value: &T,
    ) -> Result<S::Ok, Self::Error> {
        self.0.serialize_newtype_variant(name, index, variant, &Telling(value)).map_err(Told)
    }

    #[inline]
    fn collect_str<T: fmt::Display + ?Sized>(self, value: &T) -> Result<S::Ok, Self::Error> {
        self.0.collect_str(value).map_err(Told)
    }

    begin! {
        serialize_seq(len: Option<usize>) -> SerializeSeq;
        serialize_tuple(len: usize) -> SerializeTuple;
        serialize_tuple_struct(name: Name, len: usize) -> SerializeTupleStruct;
        serialize_tuple_variant(name: Name, index: u32, variant: Name, len: usize) -> SerializeTupleVariant;
        serialize_map(len: Option<usize>) -> SerializeMap;
        serialize_struct(name: Name, len: usize) -> SerializeStruct;
        serialize_struct_variant(name: Name, index: u32, variant: Name, len: usize) -> SerializeStructVariant;
    }

    #[inline]
    fn is_human_readable(&self) -> bool {
        self.0.is_human_readable()
    }
}

impl<T: Serialize + ?Sized> Serialize for Telling<&T> {
    #[inline]
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(Telling(serializer)).map_err(|told| told.0)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Telling<T> {
    #[inline]
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(Telling(deserializer)).map(Telling).map_err(|told| told.0)
    }
}

/// Compounds, by the methods that take one of their values, behind its name if it has one.
macro_rules! compounds {
    ($($compound:ident { $($name:ident($($arg:ident: $type:ty)?);)* })*) => {
        $(
            impl<S: ser::$compound> ser::$compound for Telling<S> {
                type Ok = S::Ok;
                type Error = Told<S::Error>;

                $(
                    #[inline]
                    fn $name<T: Serialize + ?Sized>(&mut self, $($arg: $type,)? value: &T) -> Result<(), Self::Error> {
                        self.0.$name($($arg,)? &Telling(value)).map_err(Told)
                    }
                )*

                #[inline]
                fn end(self) -> Result<S::Ok, Self::Error> {
                    self.0.end().map_err(Told)
                }
            }
        )*
    };
}

compounds! {
    SerializeSeq { serialize_element(); }
    SerializeTuple { serialize_element(); }
    SerializeTupleStruct { serialize_field(); }
    SerializeTupleVariant { serialize_field(); }
    SerializeMap { serialize_key(); serialize_value(); }
    SerializeStruct { serialize_field(name: Name); }
    SerializeStructVariant { serialize_field(name: Name); }
}

/// Methods that hand a visitor on.
macro_rules! hand_visitor_on {
    ($($name:ident($($arg:ident: $type:ty),*);)*) => {
        $(
            #[inline]
            fn $name<V: Visitor<'de>>(self, $($arg: $type,)* visitor: V) -> Result<V::Value, Self::Error> {
                self.0.$name($($arg,)* Telling(visitor)).map_err(Told)
            }
        )*
    };
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Telling<D> {
    type Error = Told<D::Error>;

    hand_visitor_on! {
        deserialize_any();
        deserialize_bool();
        deserialize_i8();
        deserialize_i16();
        deserialize_i32();
        deserialize_i64();
        deserialize_i128();
        deserialize_u8();
        deserialize_u16();
        deserialize_u32();
        deserialize_u64();
        deserialize_u128();
        deserialize_f32();
        deserialize_f64();
        deserialize_char();
        deserialize_str();
        deserialize_string();
        deserialize_bytes();
        deserialize_byte_buf();
        deserialize_option();
        deserialize_unit();
        deserialize_unit_struct(name: Name);
        deserialize_newtype_struct(name: Name);
        deserialize_seq();
        deserialize_tuple(len: usize);
        deserialize_tuple_struct(name: Name, len: usize);
        deserialize_map();
        deserialize_struct(name: Name, fields: &'static [Name]);
        deserialize_enum(name: Name, variants: &'static [Name]);
        deserialize_identifier();
        deserialize_ignored_any();
    }

    #[inline]
    fn is_human_readable(&self) -> bool {
        self.0.is_human_readable()
    }
}

/// What a visitor may find, as it is, or as something that has errors of its own.
macro_rules! visits {
    (values: $($value:ident($type:ty);)*) => {
        $(
            #[inline]
            fn $value<E: de::Error>(self, value: $type) -> Result<V::Value, E> {
                self.0.$value(value).map_err(|told: Told<E>| told.0)
            }
        )*
    };
    (sources: $($source:ident<$bound:ident>;)*) => {
        $(
            #[inline]
            fn $source<A: $bound<'de>>(self, source: A) -> Result<V::Value, A::Error> {
                self.0.$source(Telling(source)).map_err(|told| told.0)
            }
        )*
    };
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Telling<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(f)
    }

    visits! { values:
        visit_bool(bool);
        visit_i8(i8);
        visit_i16(i16);
        visit_i32(i32);
        visit_i64(i64);
        visit_i128(i128);
        visit_u8(u8);
        visit_u16(u16);
        visit_u32(u32);
        visit_u64(u64);
        visit_u128(u128);
        visit_f32(f32);
        visit_f64(f64);
        visit_char(char);
        visit_str(&str);
        visit_borrowed_str(&'de str);
        visit_string(String);
        visit_bytes(&[u8]);
        visit_borrowed_bytes(&'de [u8]);
        visit_byte_buf(Vec<u8>);
    }

    #[inline]
    fn visit_none<E: de::Error>(self) -> Result<V::Value, E> {
        self.0.visit_none().map_err(|told: Told<E>| told.0)
    }

    #[inline]
    fn visit_unit<E: de::Error>(self) -> Result<V::Value, E> {
        self.0.visit_unit().map_err(|told: Told<E>| told.0)
    }

    visits! { sources:
        visit_some<Deserializer>;
        visit_newtype_struct<Deserializer>;
        visit_seq<SeqAccess>;
        visit_map<MapAccess>;
        visit_enum<EnumAccess>;
    }
}

impl<'de, T: DeserializeSeed<'de>> DeserializeSeed<'de> for Telling<T> {
    type Value = T::Value;

    #[inline]
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T::Value, D::Error> {
        self.0.deserialize(Telling(deserializer)).map_err(|told| told.0)
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Telling<A> {
    type Error = Told<A::Error>;

    #[inline]
    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Self::Error> {
        self.0.next_element_seed(Telling(seed)).map_err(Told)
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        self.0.size_hint()
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Telling<A> {
    type Error = Told<A::Error>;

    #[inline]
    fn next_key_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Self::Error> {
        self.0.next_key_seed(Telling(seed)).map_err(Told)
    }

    #[inline]
    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Self::Error> {
        self.0.next_value_seed(Telling(seed)).map_err(Told)
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        self.0.size_hint()
    }
}

impl<'de, A: EnumAccess<'de>> EnumAccess<'de> for Telling<A> {
    type Error = Told<A::Error>;
    type Variant = Telling<A::Variant>;

    #[inline]
    fn variant_seed<T: DeserializeSeed<'de>>(
        self,
        seed: T,
    ) -> Result<(T::Value, Self::Variant), Self::Error> {
        let (value, variant) = self.0.variant_seed(Telling(seed)).map_err(Told)?;
        Ok((value, Telling(variant)))
    }
}

impl<'de, A: VariantAccess<'de>> VariantAccess<'de> for Telling<A> {
    type Error = Told<A::Error>;

    #[inline]
    fn unit_variant(self) -> Result<(), Self::Error> {
        self.0.unit_variant().map_err(Told)
    }

    #[inline]
    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Self::Error> {
        self.0.newtype_variant_seed(Telling(seed)).map_err(Told)
    }

    hand_visitor_on! {
        tuple_variant(len: usize);
        struct_variant(fields: &'static [Name]);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

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
        // Serde's own code has something to say as well, and what postcard says is as before.
        let error = decode::<std::num::NonZeroU8>(&[0], Vec::new()).unwrap_err();
        assert!(error.cause.contains("nonzero"), "{error}");
        let error = decode::<u32>(&[], Vec::new()).unwrap_err();
        assert_eq!(error.cause, postcard::Error::DeserializeUnexpectedEnd.to_string());
    }

    #[test]
    fn bytes_are_what_postcard_alone_writes_and_reads() {
        let more = [
            Any::Unit,
            Any::Numbers(-1, -2, -300, -70_000, -5, 200, 300, 70_000, u64::MAX, u128::MAX, 0.5, -0.25),
            Any::Texts('ß', "text".to_owned(), ()),
        ];
        for value in all(8).into_iter().chain(more) {
            let bytes = encode(&value).unwrap().bytes;
            assert_eq!(bytes, postcard::to_stdvec(&value).unwrap());
            assert_eq!(decode::<Any>(&bytes, Vec::new()).unwrap(), value);
        }
    }
}
