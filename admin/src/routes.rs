//! The routes of the API: which paths there are and which methods they take.

/// Method and path of every route, as `openapi.json` has them.
pub const ROUTES: &[(&str, &str)] = &[
    ("get", "/api/openapi.json"),
    ("get", "/api/v1/sites"),
    ("get", "/api/v1/sites/{siteCode}"),
    ("put", "/api/v1/sites/{siteCode}"),
    ("get", "/api/v1/sites/{siteCode}/sdk-configuration"),
    ("put", "/api/v1/sites/{siteCode}/sdk-configuration"),
    ("post", "/api/v1/sites/{siteCode}/clients"),
    ("get", "/health/live"),
    ("get", "/health/ready"),
    ("get", "/metrics"),
];

/// What a path of the API stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target<'p> {
    Sites,
    Site(&'p str),
    SdkConfiguration(&'p str),
    Clients(&'p str),
}

impl<'p> Target<'p> {
    pub(crate) fn of(path: &'p str) -> Option<Self> {
        let mut parts = path.strip_prefix("/api/v1/sites")?.split('/');
        match (parts.next()?, parts.next(), parts.next(), parts.next()) {
            ("", None, None, None) => Some(Self::Sites),
            ("", Some(code), None, None) if !code.is_empty() => Some(Self::Site(code)),
            ("", Some(code), Some("sdk-configuration"), None) => Some(Self::SdkConfiguration(code)),
            ("", Some(code), Some("clients"), None) => Some(Self::Clients(code)),
            _ => None,
        }
    }

    pub(crate) fn methods(self) -> &'static str {
        match self {
            Self::Sites => "GET",
            Self::Site(_) | Self::SdkConfiguration(_) => "GET, PUT",
            Self::Clients(_) => "POST",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_has_one_target() {
        for (path, target) in [
            ("/api/v1/sites", Some(Target::Sites)),
            ("/api/v1/sites/a", Some(Target::Site("a"))),
            ("/api/v1/sites/a/clients", Some(Target::Clients("a"))),
            ("/api/v1/sites/a/sdk-configuration", Some(Target::SdkConfiguration("a"))),
            ("/api/v1/sites/", None),
            ("/api/v1/sitesx", None),
            ("/api/v1/sites/a/clients/b", None),
            ("/api/v1/sites/a/other", None),
        ] {
            assert_eq!(Target::of(path), target, "{path}");
        }
    }
}
