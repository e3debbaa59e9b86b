//! Parts that pile up.

use std::time::Duration;

use fanal_storage::clickhouse::{ClickHouse, Flush, PARTS_PAUSE_MAX};

use crate::rows::flush;
use crate::served::database;

#[tokio::test]
async fn too_many_parts_are_seen_before_and_said_when_they_refuse_an_insert() {
    let clickhouse = database("parts");
    clickhouse.migrate().await.unwrap();
    // The few of the migrations' notes are ordinary.
    assert_eq!(clickhouse.parts_pressure().await.unwrap().pause(), Duration::ZERO);
    assert_eq!(clickhouse.pause_for_parts().await, Duration::ZERO);
    let limits = "ALTER TABLE event_rows MODIFY SETTING parts_to_delay_insert = 4, parts_to_throw_insert = 6, \
                  max_delay_to_insert = 1, max_avg_part_size_for_too_many_parts = 0";
    clickhouse.execute("lower the limits", limits).await.unwrap();
    clickhouse.execute("stop merges", "SYSTEM STOP MERGES event_rows").await.unwrap();
    let mut refused = None;
    // Numbers of one month: each insert is one part of the same partition.
    for number in (0..40).step_by(4) {
        let events = flush(number..number + 1, 2).events;
        if let Err(error) = clickhouse.write(&Flush { events, ..Flush::default() }).await {
            refused = Some((number / 4, error));
            break;
        }
    }
    let (inserts, error) = refused.expect("the server refused nothing");
    assert!(error.is_busy() && error.is_retryable() && error.code() == Some(252), "{error}");
    assert!(error.to_string().contains("waits longer"), "{error}");
    let pressure = clickhouse.parts_pressure().await.unwrap();
    assert_eq!((pressure.table.as_str(), pressure.partition.as_str()), ("event_rows", "202610"));
    assert_eq!((pressure.delayed_from, pressure.refused_from), (4, 6));
    assert_eq!(pressure.parts, u64::from(inserts));
    // What was seen before holds for a while; another handle looks for itself.
    assert_eq!(clickhouse.pause_for_parts().await, Duration::ZERO);
    let other = ClickHouse::new(clickhouse.config().clone());
    assert_eq!(other.pause_for_parts().await, PARTS_PAUSE_MAX);

    clickhouse.execute("let it merge", "SYSTEM START MERGES event_rows").await.unwrap();
    clickhouse.execute("merge", "OPTIMIZE TABLE event_rows FINAL").await.unwrap();
    let other = ClickHouse::new(clickhouse.config().clone());
    assert_eq!(other.pause_for_parts().await, Duration::ZERO);
    clickhouse.write(&flush(40..41, 2)).await.unwrap();
}

#[tokio::test]
async fn a_server_that_does_not_answer_gives_no_pause() {
    let clickhouse = ClickHouse::new(fanal_storage::clickhouse::ClickHouseConfig {
        url: "http://127.0.0.1:1".to_owned(),
        database: "fanal".to_owned(),
        ..fanal_storage::clickhouse::ClickHouseConfig::default()
    });
    assert_eq!(clickhouse.pause_for_parts().await, Duration::ZERO);
}
