//! What an evaluation leaves behind: tables as CSV, all figures as JSON, everything to read as Markdown.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::{Map, Value};

use crate::checkpoint::write_whole;
use crate::json;

/// A report that grows, measure by measure.
pub(crate) struct Report {
    dir: PathBuf,
    text: String,
    figures: Map<String, Value>,
}

impl Report {
    /// Makes the folder that a report is to be in, which may be there.
    ///
    /// # Errors
    /// If it cannot be made.
    pub(crate) fn folder(dir: &Path) -> anyhow::Result<()> {
        anyhow::ensure!(!dir.as_os_str().is_empty(), "out is empty, it must name a folder");
        fs::create_dir_all(dir).with_context(|| format!("out folder {}", dir.display()))
    }

    /// A new report in `dir`. A former one stays beside it, as `report-1.md` and `report-1.json`, and so on.
    ///
    /// # Errors
    /// If the folder cannot be made or written to.
    pub(crate) fn create(dir: &Path, title: &str) -> anyhow::Result<Self> {
        Self::folder(dir)?;
        keep_former(dir).with_context(|| format!("out folder {}", dir.display()))?;
        let report = Self { dir: dir.into(), text: format!("# {title}\n"), figures: Map::new() };
        report.save().with_context(|| format!("out folder {} is not writable", dir.display()))?;
        Ok(report)
    }

    /// A file of the report.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Adds a paragraph, and a heading before it where one is given.
    pub(crate) fn say(&mut self, heading: &str, text: &str) {
        if !heading.is_empty() {
            self.text += &format!("\n## {heading}\n");
        }
        self.text += &format!("\n{text}\n");
    }

    /// Adds a figure to `report.json`.
    pub(crate) fn figure(&mut self, name: &str, value: impl Into<Value>) {
        self.figures.insert(name.to_owned(), value.into());
    }

    /// Adds a table to the text, and writes it as `name.csv`.
    pub(crate) fn table(&mut self, name: &str, header: &[&str], rows: &[Vec<String>]) -> anyhow::Result<()> {
        let line = |cells: Vec<&str>| format!("| {} |\n", cells.join(" | "));
        self.text += "\n";
        self.text += &line(header.to_vec());
        self.text += &line(vec!["---"; header.len()]);
        for row in rows {
            self.text += &line(row.iter().map(String::as_str).collect());
        }
        self.csv(name, header, rows)
    }

    /// Writes `name.csv`.
    pub(crate) fn csv(&self, name: &str, header: &[&str], rows: &[Vec<String>]) -> anyhow::Result<()> {
        let quoted = |cell: &str| {
            if cell.contains([',', '"', '\n']) {
                format!("\"{}\"", cell.replace('"', "\"\""))
            } else {
                cell.to_owned()
            }
        };
        let mut csv = header.join(",") + "\n";
        for row in rows {
            csv += &(row.iter().map(|cell| quoted(cell)).collect::<Vec<_>>().join(",") + "\n");
        }
        write_whole(&self.file(&format!("{name}.csv")), |p| Ok(fs::write(p, csv)?))
    }

    /// Writes `report.md` and `report.json` as far as they are.
    pub(crate) fn save(&self) -> anyhow::Result<()> {
        write_whole(&self.file("report.md"), |p| Ok(fs::write(p, &self.text)?))?;
        json::write(&self.file("report.json"), &self.figures)
    }
}

/// Renames the report of a folder, if it has one, to the first number that is free.
fn keep_former(dir: &Path) -> anyhow::Result<()> {
    let files = ["md", "json"].map(|ending| (dir.join(format!("report.{ending}")), ending));
    if !files.iter().any(|(file, _)| file.exists()) {
        return Ok(());
    }
    let numbered = |number: u64, ending: &str| dir.join(format!("report-{number}.{ending}"));
    let is_free = |number: &u64| files.iter().all(|(_, ending)| !numbered(*number, ending).exists());
    let number = (1..).find(is_free).context("there are too many reports")?;
    for (file, ending) in files.iter().filter(|(file, _)| file.exists()) {
        let former = numbered(number, ending);
        fs::rename(file, &former).with_context(|| format!("keeping {}", file.display()))?;
        eprintln!("the former report is in {}", former.display());
    }
    Ok(())
}

/// "93.5 %", or a dash for what nothing was asked about.
pub(crate) fn percent(share: f64) -> String {
    if share.is_finite() { format!("{:.1} %", 100.0 * share) } else { "–".into() }
}

/// The mean, not a number of nothing.
pub(crate) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_that_cannot_be_written_are_refused_and_named() {
        assert!(Report::create(Path::new(""), "t").is_err_and(|e| e.to_string().contains("empty")));
        let error = Report::create(Path::new("/proc/nowhere"), "t").err().expect("an error");
        assert!(error.to_string().contains("/proc/nowhere"), "{error}");
    }

    #[test]
    fn a_former_report_stays_beside_the_new_one() {
        let dir = tempfile::tempdir().expect("a folder");
        for n in 1..=3 {
            let mut report = Report::create(dir.path(), "Test").expect("a report");
            report.figure("n", n);
            report.save().expect("saved");
        }
        let read = |name: &str| fs::read_to_string(dir.path().join(name)).expect(name);
        for (name, n) in [("report-1.json", 1), ("report-2.json", 2), ("report.json", 3)] {
            assert!(read(name).contains(&format!("\"n\": {n}")), "{name}: {}", read(name));
        }
        assert!(read("report-1.md").starts_with("# Test") && !dir.path().join("report-3.json").exists());
    }

    #[test]
    fn commas_in_captions_stay_in_their_cell() {
        let dir = std::env::temp_dir().join(format!("sora-report-{}", std::process::id()));
        let mut report = Report::create(&dir, "Test").expect("a report");
        let rows = [vec!["a tree, neon".to_owned(), "1".to_owned()]];
        report.table("rows", &["caption", "n"], &rows).expect("a table");
        report.figure("n", 1);
        report.save().expect("saved");
        let read = |name: &str| fs::read_to_string(dir.join(name)).expect("a file");
        assert_eq!(read("rows.csv"), "caption,n\n\"a tree, neon\",1\n");
        assert!(read("report.md").contains("| a tree, neon | 1 |"));
        assert!(read("report.json").contains("\"n\": 1"));
        fs::remove_dir_all(dir).expect("removed");
    }
}
