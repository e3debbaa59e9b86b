//! The headers of a request, however they are kept.
//!
//! Never changes or joins values: several headers of one name stay several.

use http::{HeaderMap, HeaderName, HeaderValue};

/// Reads headers by name, whichever way the request came.
pub trait Fields {
    /// The values of all headers of this name, in the order in which they came.
    fn all(&self, name: &HeaderName) -> impl Iterator<Item = &[u8]>;

    fn first(&self, name: &HeaderName) -> Option<&[u8]> {
        self.all(name).next()
    }
}

impl Fields for HeaderMap {
    fn all(&self, name: &HeaderName) -> impl Iterator<Item = &[u8]> {
        self.get_all(name).iter().map(HeaderValue::as_bytes)
    }
}
