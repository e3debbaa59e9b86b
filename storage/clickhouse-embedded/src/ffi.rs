//! The C interface of `libchdb.so`, wrapped so that no other module needs
//! `unsafe`.
//!
//! Duty: load the library, find its calls, own its handles. It never decides
//! what a statement means. What must stay true: every handle is destroyed
//! exactly once, a connection runs one statement at a time (`&mut self`), and
//! the library is never unloaded, because its threads outlive any call.
#![expect(unsafe_code, reason = "a foreign library is called; each block states why it is sound")]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

mod connection;
mod result;

pub(crate) use connection::Connection;
pub(crate) use result::{Counters, Stream};

type ConnectionHandle = *mut c_void;
type ResultHandle = *mut c_void;
type InsertHandle = *mut c_void;
type Text = *const c_char;
type StatementCall = unsafe extern "C" fn(
    ConnectionHandle,
    Text,
    usize,
    Text,
    usize,
    *const Text,
    *const usize,
    *const Text,
    *const usize,
    usize,
) -> *mut c_void;

/// Why the library could not be used.
#[derive(Debug)]
pub(crate) enum LoadError {
    Open(String),
    Symbol(&'static str),
}

macro_rules! calls {
    ($($name:ident: fn($($arg:ty),*) $(-> $ret:ty)?;)*) => {
        struct Calls { $($name: unsafe extern "C" fn($($arg),*) $(-> $ret)?,)* }

        impl Calls {
            fn resolve(library: *mut c_void) -> Result<Self, LoadError> {
                Ok(Self { $($name: {
                    let address = symbol(library, stringify!($name))?;
                    // SAFETY: the address belongs to the exported C function of
                    // this name, whose signature is the one declared here.
                    unsafe {
                        std::mem::transmute::<*mut c_void, unsafe extern "C" fn($($arg),*) $(-> $ret)?>(address)
                    }
                },)* })
            }
        }
    };
}

calls! {
    chdb_set_signal_handlers_enabled: fn(c_int);
    chdb_connect: fn(c_int, *mut *mut c_char) -> *mut ConnectionHandle;
    chdb_close_conn: fn(*mut ConnectionHandle);
    chdb_shutdown: fn() -> c_int;
    chdb_classify_query_n: fn(ConnectionHandle, Text, usize, Text, usize, *mut connection::Analysis) -> c_int;
    chdb_query_with_params_n: fn(ConnectionHandle, Text, usize, Text, usize,
        *const Text, *const usize, *const Text, *const usize, usize) -> ResultHandle;
    chdb_stream_query_with_params_n: fn(ConnectionHandle, Text, usize, Text, usize,
        *const Text, *const usize, *const Text, *const usize, usize) -> ResultHandle;
    chdb_stream_fetch_result: fn(ConnectionHandle, ResultHandle) -> ResultHandle;
    chdb_stream_cancel_query: fn(ConnectionHandle, ResultHandle);
    chdb_destroy_query_result: fn(ResultHandle);
    chdb_stream_insert_with_params_n: fn(ConnectionHandle, Text, usize, Text, usize,
        *const Text, *const usize, *const Text, *const usize, usize) -> InsertHandle;
    chdb_stream_append: fn(InsertHandle, *const c_void, usize) -> c_int;
    chdb_stream_done: fn(InsertHandle) -> ResultHandle;
    chdb_stream_insert_error: fn(InsertHandle) -> Text;
    chdb_destroy_insert_stream: fn(InsertHandle);
    chdb_result_buffer: fn(ResultHandle) -> *mut c_char;
    chdb_result_length: fn(ResultHandle) -> usize;
    chdb_result_error: fn(ResultHandle) -> Text;
    chdb_result_rows_read: fn(ResultHandle) -> u64;
    chdb_result_storage_rows_read: fn(ResultHandle) -> u64;
    chdb_result_storage_bytes_read: fn(ResultHandle) -> u64;
    chdb_result_rows_written: fn(ResultHandle) -> u64;
    chdb_result_bytes_written: fn(ResultHandle) -> u64;
}

fn symbol(library: *mut c_void, name: &'static str) -> Result<*mut c_void, LoadError> {
    let c_name = CString::new(name).map_err(|_| LoadError::Symbol(name))?;
    // SAFETY: `library` came from a successful dlopen, the name ends in NUL.
    let address = unsafe { libc::dlsym(library, c_name.as_ptr()) };
    if address.is_null() { Err(LoadError::Symbol(name)) } else { Ok(address) }
}

/// Copies a text owned by the library; `None` for the null pointer.
fn copied(text: Text) -> Option<String> {
    if text.is_null() {
        return None;
    }
    // SAFETY: a non-null text of this library ends in NUL and lives as long as
    // its handle, which the caller still holds.
    Some(unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
}

/// The loaded library.
#[derive(Clone)]
pub(crate) struct Library {
    calls: Arc<Calls>,
}

impl Library {
    /// Opens the library and finds every call. Signal handlers of the engine
    /// stay off: this process belongs to the program.
    pub(crate) fn load(path: &Path) -> Result<Self, LoadError> {
        let c_path = CString::new(path.as_os_str().as_bytes())
            .map_err(|_| LoadError::Open("the path holds a NUL byte".to_owned()))?;
        // SAFETY: the path ends in NUL; the constructors of this library are
        // meant to run inside a host process.
        let handle = unsafe { libc::dlopen(c_path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        if handle.is_null() {
            // SAFETY: dlerror's text is valid until the next call of this family.
            let reason = copied(unsafe { libc::dlerror() });
            return Err(LoadError::Open(reason.unwrap_or_else(|| "unknown reason".to_owned())));
        }
        let calls = Calls::resolve(handle)?;
        // SAFETY: takes a plain integer and is called before the first connect.
        unsafe { (calls.chdb_set_signal_handlers_enabled)(0) };
        Ok(Self { calls: Arc::new(calls) })
    }

    /// Opens a connection; the first one starts the engine. `None` when the
    /// engine refuses (it writes the reason to standard error).
    pub(crate) fn connect(&self, arguments: &[String]) -> Option<Connection> {
        let mut owned: Vec<CString> = vec![c"clickhouse".to_owned()];
        for argument in arguments {
            owned.push(CString::new(argument.as_str()).ok()?);
        }
        let mut pointers: Vec<*mut c_char> = owned.iter().map(|text| text.as_ptr().cast_mut()).collect();
        let count = c_int::try_from(pointers.len()).ok()?;
        // SAFETY: `count` NUL-terminated texts that outlive the call; the
        // library reads them only.
        let handle = unsafe { (self.calls.chdb_connect)(count, pointers.as_mut_ptr()) };
        // SAFETY: a non-null answer points at the connection pointer.
        if handle.is_null() || unsafe { (*handle).is_null() } {
            return None;
        }
        Some(Connection { calls: Arc::clone(&self.calls), handle })
    }

    /// Stops every thread of the engine; true when it did. Connections must
    /// all be closed; nothing can be opened afterwards.
    pub(crate) fn shutdown(&self) -> bool {
        // SAFETY: no argument; the library itself refuses while connections live.
        unsafe { (self.calls.chdb_shutdown)() == 0 }
    }
}
