//! Building blocks of the typed TOML configuration: reading a file, units,
//! addresses, networks, the TLS section.
//!
//! Knows no key of any role. What must stay true: an unknown key or a wrong
//! value is refused with the file, the line, the key and the remedy.

mod file;
mod values;

pub use file::{ConfigError, parse, read};
pub use values::{ListenAddress, Networks, TlsSection, byte_size, human_duration};
