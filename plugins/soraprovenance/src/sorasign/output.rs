//! What is to go out: the signer writes into a list, and the list is pushed when no lock is held.

use std::io::{self, Seek, SeekFrom, Write};

/// Writes, each with its place.
#[derive(Default)]
pub(super) struct Output {
    at: u64,
    writes: Vec<(u64, Vec<u8>)>,
}

impl Output {
    /// What was written since the last call, in order.
    pub(super) fn take(&mut self) -> Vec<(u64, Vec<u8>)> {
        std::mem::take(&mut self.writes)
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writes.push((self.at, bytes.to_vec()));
        self.at += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Output {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.at = match to {
            SeekFrom::Start(at) => at,
            SeekFrom::Current(by) => {
                self.at.checked_add_signed(by).ok_or(io::ErrorKind::InvalidInput)?
            }
            // How long the output is, only the sink knows.
            SeekFrom::End(_) => return Err(io::ErrorKind::Unsupported.into()),
        };
        Ok(self.at)
    }
}
