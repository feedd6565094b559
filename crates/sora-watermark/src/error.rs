//! What can be wrong with a request made to this crate.

/// What can be wrong with a key, a payload, a frame or an option.
///
/// Every message names the value and the bound. Key bytes never appear in one.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum WatermarkError {
    /// A key of the wrong length.
    #[error("the key has {found} bytes; a key has exactly {expected}")]
    KeyLength {
        /// Bytes given.
        found: usize,
        /// Bytes of a key.
        expected: usize,
    },
    /// A text that is not a payload.
    #[error("`{text}` is not a payload: {reason}; a payload is 24 hexadecimal digits, or the 22 of an id")]
    PayloadText {
        /// The text given, cut to a readable length.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A version or flags field beyond its four bits.
    #[error("{field} {value} does not fit into 4 bits (0 to 15)")]
    PayloadField {
        /// `version` or `flags`.
        field: &'static str,
        /// The value given.
        value: u8,
    },
    /// A strength that is neither a preset nor a number of decibels in range.
    #[error(
        "strength `{value}` is neither subtle, standard, robust nor a target PSNR from {min} to {max} dB"
    )]
    Strength {
        /// The value given, as text.
        value: String,
        /// Lowest target PSNR.
        min: f64,
        /// Highest target PSNR.
        max: f64,
    },
    /// A frame below the smallest size that carries a mark.
    #[error("{width}x{height} is too small for a mark: both sides must be at least {min} pixels")]
    TooSmall {
        /// Width in pixels.
        width: usize,
        /// Height in pixels.
        height: usize,
        /// The bound.
        min: usize,
    },
    /// A frame beyond the largest size.
    #[error(
        "{width}x{height} is too large: both sides must be at most {max} pixels, their ratio at most {ratio}"
    )]
    TooLarge {
        /// Width in pixels.
        width: usize,
        /// Height in pixels.
        height: usize,
        /// The bound of a side.
        max: usize,
        /// The bound of the aspect ratio.
        ratio: usize,
    },
    /// A frame of another size than the embedder was made for.
    #[error("a frame of {found_width}x{found_height} came to an embedder made for {width}x{height}")]
    SizeChanged {
        /// Width of the frame.
        found_width: usize,
        /// Height of the frame.
        found_height: usize,
        /// Width the embedder was made for.
        width: usize,
        /// Height the embedder was made for.
        height: usize,
    },
    /// A row that is shorter than its pixels.
    #[error("a stride of {stride} bytes is shorter than a row of {row} bytes")]
    Stride {
        /// Bytes from row to row.
        stride: usize,
        /// Bytes of the pixels of a row.
        row: usize,
    },
    /// Fewer bytes than the size and the stride ask for.
    #[error("the frame has {found} bytes; {width}x{height} with a stride of {stride} takes {needed}")]
    ShortData {
        /// Bytes given.
        found: usize,
        /// Bytes needed.
        needed: usize,
        /// Width in pixels.
        width: usize,
        /// Height in pixels.
        height: usize,
        /// Bytes from row to row.
        stride: usize,
    },
    /// A packed RGB layout whose channels lie outside the pixel.
    #[error("channel offsets {offsets:?} do not lie within a pixel of {bytes} bytes")]
    PixelLayout {
        /// Offsets of red, green and blue.
        offsets: [usize; 3],
        /// Bytes of a pixel.
        bytes: usize,
    },
    /// A detector without a key.
    #[error("a detector takes at least one key and at most {max}; {found} were given")]
    Keys {
        /// Keys given.
        found: usize,
        /// The bound.
        max: usize,
    },
    /// A detector option out of its range.
    #[error("{name} is {value}; it must be {bound}")]
    Option {
        /// The option.
        name: &'static str,
        /// The value given, as text.
        value: String,
        /// What is allowed.
        bound: &'static str,
    },
    /// Bytes that are no fingerprint.
    #[error("{found} bytes are no fingerprint of a clip: {reason}")]
    Fingerprint {
        /// Bytes given.
        found: usize,
        /// What is wrong with them.
        reason: &'static str,
    },
    /// Time went backwards.
    #[error("frame time {found_ns} ns is before that of the frame before, {previous_ns} ns")]
    TimeBackwards {
        /// Time of this frame.
        found_ns: u128,
        /// Time of the frame before.
        previous_ns: u128,
    },
}
