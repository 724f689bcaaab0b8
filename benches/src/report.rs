//! Results: a table for people, JSON for scripts.

use std::{fs, path::PathBuf, time::Duration};

use serde_json::{Value, json};

use crate::measure::Cost;

/// The result of one bench.
pub(crate) struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
    values: Vec<Value>,
    notes: Vec<String>,
}

impl Table {
    /// A table of any columns.
    pub(crate) fn new(header: &[&str]) -> Self {
        let header = header.iter().map(|word| (*word).to_owned()).collect();
        Self { header, rows: Vec::new(), values: Vec::new(), notes: Vec::new() }
    }

    /// Costs, with each one's ratio to the first: how many times as long, as much.
    pub(crate) fn of_costs(costs: &[Cost]) -> Self {
        let mut table = Self::new(&[
            "", "rounds", "wall min", "median", "cpu min", "median", "peak RSS", "wall ×", "cpu ×",
        ]);
        if let Some(first) = costs.first() {
            for cost in costs {
                let wall = ratio(cost.wall_min(), first.wall_min());
                let cpu = ratio(cost.cpu_min(), first.cpu_min());
                table.row(
                    vec![
                        cost.name.clone(),
                        cost.rounds().to_string(),
                        shown(cost.wall_min()),
                        shown(cost.wall_median()),
                        shown(cost.cpu_min()),
                        shown(cost.cpu_median()),
                        format!("{:.1} MB", cost.peak_kb() as f64 / 1024.0),
                        format!("{wall:.2}"),
                        format!("{cpu:.2}"),
                    ],
                    json!({
                        "name": cost.name,
                        "rounds": cost.rounds(),
                        "wall_min_us": micros(cost.wall_min()),
                        "wall_median_us": micros(cost.wall_median()),
                        "cpu_min_us": micros(cost.cpu_min()),
                        "cpu_median_us": micros(cost.cpu_median()),
                        "peak_kb": cost.peak_kb(),
                        "wall_ratio": wall,
                        "cpu_ratio": cpu,
                    }),
                );
            }
        }
        table
    }

    /// Adds a row, and what stands for it in the JSON.
    pub(crate) fn row(&mut self, cells: Vec<String>, value: Value) {
        self.rows.push(cells);
        self.values.push(value);
    }

    /// Adds the rows of another table of the same columns, under a group's name.
    pub(crate) fn group(&mut self, name: &str, other: Self) {
        if self.header.is_empty() {
            self.header = other.header;
        }
        for (mut cells, mut value) in other.rows.into_iter().zip(other.values) {
            if let Some(first) = cells.first_mut() {
                *first = format!("{name} {first}");
            }
            value["group"] = json!(name);
            self.row(cells, value);
        }
        self.notes.extend(other.notes);
    }

    /// A line below the table: who is missing, and why.
    pub(crate) fn note(&mut self, text: String) {
        self.notes.push(text);
    }

    /// Prints it.
    pub(crate) fn print(&self) {
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.chain(self.header.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.header.len()).map(width).collect();
        for row in std::iter::once(&self.header).chain(&self.rows) {
            let mut line = String::new();
            for (index, (cell, width)) in row.iter().zip(&widths).enumerate() {
                match index {
                    0 => line.push_str(&format!("  {cell:<width$}")),
                    _ => line.push_str(&format!("  {cell:>width$}")),
                }
            }
            println!("{}", line.trim_end());
        }
        for note in &self.notes {
            println!("  note: {note}");
        }
    }

    /// Writes it as JSON.
    pub(crate) fn write(&self, name: &str, asks: &str) -> Result<(), String> {
        let Some(directory) = std::env::var_os("HAKO_BENCH_OUT").map(PathBuf::from) else {
            return Ok(());
        };
        let path = directory.join(format!("{name}.json"));
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let document = json!({
            "bench": name, "asks": asks, "kernel": kernel.trim(), "results": self.values, "notes": self.notes,
        });
        let text = serde_json::to_string_pretty(&document).map_err(|error| error.to_string())?;
        fs::write(&path, text).map_err(|error| format!("write({}): {error}", path.display()))
    }
}

/// How many times as long as the other.
pub(crate) fn ratio(one: Duration, other: Duration) -> f64 {
    one.as_secs_f64() / other.as_secs_f64().max(f64::MIN_POSITIVE)
}

/// A time as a person reads it.
pub(crate) fn shown(time: Duration) -> String {
    let micros = micros(time);
    match micros {
        0..10_000 => format!("{:.2} ms", micros as f64 / 1e3),
        10_000..1_000_000 => format!("{:.1} ms", micros as f64 / 1e3),
        _ => format!("{:.2} s", micros as f64 / 1e6),
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_three_or_four_digits() {
        let shown = |micros| shown(Duration::from_micros(micros));
        assert_eq!(shown(1_234), "1.23 ms");
        assert_eq!(shown(56_789), "56.8 ms");
        assert_eq!(shown(1_234_567), "1.23 s");
    }
}
