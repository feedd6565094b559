//! The statistic of one video under many keys, for the benchmark of false alarms. Not for applications.

use std::time::Duration;

use crate::blur::Plane;
use crate::carrier::{CHIPS, Carriers, PATTERNS};
use crate::chips::Pose;
use crate::error::WatermarkError;
use crate::front_end::{Rasteriser, raster_size};
use crate::key::Key;
use crate::plane::LumaPlane;
use crate::statistic::{Sums, evidence};
use crate::window::Window;

/// The weighted payload coefficients of a video in its untouched geometry and without motion, seen with one key's pilot.
pub struct Coefficients {
    groups: Vec<(usize, Vec<f32>)>,
    norm: f64,
}

impl Coefficients {
    /// Those of at most four seconds of frames of one size.
    ///
    /// # Errors
    /// [`WatermarkError::Option`] without frames.
    pub fn new<'a>(
        key: &Key,
        frames: impl Iterator<Item = (LumaPlane<'a>, Duration)>,
    ) -> Result<Self, WatermarkError> {
        let carriers = Carriers::new(key);
        let mut window: Option<(Window, Rasteriser)> = None;
        for (plane, time) in frames {
            let (window, rasteriser) = window.get_or_insert_with(|| {
                let (width, height) = raster_size(plane.width, plane.height);
                (Window::new(width, height, time), Rasteriser::new(plane.width, plane.height))
            });
            let raster: Plane = rasteriser.raster(&plane);
            window.add(raster, time);
        }
        let Some((mut window, _)) = window else {
            return Err(WatermarkError::Option {
                name: "frames",
                value: "none".into(),
                bound: "at least one",
            });
        };
        window.close();
        // What most decodes see.
        let window = window.without_motion().unwrap_or(window);
        let base = window.width.min(window.height) as f64 / CHIPS as f64;
        let pose = Pose::upright((base, base));
        let mut sums = Sums::default();
        sums.add(&evidence(&carriers, &window.segments(0.0, 1.0), pose, (0.0, 0.0)));
        Ok(Self { norm: sums.norm(), groups: sums.into_groups() })
    }

    /// Real dimensions.
    pub fn dimensions(&self) -> usize {
        self.groups.iter().map(|(_, y)| y.len()).sum()
    }

    /// The statistic of the zero code word under the payload signs of `key`.
    ///
    /// For any fixed code word, the products of signs and word are fair signs as these are.
    pub fn z(&self, key: &Key) -> f64 {
        let sum = self.groups.iter().map(|(group, y)| {
            let mut stream = key.stream(&format!("payload signs {}", group % PATTERNS));
            y.iter().map(|y| f64::from(y * stream.sign())).sum::<f64>()
        });
        sum.sum::<f64>() / self.norm
    }
}
