//! Many files at once: which they are ([`inputs`]), by how many workers ([`pool`]), and a report that a later run can
//! go on with ([`ledger`]).

pub mod inputs;
pub mod ledger;
pub mod pool;
