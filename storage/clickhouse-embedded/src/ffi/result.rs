//! What the engine hands back: whole answers, selects and inserts under way.
//!
//! Must stay true: each handle is destroyed exactly once, by `Drop`.

use std::sync::Arc;

use super::connection::Connection;
use super::{Calls, InsertHandle, ResultHandle, copied};

/// Rows and bytes that the engine counted for a statement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    pub(crate) rows_read: u64,
    pub(crate) bytes_read: u64,
    pub(crate) rows_written: u64,
    pub(crate) bytes_written: u64,
    pub(crate) result_rows: u64,
}

/// A result owned by the library.
pub(crate) struct Answer {
    calls: Arc<Calls>,
    handle: ResultHandle,
}

impl Drop for Answer {
    fn drop(&mut self) {
        // SAFETY: the handle came from the library and is destroyed once, here.
        unsafe { (self.calls.chdb_destroy_query_result)(self.handle) };
    }
}

impl Answer {
    pub(super) fn take(calls: &Arc<Calls>, handle: ResultHandle) -> Result<Self, String> {
        if handle.is_null() {
            return Err("the engine gave no result".to_owned());
        }
        let answer = Self { calls: Arc::clone(calls), handle };
        // SAFETY: the handle is live; the text is copied before it is dropped.
        match copied(unsafe { (calls.chdb_result_error)(handle) }) {
            Some(error) => Err(error),
            None => Ok(answer),
        }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: the handle is live as long as `self`; buffer and length
        // belong together and do not change after the result was made.
        unsafe {
            let start = (self.calls.chdb_result_buffer)(self.handle);
            let length = (self.calls.chdb_result_length)(self.handle);
            if start.is_null() || length == 0 {
                return &[];
            }
            std::slice::from_raw_parts(start.cast::<u8>(), length)
        }
    }

    pub(crate) fn counters(&self) -> Counters {
        // SAFETY: plain reads of a live result.
        unsafe {
            Counters {
                rows_read: (self.calls.chdb_result_storage_rows_read)(self.handle),
                bytes_read: (self.calls.chdb_result_storage_bytes_read)(self.handle),
                rows_written: (self.calls.chdb_result_rows_written)(self.handle),
                bytes_written: (self.calls.chdb_result_bytes_written)(self.handle),
                result_rows: (self.calls.chdb_result_rows_read)(self.handle),
            }
        }
    }
}

/// A select under way.
pub(crate) struct Stream<'a> {
    pub(super) connection: &'a mut Connection,
    pub(super) answer: Answer,
    pub(super) ended: bool,
}

impl Stream<'_> {
    /// The next piece, `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Answer>, String> {
        if self.ended {
            return Ok(None);
        }
        // SAFETY: connection and stream handle are live and used by this
        // thread only.
        let handle = unsafe {
            (self.connection.calls.chdb_stream_fetch_result)(self.connection.raw(), self.answer.handle)
        };
        match Answer::take(&self.connection.calls, handle) {
            Ok(piece) if !piece.bytes().is_empty() => Ok(Some(piece)),
            Ok(_) => {
                self.ended = true;
                Ok(None)
            }
            Err(error) => {
                self.ended = true;
                Err(error)
            }
        }
    }
}

impl Drop for Stream<'_> {
    fn drop(&mut self) {
        if !self.ended {
            // SAFETY: both handles are live; the result itself is destroyed
            // after this by `Answer`.
            unsafe {
                (self.connection.calls.chdb_stream_cancel_query)(self.connection.raw(), self.answer.handle);
            }
        }
    }
}

/// An insert under way. Dropping it before `finish` cancels it.
pub(crate) struct Insert<'a> {
    pub(super) connection: &'a mut Connection,
    pub(super) handle: InsertHandle,
}

impl Insert<'_> {
    pub(super) fn error(&self) -> Option<String> {
        // SAFETY: the handle is live; the text is copied at once.
        copied(unsafe { (self.connection.calls.chdb_stream_insert_error)(self.handle) })
    }

    /// Hands over a piece of data; blocks while the engine is behind. An error
    /// without text means that the engine ended the insert; `finish` says why.
    pub(crate) fn append(&mut self, data: &[u8]) -> Result<(), Option<String>> {
        // SAFETY: the data is valid for its length and copied by the library.
        let state = unsafe {
            (self.connection.calls.chdb_stream_append)(self.handle, data.as_ptr().cast(), data.len())
        };
        if state == 0 { Ok(()) } else { Err(self.error()) }
    }

    /// Ends the data and waits until the engine has written it.
    pub(crate) fn finish(self) -> Result<Counters, String> {
        // SAFETY: the handle is live; `done` does not free it, `drop` does.
        let handle = unsafe { (self.connection.calls.chdb_stream_done)(self.handle) };
        Answer::take(&self.connection.calls, handle).map(|answer| answer.counters())
    }
}

impl Drop for Insert<'_> {
    fn drop(&mut self) {
        // SAFETY: destroyed once, here; an unfinished stream is cancelled by it.
        unsafe { (self.connection.calls.chdb_destroy_insert_stream)(self.handle) };
    }
}
