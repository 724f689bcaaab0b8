//! Columns: cells separated by tabs become columns of equal width, as Go's tabwriter makes them
//! with Docker's settings.

const WIDTH_MIN: usize = 10;
const PADDING: usize = 3;

/// Aligns lines of cells. The last cell of a line is no column: nothing follows it.
pub fn align(text: &str) -> String {
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split('\t').collect()).collect();
    let mut widths: Vec<usize> = Vec::new();
    for line in &lines {
        for (i, cell) in line[..line.len() - 1].iter().enumerate() {
            let width = (cell.chars().count() + PADDING).max(WIDTH_MIN);
            match widths.get_mut(i) {
                Some(known) => *known = width.max(*known),
                None => widths.push(width),
            }
        }
    }
    let mut out = String::new();
    for line in &lines {
        for (i, cell) in line.iter().enumerate() {
            out.push_str(cell);
            if i + 1 < line.len() {
                out.push_str(&" ".repeat(widths[i] - cell.chars().count()));
            }
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        assert_eq!(
            super::align("ID\tNAME\tX\n123456789012\té\tlast cell\n"),
            "ID             NAME      X\n123456789012   é         last cell\n"
        );
        assert_eq!(super::align(""), "");
        assert_eq!(super::align("one\ntwo\n"), "one\ntwo\n");
    }
}
