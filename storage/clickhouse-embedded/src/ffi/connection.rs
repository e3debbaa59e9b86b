//! A connection of the engine and the calls that start a statement on it.
//!
//! Must stay true: one statement at a time, by `&mut self`; closed exactly once.

use std::ffi::c_void;
use std::ptr;
use std::sync::Arc;

use super::result::{Answer, Insert, Stream};
use super::{Calls, ConnectionHandle, StatementCall, Text};

/// What the engine's parser says of a text; the layout is part of the ABI and
/// versioned by its first field.
#[repr(C)]
pub(super) struct Analysis {
    struct_size: u32,
    statement_count: u32,
    flags: u32,
    query_class: u32,
}

/// What the engine's parser says of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Classified {
    pub(crate) statements: u32,
    /// Reads and changes nothing that outlives it.
    pub(crate) read_only: bool,
}

/// One connection to the engine: its own settings, database and temporary tables.
pub(crate) struct Connection {
    pub(super) calls: Arc<Calls>,
    pub(super) handle: *mut ConnectionHandle,
}

// SAFETY: the library allows a connection to be used from any thread, one
// statement at a time; `&mut self` on every call gives the latter.
unsafe impl Send for Connection {}

impl Drop for Connection {
    fn drop(&mut self) {
        // SAFETY: the handle came from chdb_connect and is closed once, here.
        unsafe { (self.calls.chdb_close_conn)(self.handle) };
    }
}

impl Connection {
    pub(super) fn raw(&self) -> ConnectionHandle {
        // SAFETY: `connect` checked the pointer, the handle lives until drop.
        unsafe { *self.handle }
    }

    /// The three calls that take a statement, a format and parameters have one shape.
    fn call(
        &self,
        call: StatementCall,
        sql: &str,
        format: &str,
        parameters: &[(String, String)],
    ) -> *mut c_void {
        let set = Parameters::new(parameters);
        // SAFETY: all texts and arrays are valid for their lengths during the
        // call, and the library copies what it keeps.
        unsafe {
            call(
                self.raw(),
                sql.as_ptr().cast(),
                sql.len(),
                format.as_ptr().cast(),
                format.len(),
                set.names.as_ptr(),
                set.name_bytes.as_ptr(),
                set.values.as_ptr(),
                set.value_bytes.as_ptr(),
                parameters.len(),
            )
        }
    }

    /// Asks the engine's own parser what the text is.
    pub(crate) fn classify(&mut self, sql: &str) -> Option<Classified> {
        const SIZE: u32 = 16;
        const { assert!(size_of::<Analysis>() == 16) };
        let mut out = Analysis { struct_size: SIZE, statement_count: 0, flags: 0, query_class: 4 };
        // SAFETY: the text is valid for its length, no target database is
        // named, `out` is live and carries its size.
        let state = unsafe {
            (self.calls.chdb_classify_query_n)(
                self.raw(),
                sql.as_ptr().cast(),
                sql.len(),
                ptr::null(),
                0,
                &mut out,
            )
        };
        (state == 0)
            .then_some(Classified { statements: out.statement_count, read_only: out.query_class == 0 })
    }

    /// Runs a statement to its end and keeps its whole answer.
    pub(crate) fn query(
        &mut self,
        sql: &str,
        format: &str,
        parameters: &[(String, String)],
    ) -> Result<Answer, String> {
        let handle = self.call(self.calls.chdb_query_with_params_n, sql, format, parameters);
        Answer::take(&self.calls, handle)
    }

    /// Starts a select whose answer is fetched piece by piece.
    pub(crate) fn stream(
        &mut self,
        sql: &str,
        format: &str,
        parameters: &[(String, String)],
    ) -> Result<Stream<'_>, String> {
        let handle = self.call(self.calls.chdb_stream_query_with_params_n, sql, format, parameters);
        let answer = Answer::take(&self.calls, handle)?;
        Ok(Stream { connection: self, answer, ended: false })
    }

    /// Starts an insert whose data is appended piece by piece. `sql` is the
    /// statement without its FORMAT clause and without data.
    pub(crate) fn insert(
        &mut self,
        sql: &str,
        format: &str,
        parameters: &[(String, String)],
    ) -> Result<Insert<'_>, String> {
        let handle = self.call(self.calls.chdb_stream_insert_with_params_n, sql, format, parameters);
        if handle.is_null() {
            return Err("the engine gave no insert stream".to_owned());
        }
        let insert = Insert { connection: self, handle };
        match insert.error() {
            Some(error) => Err(error),
            None => Ok(insert),
        }
    }
}

/// Named parameters as the two pairs of arrays that the C calls take.
struct Parameters {
    names: Vec<Text>,
    name_bytes: Vec<usize>,
    values: Vec<Text>,
    value_bytes: Vec<usize>,
}

impl Parameters {
    fn new(parameters: &[(String, String)]) -> Self {
        Self {
            names: parameters.iter().map(|(name, _)| name.as_ptr().cast()).collect(),
            name_bytes: parameters.iter().map(|(name, _)| name.len()).collect(),
            values: parameters.iter().map(|(_, value)| value.as_ptr().cast()).collect(),
            value_bytes: parameters.iter().map(|(_, value)| value.len()).collect(),
        }
    }
}
