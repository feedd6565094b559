//! Making clips and running the program.
#![allow(dead_code, unreachable_pub, reason = "each test uses a part of it")]

use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Once;

use gst::prelude::*;
use serde_json::Value;
use tempfile::TempDir;

/// A folder to make files in.
pub struct Folder(TempDir);

impl Folder {
    pub fn new() -> Self {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            gst::init().expect("GStreamer starts");
            gstsoraprovenance::plugin_register_static().expect("the plugin registers");
        });
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        std::fs::write(self.at(name), bytes).expect("the folder can be written");
        self.at(name)
    }

    /// Runs a pipeline that ends in a file.
    pub fn make(&self, name: &str, pipeline: &str) -> PathBuf {
        let file = self.at(name);
        let pipeline = gst::parse::launch(&format!("{pipeline} ! filesink name=end")).expect("it is valid");
        let pipeline = pipeline.downcast::<gst::Pipeline>().expect("several elements");
        pipeline.by_name("end").expect("a sink").set_property("location", file.to_str());
        pipeline.set_state(gst::State::Playing).expect("it starts");
        let bus = pipeline.bus().expect("a pipeline has a bus");
        let ends = [gst::MessageType::Eos, gst::MessageType::Error];
        let end = bus.timed_pop_filtered(gst::ClockTime::from_seconds(280), &ends).expect("it ends");
        assert_eq!(end.type_(), gst::MessageType::Eos, "{end:?}");
        pipeline.set_state(gst::State::Null).expect("NULL is always possible");
        file
    }

    /// Two seconds of H.264 in MP4; `mark` is what lies before the encoder.
    pub fn movie(&self, name: &str, mark: &str) -> PathBuf {
        let source =
            "videotestsrc num-buffers=50 ! video/x-raw,format=I420,width=480,height=270,framerate=25/1";
        self.make(name, &format!("{source} ! {mark} ! x264enc speed-preset=veryfast ! mp4mux"))
    }
}

pub fn soraverify(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_soraverify"));
    command.args(arguments).env_remove("SORA_WATERMARK_KEY").env_remove("GST_DEBUG");
    command
}

pub fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or_else(|| panic!("it ends by itself: {output:?}"))
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A fragmented movie as its beginning and its fragments, each of which starts with a box of kind `first`.
pub fn split(movie: &[u8], first: &[u8; 4]) -> (Vec<u8>, Vec<Vec<u8>>) {
    let mut starts = Vec::new();
    let mut at = 0;
    while let Some(size) = movie.get(at..at + 4) {
        if &movie[at + 4..at + 8] == first {
            starts.push(at);
        }
        at += u32::from_be_bytes(size.try_into().expect("four bytes")) as usize;
    }
    let ends = starts[1..].iter().copied().chain([movie.len()]);
    let fragments = starts.iter().zip(ends).map(|(start, end)| movie[*start..end].to_vec()).collect();
    (movie[..starts[0]].to_vec(), fragments)
}

/// The lines of what was printed; each must be what the schema says, and have no field that it does not know.
pub fn check_lines(printed: &str) -> Vec<Value> {
    let mut schema: Value =
        serde_json::from_str(include_str!("../../../../docs/soraverify.schema.json")).expect("it is JSON");
    make_strict(&mut schema);
    let schema = jsonschema::validator_for(&schema).expect("it is a schema");
    let lines: Vec<Value> =
        printed.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect();
    for line in &lines {
        let problems: Vec<String> = schema.iter_errors(line).map(|error| error.to_string()).collect();
        assert!(problems.is_empty(), "{line:#}: {problems:?}");
    }
    lines
}

/// Lets a schema know no other fields than those it names.
fn make_strict(schema: &mut Value) {
    if let Value::Object(object) = schema {
        if object.get("type").is_some_and(|kind| kind == "object") && object.contains_key("properties") {
            object.insert("unevaluatedProperties".into(), false.into());
        }
        object.values_mut().for_each(make_strict);
    } else if let Value::Array(array) = schema {
        array.iter_mut().for_each(make_strict);
    }
}
