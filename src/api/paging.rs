//! Lists in pages: `limit`, and a `cursor` that only this server understands.
//!
//! A cursor says where the last page ended, in the order of its list: keys that only grow,
//! so that it stays good while the log grows. It carries no authority and is not signed. It
//! is versioned; one of another version, of another list, or changed in any way is refused.
//!
//! To page a new list: a key type with [`CursorKey`], and `limit` and `cursor` in its query.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{DeserializeOwned, Error},
};
use utoipa::{
    IntoParams, PartialSchema, ToSchema,
    openapi::{
        RefOr, Required,
        path::{Parameter, ParameterBuilder, ParameterIn},
        schema::{ObjectBuilder, Schema, Type},
    },
};

use super::{as_of::AsOf, exchange::ReadQuery, problem::Problem, respond::Page};
use crate::projections;

/// Raised when the encoding changes; older cursors then start over.
const CURSOR_VERSION: u8 = 1;

/// The longest cursor that is looked at, in bytes.
const CURSOR_LENGTH_MAX: usize = 1_024;

/// How many items a page has at most: 1 to 200, 50 where nobody says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit(u16);

impl Limit {
    /// The most that a page can have.
    pub const MAX: u16 = 200;
    /// What a page has where nobody says.
    pub const DEFAULT: u16 = 50;

    /// The number of items.
    pub fn get(self) -> usize {
        usize::from(self.0)
    }

    /// The same, as the service takes it.
    pub fn count(self) -> u64 {
        u64::from(self.0)
    }

    /// How many to look up: one more than the page has, to know whether another follows.
    pub fn and_one(self) -> usize {
        self.get() + 1
    }
}

impl Default for Limit {
    fn default() -> Self {
        Self(Self::DEFAULT)
    }
}

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text
            .parse()
            .ok()
            .filter(|number| digits && (1..=Self::MAX).contains(number));
        number
            .map(Self)
            .ok_or_else(|| D::Error::custom("a whole number from 1 to 200"))
    }
}

/// Where an item stands in a list.
pub trait CursorKey: Serialize + DeserializeOwned {
    /// The list's name: a cursor of one list is none of another.
    const LIST: &'static str;
}

macro_rules! text_cursors {
    ($($name:ident = $list:literal;)+) => {$(
        #[doc = concat!("Where an item stands in the list of ", $list, ".")]
        #[derive(Debug, Clone, Serialize, Deserialize)]
        pub struct $name(#[serde(deserialize_with = "printable")] String);

        impl CursorKey for $name {
            const LIST: &'static str = $list;
        }

        impl From<String> for $name {
            fn from(key: String) -> Self {
                Self(key)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    )+};
}

/// A key as lists have them. What a client has made up may hold anything, and not every store
/// takes a text with NUL.
pub(super) fn printable<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let key = String::deserialize(deserializer)?;
    match key.chars().any(char::is_control) {
        true => Err(D::Error::custom("no key has control characters")),
        false => Ok(key),
    }
}

text_cursors! {
    SessionCursor = "sessions";
    OrganizationCursor = "organizations";
    WorkspaceCursor = "workspaces";
    MemberCursor = "members";
    InvitationCursor = "invitations";
    ApiKeyCursor = "api_keys";
    AuditorCursor = "auditors";
    CrewCursor = "crews";
    AgentCursor = "agents";
    AgentVersionCursor = "agent versions";
    PathwayCursor = "pathways";
    PhoneNumberCursor = "phone numbers";
    ChannelCursor = "channels";
    KnowledgeBaseCursor = "knowledge bases";
    DocumentCursor = "documents";
    WebhookEndpointCursor = "webhook endpoints";
    IntegrationCursor = "integrations";
    PathwayVersionCursor = "pathway versions";
    PromotionCursor = "promotions";
    ReviewCursor = "access reviews";
    ReviewItemCursor = "access under review";
    ChangelogCursor = "the change log";
    OrganizationMemberCursor = "organization members";
}

/// The last item of the page before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor<K> {
    /// Where that item stands.
    pub key: K,
}

impl<K: CursorKey> Cursor<K> {
    /// The cursor after the item with this key.
    pub fn new(key: K) -> Self {
        Self { key }
    }

    /// The opaque text that clients carry.
    pub fn encode(&self) -> String {
        let parts = (CURSOR_VERSION, K::LIST, &self.key);
        BASE64_URL_SAFE_NO_PAD.encode(serde_json::to_vec(&parts).unwrap_or_default())
    }

    /// Reads a cursor back; `None` for anything that [`Cursor::encode`] did not make.
    pub fn decode(text: &str) -> Option<Self> {
        if text.len() > CURSOR_LENGTH_MAX {
            return None;
        }
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).ok()?;
        let (version, list, key) = serde_json::from_slice::<(u8, String, K)>(&bytes).ok()?;
        let cursor = Self { key };
        let ours = version == CURSOR_VERSION && list == K::LIST && cursor.encode() == text;
        ours.then_some(cursor)
    }
}

impl<'de, K: CursorKey> Deserialize<'de> for Cursor<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let refusal = "not a cursor of this list; start over without `cursor`";
        Self::decode(&text).ok_or_else(|| D::Error::custom(refusal))
    }
}

/// The query of a list that has no filters.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, bound = "K: CursorKey")]
pub struct PageQuery<K: CursorKey> {
    /// How many items at most.
    #[serde(default)]
    pub limit: Limit,
    /// `next_cursor` of the page before.
    pub cursor: Option<Cursor<K>>,
    /// The moment that is asked about; now, where nobody says.
    as_of: Option<AsOf>,
}

impl<K: CursorKey> ReadQuery for PageQuery<K> {
    fn as_of(&self) -> Option<AsOf> {
        self.as_of
    }
}

