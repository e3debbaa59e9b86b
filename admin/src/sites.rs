//! `/api/v1/sites`: creates, changes and shows sites.

use fanal_model::{AddressPolicy, HumanDuration};
use fanal_service::http::{Request, Response, json};
use fanal_service::problem::Problem;
use fanal_storage::catalogue::{Change, Site, VisitorCookie};
use http::StatusCode;
use http::header::LOCATION;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use crate::Admin;
use crate::problems::{self, invalid, of_catalogue};

const BODY_BYTES_MAX: usize = 64 << 10;
const NAME_CHARS_MAX: usize = 200;
/// Shorter than this, one reading of a page is several visits.
const SESSION_TIMEOUT_MIN_MS: u64 = 60_000;
/// A visit is cut after a day, so that a longer pause could never end one.
const SESSION_TIMEOUT_MAX_MS: u64 = 24 * 3_600_000;
const DOMAIN_BYTES_MAX: usize = 253;

/// The body of a PUT. Keys that are left out keep their value.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SiteBody {
    name: Option<String>,
    address_policy: Option<String>,
    session_timeout: Option<String>,
    /// `null` switches the cookie off.
    #[serde(default, deserialize_with = "null_or_value")]
    visitor_cookie: Option<Option<CookieBody>>,
    heartbeat_extends: Option<bool>,
    time_zone: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CookieBody {
    domain: Option<String>,
}

/// Tells `null` from a key that is left out.
fn null_or_value<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    de: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::<T>::deserialize(de).map(Some)
}

impl Admin {
    pub(crate) fn list_sites(&self) -> Response {
        let sites: Vec<Value> = self.catalogue.sites().all().iter().map(|site| shown(site)).collect();
        json(StatusCode::OK, &json!({ "sites": sites }))
    }

    pub(crate) fn get_site(&self, code: &str) -> Result<Response, Problem> {
        self.site(code).map(|site| json(StatusCode::OK, &shown(&site)))
    }

    pub(crate) fn site(&self, code: &str) -> Result<std::sync::Arc<Site>, Problem> {
        let code = problems::site_code(code)?;
        let unknown =
            || of_catalogue(&fanal_storage::catalogue::CatalogueError::UnknownSite(code.to_string()));
        self.catalogue.sites().get(code.as_str()).ok_or_else(unknown)
    }

    pub(crate) async fn put_site(&self, code: &str, request: Request) -> Result<Response, Problem> {
        let code = problems::site_code(code)?;
        let body: SiteBody = problems::json(request, BODY_BYTES_MAX).await?;
        let changed = self.catalogue.change_site(&code, |site| apply(body, site)).await;
        let (change, site) =
            changed.map_err(|error| of_catalogue(&error))?.map_err(|errors| invalid(&errors))?;
        tracing::info!(site = %site.code, created = change == Change::Created, "site saved");
        let created = change == Change::Created;
        let mut response = json(if created { StatusCode::CREATED } else { StatusCode::OK }, &shown(&site));
        if created && let Ok(location) = format!("/api/v1/sites/{}", site.code).parse() {
            response.headers_mut().insert(LOCATION, location);
        }
        Ok(response)
    }
}

/// Keys that are refused, each with what to write instead.
type Refused = Vec<(&'static str, String)>;

/// Puts what was given into the site, unless something is refused.
fn apply(body: SiteBody, site: &mut Site) -> Result<(), Refused> {
    let mut errors = Vec::new();
    if let Some(name) = body.name {
        let chars = name.trim().chars().count();
        if (1..=NAME_CHARS_MAX).contains(&chars) && !name.chars().any(char::is_control) {
            name.trim().clone_into(&mut site.name);
        } else {
            errors
                .push(("name", format!("write 1 to {NAME_CHARS_MAX} characters without control characters")));
        }
    }
    if let Some(policy) = body.address_policy {
        match AddressPolicy::parse(&policy) {
            Ok(policy) => site.address_policy = policy,
            Err(error) => errors.push(("address_policy", error.to_string())),
        }
    }
    if let Some(text) = body.session_timeout {
        match session_timeout(&text) {
            Ok(ms) => site.session_timeout_ms = ms,
            Err(remedy) => errors.push(("session_timeout", remedy)),
        }
    }
    match body.visitor_cookie {
        None => {}
        Some(None) => site.visitor_cookie = None,
        Some(Some(cookie)) => match cookie.domain.map(|domain| cookie_domain(&domain)).transpose() {
            Ok(domain) => site.visitor_cookie = Some(VisitorCookie { domain }),
            Err(remedy) => errors.push(("visitor_cookie.domain", remedy)),
        },
    }
    if let Some(extends) = body.heartbeat_extends {
        site.heartbeat_extends = extends;
    }
    if let Some(zone) = body.time_zone {
        match jiff::tz::db().get(&zone) {
            Ok(found) => found.iana_name().unwrap_or(&zone).clone_into(&mut site.time_zone),
            Err(_) => errors
                .push(("time_zone", "write a name of the IANA database, such as `Europe/Paris`".to_owned())),
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

fn session_timeout(text: &str) -> Result<u64, String> {
    let duration = HumanDuration::parse(text).map_err(|error| error.to_string())?;
    u64::try_from(duration.0.as_millis())
        .ok()
        .filter(|ms| (SESSION_TIMEOUT_MIN_MS..=SESSION_TIMEOUT_MAX_MS).contains(ms))
        .ok_or_else(|| "write a duration from `1min` to `24h`".to_owned())
}

fn cookie_domain(text: &str) -> Result<String, String> {
    let domain = text.trim().trim_start_matches('.').to_ascii_lowercase();
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // Browsers refuse cookies for a single label such as `com`.
    let fits = domain.len() <= DOMAIN_BYTES_MAX && domain.contains('.') && domain.split('.').all(label);
    if fits {
        Ok(domain)
    } else {
        Err("write a domain of at least two labels, such as `shop.example`".to_owned())
    }
}

fn shown(site: &Site) -> Value {
    json!({
        "site_code": site.code.as_str(),
        "name": site.name,
        "address_policy": site.address_policy.name(),
        "session_timeout": HumanDuration(std::time::Duration::from_millis(site.session_timeout_ms)).to_string(),
        "visitor_cookie": site.visitor_cookie.as_ref().map(|cookie| json!({ "domain": cookie.domain })),
        "heartbeat_extends": site.heartbeat_extends,
        "time_zone": site.time_zone,
    })
}
