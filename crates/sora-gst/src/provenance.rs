//! The provenance of a stream: a GstContext of the type `sora.provenance`.
//!
//! An element that knows something about the stream it makes or changes [publishes](publish) it and
//! [answers](answer) CONTEXT queries with it; one that needs to know [looks for it](find) in the usual
//! order: its neighbours by query, then the application and the bins by a NEED_CONTEXT message.
//!
//! The context's structure has these fields, each optional, and each a string but where something else is said:
//!
//! | field | what it is |
//! |---|---|
//! | `watermark-id` | id that the stream's watermark carries, 24 hexadecimal digits |
//! | `key-id` | name of the key it is marked under, never the key |
//! | `record` | the generation record, JSON |
//! | `fingerprint` | GBytes: what the marked frames look like, as far as they came; not in what is published |
//! | `origin` | path of the element that published it; not set in a context of an application's own |
//!
//! A bin keeps what any element inside publishes and hands it to every element that asks, also to one
//! in another stream. Therefore `origin`: what names one is only believed when a neighbour says it.

use gst::prelude::*;

/// The type of the context.
pub const CONTEXT_TYPE: &str = "sora.provenance";

const WATERMARK_ID: &str = "watermark-id";
const KEY_ID: &str = "key-id";
const RECORD: &str = "record";
const FINGERPRINT: &str = "fingerprint";
const ORIGIN: &str = "origin";

/// What is known of a stream. The default is: nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Provenance {
    /// Id that the watermark carries, in hexadecimal.
    pub watermark_id: Option<String>,
    /// Name of the key of the watermark.
    pub key_id: Option<String>,
    /// The generation record, JSON.
    pub record: Option<String>,
    /// Fingerprint of the marked frames that came so far, `sora_watermark::Fingerprint` as bytes.
    pub fingerprint: Option<gst::glib::Bytes>,
    /// Path of the element that published it; `None` for what an application set.
    pub origin: Option<String>,
}

impl Provenance {
    /// What a context says; `None` for a context of another type. A field that is no string, or an
    /// empty one, is as good as not there.
    pub fn from_context(context: &gst::ContextRef) -> Option<Self> {
        if context.context_type() != CONTEXT_TYPE {
            return None;
        }
        let structure = context.structure();
        let field = |name| structure.get::<String>(name).ok().filter(|text| !text.is_empty());
        Some(Self {
            watermark_id: field(WATERMARK_ID),
            key_id: field(KEY_ID),
            record: field(RECORD),
            fingerprint: structure.get(FINGERPRINT).ok(),
            origin: field(ORIGIN),
        })
    }

    /// The context that says this. A persistent one outlives a change to NULL.
    pub fn to_context(&self, persistent: bool) -> gst::Context {
        let mut context = gst::Context::new(CONTEXT_TYPE, persistent);
        self.write(context.get_mut().expect("a new context has one owner").structure_mut());
        context
    }

    fn write(&self, structure: &mut gst::StructureRef) {
        let fields = [
            (WATERMARK_ID, &self.watermark_id),
            (KEY_ID, &self.key_id),
            (RECORD, &self.record),
            (ORIGIN, &self.origin),
        ];
        for (name, value) in fields {
            if let Some(value) = value {
                structure.set(name, value);
            }
        }
        if let Some(fingerprint) = &self.fingerprint {
            structure.set(FINGERPRINT, fingerprint);
        }
    }

    /// Field by field: what this says, else what `other` says.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            watermark_id: self.watermark_id.or(other.watermark_id),
            key_id: self.key_id.or(other.key_id),
            record: self.record.or(other.record),
            fingerprint: self.fingerprint.or(other.fingerprint),
            origin: self.origin.or(other.origin),
        }
    }

    /// Nothing is known.
    pub fn is_empty(&self) -> bool {
        let Self { watermark_id, key_id, record, fingerprint: _, origin: _ } = self;
        watermark_id.is_none() && key_id.is_none() && record.is_none()
    }
}

/// Tells the application and the bins above what `element` knows of its stream; answering
/// [queries](answer) is up to the element. The context goes with the run: it is not persistent.
pub fn publish(element: &gst::Element, provenance: &Provenance) {
    let named = Provenance { origin: Some(element.path_string().into()), ..provenance.clone() };
    let context = named.to_context(false);
    element.set_context(&context);
    // Without a bus there is nobody to tell.
    let _ = element.post_message(gst::message::HaveContext::builder(context).src(element).build());
}

