//! `--format`: `table`, `table TEMPLATE`, `json` or a template, over rows of named cells.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::table;
use crate::template::{Context, Error, Template};

/// A cell that every row of a listing has: its field and its heading.
pub type Column = (&'static str, &'static str);

/// One row: its fields, as Docker's formatter names them, and what `.Label` looks into.
#[derive(Debug, Default)]
pub struct Row {
    fields: Map<String, Value>,
    labels: BTreeMap<String, String>,
}

impl Row {
    /// A row with these labels.
    pub fn with_labels(labels: BTreeMap<String, String>) -> Row {
        Row { fields: Map::new(), labels }
    }

    /// The same with one more field.
    pub fn field(mut self, name: &str, value: impl Into<Value>) -> Row {
        self.fields.insert(name.to_owned(), value.into());
        self
    }

    /// One line of JSON, fields by name.
    fn json(&self) -> String {
        let sorted: BTreeMap<&String, &Value> = self.fields.iter().collect();
        // A map of strings to values cannot fail to be JSON.
        serde_json::to_string(&sorted).unwrap_or_default()
    }
}

/// How rows are to be shown.
#[derive(Debug)]
pub enum Format {
    /// A table, with the heading's and the rows' template.
    Table(Template),
    /// A template for each row.
    Template(Template),
    /// A line of JSON for each row.
    Json,
}

impl Format {
    /// The format a user asked for; `default` is the template of the table where none was.
    pub fn parse(text: &str, default: &str) -> Result<Format, Error> {
        // A shell hands over the two characters `\t`.
        let plain = |text: &str| text.replace("\\t", "\t").replace("\\n", "\n");
        match text.strip_prefix("table") {
            _ if text.is_empty() => Ok(Format::Table(Template::parse(default)?)),
            Some("") => Ok(Format::Table(Template::parse(default)?)),
            Some(rest) if rest.starts_with([' ', '\\', '\t']) => {
                Ok(Format::Table(Template::parse(plain(rest).trim_start_matches(' '))?))
            }
            _ if text == "json" => Ok(Format::Json),
            _ => Ok(Format::Template(Template::parse(&plain(text))?)),
        }
    }

    /// The text of all rows.
    pub fn render(&self, columns: &[Column], rows: &[Row]) -> Result<String, Error> {
        let mut text = String::new();
        match self {
            Format::Json => rows.iter().for_each(|row| text += &(row.json() + "\n")),
            Format::Template(template) => {
                for row in rows {
                    text += &(render_row(template, row)? + "\n");
                }
            }
            Format::Table(template) => {
                let heading: Map<String, Value> =
                    columns.iter().map(|(name, head)| ((*name).into(), (*head).into())).collect();
                let label = |words: &[Value]| Ok(words.first().cloned().unwrap_or_default());
                let context =
                    Context { heading: true, methods: &[("Label", &label)], ..Context::default() };
                text += &(template.render(&Value::Object(heading), &context)? + "\n");
                for row in rows {
                    text += &(render_row(template, row)? + "\n");
                }
                return Ok(table::align(&text));
            }
        }
        Ok(text)
    }
}

fn render_row(template: &Template, row: &Row) -> Result<String, Error> {
    let label = |words: &[Value]| {
        let name = words.first().and_then(Value::as_str).unwrap_or_default();
        Ok(row.labels.get(name).cloned().unwrap_or_default().into())
    };
    let context = Context { methods: &[("Label", &label)], ..Context::default() };
    template.render(&Value::Object(row.fields.clone()), &context)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(format: &str) -> String {
        let labels = BTreeMap::from([("a".to_owned(), "1".to_owned())]);
        let rows = [
            Row::with_labels(labels).field("Names", "web").field("ID", "123456789012"),
            Row::default().field("Names", "x").field("ID", "2"),
        ];
        let columns = [("ID", "CONTAINER ID"), ("Names", "NAMES")];
        Format::parse(format, "{{.ID}}\t{{.Names}}")
            .and_then(|f| f.render(&columns, &rows))
            .unwrap_or_else(|e| e.to_string())
    }

    #[test]
    fn formats() {
        let table = "CONTAINER ID   NAMES\n123456789012   web\n2              x\n";
        assert_eq!(show(""), table);
        assert_eq!(show("table"), table);
        assert_eq!(
            show("table {{.Names}}\\t{{.ID}}"),
            "NAMES     CONTAINER ID\nweb       123456789012\nx         2\n"
        );
        assert_eq!(
            show("json"),
            "{\"ID\":\"123456789012\",\"Names\":\"web\"}\n{\"ID\":\"2\",\"Names\":\"x\"}\n"
        );
        assert_eq!(show("{{.Names}}\\t{{.ID}}"), "web\t123456789012\nx\t2\n");
        assert_eq!(show("{{.Label \"a\"}}"), "1\n\n");
        assert_eq!(
            show("table {{.Names}}\\t{{.Label \"a\"}}"),
            "NAMES     a\nweb       1\nx         \n"
        );
        assert!(show("{{.Nope}}").contains("no entry for key"));
        assert!(show("{{").starts_with("template:"));
    }
}
