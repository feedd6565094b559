//! A report in a file, one line for each clip, that a later run can go on with.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Seek as _, Write as _};
use std::path::Path;

use serde::Deserialize;

use crate::report::VERSION;

/// What was found of a clip before.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Entry {
    /// Its exit code.
    pub exit: u8,
    /// Its length when it was looked at, in bytes.
    pub bytes: Option<u64>,
    /// When it was changed last.
    pub modified: Option<String>,
    /// Whether it was what `--require` asked for.
    #[serde(default)]
    pub meets: Option<bool>,
    /// The verdict's name.
    pub verdict: Option<String>,
}

#[derive(Deserialize)]
struct Line {
    version: u32,
    file: String,
    #[serde(flatten)]
    entry: Entry,
}

/// The report.
#[derive(Debug)]
pub struct Ledger {
    file: File,
    before: HashMap<String, Entry>,
}

impl Ledger {
    /// Begins a report, or goes on with one. A last line that is not whole, as an interrupted run leaves it, is
    /// taken away.
    ///
    /// # Errors
    /// A file that is there already when `resume` is not asked for, one that is no report, and one that cannot be
    /// read and written, in words for people.
    pub fn open(path: &Path, resume: bool) -> Result<Self, String> {
        let shown = path.display();
        let cannot = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => {
                format!("the report {shown} is there already; --resume goes on with it")
            }
            _ => format!("the report {shown} cannot be written: {error}"),
        };
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        if !resume {
            let file = options.create_new(true).open(path).map_err(cannot)?;
            return Ok(Self { file, before: HashMap::new() });
        }
        let mut file = options.create(true).truncate(false).open(path).map_err(cannot)?;
        let (mut before, mut whole, mut number) = (HashMap::new(), 0u64, 0u64);
        let mut reader = BufReader::new(&file);
        loop {
            let mut line = Vec::new();
            let length = reader.read_until(b'\n', &mut line).map_err(cannot)?;
            number += 1;
            if !line.ends_with(b"\n") {
                break;
            }
            let parsed: Line = serde_json::from_slice(&line).map_err(|error| {
                format!("line {number} of the report {shown} is none of a report: {error}")
            })?;
            if parsed.version != VERSION {
                let version = parsed.version;
                return Err(format!(
                    "line {number} of the report {shown} is of version {version}, not {VERSION}"
                ));
            }
            before.insert(parsed.file, parsed.entry);
            whole += length as u64;
        }
        file.set_len(whole).map_err(cannot)?;
        file.seek(std::io::SeekFrom::Start(whole)).map_err(cannot)?;
        Ok(Self { file, before })
    }

    /// What was found of a clip before, if it is still the same one by length and time of change.
    pub fn before(&self, name: &str, bytes: Option<u64>, modified: Option<&str>) -> Option<&Entry> {
        let entry = self.before.get(name)?;
        let same = entry.bytes == bytes && entry.modified.as_deref() == modified;
        // Of what could not be read nothing is known.
        (same && bytes.is_some()).then_some(entry)
    }

    /// Adds a line, which ends in a line break, in one write.
    ///
    /// # Errors
    /// Those of writing.
    pub fn write(&mut self, line: &str) -> std::io::Result<()> {
        self.file.write_all(line.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "{\"version\":1,\"file\":\"a.mp4\",\"verdict\":\"tampered\",\"exit\":30,\"bytes\":7,\"modified\":\"t\"}\n";

    #[test]
    fn a_report_goes_on_after_its_last_whole_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.jsonl");
        let mut ledger = Ledger::open(&path, false).unwrap();
        ledger.write(LINE).unwrap();
        ledger.write(&LINE.replace("a.mp4", "b.mp4")[..30]).unwrap();
        drop(ledger);
        assert!(Ledger::open(&path, false).unwrap_err().contains("--resume"));
        let mut ledger = Ledger::open(&path, true).unwrap();
        assert_eq!(ledger.before("a.mp4", Some(7), Some("t")).map(|entry| entry.exit), Some(30));
        assert_eq!(ledger.before("a.mp4", Some(8), Some("t")), None, "another length");
        assert_eq!(ledger.before("a.mp4", Some(7), Some("u")), None, "changed since");
        assert_eq!(ledger.before("b.mp4", Some(7), Some("t")), None, "its line is not whole");
        ledger.write(&LINE.replace("a.mp4", "c.mp4")).unwrap();
        drop(ledger);
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, format!("{LINE}{}", LINE.replace("a.mp4", "c.mp4")));
    }

    #[test]
    fn what_is_no_report_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("letter.txt");
        for text in ["Dear reader,\n", "{\"version\":2,\"file\":\"a\",\"exit\":0}\n"] {
            std::fs::write(&path, text).unwrap();
            assert!(Ledger::open(&path, true).unwrap_err().contains("line 1 of the report"), "{text}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
    }
}
