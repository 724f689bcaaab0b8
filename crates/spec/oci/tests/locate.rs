//! Fields are found where they are, in whatever document; and no text is too strange to look at.

use hako_oci::locate::{field_at, line_of};
use proptest::prelude::*;
use serde_json::Value;

/// Any document, with keys that need quoting now and then.
fn documents() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[ -~\n]{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 60, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map("[a-z.\\[\\]\"\\\\]{1,6}", inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Every field of a document, as a pretty printer writes them: one line for each value's beginning.
fn fields(value: &Value, path: &str, line: &mut usize, found: &mut Vec<(String, usize)>) {
    found.push((path.to_owned(), *line));
    let members: Vec<(String, &Value)> = match value {
        Value::Array(items) => {
            items.iter().enumerate().map(|(i, item)| (format!("{path}[{i}]"), item)).collect()
        }
        Value::Object(map) => map
            .iter()
            .map(|(key, member)| (format!("{path}[{}]", Value::from(key.as_str())), member))
            .collect(),
        _ => return,
    };
    for (path, member) in &members {
        *line += 1;
        fields(member, path, line, found);
    }
    if !members.is_empty() {
        // The closing bracket.
        *line += 1;
    }
}

proptest! {
    #[test]
    fn every_field_has_the_line_that_a_printer_gave_it(document in documents()) {
        let text = serde_json::to_string_pretty(&document).unwrap();
        let mut found = Vec::new();
        fields(&document, "", &mut 1, &mut found);
        for (field, line) in found.iter().filter(|(field, _)| !field.is_empty()) {
            prop_assert_eq!(line_of(&text, field), Some(*line), "{} in {}", field, text);
        }
    }

    #[test]
    fn no_text_is_too_strange(
        text in "[\\[\\]{}:,\"\\\\a1 \né]{0,60}", field in "[a.\\[\\]\"\\\\0-9]{0,12}", line in 0usize..9, column in 0usize..70,
    ) {
        line_of(&text, &field);
        field_at(&text, line, column);
    }
}
