//! Reads the question of `npm audit`: a list of names with their versions, or a tree of them.

use std::collections::HashSet;

use serde_json::{Map, Value};

use crate::FormatError;

/// Members under which names of packages stand in the older question, a tree.
const TREES: &[&str] = &["requires", "dependencies"];

fn is_tree(root: &Map<String, Value>) -> bool {
    TREES
        .iter()
        .any(|name| root.get(*name).is_some_and(Value::is_object))
}

/// The names, in no order, some perhaps more than once.
pub fn names(body: &[u8]) -> Vec<String> {
    let Ok(root) = serde_json::from_slice::<Map<String, Value>>(body) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    if is_tree(&root) {
        collect(&root, &mut found);
    } else {
        found.extend(root.keys().cloned());
    }
    found
}

// serde_json bounds the nesting of what it reads.
fn collect(node: &Map<String, Value>, found: &mut Vec<String>) {
    for tree in TREES.iter().filter_map(|name| node.get(*name)?.as_object()) {
        for (name, below) in tree {
            found.push(name.clone());
            if let Some(below) = below.as_object() {
                collect(below, found);
            }
        }
    }
}

/// The question without these names.
pub fn without(body: &[u8], names: &HashSet<String>) -> Result<Vec<u8>, FormatError> {
    let mut root: Map<String, Value> = serde_json::from_slice(body)?;
    if is_tree(&root) {
        prune(&mut root, names);
        // The root's own name, and what it is called, are the project's.
        for member in ["name", "version"] {
            root.remove(member);
        }
    } else {
        root.retain(|name, _| !names.contains(name));
    }
    Ok(serde_json::to_vec(&root)?)
}

fn prune(node: &mut Map<String, Value>, names: &HashSet<String>) {
    for tree in TREES {
        let Some(tree) = node.get_mut(*tree).and_then(Value::as_object_mut) else {
            continue;
        };
        tree.retain(|name, _| !names.contains(name));
        for below in tree.values_mut().filter_map(Value::as_object_mut) {
            prune(below, names);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_our_own_are_in_neither_question() {
        let own = HashSet::from(["@acme/lib".to_owned()]);
        let list = br#"{"left-pad":["1.3.0"],"@acme/lib":["1.0.0"]}"#;
        assert_eq!(names(list).len(), 2);
        assert_eq!(without(list, &own).unwrap(), br#"{"left-pad":["1.3.0"]}"#);
        let tree = br#"{"name":"app","requires":{"@acme/lib":"*","a":"*"},"dependencies":{"a":{"version":"1.0.0","requires":{"@acme/lib":"*"}},"@acme/lib":{"version":"1.0.0"}}}"#;
        assert_eq!(names(tree).len(), 5);
        let pruned = String::from_utf8(without(tree, &own).unwrap()).unwrap();
        assert!(
            !pruned.contains("acme") && pruned.contains("\"a\""),
            "{pruned}"
        );
    }
}
