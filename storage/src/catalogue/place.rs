//! Where a catalogue lies: a file of this machine, or a database of a server.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sqlx::mysql::{MySqlConnectOptions, MySqlSslMode};

use super::CatalogueError;

/// What a URL may say behind `?`.
const PARAMETERS: [&str; 5] = ["ssl-mode", "ssl-ca", "ssl-cert", "ssl-key", "socket"];
/// What a server wants to be called when it is asked for by URL.
const SCHEMES: [&str; 2] = ["mysql://", "mariadb://"];

/// Where the catalogue is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CatalogueConfig {
    /// `mysql://USER@HOST:PORT/DATABASE` of a MySQL or MariaDB server that several
    /// processes share; none keeps the catalogue in a file of the data folder. A
    /// server elsewhere must show a certificate for its name; `?ssl-ca=FILE` names
    /// the CA, `ssl-cert` and `ssl-key` a certificate to show it,
    /// `ssl-mode=verify_ca` accepts other names, `ssl-mode=disabled` sends
    /// everything in clear, the password too.
    pub url: Option<String>,
    /// File with the user's password. The URL must not hold it.
    pub password_file: Option<PathBuf>,
}

impl CatalogueConfig {
    /// The place that is configured; `file` when it is no server. `password` is what
    /// `password_file` holds.
    pub fn place(&self, file: &Path, password: Option<&str>) -> Result<Place, CatalogueError> {
        let Some(url) = &self.url else {
            return match self.password_file {
                Some(_) => Err(wrong("a password is given for a file; give `url` as well, or leave it out")),
                None => Ok(Place::from(file)),
            };
        };
        let authority = url.split_once("://").map_or("", |(_, rest)| rest).split('/').next().unwrap_or("");
        if authority.rsplit_once('@').is_some_and(|(user, _)| user.contains(':')) {
            return Err(wrong("it holds a password; put that into a file and name it as `password_file`"));
        }
        Ok(Place::Server(Server::parse(url, password)?))
    }
}

/// Where a catalogue lies.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "one value, at the start of a program")]
pub enum Place {
    /// A SQLite file; made if it is not there.
    File(PathBuf),
    /// A database that is there already, on MySQL or MariaDB.
    Server(Server),
}

/// A database on a server, and how to come in. Never shows the password.
#[derive(Clone)]
pub struct Server {
    pub(super) options: MySqlConnectOptions,
    shown: String,
}

