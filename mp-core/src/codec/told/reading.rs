//! The same for values that are read: a `Deserialize` gets wrappers, which hand on what it finds.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeSeed, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor},
};

use super::{Name, Telling, Told};
use crate::codec::apart;

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Telling<T> {
    #[inline]
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(Telling(deserializer)).map(Telling).map_err(|told| told.0)
    }
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

/// Integers that were written as floats of the same bytes.
macro_rules! whole {
    ($($name:ident, $visit:ident($int:ty) as $float_name:ident, $float_visit:ident($float:ty);)*) => {
        $(
            #[inline]
            fn $name<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
                struct Whole<V>(V);

                impl<'de, V: Visitor<'de>> Visitor<'de> for Whole<V> {
                    type Value = V::Value;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        self.0.expecting(f)
                    }

                    #[inline]
                    fn $float_visit<E: de::Error>(self, value: $float) -> Result<V::Value, E> {
                        self.0.$visit(<$int>::from_ne_bytes(value.to_ne_bytes()))
                    }

                    /// The number of a variant, which was written as such.
                    #[inline]
                    fn visit_u32<E: de::Error>(self, value: u32) -> Result<V::Value, E> {
                        self.0.visit_u32(value)
                    }
                }

                self.0.$float_name(Whole(Telling(visitor))).map_err(Told)
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
        deserialize_i128();
        deserialize_u8();
        deserialize_u16();
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

    whole! {
        deserialize_i32, visit_i32(i32) as deserialize_f32, visit_f32(f32);
        deserialize_u32, visit_u32(u32) as deserialize_f32, visit_f32(f32);
        deserialize_i64, visit_i64(i64) as deserialize_f64, visit_f64(f64);
        deserialize_u64, visit_u64(u64) as deserialize_f64, visit_f64(f64);
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
        visit_borrowed_str(&'de str);
        visit_string(String);
        visit_borrowed_bytes(&'de [u8]);
        visit_byte_buf(Vec<u8>);
    }

    #[inline]
    fn visit_str<E: de::Error>(self, value: &str) -> Result<V::Value, E> {
        if value.is_empty()
            && let Some(whole) = apart::whole()
        {
            let text = String::from_utf8(whole).map_err(E::custom)?;
            return self.0.visit_string(text).map_err(|told: Told<E>| told.0);
        }
        self.0.visit_str(value).map_err(|told: Told<E>| told.0)
    }

    #[inline]
    fn visit_bytes<E: de::Error>(self, value: &[u8]) -> Result<V::Value, E> {
        if value.is_empty()
            && let Some(whole) = apart::whole()
        {
            return self.0.visit_byte_buf(whole).map_err(|told: Told<E>| told.0);
        }
        self.0.visit_bytes(value).map_err(|told: Told<E>| told.0)
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
