//! What can be wrong with a record.

/// Why a record was refused. Messages name the field, the value and the bound.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The text is longer than a record may be.
    #[error("a generation record of {bytes} bytes; at most {bound} are read")]
    TooLong {
        /// Length of the text in bytes.
        bytes: usize,
        /// The bound.
        bound: usize,
    },
    /// The text is not the JSON of a record.
    #[error("not a generation record: {0}")]
    Json(String),
    /// The record is of a schema that this version cannot read.
    #[error("a generation record of schema {found}; this version reads 1 to {newest}")]
    Schema {
        /// The record's schema.
        found: u32,
        /// The newest schema that is read.
        newest: u32,
    },
    /// A field is outside its bounds.
    #[error("`{field}` of a generation record is {value}; {bound}")]
    Field {
        /// The field's name in JSON.
        field: &'static str,
        /// The value, shortened where it is long.
        value: String,
        /// What is allowed, as text for people.
        bound: String,
    },
    /// A digest is not 64 hexadecimal digits.
    #[error("{0:?} is not a SHA-256 digest: 64 hexadecimal digits")]
    Digest(String),
}
