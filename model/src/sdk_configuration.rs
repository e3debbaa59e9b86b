//! The configuration file that SDKs fetch: what in it would break one of them.
//!
//! Never changes the file: it is served as it was given. What must stay true:
//! every problem names the place, the SDK that suffers and what to write
//! instead. Members that no SDK reads are ignored, as the SDKs do.

use serde_json::{Map, Value};

/// No more problems than this are reported at once.
pub const PROBLEMS_MAX: usize = 100;

/// Which SDK fails on a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sdk {
    Python,
    JavaScript,
    Both,
}

impl Sdk {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Python => "python",
            Self::JavaScript => "javascript",
            Self::Both => "both",
        }
    }
}

/// One thing in a configuration that breaks an SDK.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Such as `featureFlags[0].rules[1].id`; empty for the file itself.
    pub path: String,
    pub sdk: Sdk,
    /// What to write instead, and what happens otherwise.
    pub remedy: String,
}

/// Everything in the file that breaks an SDK; empty if it may be published.
#[must_use]
pub fn validate(file: &Value) -> Vec<Problem> {
    let mut check = Check { problems: Vec::new() };
    if let Some(root) = check.object(String::new(), file) {
        check.settings(&root);
        check.file(&root);
    }
    check.problems.truncate(PROBLEMS_MAX);
    check.problems
}

/// What a member must be.
#[derive(Clone, Copy)]
enum Kind {
    Integer,
    /// From 0.0 to 1.0.
    Share,
    Boolean,
    Text,
    /// A text that is not empty.
    Name,
    OneOf(&'static [&'static str]),
}

/// Whether a member may be missing or null.
#[derive(Clone, Copy)]
enum Need {
    /// Without it this SDK fails.
    Must(Sdk),
    May,
    MayBeNull,
}

/// An object of the file and where it stands.
struct Place<'v> {
    path: String,
    members: &'v Map<String, Value>,
}

impl<'v> Place<'v> {
    fn at(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    fn get(&self, name: &str) -> Option<&'v Value> {
        self.members.get(name)
    }

    fn integer(&self, name: &str) -> Option<i64> {
        self.get(name).and_then(Value::as_i64)
    }
}

struct Check {
    problems: Vec<Problem>,
}

impl Check {
    fn report(&mut self, path: String, sdk: Sdk, remedy: impl Into<String>) {
        // One more than is shown is enough to stop at.
        if self.problems.len() <= PROBLEMS_MAX {
            self.problems.push(Problem { path, sdk, remedy: remedy.into() });
        }
    }

    fn settings(&mut self, root: &Place<'_>) {
        let remedy = "write the object `configuration` with at least `dataApiDomain`; without it JavaScript does not start";
        let Some(value) = root.get("configuration") else {
            return self.report("configuration".to_owned(), Sdk::JavaScript, remedy);
        };
        let Some(settings) = self.object("configuration".to_owned(), value) else { return };
        self.member(&settings, "dataApiDomain", Kind::Name, Need::Must(Sdk::JavaScript));
        self.member(&settings, "realTimeUpdate", Kind::Boolean, Need::May);
        self.member(&settings, "consentType", Kind::OneOf(&["REQUIRED", "NOT_REQUIRED"]), Need::May);
        let behaviours = Kind::OneOf(&["PARTIALLY_BLOCK", "FULLY_BLOCK"]);
        self.member(&settings, "consentOptOutBehavior", behaviours, Need::May);
    }