impl Server {
    /// Reads a URL. A server that is not on this machine must prove its name by TLS
    /// unless the URL says otherwise.
    pub fn parse(url: &str, password: Option<&str>) -> Result<Self, CatalogueError> {
        if !SCHEMES.iter().any(|scheme| url.starts_with(scheme)) {
            return Err(wrong("it does not begin with `mysql://`"));
        }
        // What the library says names a part of the URL, never its password.
        let mut options = MySqlConnectOptions::from_str(url).map_err(|error| wrong(&error.to_string()))?;
        let mut mode = None;
        for pair in
            url.split_once('?').map_or("", |(_, query)| query).split('&').filter(|pair| !pair.is_empty())
        {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            if !PARAMETERS.contains(&key) {
                return Err(wrong(&format!("`{key}` is not one of {}", PARAMETERS.join(", "))));
            }
            if key == "ssl-mode" {
                mode = Some(ssl_mode(value)?);
            }
        }
        let Some(database) = options.get_database().filter(|name| !name.is_empty()).map(str::to_owned) else {
            return Err(wrong("it names no database; write `mysql://USER@HOST:PORT/DATABASE`"));
        };
        let is_here = options.get_socket().is_some() || is_loopback(options.get_host());
        options = options.ssl_mode(mode.unwrap_or(match is_here {
            true => MySqlSslMode::Preferred,
            false => MySqlSslMode::VerifyIdentity,
        }));
        if let Some(password) = password {
            options = options.password(password);
        }
        options = options
            .charset("utf8mb4")
            .collation("utf8mb4_bin")
            // The session's mode is set as a whole, with everything else of the session.
            .pipes_as_concat(false)
            .no_engine_substitution(false);
        let shown = match options.get_socket() {
            Some(socket) => format!("mysql:{}/{database}", socket.display()),
            None => format!("mysql://{}:{}/{database}", options.get_host(), options.get_port()),
        };
        Ok(Self { options, shown })
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl From<&Path> for Place {
    fn from(path: &Path) -> Self {
        Self::File(path.to_owned())
    }
}

impl From<&PathBuf> for Place {
    fn from(path: &PathBuf) -> Self {
        Self::File(path.clone())
    }
}

impl From<Server> for Place {
    fn from(server: Server) -> Self {
        Self::Server(server)
    }
}

/// Encryption without a proof of who answers helps nobody, so that is not offered.
fn ssl_mode(value: &str) -> Result<MySqlSslMode, CatalogueError> {
    match value.to_ascii_lowercase().as_str() {
        "disabled" => Ok(MySqlSslMode::Disabled),
        "verify_ca" => Ok(MySqlSslMode::VerifyCa),
        "verify_identity" => Ok(MySqlSslMode::VerifyIdentity),
        _ => Err(wrong("`ssl-mode` is one of verify_identity, verify_ca, disabled")),
    }
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn wrong(detail: &str) -> CatalogueError {
    CatalogueError::Url(detail.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_elsewhere_must_prove_its_name_and_one_here_need_not() {
        for (url, verified) in [
            ("mysql://fanal@db.example/fanal", true),
            ("mysql://fanal@192.0.2.1:3307/fanal", true),
            ("mysql://fanal@db.example/fanal?ssl-mode=disabled", false),
            ("mysql://fanal@127.0.0.1:3307/fanal", false),
            ("mysql://fanal@localhost/fanal", false),
            ("mysql://fanal@[::1]/fanal", false),
            ("mariadb://fanal@127.0.0.1/fanal?ssl-mode=verify_identity", true),
        ] {
            let mode = Server::parse(url, None).unwrap().options.get_ssl_mode();
            assert_eq!(matches!(mode, MySqlSslMode::VerifyIdentity), verified, "{url}");
        }
    }

    #[test]
    fn a_wrong_url_is_refused_with_what_to_write_and_without_its_password() {
        for (url, said) in [
            ("postgres://u:hush@h/d", "mysql://"),
            ("mysql://u:hush@h", "names no database"),
            ("mysql://u:hush@h:port/d", "port"),
            ("mysql://u:hush@h/d?ssl-mode=required", "verify_identity"),
            ("mysql://u:hush@h/d?sslmode=disabled", "`sslmode` is not one of"),
        ] {
            let error = Server::parse(url, None).unwrap_err().to_string();
            assert!(error.contains(said) && !error.contains("hush"), "{error}");
        }
    }

    #[test]
    fn nothing_shows_a_password() {
        let server = Server::parse("mysql://fanal:hush@db.example/fanal", None).unwrap();
        assert_eq!(
            format!("{server} {server:?}"),
            "mysql://db.example:3306/fanal mysql://db.example:3306/fanal"
        );
        let place = Place::from(Server::parse("mysql://fanal@db.example/fanal", Some("hush")).unwrap());
        assert!(!format!("{place:?}").contains("hush"));
    }

    #[test]
    fn a_configuration_takes_its_password_from_a_file_only() {
        let file = Path::new("catalogue.sqlite");
        let config = |url: Option<&str>, password_file: Option<&str>| CatalogueConfig {
            url: url.map(str::to_owned),
            password_file: password_file.map(PathBuf::from),
        };
        assert!(matches!(config(None, None).place(file, None), Ok(Place::File(_))));
        assert!(matches!(
            config(Some("mysql://u@h/d"), Some("pw")).place(file, Some("x")),
            Ok(Place::Server(_))
        ));
        for (url, password_file) in [(Some("mysql://u:hush@h/d"), None), (None, Some("pw"))] {
            let error = config(url, password_file).place(file, None).unwrap_err().to_string();
            assert!(error.contains("password") && !error.contains("hush"), "{error}");
        }
    }
}
