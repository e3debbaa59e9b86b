//! Rows as `storage/sql` declares them, in the order of its columns.
//!
//! Every field is one column; its meaning is the column's comment.

use clickhouse::Row;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Eq, Hash, Row, Serialize, Deserialize, Default)]
pub struct EventRow {
    pub site_code: String,
    /// Milliseconds since the epoch, as are all instants here.
    pub event_at: i64,
    pub line_number: u32,
    pub event_type: String,
    pub visitor_code: String,
    pub visit_id: u64,
    pub event_id: u64,
    pub nonce: String,
    pub is_heartbeat: bool,
    pub page_url: String,
    pub page_title: String,
    pub goal_id: u32,
    /// Ten-thousandths.
    pub revenue: i64,
    pub is_negative: bool,
    pub experiment_id: u32,
    pub variation_id: u32,
    pub segment_id: u32,
    pub personalization_id: u32,
    pub custom_data_index: i32,
    pub custom_data_values: Vec<(String, u32)>,
    pub goal_metadata: Vec<(i32, Vec<String>)>,
    pub extra: Vec<(String, String)>,
    pub sdk_name: String,
    pub sdk_version: String,
    pub source: String,
    pub node: String,
    pub is_bot: bool,
    pub rules_version: u32,
    pub log_partition: u32,
    pub version: u64,
    pub is_deleted: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Row, Serialize, Deserialize, Default)]
pub struct VisitRow {
    pub site_code: String,
    pub visit_id: u64,
    pub visitor_code: String,
    pub previous_visit_count: u32,
    pub since_previous_s: u32,
    pub started_at: i64,
    pub last_event_at: i64,
    pub last_seen_at: i64,
    pub duration_s: u32,
    pub engaged_s: u32,
    pub end_reason: String,
    pub event_count: u32,
    pub page_view_count: u32,
    pub conversion_count: u32,
    pub revenue: i64,
    pub is_bounce: bool,
    pub landing_url: String,
    pub exit_url: String,
    pub referrer_url: String,
    pub channel: String,
    pub utm_source: String,
    pub utm_medium: String,
    pub utm_campaign: String,
    pub utm_term: String,
    pub utm_content: String,
    pub device_type: String,
    pub browser: String,
    pub browser_version: String,
    pub os: String,
    pub country_code: String,
    pub country: String,
    pub region: String,
    pub city: String,
    pub sdk_name: String,
    pub sdk_version: String,
    #[serde(rename = "exposures.experiment_id")]
    pub exposure_experiment_ids: Vec<u32>,
    #[serde(rename = "exposures.variation_id")]
    pub exposure_variation_ids: Vec<u32>,
    #[serde(rename = "exposures.first_at")]
    pub exposure_first_at: Vec<i64>,
    #[serde(rename = "goals.goal_id")]
    pub goal_ids: Vec<u32>,
    #[serde(rename = "goals.conversion_count")]
    pub goal_conversion_counts: Vec<u32>,
    #[serde(rename = "goals.first_at")]
    pub goal_first_at: Vec<i64>,
    #[serde(rename = "goals.revenue")]
    pub goal_revenues: Vec<i64>,
    pub custom_data: Vec<(i32, Vec<String>)>,
    pub segment_ids: Vec<u32>,
    pub personalization_ids: Vec<u32>,
    pub is_bot: bool,
    pub is_outlier: bool,
    pub rules_version: u32,
    pub log_partition: u32,
    pub row_hash: u64,
    pub version: u64,
    pub is_deleted: u8,
}

/// `outcome_rows`: records that are no event row, by offset.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Row, Serialize, Deserialize)]
pub struct OutcomeRow {
    pub log_partition: u32,
    pub first_offset: u64,
    pub site_code: String,
    /// Seconds since the epoch, start of a minute.
    pub minute: u32,
    pub outcome: String,
    pub count: u64,
    pub version: u64,
    pub is_deleted: u8,
}

/// `archive_file_counts`: one count of one archive file.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Row, Serialize, Deserialize)]
pub struct ArchiveCountRow {
    pub log_partition: u32,
    pub first_offset: u64,
    pub last_offset: u64,
    pub site_code: String,
    /// Seconds since the epoch, start of a minute.
    pub minute: u32,
    pub stage: String,
    pub outcome: String,
    pub count: u64,
}

/// `visitor_link_rows`: one link of a mapping value and a visitor code.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Row, Serialize, Deserialize)]
pub struct LinkRow {
    pub site_code: String,
    pub mapping_value: String,
    pub visitor_code: String,
    pub linked_at: i64,
}
