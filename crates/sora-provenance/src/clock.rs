//! The machine's clock, as far as signatures need one.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::ProvenanceError;

/// Refuses to go on where the machine's clock stands before 1970. Certificates are judged by it, and c2pa and chrono
/// know no such time: they fail, or panic.
///
/// # Errors
/// [`ProvenanceError::Value`] with how far it is behind.
pub(crate) fn check() -> Result<(), ProvenanceError> {
    at(SystemTime::now())
}

fn at(now: SystemTime) -> Result<(), ProvenanceError> {
    let Err(behind) = now.duration_since(UNIX_EPOCH) else { return Ok(()) };
    Err(ProvenanceError::Value {
        what: "the machine's clock",
        value: format!("{} s before 1970", behind.duration().as_secs().max(1)),
        bound: "certificates are judged by it: it must be set".into(),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_clock_before_1970_is_refused_and_any_other_is_taken() {
        assert!(at(UNIX_EPOCH).is_ok() && at(SystemTime::now()).is_ok());
        let error = at(UNIX_EPOCH - Duration::from_secs(86_400)).unwrap_err().to_string();
        assert!(error.contains("86400 s before 1970") && error.contains("must be set"), "{error}");
        assert!(at(UNIX_EPOCH - Duration::from_millis(1)).is_err());
    }
}
