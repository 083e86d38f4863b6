//! How events of older schema versions are read: brought to the current version on the
//! way in, never rewritten.
//!
//! To change an event's schema: raise its version in `DomainEvent::event_version`, add an
//! [`Upcaster`] from the version before to [`UPCASTERS`], and a golden log written by the
//! last release to `tests/history/`.

use std::borrow::Cow;

use serde_json::Value;

/// One step from one version of one event to the next.
pub struct Upcaster {
    pub aggregate_type: &'static str,
    pub event_type: &'static str,
    /// The version that it reads.
    pub from: &'static str,
    /// The version that it makes.
    pub to: &'static str,
    /// The change of the externally tagged payload.
    pub change: fn(Value) -> Value,
}

/// Every upcaster there is, in order of versions within an event.
pub const UPCASTERS: &[Upcaster] = &[];

/// A payload that an upcaster cannot work on.
#[derive(Debug, thiserror::Error)]
#[error("the payload of {event_type} is not JSON: {source}")]
pub struct UpcastError {
    event_type: String,
    #[source]
    source: serde_json::Error,
}

/// A payload after the steps that there are for it, and the version that it is then in.
#[derive(Debug, PartialEq, Eq)]
pub struct Upcasted<'a> {
    pub version: &'a str,
    pub payload: Cow<'a, str>,
}

/// The payload in the current version of its event. The caller compares the version with
/// the one that this program writes: a newer event may read as an older one by chance.
///
/// # Errors
/// When an older payload is not JSON.
pub fn upcast<'a>(
    aggregate_type: &str,
    event_type: &str,
    version: &'a str,
    payload: &'a str,
) -> Result<Upcasted<'a>, UpcastError> {
    upcast_with(UPCASTERS, aggregate_type, event_type, version, payload)
}

/// [`upcast`] with a list of one's own.
///
/// # Errors
/// When an older payload is not JSON.
pub fn upcast_with<'a>(
    upcasters: &[Upcaster],
    aggregate_type: &str,
    event_type: &str,
    version: &'a str,
    payload: &'a str,
) -> Result<Upcasted<'a>, UpcastError> {
    let mut version = version;
    let mut value: Option<Value> = None;
    for step in upcasters {
        let applies = step.aggregate_type == aggregate_type
            && step.event_type == event_type
            && step.from == version;
        if !applies {
            continue;
        }
        let before = match value.take() {
            Some(value) => value,
            None => serde_json::from_str(payload).map_err(|source| UpcastError {
                event_type: event_type.to_owned(),
                source,
            })?,
        };
        value = Some((step.change)(before));
        version = step.to;
    }
    let payload = value.map_or(Cow::Borrowed(payload), |value| {
        Cow::Owned(value.to_string())
    });
    Ok(Upcasted { version, payload })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const STEPS: &[Upcaster] = &[
        Upcaster {
            aggregate_type: "workspace",
            event_type: "renamed",
            from: "1",
            to: "2",
            change: |mut value| {
                value["renamed"]["from"] = Value::Null;
                value
            },
        },
        Upcaster {
            aggregate_type: "workspace",
            event_type: "renamed",
            from: "2",
            to: "3",
            change: |value| json!({"workspace_renamed": value["renamed"]}),
        },
    ];

    #[test]
    fn each_step_from_the_stored_version_on_is_taken_once() {
        let read = |version, payload| {
            let read = upcast_with(STEPS, "workspace", "renamed", version, payload).unwrap();
            assert_eq!(read.version, "3");
            read.payload.into_owned()
        };
        assert_eq!(
            read("1", r#"{"renamed":{"to":"b"}}"#),
            r#"{"workspace_renamed":{"from":null,"to":"b"}}"#
        );
        assert_eq!(
            read("2", r#"{"renamed":{"to":"b"}}"#),
            r#"{"workspace_renamed":{"to":"b"}}"#
        );
        assert_eq!(read("3", r#"{"as":"it is"}"#), r#"{"as":"it is"}"#);
    }

    #[test]
    fn a_current_payload_is_not_copied() {
        let read = upcast("workspace", "workspace_renamed", "1", "{}").unwrap();
        assert!(matches!(read.payload, Cow::Borrowed("{}")));
    }
}
