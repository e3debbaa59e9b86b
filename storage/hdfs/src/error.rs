//! What HDFS answers, as the archive's interface names it.

use std::time::Duration;

use hdfs_native::HdfsError;
use object_store::Error;
use thiserror::Error;

/// Why something did not work. Each text names the remedy.
#[derive(Debug, Error)]
pub enum HdfsFailure {
    #[error(
        "HDFS did not answer within {} ms: {what} `{path}`; check the NameNode and the DataNodes, or raise the timeouts",
        after.as_millis()
    )]
    Timeout { what: &'static str, path: String, after: Duration },
    #[error(
        "HDFS failed: {what} `{path}`: {source}; check the NameNode (`hdfs dfsadmin -report`), space and permissions"
    )]
    Failed { what: &'static str, path: String, source: HdfsError },
}

/// Whether the file or its folder is not there.
pub(crate) fn is_missing(error: &HdfsError) -> bool {
    match error {
        HdfsError::FileNotFound(_) => true,
        HdfsError::RPCError(class, _) => class == "java.io.FileNotFoundException",
        _ => false,
    }
}

pub(crate) fn timeout(what: &'static str, path: &str, after: Duration) -> Error {
    let path = path.to_owned();
    Error::Generic { store: "HDFS", source: Box::new(HdfsFailure::Timeout { what, path, after }) }
}

pub(crate) fn failed(what: &'static str, path: &str, source: HdfsError) -> Error {
    let is_denied = matches!(
        &source,
        HdfsError::RPCError(class, _) if class == "org.apache.hadoop.security.AccessControlException"
    );
    let (is_missing, exists) = (is_missing(&source), matches!(source, HdfsError::AlreadyExists(_)));
    let source = Box::new(HdfsFailure::Failed { what, path: path.to_owned(), source });
    let path = path.to_owned();
    if is_missing {
        Error::NotFound { path, source }
    } else if exists {
        Error::AlreadyExists { path, source }
    } else if is_denied {
        Error::PermissionDenied { path, source }
    } else {
        Error::Generic { store: "HDFS", source }
    }
}

/// The same for what the library's own store answered.
pub(crate) fn reworded(what: &'static str, path: &str, error: Error) -> Error {
    match error {
        Error::Generic { store, source } => match source.downcast::<HdfsError>() {
            Ok(source) => failed(what, path, *source),
            Err(source) => Error::Generic { store, source },
        },
        other => other,
    }
}
