//! Rows for people: columns as wide as they need to be.

use std::io::Write;

/// Prints a line of names and the rows below it; the last column is as long as it likes.
///
/// # Errors
/// If the output is gone.
pub fn print<const N: usize>(
    output: &mut impl Write,
    head: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> std::io::Result<()> {
    let rows: Vec<[String; N]> = std::iter::once(head.map(str::to_owned)).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    for row in &rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        writeln!(output, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut output = Vec::new();
        let rows = [["ä".to_owned(), "b".to_owned()], ["cc".to_owned(), String::new()]];
        print(&mut output, ["A", "B"], rows).unwrap();
        assert_eq!(String::from_utf8(output).unwrap(), "A   B\nä   b\ncc\n");
    }
}
