//! What those before an element say of what comes.

use gst::prelude::*;

/// Whether a sink pad's frames come at their own pace.
pub(crate) fn is_live(pad: &gst::Pad) -> bool {
    let mut query = gst::query::Latency::new();
    pad.peer_query(&mut query) && query.result().0
}
