//! What can go wrong.

/// Why something was refused or failed. Messages name the value and the bound.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProvenanceError {
    /// Reading or writing failed.
    #[error("{what}: {source}")]
    Stream {
        /// What was being done.
        what: &'static str,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A value given to this crate is outside its bounds.
    #[error("{what} is {value}; {bound}")]
    Value {
        /// Which value.
        what: &'static str,
        /// The value.
        value: String,
        /// What is allowed.
        bound: String,
    },
    /// The bytes are not an MP4 file of the kind that is wanted.
    #[error("not an MP4 file that can be handled: {0}")]
    Container(String),
    /// A manifest does not fit into the space that was kept for it.
    #[error("the manifest takes {needed} bytes, {reserved} were reserved; reserve more")]
    Reserve {
        /// What it takes, in bytes.
        needed: usize,
        /// What there is, in bytes.
        reserved: usize,
    },
    /// A certificate or a key is not of the kind that signing needs.
    #[error("{0}")]
    Keys(String),
    /// What a manifest is to say cannot be said.
    #[error("the claim of the manifest: {0}")]
    Claim(String),
    /// A manifest could not be made.
    #[error("signing failed: {0}")]
    Sign(String),
    /// A manifest that is kept apart from its clip cannot be read.
    #[error("it is no manifest that can be read: {0}")]
    Manifest(String),
    /// Trust anchors cannot be used.
    #[error("trust anchors: {0}")]
    Anchors(String),
    /// Whoever makes the manifest failed.
    #[error("{0}")]
    Seal(String),
}

impl ProvenanceError {
    pub(crate) fn stream(what: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Stream { what, source }
    }
}
