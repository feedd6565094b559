//! Figures: lines over an axis and grouped bars, as PNG.
//!
//! Text is set in DejaVu Sans, which Debian's fontconfig (and so GStreamer's Pango) brings along.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context, ensure};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::{FontStyle, register_font};

/// Pixels.
const SIZE: (u32, u32) = (900, 540);
/// Where distributions keep the font.
const FONTS: [&str; 3] = [
    "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf",
    "/usr/share/fonts/dejavu-sans-fonts/DejaVuSans.ttf",
    "/usr/share/fonts/TTF/DejaVuSans.ttf",
];
/// Told apart also by people who see few colours (Okabe and Ito 2008).
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(213, 94, 0),
];

/// What is written around a figure.
#[derive(Clone, Debug)]
pub(crate) struct Labels<'a> {
    pub(crate) title: &'a str,
    pub(crate) x: &'a str,
    pub(crate) y: &'a str,
}

/// A line with a mark at every point.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

fn font() -> anyhow::Result<()> {
    static FONT: OnceLock<Result<(), String>> = OnceLock::new();
    let loaded = FONT.get_or_init(|| {
        let path = FONTS.iter().find(|path| Path::new(path).exists());
        let path = path.ok_or_else(|| {
            format!("there is no DejaVu Sans at {}: install fonts-dejavu-core", FONTS.join(", "))
        })?;
        let bytes = std::fs::read(path).map_err(|e| format!("{path}: {e}"))?;
        register_font("sans-serif", FontStyle::Normal, bytes.leak())
            .map_err(|_| format!("{path} is not a font"))
    });
    loaded.clone().map_err(anyhow::Error::msg)
}

/// Draws into a file beside `path` and moves it there when it is whole.
fn draw(
    path: &Path,
    paint: impl FnOnce(&DrawingArea<BitMapBackend<'_>, Shift>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    font()?;
    // The backend tells the format by the ending.
    let part = PathBuf::from(format!("{}.part.png", path.display()));
    {
        let area = BitMapBackend::new(&part, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        paint(&area)?;
        area.present().with_context(|| format!("figure {}", path.display()))?;
    }
    std::fs::rename(&part, path).with_context(|| format!("figure {}", path.display()))
}

/// A number on an axis, without the digits that sums of tenths leave.
fn short(value: f64) -> String {
    let rounded = (value * 1e6).round() / 1e6;
    format!("{}", if rounded == 0.0 { 0.0 } else { rounded })
}

/// Low and high end of values with a margin.
fn span(values: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    let (low, high) =
        (values.clone().fold(f64::INFINITY, f64::min), values.fold(f64::NEG_INFINITY, f64::max));
    let margin = ((high - low) * 0.06).max(high.abs() * 1e-3).max(1e-9);
    (low - margin, high + margin)
}

/// Lines over an axis; `log_x` for one of powers of ten.
///
/// # Errors
/// If there is nothing to draw, a value is not finite, the font is missing or the file cannot be written.
pub(crate) fn lines(path: &Path, labels: &Labels<'_>, series: &[Series], log_x: bool) -> anyhow::Result<()> {
    let points = series.iter().flat_map(|s| s.points.iter().copied());
    ensure!(points.clone().count() > 0, "there are no points to draw in {}", path.display());
    ensure!(
        points.clone().all(|(x, y)| x.is_finite() && y.is_finite() && (!log_x || x > 0.0)),
        "a point of {} cannot be drawn",
        path.display()
    );
    let (low_y, high_y) = span(points.clone().map(|p| p.1));
    // The logarithm is taken here, so that one kind of axis serves both.
    let place = |x: f64| if log_x { x.log10() } else { x };
    let (low_x, high_x) = span(points.clone().map(|p| place(p.0)));
    // Names stand on the side where the lines are low.
    let highest = points.max_by(|a, b| a.1.total_cmp(&b.1)).map_or(low_x, |p| place(p.0));
    let names = if highest > f64::midpoint(low_x, high_x) {
        SeriesLabelPosition::UpperLeft
    } else {
        SeriesLabelPosition::UpperRight
    };
    draw(path, |area| {
        let mut chart = ChartBuilder::on(area)
            .caption(labels.title, ("sans-serif", 22))
            .margin(14)
            .x_label_area_size(46)
            .y_label_area_size(64)
            .build_cartesian_2d(low_x..high_x, low_y..high_y)?;
        chart
            .configure_mesh()
            .x_desc(labels.x)
            .y_desc(labels.y)
            .x_label_formatter(&|x| if log_x { format!("{:.1e}", 10f64.powf(*x)) } else { short(*x) })
            .y_label_formatter(&|y| short(*y))
            .axis_desc_style(("sans-serif", 16))
            .label_style(("sans-serif", 13))
            .light_line_style(WHITE)
            .draw()?;
        for (series, colour) in series.iter().zip(COLOURS.iter().cycle()) {
            let points: Vec<(f64, f64)> = series.points.iter().map(|&(x, y)| (place(x), y)).collect();
            chart
                .draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))?
                .label(series.name.clone())
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(3)));
            chart.draw_series(points.iter().map(|&point| Circle::new(point, 3, colour.filled())))?;
        }
        if series.len() > 1 {
            chart
                .configure_series_labels()
                .position(names.clone())
                .background_style(WHITE.mix(0.85))
                .border_style(BLACK.mix(0.2))
                .label_font(("sans-serif", 14))
                .draw()?;
        }
        Ok(())
    })
}

