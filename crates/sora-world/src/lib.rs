//! Procedural 3D scenes with captions and ground truth.
//!
//! A [`Scene`] is sampled from a seed and a [`Domain`]; it can say what it shows in few or many words, and
//! [`Scene::render`] draws it by casting rays at analytic shapes, with shading and soft shadows, and tells what
//! is true in every frame. Same seed, same domain, same bytes, on every machine; no files, no clock, no
//! threads.
//!
//! ```
//! use sora_world::{Domain, Scene, Size};
//!
//! let scene = Scene::sample(7, &Domain::starter());
//! let clip = scene.render(Size { width: 64, height: 48 }, 9);
//! assert_eq!(clip.frames.len(), 9 * 48 * 64 * 3);
//! println!("{}", scene.caption());
//! ```
#![forbid(unsafe_code)]

mod attributes;
mod body;
mod camera;
mod caption;
mod clip;
mod domain;
mod encounter;
mod ground;
mod material;
mod math;
mod motion;
mod redraw;
mod render;
mod rig;
mod rng;
mod room;
mod scene;
mod shadow;
mod shapes;
mod sky;
mod style;
mod weather;

pub use attributes::{
    Attributes, Camera, Colour, Companion, Ground, Heading, Motion, Sky, Style, Subject, Texture, Weather,
};
pub use clip::{CameraPose, Clip, Event, FRAMES_PER_SECOND, FrameTruth, Keys, ObjectTruth, Size};
pub use domain::Domain;
pub use redraw::redraw;
pub use scene::Scene;
