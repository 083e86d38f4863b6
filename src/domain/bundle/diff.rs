//! What two contents differ in, field by field: for people as readable changes, for machines as
//! an RFC 6902 patch that makes the one the other.
//!
//! Items of arrays are the same where they have the same `id`, or else the same `name`; one that
//! has another place is moved, and what is around it is not. Other arrays are compared by their
//! longest common part. Both are bounded: where an array is too large to be compared well, it is
//! replaced as a whole.

use std::collections::{HashMap, HashSet};

use serde::Serialize;
use serde_json::Value;
use similar::TextDiff;

use super::ItemKey;
use crate::domain::contents::below;

/// The longest arrays whose items are matched by their names.
const KEYED_MAX: usize = 4_096;
/// How many pairs of items are compared at most, where they have no names.
const PAIRS_MAX: usize = 250_000;
/// What is shown of a value to people, in bytes of its JSON.
const SHOWN_BYTES: usize = 2_000;
/// How much of a longer one is shown, in characters.
const EXCERPT_CHARACTERS: usize = 400;
/// The longest texts that are compared by lines, in lines of both.
const LINES_MAX: usize = 4_000;
/// The longest comparison by lines that is shown, in bytes.
const LINES_BYTES: usize = 16_000;

/// An operation of a patch (RFC 6902).
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Operation {
    Add { path: String, value: Value },
    Remove { path: String },
    Replace { path: String, value: Value },
    Move { from: String, path: String },
}

/// What happened to a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FieldChange {
    Added,
    Changed,
    Removed,
    /// It is the same, in another place of its array.
    Moved,
}

/// A change of one field, for people.
#[derive(Debug, Clone, PartialEq)]
pub struct Changed {
    pub item: ItemKey,
    pub change: FieldChange,
    /// Where in the configuration; an item of an array is named in brackets, `/steps[greet]/text`.
    pub path: String,
    /// Before; shortened where it is long.
    pub from: Option<Value>,
    /// After; shortened where it is long.
    pub to: Option<Value>,
    /// The lines that differ, of texts of several lines.
    pub lines: Option<String>,
}

/// Collects what differs in several contents.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Differences {
    pub changed: Vec<Changed>,
    pub patch: Vec<Operation>,
}

/// Where the items of a bundle are in its JSON.
pub fn pointer_of(item: &ItemKey) -> String {
    below(&format!("/{}s", item.kind.name()), &item.name)
}

impl Differences {
    /// Something that is there from now on.
    pub fn added(&mut self, item: &ItemKey, config: Value) {
        let path = pointer_of(item);
        self.patch.push(Operation::Add {
            path,
            value: config,
        });
    }

    /// Something that is there no more.
    pub fn removed(&mut self, item: &ItemKey) {
        let path = pointer_of(item);
        self.patch.push(Operation::Remove { path });
    }

    /// Something that says another thing.
    pub fn changed(&mut self, item: &ItemKey, from: &Value, to: &Value) {
        let mut walk = Walk { item, told: self };
        let place = Place {
            pointer: pointer_of(item),
            words: String::new(),
        };
        walk.value(&place, from, to);
    }
}

/// A place, for machines and for people.
#[derive(Clone)]
struct Place {
    pointer: String,
    words: String,
}

impl Place {
    fn member(&self, name: &str) -> Self {
        Self {
            pointer: below(&self.pointer, name),
            words: below(&self.words, name),
        }
    }

    fn index(&self, index: usize) -> Self {
        Self {
            pointer: format!("{}/{index}", self.pointer),
            words: format!("{}[{index}]", self.words),
        }
    }

    fn named(&self, index: usize, name: &str) -> Self {
        Self {
            pointer: format!("{}/{index}", self.pointer),
            words: format!("{}[{name}]", self.words),
        }
    }
}

struct Walk<'a> {
    item: &'a ItemKey,
    told: &'a mut Differences,
}