/// Groups of bars from 0 up; `values[group][bar]`.
///
/// # Errors
/// As [`lines`].
pub(crate) fn bars(
    path: &Path,
    labels: &Labels<'_>,
    groups: &[String],
    names: &[String],
    values: &[Vec<f64>],
) -> anyhow::Result<()> {
    ensure!(!groups.is_empty() && !names.is_empty(), "there are no bars to draw in {}", path.display());
    ensure!(
        values.len() == groups.len() && values.iter().all(|v| v.len() == names.len()),
        "{}: {} groups of {} bars need as many values",
        path.display(),
        groups.len(),
        names.len()
    );
    ensure!(values.iter().flatten().all(|v| v.is_finite()), "a bar of {} cannot be drawn", path.display());
    let high = values.iter().flatten().fold(0.0f64, |a, &b| a.max(b)).max(1e-9) * 1.12;
    draw(path, |area| {
        let mut chart = ChartBuilder::on(area)
            .caption(labels.title, ("sans-serif", 22))
            .margin(14)
            .x_label_area_size(46)
            .y_label_area_size(64)
            .build_cartesian_2d(0.0..groups.len() as f64, 0.0..high)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .x_desc(labels.x)
            .y_desc(labels.y)
            .x_labels(2 * groups.len() + 1)
            // A name below the middle of its group, nothing at the borders.
            .x_label_formatter(&|x| {
                let group = groups.get(x.floor() as usize).filter(|_| (x.fract() - 0.5).abs() < 0.05);
                group.cloned().unwrap_or_default()
            })
            .axis_desc_style(("sans-serif", 16))
            .label_style(("sans-serif", 13))
            .light_line_style(WHITE)
            .draw()?;
        let width = 0.8 / names.len() as f64;
        for (i, (name, colour)) in names.iter().zip(COLOURS.iter().cycle()).enumerate() {
            let bars = values.iter().enumerate().map(|(group, values)| {
                let left = group as f64 + 0.1 + i as f64 * width;
                Rectangle::new([(left, 0.0), (left + width * 0.92, values[i])], colour.filled())
            });
            chart
                .draw_series(bars)?
                .label(name.clone())
                .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 14, y + 5)], colour.filled()));
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperRight)
            .background_style(WHITE.mix(0.85))
            .border_style(BLACK.mix(0.2))
            .label_font(("sans-serif", 14))
            .draw()?;
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LABELS: Labels<'_> = Labels { title: "title", x: "x", y: "y" };

    /// Pixels of a PNG that are not white.
    fn ink(path: &Path) -> usize {
        let file = std::io::BufReader::new(std::fs::File::open(path).expect("a figure"));
        let mut reader = png::Decoder::new(file).read_info().expect("a PNG");
        let mut data = vec![0; reader.output_buffer_size().expect("a size")];
        reader.next_frame(&mut data).expect("a picture");
        data.chunks_exact(3).filter(|pixel| pixel != &[255, 255, 255]).count()
    }

    #[test]
    fn figures_show_what_they_are_given() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("lines.png");
        let series = |points: &[(f64, f64)]| Series { name: "a".into(), points: points.to_vec() };
        let two = [series(&[(1e3, 1.0), (1e5, 0.5)]), series(&[(1e3, 0.9), (1e5, 0.2)])];
        lines(&path, &LABELS, &two[..1], true).expect("a figure");
        let one = ink(&path);
        lines(&path, &LABELS, &two, true).expect("a figure");
        assert!(ink(&path) > one, "a second line is more ink");
        let bars_path = dir.path().join("bars.png");
        let groups = ["a".to_owned(), "b".to_owned()];
        bars(&bars_path, &LABELS, &groups, &["n".into()], &[vec![1.0], vec![0.5]]).expect("a figure");
        assert!(ink(&bars_path) > 10_000);
        assert_eq!(std::fs::read_dir(dir.path()).expect("a folder").count(), 2, "no half-written files");
    }

    #[test]
    fn numbers_on_axes_are_short() {
        let labels = [short(0.1 + 0.2), short(0.7 + 0.1), short(-0.0), short(1200.0)];
        assert_eq!(labels, ["0.3", "0.8", "0", "1200"]);
    }

    #[test]
    fn what_cannot_be_drawn_is_an_error() {
        let path = Path::new("/tmp/never.png");
        assert!(lines(path, &LABELS, &[], false).is_err());
        let zero = Series { name: "a".into(), points: vec![(0.0, 1.0)] };
        assert!(lines(path, &LABELS, &[zero], true).is_err());
        assert!(bars(path, &LABELS, &["a".into()], &["n".into()], &[vec![f64::NAN]]).is_err());
        assert!(!path.exists());
    }
}
