//! Each change that breaks an SDK is reported at its place; nothing else is.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test states what must hold by panicking")]

use fanal_model::sdk_configuration::{PROBLEMS_MAX, Sdk, validate};
use serde_json::{Value, json};

const EXAMPLE: &str = include_str!("../../tests/sdk/config.example.json");

fn example() -> Value {
    serde_json::from_str(EXAMPLE).unwrap()
}

/// Sets the member at a JSON pointer, or removes it.
fn change(pointer: &str, value: Option<Value>) -> Value {
    let mut file = example();
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let members = file.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    match value {
        Some(value) => members.insert(name.to_owned(), value),
        None => members.remove(name),
    };
    file
}

const RULE: &str = "/featureFlags/0/rules/0";
const CONDITION: &str = "/segments/0/conditionsData/firstLevel/0/conditions/0";

#[test]
fn the_example_may_be_published() {
    assert_eq!(validate(&example()), []);
}

#[test]
fn what_is_optional_may_be_left_out() {
    for pointer in [
        "/segments/0/name",
        "/dateModified",
        "/customData",
        "/configuration/realTimeUpdate",
        "/configuration/consentType",
        "/featureFlags/0/id",
        "/featureFlags/0/mutuallyExclusiveGroup",
        "/featureFlags/0/variations/0/name",
        "/featureFlags/0/rules/0/exposition",
        "/featureFlags/0/rules/0/segmentId",
        "/segments/0/conditionsData/firstLevel/0/conditions/0/isInclude",
    ] {
        assert_eq!(validate(&change(pointer, None)), [], "{pointer}");
    }
    assert_eq!(validate(&change("/notKnown", Some(json!({"a": 1})))), []);
    assert_eq!(validate(&change("/dateModified", Some(json!("1700000000000")))), []);
    let everyone = json!({"firstLevelOrOperators": [], "firstLevel": []});
    assert_eq!(validate(&change("/segments/0/conditionsData", Some(everyone))), []);
    let holdout = json!({"experimentId": 1, "variationByExposition": [
        {"variationKey": "in-holdout", "variationId": 0, "exposition": 0.1}]});
    assert_eq!(validate(&change("/holdout", Some(holdout))), []);
}