impl<K: CursorKey + AsRef<str>> PageQuery<K> {
    /// The key after which the page begins.
    pub fn after(&self) -> Option<&str> {
        self.cursor.as_ref().map(|cursor| cursor.key.as_ref())
    }
}

impl<K: CursorKey> IntoParams for PageQuery<K> {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let parameter = |name: &str, description: &str, schema| {
            let parameter = ParameterBuilder::new()
                .name(name)
                .description(Some(description));
            let parameter = parameter
                .parameter_in(ParameterIn::Query)
                .required(Required::False);
            parameter.schema(Some(schema)).build()
        };
        vec![
            parameter("limit", "How many items at most.", Limit::schema()),
            parameter(
                "cursor",
                "`next_cursor` of the page before.",
                Cursor::<K>::schema(),
            ),
            parameter(
                "as_of",
                "The moment that is asked about: a position of the log, or a time. Now, where nobody says.",
                AsOf::schema(),
            ),
        ]
    }
}

/// For queries with filters: `#[param(inline)] limit: Limit`.
impl PartialSchema for Limit {
    fn schema() -> RefOr<Schema> {
        let schema = ObjectBuilder::new().schema_type(Type::Integer);
        let schema = schema.minimum(Some(1)).maximum(Some(Self::MAX));
        schema.default(Some(Self::DEFAULT.into())).into()
    }
}

impl ToSchema for Limit {}

/// For queries with filters: `#[param(inline)] cursor: Option<Cursor<K>>`.
impl<K> PartialSchema for Cursor<K> {
    fn schema() -> RefOr<Schema> {
        let schema = ObjectBuilder::new().schema_type(Type::String);
        schema.max_length(Some(CURSOR_LENGTH_MAX)).into()
    }
}

impl<K> ToSchema for Cursor<K> {}

impl<T: Serialize + ToSchema> Page<T> {
    /// A page out of up to [`Limit::and_one`] items in the list's order, read at `position`.
    pub fn of<K: CursorKey>(
        mut items: Vec<T>,
        limit: Limit,
        position: u64,
        key: impl Fn(&T) -> K,
    ) -> Self {
        let more = items.len() > limit.get();
        items.truncate(limit.get());
        let last = items.last().filter(|_| more);
        let next_cursor = last.map(|item| Cursor::new(key(item)).encode());
        Self::new(items, next_cursor, position)
    }

    /// [`Page::keyed`] of items that may not be what they should.
    ///
    /// # Errors
    /// That of the first that is not.
    pub fn try_keyed<K, D>(
        page: projections::Page<D>,
        body: impl Fn(D) -> Result<T, Problem>,
    ) -> Result<Self, Problem>
    where
        K: CursorKey + From<String>,
    {
        let last = page.items.last().filter(|_| page.more);
        let next_cursor = last.map(|(key, _)| Cursor::new(K::from(key.clone())).encode());
        let items = page.items.into_iter().map(|(_, item)| body(item));
        let items = items.collect::<Result<_, _>>()?;
        Ok(Self::new(items, next_cursor, page.position))
    }

    /// The page of a read model, each of its items as it is answered.
    pub fn keyed<K, D>(page: projections::Page<D>, body: impl Fn(D) -> T) -> Self
    where
        K: CursorKey + From<String>,
    {
        let last = page.items.last().filter(|_| page.more);
        let next_cursor = last.map(|(key, _)| Cursor::new(K::from(key.clone())).encode());
        let items = page.items.into_iter().map(|(_, item)| body(item));
        Self::new(items.collect(), next_cursor, page.position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl CursorKey for u64 {
        const LIST: &'static str = "numbers";
    }

    #[derive(Debug, Serialize, Deserialize)]
    struct OfAnother(u64);

    impl CursorKey for OfAnother {
        const LIST: &'static str = "others";
    }

    #[test]
    fn only_our_own_cursors_are_read() {
        let text = Cursor::new(7_u64).encode();
        assert_eq!(Cursor::decode(&text), Some(Cursor::new(7_u64)));
        let raw = |json: &str| BASE64_URL_SAFE_NO_PAD.encode(json);
        for wrong in [
            String::new(),
            format!("{text}="),
            format!("{text}A"),
            text[1..].to_owned(),
            Cursor::new(OfAnother(7)).encode(),
            raw(r#"[2,"numbers",7]"#),
            raw(r#"[1,"numbers", 7]"#),
            raw(r#"[1,"numbers",7,8]"#),
            raw(r#"[1,"numbers","7"]"#),
            "A".repeat(CURSOR_LENGTH_MAX + 1),
        ] {
            assert_eq!(Cursor::<u64>::decode(&wrong), None, "{wrong}");
        }
        assert!(Cursor::<MemberCursor>::decode(&raw(r#"[1,"members","a"]"#)).is_some());
        for wrong in [r#"[1,"members","\u0000"]"#, r#"[1,"members","a\n"]"#] {
            assert!(
                Cursor::<MemberCursor>::decode(&raw(wrong)).is_none(),
                "{wrong}"
            );
        }
    }

    #[test]
    fn a_page_ends_where_the_next_begins() {
        let limit = Limit(2);
        let page = Page::of(vec![1_u64, 2, 3], limit, 9, |item| *item);
        assert_eq!(page.data, [1, 2]);
        let next = page.next_cursor.and_then(|text| Cursor::decode(&text));
        assert_eq!(next, Some(Cursor::new(2_u64)));
        assert_eq!(
            Page::of(vec![1_u64, 2], limit, 9, |item| *item).next_cursor,
            None
        );
        assert_eq!(limit.and_one(), 3);
    }
}
