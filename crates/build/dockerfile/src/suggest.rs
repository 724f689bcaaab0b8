//! "Did you mean": the nearest of some names, if it is near.

/// Distances from here on are no likeness.
const FAR: usize = 3;

/// The name nearest to `text`, unless it is one of them.
pub(crate) fn nearest<'a>(text: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let mut best = None;
    let mut least = FAR;
    for name in names {
        if name == text {
            return None;
        }
        let distance = distance(text, name, least);
        if distance < least {
            least = distance;
            best = Some(name);
        }
    }
    best
}

/// `nearest`, in whatever case; the answer is cased as `text` is.
pub(crate) fn nearest_any_case(text: &str, names: &[&str]) -> Option<String> {
    let lower: Vec<String> = names.iter().map(|name| name.to_lowercase()).collect();
    let found = nearest(&text.to_lowercase(), lower.iter().map(String::as_str))?;
    Some(if text == text.to_uppercase() { found.to_uppercase() } else { found.to_owned() })
}

/// " (did you mean NAME?)", or nothing.
pub(crate) fn hint(name: Option<&str>) -> String {
    name.map(|name| format!(" (did you mean {name}?)")).unwrap_or_default()
}

/// Levenshtein's distance, or `bound` where it is no less.
fn distance(a: &str, b: &str, bound: usize) -> usize {
    let a: Vec<char> = a.chars().collect();
    let b: Vec<char> = b.chars().collect();
    if a.len().abs_diff(b.len()) >= bound {
        return bound;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        let mut least = row[0];
        for (j, y) in b.iter().enumerate() {
            let changed = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
            least = least.min(row[j + 1]);
        }
        if least >= bound {
            return bound;
        }
    }
    row[b.len()].min(bound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_near_is_meant() {
        let names = ["FROM", "RUN", "COPY"];
        assert_eq!(nearest_any_case("FORM", &names).as_deref(), Some("FROM"));
        assert_eq!(nearest_any_case("rnu", &names).as_deref(), Some("run"));
        assert_eq!(nearest_any_case("BANANA", &names), None);
        assert_eq!(nearest("chwon", ["chown", "chmod"]), Some("chown"));
        assert_eq!(nearest("chown", ["chown", "chmod"]), None);
    }
}
