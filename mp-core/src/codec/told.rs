//! What a value's own code says of its failure, kept beside an error that cannot hold it.
//!
//! postcard's errors are one byte, which is good, and drop the text that a `Serialize` or a `Deserialize` gives
//! (`Error::custom`), which is not: it is often all that tells which value it was. So the codec's serializer and deserializer are
//! put into wrappers whose error is the same byte, and whose `custom` puts the text where [`take`] finds it. Everything else is
//! handed on, and nothing is left of it in an optimised build.
//!
//! All but one thing: postcard writes integers byte by byte, seven bits in each, and floats as they are. The former is shorter for
//! small numbers, and takes up to eight times as long. Between processes of one machine time counts, so integers of 32 and 64 bits
//! travel as the floats of the same bytes, which no move changes. Lengths and the numbers of variants, mostly small, stay as they are.

use std::{cell::Cell, fmt};

use serde::{Serialize, Serializer, de, ser};

mod reading;
#[cfg(test)]
mod tests;

thread_local! {
    static TEXT: Cell<Option<String>> = const { Cell::new(None) };
}

/// The text that was given last on this thread.
pub(super) fn take() -> Option<String> {
    TEXT.try_with(Cell::take).ok().flatten()
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
    let _ = TEXT.try_with(|kept| kept.set(Some(text.to_string())));
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

/// Integers that are written as they are.
macro_rules! whole {
    ($($name:ident($int:ty) as $float_name:ident($float:ident);)*) => {
        $(
            #[inline]
            fn $name(self, v: $int) -> Result<S::Ok, Self::Error> {
                self.0.$float_name($float::from_ne_bytes(v.to_ne_bytes())).map_err(Told)
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
        serialize_i128(v: i128);
        serialize_u8(v: u8);
        serialize_u16(v: u16);
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

    whole! {
        serialize_i32(i32) as serialize_f32(f32);
        serialize_u32(u32) as serialize_f32(f32);
        serialize_i64(i64) as serialize_f64(f64);
        serialize_u64(u64) as serialize_f64(f64);
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
