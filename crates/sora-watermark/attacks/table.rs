//! The attacks, by name. The row says which bar of the table they belong to.

/// What frames go through before they reach the detector.
pub(crate) struct Attack {
    /// Row of the bars: 1 to 4, and 5 for what stands beside them.
    pub(crate) row: u8,
    pub(crate) name: &'static str,
    pub(crate) cut: Cut,
    /// A chain of ffmpeg filters.
    pub(crate) filter: Option<&'static str>,
    /// Arguments of an encoder; none: the filtered frames themselves.
    pub(crate) encoder: Option<&'static [&'static str]>,
    /// How often it is encoded.
    pub(crate) times: u8,
}

/// Frames taken away before the filters.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Cut {
    None,
    /// One second, from 0.9 s on.
    Second,
    /// Each frame is dropped with probability one half (seeded); the others keep their times.
    Half,
    /// One frame, after it went through the encoder with its neighbours.
    Screenshot,
    /// Played at this speed.
    Speed(f64),
}

const fn x264(crf: &'static str) -> [&'static str; 6] {
    ["-c:v", "libx264", "-preset", "medium", "-crf", crf]
}
const X18: &[&str] = &x264("18");
const X23: &[&str] = &x264("23");
const X28: &[&str] = &x264("28");
const X30: &[&str] = &x264("30");
const X33: &[&str] = &x264("33");
const X40: &[&str] = &x264("40");
const fn x265(crf: &'static str) -> [&'static str; 8] {
    ["-c:v", "libx265", "-preset", "medium", "-x265-params", "log-level=none:pools=1", "-crf", crf]
}
const H28: &[&str] = &x265("28");
const H33: &[&str] = &x265("33");
const VP9: &[&str] =
    &["-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "6", "-crf", "36", "-b:v", "0"];
const AV1: &[&str] = &["-c:v", "libsvtav1", "-preset", "8", "-crf", "50", "-svtav1-params", "lp=1"];
const JPEG: &[&str] = &["-c:v", "mjpeg", "-q:v", "9"];
const LADDER: &[&str] = &["-c:v", "libx264", "-preset", "fast", "-b:v", "220k"];

const NONE: Attack = Attack { row: 1, name: "none", cut: Cut::None, filter: None, encoder: None, times: 1 };

const fn filtered(name: &'static str, filter: &'static str) -> Attack {
    Attack { name, filter: Some(filter), ..NONE }
}

const fn filtered_23(name: &'static str, filter: &'static str) -> Attack {
    Attack { name, filter: Some(filter), encoder: Some(X23), ..NONE }
}

const fn encoded(row: u8, name: &'static str, encoder: &'static [&'static str]) -> Attack {
    Attack { row, name, encoder: Some(encoder), ..NONE }
}

const fn speed(name: &'static str, speed: f64) -> Attack {
    Attack { row: 5, name, cut: Cut::Speed(speed), encoder: Some(X23), ..NONE }
}

const CROP_70: &str = "crop=trunc(iw*0.7/2)*2:trunc(ih*0.7/2)*2:trunc(iw*0.2):trunc(ih*0.05)";
const CROP_71: &str = "crop=trunc(iw*0.71/2)*2:trunc(ih*0.71/2)*2:trunc(iw*0.1):trunc(ih*0.2)";
const CROP_55: &str = "crop=trunc(iw*0.55/2)*2:trunc(ih*0.55/2)*2:trunc(iw*0.3):trunc(ih*0.1)";
const COMBINED: &str =
    "crop=trunc(iw*0.71/2)*2:trunc(ih*0.71/2)*2:trunc(iw*0.1):trunc(ih*0.2),lutyuv=y=(val-16)*0.5+16";

pub(crate) const ATTACKS: &[Attack] = &[
    NONE,
    encoded(1, "h264-23", X23),
    filtered("resize-0.55", "scale=trunc(iw*0.55/2)*2:trunc(ih*0.55/2)*2:flags=bilinear"),
    filtered("resize-2", "scale=iw*2:ih*2:flags=bicubic"),
    filtered("crop-71", CROP_71),
    filtered("crop-55", CROP_55),
    filtered_23("flip", "hflip"),
    filtered("brightness-0.5", "lutyuv=y=(val-16)*0.5+16"),
    filtered("brightness-1.5", "lutyuv=y=clip((val-16)*1.5+16\\,16\\,235)"),
    filtered("contrast-0.5", "lutyuv=y=(val-128)*0.5+128"),
    filtered("contrast-1.5", "lutyuv=y=clip((val-128)*1.5+128\\,16\\,235)"),
    filtered_23("gamma-1.5", "eq=gamma=1.5"),
    filtered_23("hue-90", "hue=h=90:s=1.5"),
    encoded(1, "jpeg-40", JPEG),
    filtered("blur", "gblur=sigma=1.7"),
    filtered_23("noise", "noise=c0s=18:c0f=t+u:all_seed=7"),
    filtered_23("median", "median=1"),
    filtered_23("sharpen", "unsharp=5:5:1.0"),
    filtered_23("fps-15", "fps=15"),
    filtered_23("fps-30", "fps=30"),
    Attack { name: "drop-half", cut: Cut::Half, encoder: Some(X23), ..NONE },
    filtered_23("rotate-2", "rotate=2*PI/180"),
    filtered("rotate-5", "rotate=5*PI/180"),
    filtered_23("stretch-10", "scale=trunc(iw*1.1/2)*2:ih"),
    filtered_23(
        "letterbox",
        "pad=if(eq(iw\\,ih)\\,trunc(iw*8/9)*2\\,max(iw\\,ih)):max(iw\\,ih):(ow-iw)/2:(oh-ih)/2",
    ),
    filtered_23("pad", "pad=trunc(iw*1.2/2)*2:trunc(ih*1.3/2)*2:(ow-iw)/2:(oh-ih)/3"),
    filtered_23("vertical", "crop=trunc(ih*9/16/2)*2:ih"),
    filtered_23(
        "logo",
        "drawbox=x=iw*0.05:y=ih*0.05:w=iw*0.25:h=ih*0.15:color=white:t=fill,drawbox=x=0:y=ih*0.8:w=iw:h=ih*0.12:color=black@0.6:t=fill",
    ),
    encoded(2, "h264-28", X28),
    encoded(2, "hevc-28", H28),
    encoded(2, "vp9-36", VP9),
    Attack { row: 2, name: "h264-28-twice", encoder: Some(X28), times: 2, ..NONE },
    Attack { row: 2, name: "second-23", cut: Cut::Second, encoder: Some(X23), ..NONE },
    encoded(3, "h264-33", X33),
    encoded(3, "hevc-33", H33),
    Attack { row: 3, name: "crop-70-h264-28", filter: Some(CROP_70), encoder: Some(X28), ..NONE },
    Attack {
        row: 3,
        name: "resize-0.5-h264-23",
        filter: Some("scale=trunc(iw*0.5/2)*2:trunc(ih*0.5/2)*2:flags=bicubic"),
        encoder: Some(X23),
        ..NONE
    },
    Attack { row: 3, name: "second-28", cut: Cut::Second, encoder: Some(X28), ..NONE },
    encoded(4, "h264-40", X40),
    encoded(4, "av1-50", AV1),
    Attack { row: 4, name: "combined-30", filter: Some(COMBINED), encoder: Some(X30), ..NONE },
    speed("speed-0.8", 0.8),
    speed("speed-1.1", 1.1),
    speed("speed-1.25", 1.25),
    Attack { row: 5, ..filtered_23("turn-90", "transpose=1") },
    Attack { row: 5, ..filtered_23("turn-180", "hflip,vflip") },
    Attack { row: 5, name: "screenshot-18", cut: Cut::Screenshot, encoder: Some(X18), ..NONE },
    Attack {
        row: 5,
        name: "ladder-240p",
        filter: Some("scale=-2:240:flags=bicubic"),
        encoder: Some(LADDER),
        ..NONE
    },
];

impl Attack {
    /// In one line, for the report.
    pub(crate) fn describe(&self) -> String {
        let cut = match self.cut {
            Cut::None => None,
            Cut::Second => Some("one second from 0.9 s on".to_owned()),
            Cut::Half => Some("each frame dropped with probability 1/2".to_owned()),
            Cut::Screenshot => Some("one frame of the decoded clip".to_owned()),
            Cut::Speed(speed) => Some(format!("played at {speed} times the speed")),
        };
        let encoder = self.encoder.map(|encoder| match self.times {
            1 => encoder.join(" "),
            times => format!("{times} times {}", encoder.join(" ")),
        });
        let parts: Vec<String> =
            [cut, self.filter.map(str::to_owned), encoder].into_iter().flatten().collect();
        if parts.is_empty() { "nothing".to_owned() } else { parts.join("; ") }
    }
}
