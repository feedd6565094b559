//! The provenance of the stream behind a muxer: muxers pass no CONTEXT query on.

use std::collections::HashSet;

use gst::prelude::*;
use sora_gst::Provenance;
use sora_gst::provenance::{self, CONTEXT_TYPE};

/// Most elements that are looked at.
const ELEMENTS: usize = 256;

/// What is known of the stream of `element`: from its neighbours and the application, else from the
/// elements upstream, the nearest first. Queries; no lock may be held.
pub(super) fn find(element: &gst::Element) -> Provenance {
    let known = provenance::find(element);
    let mut found = Provenance::default();
    let mut seen = HashSet::from([element.clone()]);
    let mut row = vec![element.clone()];
    while !row.is_empty() && seen.len() < ELEMENTS {
        let mut next = Vec::new();
        for pad in row.iter().flat_map(|element| element.sink_pads()) {
            let mut query = gst::query::Context::new(CONTEXT_TYPE);
            if pad.peer_query(&mut query)
                && let Some(said) = query.context().and_then(Provenance::from_context)
            {
                found = found.or(said);
            }
            next.extend(behind(&pad).filter(|element| seen.insert(element.clone())));
        }
        row = next;
    }
    found.or(known)
}

/// The element that a sink pad is fed by; bins are looked into.
fn behind(pad: &gst::Pad) -> Option<gst::Element> {
    let mut peer = pad.peer()?;
    for _ in 0..ELEMENTS {
        if let Some(ghost) = peer.downcast_ref::<gst::GhostPad>() {
            // The source pad of a bin: it stands for one inside.
            peer = ghost.target()?;
        } else if let Some(ghost) = peer.parent().and_downcast::<gst::GhostPad>() {
            // The inner side of a bin's sink pad: what it stands for is outside.
            peer = ghost.peer()?;
        } else {
            return peer.parent_element();
        }
    }
    None
}