    fn file(&mut self, root: &Place<'_>) {
        let flags = self.objects(root, "featureFlags", Need::Must(Sdk::JavaScript));
        let segments = self.objects(root, "segments", Need::May);
        let custom_data = self.objects(root, "customData", Need::May);
        let segment_ids: Vec<i64> = segments.iter().filter_map(|segment| segment.integer("id")).collect();
        let buckets =
            flags.iter().any(|flag| flag.get("bucketingCustomDataId").is_some_and(Value::is_number));
        for flag in &flags {
            self.flag(flag, &segment_ids);
        }
        for segment in &segments {
            self.segment(segment);
        }
        self.custom_data(&custom_data, buckets);
        match root.get("holdout") {
            None => {}
            Some(Value::Null) => self.report(
                "holdout".to_owned(),
                Sdk::Python,
                "leave `holdout` out instead of null; Python refuses the whole file",
            ),
            Some(value) => {
                if let Some(holdout) = self.object("holdout".to_owned(), value) {
                    self.member(&holdout, "experimentId", Kind::Integer, Need::Must(Sdk::Both));
                    self.shares(&holdout);
                }
            }
        }
        if let Some(value) = root.get("dateModified") {
            let digits = value
                .as_str()
                .is_some_and(|text| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()));
            if !digits && !value.is_u64() {
                let remedy = "write milliseconds since 1970 as a whole number; Python refuses a date as text";
                self.report("dateModified".to_owned(), Sdk::Python, remedy);
            }
        }
    }

    fn custom_data(&mut self, all: &[Place<'_>], buckets: bool) {
        let mut mapping = 0;
        for entry in all {
            // One entry without an id is enough for JavaScript to find none of them.
            let need = if buckets { Need::Must(Sdk::JavaScript) } else { Need::May };
            self.member(entry, "id", Kind::Integer, need);
            self.member(entry, "index", Kind::Integer, Need::Must(Sdk::Both));
            if entry.integer("index").is_some_and(|index| index < 1) {
                self.report(
                    entry.at("index"),
                    Sdk::Both,
                    "write an index of 1 or more; 0 cannot map or bucket visitors",
                );
            }
            self.member(entry, "name", Kind::Text, Need::May);
            self.member(entry, "scope", Kind::OneOf(&["VISIT", "VISITOR", "PAGE", "Page"]), Need::May);
            self.member(entry, "localOnly", Kind::Boolean, Need::May);
            self.member(entry, "isMappingIdentifier", Kind::Boolean, Need::May);
            if entry.get("isMappingIdentifier") == Some(&Value::Bool(true)) {
                mapping += 1;
                if mapping == 2 {
                    let remedy = "only one custom data may be the mapping identifier; set this one to false";
                    self.report(entry.at("isMappingIdentifier"), Sdk::Both, remedy);
                }
            }
        }
    }

    fn flag(&mut self, flag: &Place<'_>, segment_ids: &[i64]) {
        self.member(flag, "id", Kind::Integer, Need::May);
        self.member(flag, "featureKey", Kind::Name, Need::Must(Sdk::Both));
        self.member(flag, "environmentEnabled", Kind::Boolean, Need::May);
        self.member(flag, "defaultVariationKey", Kind::Text, Need::May);
        self.member(flag, "mutuallyExclusiveGroup", Kind::Text, Need::MayBeNull);
        self.member(flag, "bucketingCustomDataId", Kind::Integer, Need::MayBeNull);
        for variation in self.objects(flag, "variations", Need::May) {
            self.member(&variation, "key", Kind::Name, Need::Must(Sdk::Both));
            self.member(&variation, "name", Kind::Text, Need::MayBeNull);
            for variable in self.objects(&variation, "variables", Need::Must(Sdk::Python)) {
                self.variable(&variable);
            }
        }
        for rule in self.objects(flag, "rules", Need::Must(Sdk::JavaScript)) {
            self.rule(&rule, segment_ids);
        }
    }

    fn variable(&mut self, variable: &Place<'_>) {
        const TYPES: &[&str] = &["BOOLEAN", "NUMBER", "STRING", "JSON", "JS", "CSS"];
        self.member(variable, "key", Kind::Name, Need::Must(Sdk::Both));
        self.member(variable, "type", Kind::OneOf(TYPES), Need::Must(Sdk::Both));
        let kind = variable.get("type").and_then(Value::as_str).unwrap_or("");
        let value = variable.get("value").unwrap_or(&Value::Null);
        let remedy = match kind {
            "BOOLEAN" if !value.is_boolean() => "write true or false",
            "NUMBER" if !value.is_number() => "write a number",
            "STRING" | "JS" | "CSS" if !value.is_string() => "write a text",
            "JSON" if !holds_json(value) => "write the JSON inside a text, such as \"{\\\"cols\\\":1}\"",
            _ => return,
        };
        self.report(variable.at("value"), Sdk::Both, format!("{remedy}, as `type` {kind} asks"));
    }

    fn rule(&mut self, rule: &Place<'_>, segment_ids: &[i64]) {
        self.member(rule, "id", Kind::Integer, Need::Must(Sdk::Python));
        self.member(rule, "type", Kind::OneOf(&["EXPERIMENTATION", "TARGETED_DELIVERY"]), Need::May);
        self.member(rule, "exposition", Kind::Share, Need::May);
        self.member(rule, "experimentId", Kind::Integer, Need::May);
        self.member(rule, "respoolTime", Kind::Integer, Need::MayBeNull);
        self.member(rule, "segmentId", Kind::Integer, Need::MayBeNull);
        if let Some(id) = rule.integer("segmentId")
            && !segment_ids.contains(&id)
        {
            let remedy = format!(
                "add segment {id} to the list `segments`; Python targets everyone when it is not there"
            );
            self.report(rule.at("segmentId"), Sdk::Python, remedy);
        }
        self.shares(rule);
    }

    fn shares(&mut self, owner: &Place<'_>) {
        for share in self.objects(owner, "variationByExposition", Need::May) {
            self.member(&share, "variationKey", Kind::Text, Need::Must(Sdk::Both));
            self.member(&share, "variationId", Kind::Integer, Need::MayBeNull);
            self.member(&share, "exposition", Kind::Share, Need::Must(Sdk::Both));
        }
    }

    fn segment(&mut self, segment: &Place<'_>) {
        self.member(segment, "id", Kind::Integer, Need::Must(Sdk::Python));
        self.member(segment, "name", Kind::Text, Need::MayBeNull);
        self.member(segment, "audienceTracking", Kind::Boolean, Need::May);
        let path = segment.at("conditionsData");
        let Some(value) = segment.get("conditionsData").filter(|value| !value.is_null()) else {
            let remedy = "write {\"firstLevelOrOperators\": [], \"firstLevel\": []} to target everyone; JavaScript fails without";
            return self.report(path, Sdk::JavaScript, remedy);
        };
        let Some(conditions) = self.object(path, value) else { return };
        let groups = self.objects(&conditions, "firstLevel", Need::Must(Sdk::Both));
        self.operators(&conditions, "firstLevelOrOperators", groups.len(), Sdk::Both);
        for group in groups {
            let conditions = self.objects(&group, "conditions", Need::Must(Sdk::Both));
            self.operators(&group, "orOperators", conditions.len(), Sdk::JavaScript);
            for condition in conditions {
                self.condition(&condition);
            }
        }
    }

    /// A list of operators: true for OR, false for AND, one fewer than operands.
    fn operators(&mut self, place: &Place<'_>, name: &str, operands: usize, sdk: Sdk) {
        let wanted = operands.saturating_sub(1);
        let right = place
            .get(name)
            .and_then(Value::as_array)
            .is_some_and(|list| list.len() == wanted && list.iter().all(Value::is_boolean));
        if !right {
            let remedy = format!(
                "write a list of {wanted} booleans (true for OR, false for AND), one fewer than the {operands} operands"
            );
            self.report(place.at(name), sdk, remedy);
        }
    }

    fn condition(&mut self, condition: &Place<'_>) {
        const MATCHES: &[&str] = &[
            "EXACT",
            "CONTAINS",
            "REGULAR_EXPRESSION",
            "EQUAL",
            "GREATER",
            "LOWER",
            "TRUE",
            "FALSE",
            "UNDEFINED",
            "AMONG_VALUES",
        ];
        self.member(condition, "targetingType", Kind::Name, Need::Must(Sdk::Both));
        self.member(condition, "isInclude", Kind::Boolean, Need::MayBeNull);
        if condition.get("targetingType").and_then(Value::as_str) != Some("CUSTOM_DATUM") {
            return;
        }
        if !condition.get("customDataIndex").is_some_and(Value::is_string) {
            let remedy =
                "write the index as a text, such as \"1\"; Python refuses the whole file for a number";
            self.report(condition.at("customDataIndex"), Sdk::Python, remedy);
        }
        self.member(condition, "valueMatchType", Kind::OneOf(MATCHES), Need::Must(Sdk::Python));
        self.member(condition, "value", Kind::Text, Need::MayBeNull);
        let among = condition.get("valueMatchType").and_then(Value::as_str) == Some("AMONG_VALUES");
        if among && !condition.get("value").is_some_and(holds_texts) {
            let remedy = "write a JSON array of texts inside a text, such as \"[\\\"a\\\",\\\"b\\\"]\"";
            self.report(condition.at("value"), Sdk::Both, remedy);
        }
    }

    fn object<'v>(&mut self, path: String, value: &'v Value) -> Option<Place<'v>> {
        match value.as_object() {
            Some(members) => Some(Place { path, members }),
            None => {
                self.report(path, Sdk::Both, "write a JSON object here");
                None
            }
        }
    }

    /// The objects of a list, each with its place.
    fn objects<'v>(&mut self, place: &Place<'v>, name: &str, need: Need) -> Vec<Place<'v>> {
        let path = place.at(name);
        let value = match (place.get(name), need) {
            (Some(Value::Array(list)), _) => list,
            (None, Need::May | Need::MayBeNull) => return Vec::new(),
            (None, Need::Must(sdk)) => {
                self.report(
                    path,
                    sdk,
                    format!("write the list `{name}`, empty if there are none; the SDK fails without"),
                );
                return Vec::new();
            }
            (Some(_), _) => {
                self.report(
                    path,
                    Sdk::Both,
                    format!("`{name}` must be a list, empty if there are none, never null"),
                );
                return Vec::new();
            }
        };
        let places = value.iter().enumerate();
        places.filter_map(|(n, entry)| self.object(format!("{path}[{n}]"), entry)).collect()
    }

    fn member(&mut self, place: &Place<'_>, name: &str, kind: Kind, need: Need) {
        let remedy = match (place.get(name), need) {
            (None, Need::Must(sdk)) => {
                return self.report(place.at(name), sdk, format!("add `{name}`: {}", kind.wanted()));
            }
            (None, _) | (Some(Value::Null), Need::MayBeNull) => return,
            (Some(value), _) if kind.fits(value) => return,
            (Some(Value::Null), Need::May) => {
                format!("leave `{name}` out instead of null, or write {}", kind.wanted())
            }
            (Some(_), _) => format!("write {}", kind.wanted()),
        };
        self.report(place.at(name), Sdk::Both, remedy);
    }
}

impl Kind {
    fn fits(self, value: &Value) -> bool {
        match self {
            Self::Integer => value.is_i64() || value.is_u64(),
            Self::Share => value.as_f64().is_some_and(|share| (0.0..=1.0).contains(&share)),
            Self::Boolean => value.is_boolean(),
            Self::Text => value.is_string(),
            Self::Name => value.as_str().is_some_and(|text| !text.is_empty()),
            Self::OneOf(choices) => value.as_str().is_some_and(|text| choices.contains(&text)),
        }
    }

    fn wanted(self) -> String {
        match self {
            Self::Integer => "a whole number, not a text".to_owned(),
            Self::Share => "a number from 0.0 to 1.0".to_owned(),
            Self::Boolean => "true or false".to_owned(),
            Self::Text => "a text".to_owned(),
            Self::Name => "a text that is not empty".to_owned(),
            Self::OneOf(choices) => format!("one of {}", choices.join(", ")),
        }
    }
}

fn holds_json(value: &Value) -> bool {
    value.as_str().is_some_and(|text| serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok())
}

fn holds_texts(value: &Value) -> bool {
    value.as_str().is_some_and(|text| serde_json::from_str::<Vec<String>>(text).is_ok())
}
