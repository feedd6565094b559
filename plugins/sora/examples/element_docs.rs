//! Writes one Markdown page for each element of the named plugins, from what the
//! elements themselves declare: `scripts/docs` runs it on what it staged.
//!
//!     element_docs OUT_DIR PIPELINES_DIR PLUGIN...

use std::fmt::{Display, Write as _};
use std::path::{Path, PathBuf};
use std::{env, fs};

use gst::glib;
use gst::prelude::*;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let args: Vec<String> = env::args().skip(1).collect();
    let [out, pipelines, plugins @ ..] = args.as_slice() else {
        return Err("usage: element_docs OUT_DIR PIPELINES_DIR PLUGIN...".into());
    };
    gst::init()?;
    fs::create_dir_all(out)?;
    let pipelines = read_pipelines(Path::new(pipelines))?;
    for plugin in plugins {
        let mut factories: Vec<gst::ElementFactory> = gst::Registry::get()
            .features_by_plugin(plugin)
            .into_iter()
            .filter_map(|feature| feature.downcast().ok())
            .collect();
        if factories.is_empty() {
            return Err(format!("GStreamer finds no element of the plugin {plugin}").into());
        }
        factories.sort_by_key(|factory| factory.name());
        for factory in factories {
            let path = Path::new(out).join(format!("{}.md", factory.name()));
            fs::write(&path, page(&factory, plugin, &pipelines)?)
                .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        }
    }
    Ok(())
}

/// The `.launch` files, sorted: file name and text.
fn read_pipelines(dir: &Path) -> Result<Vec<(String, String)>> {
    let mut paths: Vec<PathBuf> = fs::read_dir(dir)
        .map_err(|error| format!("cannot read {}: {error}", dir.display()))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    paths.retain(|path| path.extension().is_some_and(|end| end == "launch"));
    paths.sort();
    paths
        .iter()
        .map(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            Ok((name.into_owned(), fs::read_to_string(path)?))
        })
        .collect()
}

fn page(factory: &gst::ElementFactory, plugin: &str, pipelines: &[(String, String)]) -> Result<String> {
    let name = factory.name();
    let element = factory.create().build().map_err(|error| format!("cannot make a {name}: {error}"))?;
    let rank = match factory.rank() {
        gst::Rank::NONE => "none".to_owned(),
        rank => i32::from(rank).to_string(),
    };
    let mut text = String::new();
    writeln!(
        text,
        "<!-- Made by scripts/docs from the registered element: change the element, not this page. -->"
    )?;
    writeln!(text, "# {name}\n\n{}\n", factory.description())?;
    writeln!(text, "{} · class `{}` · plugin `{plugin}` · rank {rank}", factory.longname(), factory.klass(),)?;

    let uses: Vec<_> =
        pipelines.iter().filter(|(_, launch)| launch.split_whitespace().any(|word| word == name)).collect();
    if !uses.is_empty() {
        writeln!(text, "\n## Pipelines")?;
    }
    for (file, launch) in uses {
        writeln!(text, "\n    gst-launch-1.0 {}", launch.trim())?;
        writeln!(text, "\n([{file}](../../pipelines/{file}))")?;
    }

    writeln!(text, "\n## Properties\n")?;
    writeln!(text, "| name | type | values | default | may be set | |")?;
    writeln!(text, "|---|---|---|---|---|---|")?;
    let own = element.type_();
    for spec in element.list_properties() {
        // A base class's properties differ from one GStreamer to the next.
        if spec.owner_type() == own {
            writeln!(text, "{}", property_row(&spec))?;
        }
    }
    if let Some(base) = own.parent() {
        writeln!(
            text,
            "\nBesides, those of its base class `{base}`: `gst-inspect-1.0 {name}` lists them all."
        )?;
    }

    writeln!(text, "\n## Pads\n")?;
    // The registry gives them in another order than the class.
    let mut templates: Vec<_> = factory.static_pad_templates().into_iter().collect();
    templates.sort_by_key(|template| template.name_template());
    for template in templates {
        let direction = match template.direction() {
            gst::PadDirection::Src => "source",
            gst::PadDirection::Sink => "sink",
            _ => "unknown",
        };
        let presence = match template.presence() {
            gst::PadPresence::Always => "always there",
            gst::PadPresence::Sometimes => "comes and goes",
            _ => "on request",
        };
        writeln!(text, "`{}` ({direction}, {presence}):\n", template.name_template())?;
        for structure in template.caps().iter() {
            writeln!(text, "    {}", structure.name())?;
            for (field, value) in structure.iter() {
                let value = value.serialize().map(String::from).unwrap_or_default();
                writeln!(text, "        {field}: {}", value.replace("(string)", ""))?;
            }
        }
        writeln!(text)?;
    }
    while text.ends_with("\n\n") {
        text.pop();
    }
    Ok(text)
}

