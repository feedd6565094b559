//! What a render gives: frames and the truth about each of them.

use crate::attributes::{Colour, Subject};

/// Frames per second of every clip.
pub const FRAMES_PER_SECOND: u32 = 8;

/// A picture size in pixels; any aspect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Size {
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

impl Size {
    /// Number of pixels.
    pub const fn area(self) -> usize {
        self.width as usize * self.height as usize
    }
}

/// A rendered scene at [`FRAMES_PER_SECOND`].
#[derive(Clone, Debug, PartialEq)]
pub struct Clip {
    /// Size of each frame.
    pub size: Size,
    /// sRGB bytes, [T, H, W, 3] row-major.
    pub frames: Vec<u8>,
    /// One entry per frame, T in all.
    pub truth: Vec<FrameTruth>,
}

impl Clip {
    /// Frame `index` as [H, W, 3] bytes, or nothing where the clip is shorter.
    pub fn frame(&self, index: usize) -> Option<&[u8]> {
        let bytes = self.size.area() * 3;
        self.frames.get(index * bytes..(index + 1) * bytes)
    }
}

/// What is true in one frame.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct FrameTruth {
    /// Seconds since the clip's start.
    pub time: f32,
    /// [H, W] row-major: the id of the object seen through each pixel's centre, 0 for ground and sky.
    pub mask: Vec<u8>,
    /// The objects of the scene, also those out of sight, ids 1, 2, ... in order.
    pub objects: Vec<ObjectTruth>,
    /// Where the camera stands.
    pub camera: CameraPose,
    /// What happened nearest to this frame in time.
    pub events: Vec<Event>,
    /// The keys that the player holds down, on a first person walk.
    pub keys: Keys,
    /// [H, W] row-major: 1 where the ground shows a mark that the subject left, hidden by nothing; empty
    /// where no subject leaves marks.
    pub marks: Vec<u8>,
}

/// One object in one frame.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ObjectTruth {
    /// Value of this object in [`FrameTruth::mask`].
    pub id: u8,
    /// What it is.
    pub subject: Subject,
    /// Its colour.
    pub colour: Colour,
    /// World position of its centre: x right, y up, z towards the camera; the ground is y = 0.
    pub position: [f32; 3],
    /// Where the centre falls in the picture, (column, row) in pixels; none behind the camera.
    pub centre_px: Option<[f32; 2]>,
    /// Pixels that show it (its entries in the mask).
    pub visible_px: u32,
    /// Share of its pixels inside the frame that nothing else covers, 0..1; 0 when it is out of frame.
    pub visibility: f32,
}

/// Position and axes of the camera, world coordinates.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct CameraPose {
    /// The eye.
    pub position: [f32; 3],
    /// Unit vector of view.
    pub forward: [f32; 3],
    /// Unit vector to the right of the picture.
    pub right: [f32; 3],
    /// Unit vector to the top of the picture.
    pub up: [f32; 3],
    /// Half of the picture's shorter side at distance 1.
    pub tan_half_fov: f32,
}

/// Something that happens at one instant.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// The object touches the ground at `time` seconds.
    Contact {
        /// Id of the object.
        object: u8,
        /// Seconds since the clip's start.
        time: f32,
    },
    /// Two objects run into each other at `time` seconds.
    Collision {
        /// Ids of the two, the one that came running first.
        objects: [u8; 2],
        /// Seconds since the clip's start.
        time: f32,
    },
    /// From this frame on, nothing is seen of the object.
    Vanishes {
        /// Id of the object.
        object: u8,
        /// Time of the frame.
        time: f32,
    },
    /// From this frame on, the object is seen again.
    Appears {
        /// Id of the object.
        object: u8,
        /// Time of the frame.
        time: f32,
    },
}

/// The player's keys on a first person walk; none is down with any other camera.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Keys {
    /// Walk on.
    pub forward: bool,
    /// Walk backwards.
    pub back: bool,
    /// Turn to the left.
    pub left: bool,
    /// Turn to the right.
    pub right: bool,
}

impl Event {
    /// When it happens, seconds since the clip's start.
    pub const fn time(&self) -> f32 {
        match *self {
            Event::Contact { time, .. }
            | Event::Collision { time, .. }
            | Event::Vanishes { time, .. }
            | Event::Appears { time, .. } => time,
        }
    }
}
