//! A moment of the log in a query: a position, or a time.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, de::Error};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        RefOr,
        schema::{ObjectBuilder, Schema, Type},
    },
};

use crate::{domain::Timestamp, service};

/// `?as_of=`: what was written up to a position, or by a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AsOf(pub service::AsOf);

impl<'de> Deserialize<'de> for AsOf {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            // Beyond what a position can be, none is reached.
            let position = text
                .parse()
                .ok()
                .filter(|position| *position <= i64::MAX as u64);
            let position = position.ok_or_else(|| D::Error::custom("a position of the log"))?;
            return Ok(Self(service::AsOf::Position(position)));
        }
        // Between two microseconds nothing is written: the one before stands for it.
        let time = DateTime::parse_from_rfc3339(&text).map_err(|_| {
            D::Error::custom("a position, or a time as RFC 3339 has it, `2026-11-24T06:30:00Z`")
        })?;
        let time = Timestamp::from_datetime(time.with_timezone(&Utc));
        Ok(Self(service::AsOf::Time(time)))
    }
}

impl PartialSchema for AsOf {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some("A position of the log, or a time as RFC 3339 has it."))
            .max_length(Some(64))
            .into()
    }
}

impl ToSchema for AsOf {}

#[cfg(test)]
mod tests {
    use serde::de::{IntoDeserializer, value};

    use super::*;

    #[test]
    fn a_moment_is_a_position_or_a_time() {
        let read = |text: &str| -> Option<service::AsOf> {
            let deserializer: value::StrDeserializer<'_, value::Error> = text.into_deserializer();
            AsOf::deserialize(deserializer)
                .ok()
                .map(|AsOf(moment)| moment)
        };
        assert_eq!(read("17"), Some(service::AsOf::Position(17)));
        let time = service::AsOf::Time(Timestamp(1_500_000));
        assert_eq!(read("1970-01-01T00:00:01.5Z"), Some(time));
        for wrong in ["", "-1", "99999999999999999999", "yesterday", "2026-11-24"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