impl Walk<'_> {
    fn tell(
        &mut self,
        change: FieldChange,
        place: &Place,
        from: Option<&Value>,
        to: Option<&Value>,
    ) {
        let words = match place.words.as_str() {
            "" => "/".to_owned(),
            words => words.to_owned(),
        };
        self.told.changed.push(Changed {
            item: self.item.clone(),
            change,
            path: words,
            lines: from.zip(to).and_then(|(from, to)| lines(from, to)),
            from: from.map(shown),
            to: to.map(shown),
        });
    }

    fn value(&mut self, place: &Place, from: &Value, to: &Value) {
        match (from, to) {
            (from, to) if from == to => {}
            (Value::Object(from), Value::Object(to)) => {
                for (name, value) in from.iter().filter(|(name, _)| !to.contains_key(*name)) {
                    self.remove(&place.member(name), value);
                }
                for (name, value) in to {
                    match from.get(name) {
                        Some(before) => self.value(&place.member(name), before, value),
                        None => self.add(&place.member(name), value),
                    }
                }
            }
            (Value::Array(from), Value::Array(to)) => self.array(place, from, to),
            (from, to) => self.replace(place, from, to),
        }
    }

    fn add(&mut self, place: &Place, value: &Value) {
        self.tell(FieldChange::Added, place, None, Some(value));
        self.told.patch.push(Operation::Add {
            path: place.pointer.clone(),
            value: value.clone(),
        });
    }

    fn remove(&mut self, place: &Place, value: &Value) {
        self.tell(FieldChange::Removed, place, Some(value), None);
        let path = place.pointer.clone();
        self.told.patch.push(Operation::Remove { path });
    }

    fn replace(&mut self, place: &Place, from: &Value, to: &Value) {
        self.tell(FieldChange::Changed, place, Some(from), Some(to));
        self.told.patch.push(Operation::Replace {
            path: place.pointer.clone(),
            value: to.clone(),
        });
    }

    fn array(&mut self, place: &Place, from: &[Value], to: &[Value]) {
        for name in ["id", "name"] {
            if let (Some(before), Some(after)) = (names(from, name), names(to, name)) {
                return self.keyed(place, (from, &before), (to, &after));
            }
        }
        self.plain(place, from, to);
    }

    /// Items with names: what is gone goes, what has another place moves or comes, each behind
    /// the one that it follows; then what is in each is compared.
    fn keyed(&mut self, place: &Place, from: (&[Value], &[&str]), to: (&[Value], &[&str])) {
        let before: HashMap<&str, &Value> = from.1.iter().copied().zip(from.0).collect();
        let after: HashSet<&str> = to.1.iter().copied().collect();
        let mut order: Vec<&str> = from.1.to_vec();
        for index in (0..order.len()).rev() {
            if !after.contains(order[index]) {
                let name = order.remove(index);
                self.remove(&place.named(index, name), before[name]);
            }
        }
        let stays = staying(&order, to.1);
        let mut previous: Option<&str> = None;
        for (name, value) in to.1.iter().zip(to.0) {
            if !stays.contains(name) {
                self.put(place, &mut order, previous, (name, value), &before);
            }
            previous = Some(name);
        }
        for (index, (name, value)) in to.1.iter().zip(to.0).enumerate() {
            if let Some(before) = before.get(name) {
                self.value(&place.named(index, name), before, value);
            }
        }
    }

    /// Moves or adds an item behind another one.
    fn put<'b>(
        &mut self,
        place: &Place,
        order: &mut Vec<&'b str>,
        previous: Option<&str>,
        (name, value): (&'b str, &Value),
        before: &HashMap<&str, &Value>,
    ) {
        let present = order.iter().position(|other| *other == name);
        if let Some(index) = present {
            order.remove(index);
        }
        let behind = previous.and_then(|previous| order.iter().position(|it| *it == previous));
        let to = behind.map_or(0, |index| index + 1);
        order.insert(to, name);
        match present {
            Some(index) if before.contains_key(name) => {
                let at = place.named(to, name);
                let (from, to_place) = (Value::from(index), Value::from(to));
                self.tell(FieldChange::Moved, &at, Some(&from), Some(&to_place));
                self.told.patch.push(Operation::Move {
                    from: format!("{}/{index}", place.pointer),
                    path: at.pointer,
                });
            }
            _ => self.add(&place.named(to, name), value),
        }
    }

    /// Items without names: those of the longest common part stay, and between them pairs are
    /// compared.
    fn plain(&mut self, place: &Place, from: &[Value], to: &[Value]) {
        let begin = from.iter().zip(to).take_while(|(a, b)| a == b).count();
        let (rest_from, rest_to) = (&from[begin..], &to[begin..]);
        let ends = rest_from.iter().rev().zip(rest_to.iter().rev());
        let end = ends.take_while(|(a, b)| a == b).count();
        let middle_from = &rest_from[..rest_from.len() - end];
        let middle_to = &rest_to[..rest_to.len() - end];
        if middle_from.len().saturating_mul(middle_to.len()) > PAIRS_MAX {
            let (from, to) = (Value::from(from.to_vec()), Value::from(to.to_vec()));
            return self.replace(place, &from, &to);
        }
        let mut at = begin;
        let (mut left, mut right) = (0, 0);
        let common = common(middle_from, middle_to);
        let last = (middle_from.len(), middle_to.len());
        for (next_left, next_right) in common.into_iter().chain([last]) {
            let gone = &middle_from[left..next_left];
            let come = &middle_to[right..next_right];
            at = self.gap(place, at, gone, come) + 1;
            (left, right) = (next_left + 1, next_right + 1);
        }
    }

    /// What stands between two common items; answers where the next one is.
    fn gap(&mut self, place: &Place, mut at: usize, gone: &[Value], come: &[Value]) -> usize {
        let pairs = gone.len().min(come.len());
        for (from, to) in gone.iter().zip(come) {
            self.value(&place.index(at), from, to);
            at += 1;
        }
        for value in &gone[pairs..] {
            self.remove(&place.index(at), value);
        }
        for value in &come[pairs..] {
            self.add(&place.index(at), value);
            at += 1;
        }
        at
    }
}