#[test]
fn each_breaking_change_is_reported_at_its_place() {
    use Sdk::{Both, JavaScript, Python};
    let rule = |name: &str| format!("{RULE}/{name}");
    let condition = |name: &str| format!("{CONDITION}/{name}");
    let cases: Vec<(String, Option<Value>, &str, Sdk)> = vec![
        ("/configuration".into(), None, "configuration", JavaScript),
        ("/configuration".into(), Some(json!(null)), "configuration", Both),
        ("/configuration/dataApiDomain".into(), None, "configuration.dataApiDomain", JavaScript),
        ("/configuration/dataApiDomain".into(), Some(json!("")), "configuration.dataApiDomain", Both),
        ("/configuration/dataApiDomain".into(), Some(json!(null)), "configuration.dataApiDomain", Both),
        ("/configuration/realTimeUpdate".into(), Some(json!("yes")), "configuration.realTimeUpdate", Both),
        ("/configuration/consentType".into(), Some(json!("MAYBE")), "configuration.consentType", Both),
        (
            "/configuration/consentOptOutBehavior".into(),
            Some(json!(1)),
            "configuration.consentOptOutBehavior",
            Both,
        ),
        ("/featureFlags".into(), None, "featureFlags", JavaScript),
        ("/featureFlags".into(), Some(json!(null)), "featureFlags", Both),
        ("/featureFlags/0/rules".into(), None, "featureFlags[0].rules", JavaScript),
        ("/featureFlags/0/rules".into(), Some(json!(null)), "featureFlags[0].rules", Both),
        ("/featureFlags/0/featureKey".into(), None, "featureFlags[0].featureKey", Both),
        (
            "/featureFlags/0/bucketingCustomDataId".into(),
            Some(json!("501")),
            "featureFlags[0].bucketingCustomDataId",
            Both,
        ),
        ("/featureFlags/0/variations".into(), Some(json!(null)), "featureFlags[0].variations", Both),
        (
            "/featureFlags/0/variations/0/variables".into(),
            Some(json!(null)),
            "featureFlags[0].variations[0].variables",
            Both,
        ),
        (
            "/featureFlags/0/variations/0/variables".into(),
            None,
            "featureFlags[0].variations[0].variables",
            Python,
        ),
        (
            "/featureFlags/0/variations/1/variables/0/type".into(),
            Some(json!("BOOL")),
            "featureFlags[0].variations[1].variables[0].type",
            Both,
        ),
        (
            "/featureFlags/0/variations/0/variables/3/value".into(),
            Some(json!({"cols": 1})),
            "featureFlags[0].variations[0].variables[3].value",
            Both,
        ),
        (
            "/featureFlags/0/variations/0/variables/3/value".into(),
            Some(json!("{cols")),
            "featureFlags[0].variations[0].variables[3].value",
            Both,
        ),
        (rule("id"), None, "featureFlags[0].rules[0].id", Python),
        (rule("type"), Some(json!("AB")), "featureFlags[0].rules[0].type", Both),
        (rule("exposition"), Some(json!(50)), "featureFlags[0].rules[0].exposition", Both),
        (rule("segmentId"), Some(json!("7001")), "featureFlags[0].rules[0].segmentId", Both),
        (rule("segmentId"), Some(json!(9999)), "featureFlags[0].rules[0].segmentId", Python),
        (
            rule("variationByExposition"),
            Some(json!(null)),
            "featureFlags[0].rules[0].variationByExposition",
            Both,
        ),
        ("/holdout".into(), Some(json!(null)), "holdout", Python),
        ("/holdout".into(), Some(json!({})), "holdout.experimentId", Both),
        ("/dateModified".into(), Some(json!("2024-01-01T00:00:00Z")), "dateModified", Python),
        ("/customData/0/index".into(), Some(json!(0)), "customData[0].index", Both),
        ("/customData/0/index".into(), Some(json!("1")), "customData[0].index", Both),
        (
            "/customData/0/isMappingIdentifier".into(),
            Some(json!(true)),
            "customData[2].isMappingIdentifier",
            Both,
        ),
        ("/customData".into(), Some(json!(null)), "customData", Both),
        ("/segments/1/id".into(), Some(json!("7002")), "segments[1].id", Both),
        ("/segments/0/conditionsData".into(), Some(json!(null)), "segments[0].conditionsData", JavaScript),
        ("/segments/0/conditionsData".into(), None, "segments[0].conditionsData", JavaScript),
        (
            "/segments/1/conditionsData/firstLevelOrOperators".into(),
            None,
            "segments[1].conditionsData.firstLevelOrOperators",
            Both,
        ),
        (
            "/segments/1/conditionsData/firstLevelOrOperators".into(),
            Some(json!([])),
            "segments[1].conditionsData.firstLevelOrOperators",
            Both,
        ),
        (
            "/segments/1/conditionsData/firstLevel/0/orOperators".into(),
            None,
            "segments[1].conditionsData.firstLevel[0].orOperators",
            JavaScript,
        ),
        (
            condition("customDataIndex"),
            Some(json!(1)),
            "segments[0].conditionsData.firstLevel[0].conditions[0].customDataIndex",
            Python,
        ),
        (
            condition("valueMatchType"),
            Some(json!("RANGE")),
            "segments[0].conditionsData.firstLevel[0].conditions[0].valueMatchType",
            Both,
        ),
        (
            condition("valueMatchType"),
            Some(json!("AMONG_VALUES")),
            "segments[0].conditionsData.firstLevel[0].conditions[0].value",
            Both,
        ),
        (
            condition("isInclude"),
            Some(json!("true")),
            "segments[0].conditionsData.firstLevel[0].conditions[0].isInclude",
            Both,
        ),
        (
            condition("targetingType"),
            None,
            "segments[0].conditionsData.firstLevel[0].conditions[0].targetingType",
            Both,
        ),
    ];
    for (pointer, value, path, sdk) in cases {
        let problems = validate(&change(&pointer, value.clone()));
        let found: Vec<_> = problems.iter().map(|problem| (problem.path.as_str(), problem.sdk)).collect();
        assert_eq!(found, [(path, sdk)], "{pointer} = {value:?}");
        assert!(problems[0].remedy.len() > 8, "{path} has no remedy");
    }
}

#[test]
fn a_custom_data_without_an_id_matters_when_a_flag_buckets_by_one() {
    let mut file = change("/customData/1/id", None);
    assert_eq!(validate(&file), []);
    file["featureFlags"][0]["bucketingCustomDataId"] = json!(501);
    assert_eq!(validate(&file)[0].path, "customData[1].id");
}

#[test]
fn anything_but_an_object_is_refused_and_problems_are_bounded() {
    for file in [json!(null), json!([]), json!("x"), json!(1)] {
        assert_eq!(validate(&file).len(), 1, "{file}");
    }
    let flags: Vec<Value> = (0..10_000).map(|_| json!({})).collect();
    assert_eq!(validate(&change("/featureFlags", Some(json!(flags)))).len(), PROBLEMS_MAX);
}
