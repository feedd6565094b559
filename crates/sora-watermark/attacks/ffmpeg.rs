//! ffmpeg as a child process: frames in and out as y4m through pipes.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::clip::Clip;

/// Runs ffmpeg with a clip on its standard input; its standard output and its standard error.
pub(crate) fn pipe(program: &str, clip: &Clip, arguments: &[&str]) -> Result<(Vec<u8>, String)> {
    let mut child = Command::new(program)
        .args(["-hide_banner", "-nostats", "-y", "-f", "yuv4mpegpipe", "-i", "-"])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("{program} does not start"))?;
    let mut input = child.stdin.take().context("a pipe")?;
    let bytes = clip.y4m();
    let writer = std::thread::spawn(move || {
        // ffmpeg may close its input early (an excerpt): that is no error.
        let _ = input.write_all(&bytes);
    });
    let output = child.wait_with_output()?;
    let _ = writer.join();
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    if !output.status.success() {
        bail!("{program} {}: {}", arguments.join(" "), log.lines().last().unwrap_or_default());
    }
    Ok((output.stdout, log))
}

/// A clip through a filter chain, not encoded.
pub(crate) fn filter(clip: &Clip, chain: &str) -> Result<Clip> {
    let arguments = ["-threads", "1", "-vf", chain, "-pix_fmt", "yuv420p", "-f", "yuv4mpegpipe", "-"];
    Clip::parse(&pipe("ffmpeg", clip, &arguments)?.0)
}

/// A clip through a filter chain and an encoder, decoded again; and the bytes of the encoded file.
pub(crate) fn encode(clip: &Clip, chain: Option<&str>, encoder: &[&str], file: &Path) -> Result<(Clip, u64)> {
    let name = file.to_str().context("a UTF-8 path")?;
    let mut arguments = vec!["-threads", "1"];
    if let Some(chain) = chain {
        arguments.extend(["-vf", chain]);
    }
    arguments.extend_from_slice(encoder);
    arguments.extend(["-pix_fmt", "yuv420p", name]);
    pipe("ffmpeg", clip, &arguments)?;
    let bytes = std::fs::metadata(file)?.len();
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-threads", "1", "-i", name, "-pix_fmt", "yuv420p", "-f", "yuv4mpegpipe", "-"])
        .output()?;
    std::fs::remove_file(file)?;
    Ok((Clip::parse(&output.stdout)?, bytes))
}

/// SSIM of luma (ffmpeg's) and VMAF, the latter where this ffmpeg has libvmaf.
pub(crate) fn quality(
    vmaf_program: &str,
    original: &Clip,
    marked: &Clip,
    scratch: &Path,
) -> Result<(f64, Option<f64>)> {
    let file = scratch.with_extension("y4m");
    std::fs::write(&file, original.y4m())?;
    let name = file.to_str().context("a UTF-8 path")?;
    let run =
        |program: &str, graph: &str| pipe(program, marked, &["-i", name, "-lavfi", graph, "-f", "null", "-"]);
    let (_, log) = run("ffmpeg", "[0:v][1:v]ssim")?;
    let ssim = after(&log, "SSIM Y:").context("ffmpeg gave no SSIM")?;
    let vmaf = run(vmaf_program, "[0:v][1:v]libvmaf=n_threads=1")
        .ok()
        .and_then(|(_, log)| after(&log, "VMAF score: "));
    std::fs::remove_file(&file)?;
    Ok((ssim, vmaf))
}

/// The number after a tag in a log.
fn after(log: &str, tag: &str) -> Option<f64> {
    let rest = &log[log.rfind(tag)? + tag.len()..];
    rest.split([' ', '\n', '(']).next()?.parse().ok()
}