fn property_row(spec: &glib::ParamSpec) -> String {
    let flags = spec.flags();
    let settable = if !flags.contains(glib::ParamFlags::WRITABLE) {
        "never (read only)"
    } else if flags.contains(gst::PARAM_FLAG_MUTABLE_PLAYING) {
        "at any time"
    } else if flags.contains(gst::PARAM_FLAG_MUTABLE_PAUSED) {
        "up to PAUSED"
    } else if flags.contains(gst::PARAM_FLAG_MUTABLE_READY) {
        "in NULL or READY"
    } else if flags.contains(glib::ParamFlags::CONSTRUCT_ONLY) {
        "when it is made"
    } else {
        // GStreamer's convention: without a flag, before the element does anything.
        "in NULL"
    };
    let default = if flags.contains(glib::ParamFlags::WRITABLE) { default_of(spec) } else { String::new() };
    format!(
        "| `{}` | {} | {} | {default} | {settable} | {} |",
        spec.name(),
        type_of(spec),
        cell(&values_of(spec)),
        cell(spec.blurb().unwrap_or_default()),
    )
}

/// Text that cannot end a table's cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

fn type_of(spec: &glib::ParamSpec) -> &'static str {
    let value_type = spec.value_type();
    if value_type.is_a(glib::Type::ENUM) {
        "enum"
    } else if value_type.is_a(glib::Type::FLAGS) {
        "flags"
    } else {
        match value_type {
            glib::Type::STRING => "string",
            glib::Type::BOOL => "boolean",
            glib::Type::I32 => "int",
            glib::Type::U32 => "uint",
            glib::Type::I64 => "int64",
            glib::Type::U64 => "uint64",
            glib::Type::F32 => "float",
            glib::Type::F64 => "double",
            other => other.name(),
        }
    }
}

fn default_of(spec: &glib::ParamSpec) -> String {
    let value = spec.default_value();
    if let Ok(text) = value.get::<Option<String>>() {
        return match text {
            Some(text) if !text.is_empty() => format!("`{}`", cell(&text)),
            Some(_) => "empty".to_owned(),
            None => "not set".to_owned(),
        };
    }
    match value.serialize() {
        Ok(text) => format!("`{}`", cell(&text)),
        Err(_) => "not set".to_owned(),
    }
}

fn values_of(spec: &glib::ParamSpec) -> String {
    if let Some(spec) = spec.downcast_ref::<glib::ParamSpecEnum>() {
        let values = spec.enum_class();
        let values = values.values().iter().map(|value| {
            let (nick, meaning) = (value.nick(), value.name());
            if nick == meaning { format!("`{nick}`") } else { format!("`{nick}`: {meaning}") }
        });
        return values.collect::<Vec<_>>().join("; ");
    }
    macro_rules! range_of {
        ($($spec:ident: $number:ty),*) => {$(
            if let Some(spec) = spec.downcast_ref::<glib::$spec>() {
                let (low, high) = (spec.minimum(), spec.maximum());
                // For an unsigned number the lowest is a bound like any other.
                let no_low = low == <$number>::MIN && low != <$number>::default();
                return range(low, high, no_low, high == <$number>::MAX);
            }
        )*};
    }
    range_of!(ParamSpecInt: i32, ParamSpecUInt: u32, ParamSpecInt64: i64, ParamSpecUInt64: u64);
    range_of!(ParamSpecFloat: f32, ParamSpecDouble: f64);
    String::new()
}

fn range<N: Display>(low: N, high: N, no_low: bool, no_high: bool) -> String {
    match (no_low, no_high) {
        (true, true) => "any".to_owned(),
        (false, true) => format!("{low} or more"),
        (true, false) => format!("{high} or less"),
        (false, false) => format!("{low} to {high}"),
    }
}