/// The names of an array's items by one member, where every item is an object that has one, and
/// none has another's.
fn names<'a>(items: &'a [Value], member: &str) -> Option<Vec<&'a str>> {
    if items.len() > KEYED_MAX {
        return None;
    }
    let named: Option<Vec<&str>> = items
        .iter()
        .map(|item| item.get(member)?.as_str())
        .collect();
    let named = named?;
    let different: HashSet<_> = named.iter().collect();
    (different.len() == named.len()).then_some(named)
}

/// The most items that can stay where they are: the longest part of `order` that is in the same
/// order in `wanted`.
fn staying<'a>(order: &[&'a str], wanted: &[&'a str]) -> HashSet<&'a str> {
    let place: HashMap<&str, usize> = wanted
        .iter()
        .enumerate()
        .map(|(at, it)| (*it, at))
        .collect();
    let places: Vec<usize> = order.iter().map(|name| place[name]).collect();
    // Patience: the last of each length, and what is before each.
    let (mut ends, mut before) = (Vec::<usize>::new(), vec![None; places.len()]);
    for (at, value) in places.iter().enumerate() {
        let length = ends.partition_point(|end| places[*end] < *value);
        before[at] = length.checked_sub(1).map(|shorter| ends[shorter]);
        match ends.get_mut(length) {
            Some(end) => *end = at,
            None => ends.push(at),
        }
    }
    let mut stays = HashSet::new();
    let mut next = ends.last().copied();
    while let Some(at) = next {
        stays.insert(order[at]);
        next = before[at];
    }
    stays
}

/// The longest common part of two arrays, as pairs of places.
fn common(left: &[Value], right: &[Value]) -> Vec<(usize, usize)> {
    let width = right.len() + 1;
    let mut lengths = vec![0_u32; (left.len() + 1) * width];
    for (i, a) in left.iter().enumerate().rev() {
        for (j, b) in right.iter().enumerate().rev() {
            lengths[i * width + j] = match a == b {
                true => lengths[(i + 1) * width + j + 1] + 1,
                false => lengths[(i + 1) * width + j].max(lengths[i * width + j + 1]),
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut pairs = Vec::new();
    while i < left.len() && j < right.len() {
        if left[i] == right[j] {
            pairs.push((i, j));
            (i, j) = (i + 1, j + 1);
        } else if lengths[(i + 1) * width + j] >= lengths[i * width + j + 1] {
            i += 1;
        } else {
            j += 1;
        }
    }
    pairs
}

/// A value as people are shown it: a long one by how it begins, and how long it is.
fn shown(value: &Value) -> Value {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Null | Value::Bool(_) | Value::Number(_) => return value.clone(),
        Value::Array(_) | Value::Object(_) => value.to_string(),
    };
    if text.len() <= SHOWN_BYTES {
        return value.clone();
    }
    let begin: String = text.chars().take(EXCERPT_CHARACTERS).collect();
    Value::from(format!("{begin}… ({} bytes in all)", text.len()))
}

/// The lines that differ, with those around them, where both are texts of several lines.
fn lines(from: &Value, to: &Value) -> Option<String> {
    let (from, to) = (from.as_str()?, to.as_str()?);
    let count = from.lines().count() + to.lines().count();
    if !(from.contains('\n') || to.contains('\n')) || count > LINES_MAX {
        return None;
    }
    let diff = TextDiff::from_lines(from, to);
    let mut text = diff.unified_diff().context_radius(2).to_string();
    if text.len() > LINES_BYTES {
        let cut = (0..=LINES_BYTES)
            .rev()
            .find(|at| text.is_char_boundary(*at));
        text.truncate(cut.unwrap_or(0));
        text.push_str("…\n");
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::domain::crew::ItemKind;

    fn key() -> ItemKey {
        ItemKey::new(ItemKind::Agent, "A/b~c")
    }

    fn differences(from: &Value, to: &Value) -> Differences {
        let mut told = Differences::default();
        told.changed(&key(), from, to);
        told
    }

    fn document(config: &Value) -> Value {
        json!({"agents": {key().name: config}, "pathways": {}})
    }

    fn applied(patch: &[Operation], to: &Value) -> Value {
        let patch = serde_json::to_value(patch).expect("a patch is JSON");
        let patch: json_patch::Patch = serde_json::from_value(patch).expect("RFC 6902");
        let mut document = document(to);
        json_patch::patch(&mut document, &patch).expect("it applies");
        document
    }

    fn holds(from: &Value, to: &Value) {
        let there = differences(from, to);
        assert_eq!(applied(&there.patch, from), document(to), "{from} {to}");
        assert_eq!(there.patch.is_empty(), from == to);
        assert_eq!(there.changed.is_empty(), from == to);
        let back = differences(to, from);
        assert_eq!(applied(&back.patch, to), document(from));
    }

    fn leaf() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (-9_i64..9).prop_map(Value::from),
            "[ab\n/~]{0,4}".prop_map(Value::from),
        ]
    }

    fn named_items(of: impl Strategy<Value = Value> + 'static) -> impl Strategy<Value = Value> {
        let item = (0_u8..8, of).prop_map(|(name, value)| (name, value));
        (
            prop::sample::select(vec!["id", "name"]),
            prop::collection::vec(item, 0..8),
        )
            .prop_map(|(member, items)| {
                let mut seen = HashSet::new();
                let items = items.into_iter().filter(|(name, _)| seen.insert(*name));
                let items =
                    items.map(|(name, value)| json!({member: name.to_string(), "v": value}));
                Value::Array(items.collect())
            })
    }

    fn config() -> impl Strategy<Value = Value> {
        let value = leaf().prop_recursive(4, 48, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::hash_map("[a-d/~é]{1,2}", inner.clone(), 0..5)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
                named_items(inner),
            ]
        });
        prop::collection::hash_map("[a-d]", value, 0..4)
            .prop_map(|members| Value::Object(members.into_iter().collect()))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(600))]

        #[test]
        fn the_patch_makes_the_one_the_other_and_its_reverse_undoes_it(
            from in config(), to in config()
        ) {
            holds(&from, &to);
        }

        #[test]
        fn orders_of_named_items_are_reached(
            order in prop::collection::vec(0_u8..12, 0..12), wanted in prop::collection::vec(0_u8..12, 0..12)
        ) {
            let items = |order: &[u8]| {
                let mut seen = HashSet::new();
                let once = order.iter().filter(|name| seen.insert(**name));
                let items: Vec<_> = once.map(|name| json!({"id": name.to_string()})).collect();
                json!({"steps": items})
            };
            holds(&items(&order), &items(&wanted));
        }
    }

    #[test]
    fn a_moved_item_is_a_move_and_nothing_else() {
        let step = |name: &str, text: &str| json!({"name": name, "text": text});
        let from =
            json!({"steps": [step("a", "1"), step("b", "2"), step("c", "3"), step("d", "4")]});
        let to = json!({"steps": [step("d", "4"), step("a", "1"), step("b", "x"), step("c", "3")]});
        let told = differences(&from, &to);
        assert_eq!(
            serde_json::to_value(&told.patch).unwrap(),
            json!([
                {"op": "move", "from": "/agents/A~1b~0c/steps/3", "path": "/agents/A~1b~0c/steps/0"},
                {"op": "replace", "path": "/agents/A~1b~0c/steps/2/text", "value": "x"},
            ])
        );
        let paths: Vec<_> = told
            .changed
            .iter()
            .map(|it| (it.change, it.path.as_str()))
            .collect();
        assert_eq!(
            paths,
            [
                (FieldChange::Moved, "/steps[d]"),
                (FieldChange::Changed, "/steps[b]/text"),
            ]
        );
        holds(&from, &to);
    }

    #[test]
    fn plain_items_that_stay_are_not_told() {
        let from = json!({"tags": ["a", "b", "c", "d"]});
        let to = json!({"tags": ["a", "x", "c", "d", "e"]});
        let told = differences(&from, &to);
        let paths: Vec<_> = told
            .changed
            .iter()
            .map(|it| (it.change, it.path.as_str()))
            .collect();
        assert_eq!(
            paths,
            [
                (FieldChange::Changed, "/tags[1]"),
                (FieldChange::Added, "/tags[4]"),
            ]
        );
        holds(&from, &to);
    }

    #[test]
    fn what_is_long_stays_readable() {
        let text = |changed: &str| {
            let lines = (0..200).map(|n| format!("line {n} of the prompt, and more of it\n"));
            let text: String = lines.collect();
            text.replace("line 100 of", changed)
        };
        let from = json!({"prompt": text("line 100 of")});
        let to = json!({"prompt": text("LINE 100 OF")});
        let told = differences(&from, &to);
        assert_eq!(told.changed.len(), 1);
        let shown = told.changed[0].to.as_ref().and_then(Value::as_str).unwrap();
        assert!(
            shown.len() < 600 && shown.ends_with("bytes in all)"),
            "{shown}"
        );
        let lines = told.changed[0].lines.as_deref().unwrap();
        assert!(
            lines.contains("-line 100 of") && lines.contains("+LINE 100 OF"),
            "{lines}"
        );
        assert!(lines.lines().count() < 12, "{lines}");
        holds(&from, &to);
        // Too large to be compared item by item: as a whole, and rightly.
        let many = |from: u64| json!({"n": (from..from + 3_000).rev().collect::<Vec<_>>()});
        let (from, to) = (many(0), many(5_000));
        assert_eq!(differences(&from, &to).patch.len(), 1);
        holds(&from, &to);
    }
}
