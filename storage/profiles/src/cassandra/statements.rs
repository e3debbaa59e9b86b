//! Every statement that is sent again and again.

use scylla::client::session::Session;
use scylla::errors::PrepareError;
use scylla::statement::prepared::PreparedStatement;

pub(super) struct Statements {
    pub(super) put_visit: PreparedStatement,
    pub(super) visits: PreparedStatement,
    pub(super) slots: PreparedStatement,
    pub(super) drop_older: PreparedStatement,
    pub(super) erase_visits: PreparedStatement,
    pub(super) put_link: PreparedStatement,
    pub(super) put_value: PreparedStatement,
    pub(super) linked: PreparedStatement,
    pub(super) links_of: PreparedStatement,
    pub(super) erase_link: PreparedStatement,
    pub(super) erase_links: PreparedStatement,
    pub(super) erase_values: PreparedStatement,
    pub(super) ping: PreparedStatement,
}

impl Statements {
    pub(super) async fn prepare(session: &Session, keyspace: &str) -> Result<Self, PrepareError> {
        let prepare = async |text: &str| {
            let mut statement = session.prepare(text.replace("$KS", keyspace)).await?;
            // Each carries its timestamp: once more changes nothing.
            statement.set_is_idempotent(true);
            Ok::<_, PrepareError>(statement)
        };
        Ok(Self {
            put_visit: prepare(
                "INSERT INTO $KS.visits (site_code, visitor_code, started_at, visit_id, data) \
                 VALUES (?, ?, ?, ?, ?) USING TIMESTAMP ? AND TTL ?",
            )
            .await?,
            visits: prepare(
                "SELECT started_at, visit_id, data FROM $KS.visits \
                 WHERE site_code = ? AND visitor_code = ? LIMIT ?",
            )
            .await?,
            slots: prepare(
                "SELECT started_at, WRITETIME(data) FROM $KS.visits \
                 WHERE site_code = ? AND visitor_code = ? LIMIT ?",
            )
            .await?,
            drop_older: prepare(
                "DELETE FROM $KS.visits USING TIMESTAMP ? \
                 WHERE site_code = ? AND visitor_code = ? AND started_at < ?",
            )
            .await?,
            erase_visits: prepare(
                "DELETE FROM $KS.visits USING TIMESTAMP ? WHERE site_code = ? AND visitor_code = ?",
            )
            .await?,
            put_link: prepare(
                "INSERT INTO $KS.links_by_value (site_code, mapping_value, visitor_code, linked_at) \
                 VALUES (?, ?, ?, ?) USING TIMESTAMP ? AND TTL ?",
            )
            .await?,
            put_value: prepare(
                "INSERT INTO $KS.links_by_visitor (site_code, visitor_code, mapping_value, linked_at) \
                 VALUES (?, ?, ?, ?) USING TIMESTAMP ? AND TTL ?",
            )
            .await?,
            linked: prepare(
                "SELECT visitor_code, linked_at FROM $KS.links_by_value \
                 WHERE site_code = ? AND mapping_value = ? LIMIT ?",
            )
            .await?,
            links_of: prepare(
                "SELECT mapping_value, linked_at FROM $KS.links_by_visitor \
                 WHERE site_code = ? AND visitor_code = ? LIMIT ?",
            )
            .await?,
            erase_link: prepare(
                "DELETE FROM $KS.links_by_value USING TIMESTAMP ? \
                 WHERE site_code = ? AND mapping_value = ? AND visitor_code = ?",
            )
            .await?,
            erase_links: prepare(
                "DELETE FROM $KS.links_by_value USING TIMESTAMP ? \
                 WHERE site_code = ? AND mapping_value = ?",
            )
            .await?,
            erase_values: prepare(
                "DELETE FROM $KS.links_by_visitor USING TIMESTAMP ? \
                 WHERE site_code = ? AND visitor_code = ?",
            )
            .await?,
            ping: prepare("SELECT version FROM $KS.schema_version WHERE name = 'profiles'").await?,
        })
    }
}
