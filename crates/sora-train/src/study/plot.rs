//! Figures from the tables that runs leave behind.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::figure::{self, Labels, Series};

/// Options of `sora-train plot`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// PNG to write.
    #[arg(long)]
    out: PathBuf,
    #[arg(long)]
    title: String,
    /// What stands below the horizontal axis.
    #[arg(long)]
    x_label: String,
    /// What stands beside the vertical axis.
    #[arg(long)]
    y_label: String,
    #[command(subcommand)]
    kind: Kind,
}

#[derive(clap::Subcommand)]
enum Kind {
    /// A line for each table: one column against another.
    Lines {
        /// Tables, each as NAME=FILE.csv.
        #[arg(long = "series", value_parser = parse_named, required = true)]
        series: Vec<(String, PathBuf)>,
        /// Column of the horizontal axis.
        #[arg(long)]
        x: String,
        /// Column of the vertical axis.
        #[arg(long)]
        y: String,
        /// Powers of ten along the horizontal axis.
        #[arg(long)]
        log_x: bool,
    },
    /// Groups of bars from one table in long form.
    Bars {
        /// FILE.csv
        #[arg(long)]
        table: PathBuf,
        /// Column that says the group.
        #[arg(long)]
        group: String,
        /// Column that says the bar within its group.
        #[arg(long)]
        bar: String,
        /// Column of the heights.
        #[arg(long)]
        value: String,
    },
}

/// NAME=PATH.
pub(super) fn parse_named(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, path)) if !name.is_empty() && !path.is_empty() => Ok((name.into(), path.into())),
        _ => Err(format!("{text} is not NAME=PATH")),
    }
}

/// Draws.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let labels = Labels { title: &args.title, x: &args.x_label, y: &args.y_label };
    match &args.kind {
        Kind::Lines { series, x, y, log_x } => {
            let read = |(name, path): &(String, PathBuf)| {
                let table = Table::open(path)?;
                let points = table.numbers(x)?.into_iter().zip(table.numbers(y)?).collect();
                anyhow::Ok(Series { name: name.clone(), points })
            };
            let series = series.iter().map(read).collect::<anyhow::Result<Vec<_>>>()?;
            figure::lines(&args.out, &labels, &series, *log_x)
        }
        Kind::Bars { table, group, bar, value } => {
            let table = Table::open(table)?;
            let (of_group, of_bar, heights) = (table.texts(group)?, table.texts(bar)?, table.numbers(value)?);
            let (groups, bars) = (in_order(&of_group), in_order(&of_bar));
            let mut values = vec![vec![f64::NAN; bars.len()]; groups.len()];
            for ((group, bar), height) in of_group.iter().zip(&of_bar).zip(heights) {
                let at = |list: &[String], name: &String| list.iter().position(|known| known == name);
                if let (Some(group), Some(bar)) = (at(&groups, group), at(&bars, bar)) {
                    values[group][bar] = height;
                }
            }
            figure::bars(&args.out, &labels, &groups, &bars, &values)
        }
    }
}

/// Different values in the order in which they come.
fn in_order(values: &[String]) -> Vec<String> {
    let mut list: Vec<String> = Vec::new();
    for value in values {
        if !list.contains(value) {
            list.push(value.clone());
        }
    }
    list
}

/// A table of our own: names in the first line, commas between, none inside.
struct Table {
    path: PathBuf,
    names: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    fn open(path: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("table {}", path.display()))?;
        Self::parse(path, &text)
    }

    fn parse(path: &Path, text: &str) -> anyhow::Result<Self> {
        let split = |line: &str| line.split(',').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
        let mut lines = text.lines();
        let names = split(lines.next().with_context(|| format!("{} is empty", path.display()))?);
        let rows: Vec<Vec<String>> = lines.map(split).collect();
        if let Some(at) = rows.iter().position(|row| row.len() != names.len()) {
            bail!(
                "line {} of {} has {} cells, its first line {}",
                at + 2,
                path.display(),
                rows[at].len(),
                names.len()
            );
        }
        Ok(Self { path: path.into(), names, rows })
    }

    fn texts(&self, column: &str) -> anyhow::Result<Vec<String>> {
        let at = self.names.iter().position(|name| name == column).with_context(|| {
            format!("{} has no column {column}, but {}", self.path.display(), self.names.join(", "))
        })?;
        Ok(self.rows.iter().map(|row| row[at].clone()).collect())
    }

    fn numbers(&self, column: &str) -> anyhow::Result<Vec<f64>> {
        self.texts(column)?
            .iter()
            .map(|cell| {
                let number: Result<f64, _> = cell.parse();
                number.with_context(|| format!("{cell} in column {column} of {}", self.path.display()))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_read_by_their_names() {
        let table = Table::parse(Path::new("t.csv"), "step,loss,who\n1,0.5,a\n2,0.25,b\n").expect("a table");
        assert_eq!(table.numbers("loss").expect("numbers"), [0.5, 0.25]);
        assert_eq!(table.texts("who").expect("texts"), ["a", "b"]);
        let said = table.numbers("gain").expect_err("no such column").to_string();
        assert!(said.contains("gain") && said.contains("step, loss, who"), "{said}");
        assert!(table.numbers("who").is_err());
        let said = Table::parse(Path::new("t.csv"), "a,b\n1\n").err().expect("uneven").to_string();
        assert!(said.contains("line 2"), "{said}");
    }
}
