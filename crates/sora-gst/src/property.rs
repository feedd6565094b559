//! String properties as C code may set them: any bytes.

use std::ffi::{CStr, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use gst::glib;
use gst::glib::translate::ToGlibPtr;

/// The bytes of a string value; `None` for NULL and for an empty string. `Value::get` would panic where they
/// are not UTF-8.
pub fn text(value: &glib::Value) -> Option<OsString> {
    if !value.is::<String>() {
        return None;
    }
    // SAFETY: the value holds a string, whose bytes live as long as it does.
    let bytes = unsafe {
        let text = glib::gobject_ffi::g_value_get_string(value.to_glib_none().0);
        (!text.is_null()).then(|| CStr::from_ptr(text).to_bytes())
    };
    bytes.filter(|bytes| !bytes.is_empty()).map(|bytes| OsStr::from_bytes(bytes).to_owned())
}

/// A text as the value of a property; what is not UTF-8 in it is replaced.
pub fn shown(text: Option<&OsStr>) -> glib::Value {
    use gst::prelude::*;
    text.map(|text| text.to_string_lossy().into_owned()).to_value()
}
