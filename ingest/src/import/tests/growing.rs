//! Files that somebody writes while they are imported.

use super::*;

#[tokio::test]
async fn a_file_that_grew_goes_on_where_it_stopped() {
    let mut world = World::new();
    for (grown, added) in [(10, 10), (50, 40), (51, 1), (51, 0), (200, 149)] {
        let path = world.file("access.log", &content(0..grown));
        let report = world.import(&[&path]).await.unwrap();
        assert_eq!((report.accepted(), report.already_imported()), (added, grown - added));
        world.assert_once(grown);
        world = world.reopened();
    }
}

#[tokio::test]
async fn a_line_that_is_not_finished_waits_for_its_end() {
    let world = World::new();
    let whole = content(0..3);
    for cut in [1, 5, 40] {
        let path = world.file("access.log", &whole[..whole.len() - cut]);
        // Somebody writes on while the import looks.
        let growing = path.clone();
        let writer = tokio::spawn(async move {
            tokio::time::sleep(std::time::Duration::from_millis(250)).await;
            let mut file = std::fs::File::options().append(true).open(growing).unwrap();
            std::io::Write::write_all(&mut file, b"x").unwrap();
        });
        let report = world.import(&[&path]).await.unwrap();
        writer.await.unwrap();
        assert!(report.files[0].unfinished_line);
        assert_eq!(world.contents().lines.len(), 2);
    }
    let path = world.file("access.log", &whole);
    assert_eq!(world.import(&[&path]).await.unwrap().accepted(), 1);
    world.assert_once(3);
    // Nobody writes on: the last line is whole without an end.
    let still = world.file("still", &content(200..202)[..content(200..202).len() - 1]);
    assert_eq!(world.import(&[&still]).await.unwrap().accepted(), 2);
    // A compressed file is complete, whether its last line has an end or not.
    let other = content(100..103);
    let packed = world.file("other.gz", &gzip(&other[..other.len() - 1]));
    assert_eq!(world.import(&[&packed]).await.unwrap().accepted(), 3);
    let plain = world.file("other", &[&other[..], &content(103..104)].concat());
    let report = world.import(&[&plain]).await.unwrap();
    assert_eq!((report.accepted(), report.rejected()), (1, 0));
    world.assert_once(9);
}
