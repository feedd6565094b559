//! The bounds of a record: what a reader takes at most, and what a writer may write.

/// Longest record as JSON, in bytes. Longer text is refused before it is parsed.
pub const JSON_BYTES: usize = 64 << 10;
/// Longest name, version or identifier, in bytes of UTF-8.
pub const NAME_BYTES: usize = 512;
/// Longest prompt, in bytes of UTF-8.
pub const PROMPT_BYTES: usize = 16 << 10;
/// Salt of a concealed prompt, in bytes: fewest and most.
pub const SALT_BYTES: (usize, usize) = (16, 64);
/// Largest width or height, in pixels.
pub const SIDE: u32 = 32768;
/// Most frames: a year at 240 frames a second is 7.6e9; no clip that a container can hold has more than this.
pub const FRAMES: u64 = 1 << 40;
/// Largest frame rate, in frames per second.
pub const FRAMES_PER_SECOND: u32 = 1000;
/// Most denoising steps.
pub const STEPS: u32 = 10_000;
/// Largest guidance scale.
pub const GUIDANCE: f64 = 1000.0;
/// Most inputs.
pub const INPUTS: usize = 64;
