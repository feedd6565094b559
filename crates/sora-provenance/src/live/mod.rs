//! Live streams: fragmented MP4 that is signed fragment by fragment, by C2PA 2.4 §19.4 (verifiable segment info).
//!
//! ```text
//! in:   ftyp            moov | (styp) sidx      moof mdat | …
//! out:  ftyp  manifest  moov | styp emsg  sidx moof mdat | …
//!             with the       |      signed with a session key: number, hash, id of the manifest
//!             session keys
//! ```
//!
//! The beginning gets a manifest whose assertion `c2pa.session-keys` names the public half of a key that exists in
//! this process only; each fragment gets an event (`emsg`) that this key signs. Nothing is written twice and nothing
//! but one fragment is held. When a key's time is over, the beginning is sent again with the next key.
//!
//! [`LiveSigner`] writes, [`LiveVerifier`] reads. What this cannot show is a stream that ends early at the end of a
//! fragment: nobody said how long it would be.

mod cose;
mod emsg;
mod hash;
mod session;
mod signer;
mod verifier;

pub(crate) use session::{beginning, field};
pub use signer::{LivePart, LiveSigner, SESSION_SECONDS};
pub use verifier::{LiveProblem, LiveReport, LiveVerifier};