/// Looks for what is known of the stream of `element`: asks the neighbours downstream, then upstream
/// (which knows better), and where no neighbour knows anything, the application and the bins.
///
/// Queries and posts: no lock of the element may be held. `element` must accept contexts as
/// `gst::Element` does, which keeps them.
pub fn find(element: &gst::Element) -> Provenance {
    let ask = |pads: Vec<gst::Pad>| {
        let answers = pads.iter().filter_map(of_peer);
        answers.fold(Provenance::default(), Provenance::or)
    };
    let downstream = ask(element.src_pads());
    let upstream = ask(element.sink_pads());
    let neighbours = upstream.or(downstream);
    if !neighbours.is_empty() {
        return neighbours;
    }
    if of_application(element).is_none() {
        // Without a bus there is nobody to ask.
        let _ = element.post_message(gst::message::NeedContext::builder(CONTEXT_TYPE).src(element).build());
    }
    of_application(element).unwrap_or_default()
}

/// What an application or a bin has set on the element, and no element published.
fn of_application(element: &gst::Element) -> Option<Provenance> {
    let known = Provenance::from_context(element.context(CONTEXT_TYPE)?.as_ref())?;
    (known.origin.is_none() && !known.is_empty()).then_some(known)
}

/// What the neighbour at a pad knows.
pub fn of_peer(pad: &gst::Pad) -> Option<Provenance> {
    let mut query = gst::query::Context::new(CONTEXT_TYPE);
    if !pad.peer_query(&mut query) {
        return None;
    }
    Provenance::from_context(query.context()?)
}

/// Answers a CONTEXT query with what an element knows, over what the query says already; `false` when
/// it is for another type of context or nothing is known.
pub fn answer(query: &mut gst::query::Context, provenance: &Provenance) -> bool {
    if query.context_type() != CONTEXT_TYPE || provenance.is_empty() {
        return false;
    }
    let before = query.context().and_then(Provenance::from_context).unwrap_or_default();
    query.set_context(&provenance.clone().or(before).to_context(false));
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Provenance {
        let text = |text: &str| Some(text.to_owned());
        Provenance {
            watermark_id: text("00112233445566778899aa"),
            key_id: text("public"),
            record: text(r#"{"seed": 7, "prompt": "a \"red\" ball"}"#),
            fingerprint: Some(gst::glib::Bytes::from_static(b"\0any bytes\xff")),
            origin: text("/GstPipeline:pipeline0/GstSoraGen:soragen0"),
        }
    }

    #[test]
    fn a_context_says_what_was_put_into_it() {
        gst::init().expect("GStreamer starts");
        assert_eq!(Provenance::from_context(&known().to_context(true)), Some(known()));
        let nothing = Provenance::default();
        assert_eq!(Provenance::from_context(&nothing.to_context(false)), Some(nothing));
        assert_eq!(Provenance::from_context(&gst::Context::new("gst.gl.GLDisplay", true)), None);
    }

    #[test]
    fn what_is_said_later_is_added_to_a_query_not_put_in_its_place() {
        gst::init().expect("GStreamer starts");
        let record = Provenance { record: known().record, ..Provenance::default() };
        let mark = Provenance { watermark_id: known().watermark_id, ..Provenance::default() };
        let mut query = gst::query::Context::new(CONTEXT_TYPE);
        assert!(answer(&mut query, &record));
        assert!(answer(&mut query, &mark));
        assert!(!answer(&mut query, &Provenance::default()));
        let said = query.context().and_then(Provenance::from_context);
        assert_eq!(said, Some(mark.or(record)));
        assert!(!answer(&mut gst::query::Context::new("another"), &known()));
    }

    #[test]
    fn an_application_is_asked_and_elements_of_other_streams_are_not_believed() {
        gst::init().expect("GStreamer starts");
        let bin = gst::Bin::new();
        let element = gst::ElementFactory::make("identity").build().expect("identity is part of GStreamer");
        bin.add(&element).expect("a new element can be added");
        assert_eq!(find(&element), Provenance::default());

        let other = gst::ElementFactory::make("identity").build().expect("identity is part of GStreamer");
        bin.add(&other).expect("a new element can be added");
        publish(&other, &Provenance { origin: None, ..known() });
        assert_eq!(find(&element), Provenance::default());

        let set = Provenance { origin: None, ..known() };
        bin.set_context(&set.to_context(true));
        assert_eq!(find(&element), set);
    }
}
