//! What makes the contents of one crew those of a bundle: item by item, by digests.

use std::collections::{BTreeMap, BTreeSet};

use super::{ItemKey, Manifest};
use crate::domain::crew::{Item, ItemChange, ItemId, ItemKind};

/// The items of a crew by their keys: no two of a kind have one name.
pub fn by_key<'a>(
    items: impl Iterator<Item = (ItemId, &'a Item)>,
) -> BTreeMap<ItemKey, (ItemId, Item)> {
    let keyed = |(id, item): (ItemId, &'a Item)| {
        let key = ItemKey::new(id.kind(), item.name.clone());
        (key, (id, item.clone()))
    };
    items.map(keyed).collect()
}

/// What a crew holds, without its ids.
pub fn manifest<'a>(items: impl Iterator<Item = (ItemId, &'a Item)>) -> Manifest {
    let keyed = |(id, item): (ItemId, &'a Item)| {
        let key = ItemKey::new(id.kind(), item.name.clone());
        (key, item.content)
    };
    items.map(keyed).collect()
}

/// What changes in a crew where it becomes as `source`: everything, or what is `chosen` alone.
/// What is new gets its id from `new_id`. In the order of the ids.
pub fn towards(
    source: &Manifest,
    target: &BTreeMap<ItemKey, (ItemId, Item)>,
    chosen: Option<&BTreeSet<ItemKey>>,
    mut new_id: impl FnMut(ItemKind) -> ItemId,
) -> Vec<ItemChange> {
    let is_chosen = |key: &ItemKey| chosen.is_none_or(|chosen| chosen.contains(key));
    let mut changes = Vec::new();
    for (key, content) in source.iter().filter(|(key, _)| is_chosen(key)) {
        let to = Item {
            name: key.name.clone(),
            content: *content,
        };
        let (item, from) = match target.get(key) {
            Some((_, from)) if *from == to => continue,
            Some((item, from)) => (*item, Some(from.clone())),
            None => (new_id(key.kind), None),
        };
        let to = Some(to);
        changes.push(ItemChange { item, from, to });
    }
    let gone = target.iter().filter(|(key, _)| !source.contains_key(key));
    for (_, (item, from)) in gone.filter(|(key, _)| is_chosen(key)) {
        let (item, from, to) = (*item, Some(from.clone()), None);
        changes.push(ItemChange { item, from, to });
    }
    changes.sort_by_key(|change| change.item);
    changes
}

/// What changes in a crew where it becomes exactly what it was, ids included.
pub fn back(before: &BTreeMap<ItemId, Item>, present: &BTreeMap<ItemId, Item>) -> Vec<ItemChange> {
    let items: BTreeSet<&ItemId> = before.keys().chain(present.keys()).collect();
    let change = |item: &ItemId| {
        let (from, to) = (present.get(item).cloned(), before.get(item).cloned());
        let item = *item;
        (from != to).then_some(ItemChange { item, from, to })
    };
    items.into_iter().filter_map(change).collect()
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::domain::{
        contents::{Content, Digest},
        ids::AgentId,
    };

    fn id(number: u128) -> ItemId {
        ItemId::Agent(AgentId::from_uuid(Uuid::from_u128(number)))
    }

    fn item(name: &str, byte: u8) -> Item {
        let (digest, size) = (Digest([byte; 32]), 2);
        Item {
            name: name.to_owned(),
            content: Content { digest, size },
        }
    }

    fn items(some: &[(u128, &str, u8)]) -> BTreeMap<ItemId, Item> {
        let one = |(number, name, byte): &(u128, &str, u8)| (id(*number), item(name, *byte));
        some.iter().map(one).collect()
    }

    #[test]
    fn what_differs_changes_and_the_way_back_is_the_reverse() {
        let target = items(&[(1, "Kept", 1), (2, "Changed", 2), (3, "Gone", 3)]);
        let source = items(&[(7, "Kept", 1), (8, "Changed", 9), (9, "New", 4)]);
        let refs = |items: &'_ BTreeMap<ItemId, Item>| -> Vec<(ItemId, Item)> {
            items.iter().map(|(id, item)| (*id, item.clone())).collect()
        };
        let wanted = manifest(refs(&source).iter().map(|(id, item)| (*id, item)));
        let there = by_key(refs(&target).iter().map(|(id, item)| (*id, item)));
        let changes = towards(&wanted, &there, None, |_| id(100));
        let told: Vec<_> = changes
            .iter()
            .map(|change| {
                let name = |item: &Option<Item>| item.as_ref().map(|item| item.name.clone());
                (change.item, name(&change.from), name(&change.to))
            })
            .collect();
        let some = |name: &str| Some(name.to_owned());
        assert_eq!(
            told,
            [
                (id(2), some("Changed"), some("Changed")),
                (id(3), some("Gone"), None),
                (id(100), None, some("New")),
            ]
        );
        let mut after = target.clone();
        for change in &changes {
            match &change.to {
                Some(to) => drop(after.insert(change.item, to.clone())),
                None => drop(after.remove(&change.item)),
            }
        }
        let now = manifest(refs(&after).iter().map(|(id, item)| (*id, item)));
        assert_eq!(now, wanted);
        let mut undone = after.clone();
        for change in back(&target, &after) {
            match change.to {
                Some(to) => drop(undone.insert(change.item, to)),
                None => drop(undone.remove(&change.item)),
            }
        }
        assert_eq!(undone, target);
        let chosen = BTreeSet::from([ItemKey::new(ItemKind::Agent, "Gone")]);
        let some = towards(&wanted, &there, Some(&chosen), |_| id(100));
        assert_eq!(some.len(), 1);
        assert_eq!((some[0].item, &some[0].to), (id(3), &None));
    }
}
