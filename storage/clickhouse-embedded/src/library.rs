//! Where `libchdb.so` is looked for.

use std::path::{Path, PathBuf};

use crate::ServeError;

/// Names the library's file; wins over every other place.
pub const LIBRARY_VARIABLE: &str = "FANAL_LIBCHDB";

/// Place inside a checkout, below `.cache/libchdb`.
const IN_CHECKOUT: &str = ".cache/libchdb/node_modules/@chdb/lib-linux-x64-gnu/libchdb.so";
const INSTALLED: &str = "/usr/lib/fanal/libchdb.so";

/// Finds the engine's library: the file named by `FANAL_LIBCHDB`, `libchdb.so`
/// beside the executable, `/usr/lib/fanal/libchdb.so`, then `.cache/libchdb` of
/// the checkout that holds the working directory or the executable.
///
/// # Errors
/// [`ServeError::LibraryMissing`] with the places that were tried. A file named
/// by the variable that does not exist is an error, not a reason to look on.
pub fn find_library() -> Result<PathBuf, ServeError> {
    let named = std::env::var_os(LIBRARY_VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from);
    let executable = std::env::current_exe().ok();
    let working = std::env::current_dir().ok();
    find_from(named, executable.as_deref(), working.as_deref())
}

fn find_from(
    named: Option<PathBuf>,
    executable: Option<&Path>,
    working: Option<&Path>,
) -> Result<PathBuf, ServeError> {
    if let Some(named) = named {
        return if named.is_file() {
            Ok(named)
        } else {
            Err(ServeError::LibraryMissing { tried: vec![named] })
        };
    }
    let beside = executable.and_then(Path::parent).map(|folder| folder.join("libchdb.so"));
    let mut tried: Vec<PathBuf> = beside.into_iter().chain([PathBuf::from(INSTALLED)]).collect();
    for start in [working, executable.and_then(Path::parent)].into_iter().flatten() {
        for candidate in start.ancestors().map(|folder| folder.join(IN_CHECKOUT)) {
            if !tried.contains(&candidate) {
                tried.push(candidate);
            }
        }
    }
    match tried.iter().find(|path| path.is_file()) {
        Some(found) => Ok(found.clone()),
        None => Err(ServeError::LibraryMissing { tried }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_file_that_is_missing_is_an_error() {
        let error = find_from(Some("/nonexistent/libchdb.so".into()), None, None).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("/nonexistent/libchdb.so"), "{text}");
        assert!(text.contains("make run") && text.contains(LIBRARY_VARIABLE), "{text}");
    }

    #[test]
    fn library_of_a_checkout_is_found_from_a_folder_inside() {
        let root = std::env::temp_dir().join(format!("fanal-find-library-{}", std::process::id()));
        let library = root.join(IN_CHECKOUT);
        std::fs::create_dir_all(library.parent().unwrap()).unwrap();
        std::fs::create_dir_all(root.join("a/b")).unwrap();
        std::fs::write(&library, b"").unwrap();
        assert_eq!(find_from(None, None, Some(&root.join("a/b"))).unwrap(), library);
        std::fs::remove_dir_all(root).unwrap();
    }
}
