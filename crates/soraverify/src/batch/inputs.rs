//! Which files are looked at: those that are named, those of lists, and the videos in folders.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use walkdir::{DirEntry, WalkDir};

/// Extensions of the files that are looked at in folders, lower case.
pub const EXTENSIONS: [&str; 20] = [
    "mp4", "m4v", "mov", "cmfv", "3gp", "3g2", "mkv", "webm", "ts", "m2ts", "mts", "mpg", "mpeg", "avi",
    "mxf", "ogv", "flv", "wmv", "gif", "asf",
];

/// Longest list of files, in bytes.
const LIST_BYTES: u64 = 64 << 20;

/// A file to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// As it is named in what is printed.
    pub name: String,
    /// Where it is; `-` is standard input.
    pub path: PathBuf,
}

impl Input {
    /// What somebody named.
    pub fn named(name: &str) -> Self {
        Self { name: name.to_owned(), path: PathBuf::from(name) }
    }

    fn at(path: PathBuf) -> Self {
        Self { name: path.to_string_lossy().into_owned(), path }
    }
}

/// The files that `named` and the lists name, in order; in place of a folder the videos in it and in its folders,
/// by name. Hidden files and folders are left out, and links to folders are not followed.
///
/// # Errors
/// A folder without a video, and a folder or list that cannot be read, in words for people.
pub fn expand(named: &[String], lists: &[PathBuf]) -> Result<Vec<Input>, String> {
    let mut inputs = Vec::new();
    for name in named {
        add(Input::named(name), &mut inputs)?;
    }
    for list in lists {
        let mut text = String::new();
        let read = match list.to_str() {
            Some("-") => std::io::stdin().lock().take(LIST_BYTES + 1).read_to_string(&mut text),
            _ => {
                std::fs::File::open(list).and_then(|file| file.take(LIST_BYTES + 1).read_to_string(&mut text))
            }
        };
        read.map_err(|error| format!("the list {} cannot be read: {error}", list.display()))?;
        if text.len() as u64 > LIST_BYTES {
            return Err(format!("the list {} has more than {LIST_BYTES} bytes", list.display()));
        }
        for name in text.lines().filter(|line| !line.is_empty()) {
            add(Input::named(name), &mut inputs)?;
        }
    }
    Ok(inputs)
}

fn add(input: Input, inputs: &mut Vec<Input>) -> Result<(), String> {
    if !input.path.is_dir() {
        inputs.push(input);
        return Ok(());
    }
    let before = inputs.len();
    let walk = WalkDir::new(&input.path).sort_by_file_name().into_iter();
    for entry in walk.filter_entry(|entry| entry.depth() == 0 || !is_hidden(entry)) {
        let entry = entry.map_err(|error| format!("the folder {} cannot be read: {error}", input.name))?;
        if entry.path().is_file() && is_video(entry.path()) {
            inputs.push(Input::at(entry.into_path()));
        }
    }
    if inputs.len() == before {
        let looked_for = EXTENSIONS.join(", ");
        return Err(format!("there is no video in the folder {} (looked for: {looked_for})", input.name));
    }
    Ok(())
}

fn is_hidden(entry: &DirEntry) -> bool {
    entry.file_name().as_encoded_bytes().starts_with(b".")
}

fn is_video(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|extension| EXTENSIONS.contains(&extension.to_ascii_lowercase().as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_become_their_videos_by_name_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["b", ".git", "b/c"] {
            std::fs::create_dir(at(name)).unwrap();
        }
        for name in
            ["z.mp4", "b/2.MOV", "b/c/1.mkv", "b/clip.c2pa", "notes.txt", ".a.mp4", ".git/a.mp4", "a.mp4"]
        {
            std::fs::write(at(name), "").unwrap();
        }
        #[cfg(unix)]
        std::os::unix::fs::symlink(folder.path(), at("b/loop")).unwrap();
        let named = [folder.path().to_str().unwrap().to_owned(), "given.txt".to_owned()];
        let found: Vec<PathBuf> = expand(&named, &[]).unwrap().into_iter().map(|input| input.path).collect();
        let expected = [at("a.mp4"), at("b/2.MOV"), at("b/c/1.mkv"), at("z.mp4"), PathBuf::from("given.txt")];
        assert_eq!(found, expected);
    }

    #[test]
    fn lists_name_files_line_by_line() {
        let folder = tempfile::tempdir().unwrap();
        let list = folder.path().join("list");
        std::fs::write(&list, "a b.mp4\n\nc.mp4\n").unwrap();
        let found = expand(&["first.mp4".into()], std::slice::from_ref(&list)).unwrap();
        assert_eq!(
            found.iter().map(|input| input.name.as_str()).collect::<Vec<_>>(),
            ["first.mp4", "a b.mp4", "c.mp4"]
        );
        let missing = folder.path().join("missing");
        assert!(expand(&[], &[missing]).unwrap_err().contains("missing cannot be read"));
        let empty = folder.path().to_str().unwrap().to_owned();
        assert!(expand(&[empty], &[]).unwrap_err().contains("no video in the folder"));
    }
}
