//! What differs between two documents, place by place.

use serde_json::Value as Json;

use super::below;

/// One place where two documents differ.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// An RFC 6901 pointer; empty for the document as a whole.
    pub path: String,
    /// What was there; none where nothing was.
    pub from: Option<Json>,
    /// What is there now; none where nothing is.
    pub to: Option<Json>,
}

/// Where two documents differ, in the order of the places: as deep inside as objects and lists
/// have a place in common. Nothing where they are the same.
pub fn differences(from: Option<&Json>, to: Option<&Json>) -> Vec<Difference> {
    let mut found = Vec::new();
    compare("", from, to, &mut found);
    found
}

fn compare(path: &str, from: Option<&Json>, to: Option<&Json>, found: &mut Vec<Difference>) {
    match (from, to) {
        (from, to) if from == to => {}
        (Some(Json::Object(before)), Some(Json::Object(after))) => {
            let mut names: Vec<_> = before.keys().chain(after.keys()).collect();
            names.sort_unstable();
            names.dedup();
            for name in names {
                compare(&below(path, name), before.get(name), after.get(name), found);
            }
        }
        (Some(Json::Array(before)), Some(Json::Array(after))) => {
            for at in 0..before.len().max(after.len()) {
                let place = below(path, &at.to_string());
                compare(&place, before.get(at), after.get(at), found);
            }
        }
        (from, to) => found.push(Difference {
            path: path.to_owned(),
            from: from.cloned(),
            to: to.cloned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_place_that_differs_is_told_once() {
        let from = json!({"a": 1, "b": {"c/d": [1, 2, {"e": true}], "gone": null}, "same": [0]});
        let to = json!({"a": "1", "b": {"c/d": [1, 3, {"e": true}, 4]}, "new": {}, "same": [0]});
        let told: Vec<_> = differences(Some(&from), Some(&to))
            .into_iter()
            .map(|place| (place.path, place.from, place.to))
            .collect();
        assert_eq!(
            told,
            [
                ("/a".to_owned(), Some(json!(1)), Some(json!("1"))),
                ("/b/c~1d/1".to_owned(), Some(json!(2)), Some(json!(3))),
                ("/b/c~1d/3".to_owned(), None, Some(json!(4))),
                ("/b/gone".to_owned(), Some(Json::Null), None),
                ("/new".to_owned(), None, Some(json!({}))),
            ]
        );
    }

    #[test]
    fn a_document_that_comes_or_goes_is_one_place() {
        let document = json!({"a": 1});
        let made = differences(None, Some(&document));
        assert_eq!(made.len(), 1);
        assert_eq!((made[0].path.as_str(), &made[0].from), ("", &None));
        assert_eq!(
            differences(Some(&document), None)[0].from,
            Some(document.clone())
        );
        assert!(differences(Some(&document), Some(&document)).is_empty());
    }
}
