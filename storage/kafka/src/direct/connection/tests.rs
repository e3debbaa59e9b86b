use tokio::net::TcpListener;

use super::*;
use crate::config::KafkaConfig;

/// A server that says the same whatever it hears.
async fn speaking(answer: Vec<u8>) -> Arc<str> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4096];
            while stream.read(&mut request).await.is_ok_and(|read| read > 0) {
                if stream.write_all(&answer).await.is_err() {
                    break;
                }
            }
        }
    });
    address.into()
}

async fn refusal(answer: Vec<u8>) -> String {
    let security = Security::new(&KafkaConfig::default()).unwrap();
    let until = Instant::now() + Duration::from_millis(1500);
    let opened = Connection::open(speaking(answer).await, &security, until).await;
    opened.expect_err("this is no broker").to_string()
}

/// An answer to the first request.
fn frame(correlation: i32, body: &[u8]) -> Vec<u8> {
    let length = i32::try_from(body.len() + 4).unwrap();
    [&length.to_be_bytes()[..], &correlation.to_be_bytes(), body].concat()
}

fn versions(produce: (i16, i16)) -> Vec<u8> {
    let mut body = vec![0, 0, 0, 0, 0, 3];
    for (key, min, max) in [(0, produce.0, produce.1), (3, 0, 12), (22, 0, 4)] {
        body.extend([key, min, max].map(i16::to_be_bytes).concat());
    }
    body
}

#[tokio::test]
async fn nonsense_from_a_broker_is_an_error_in_time_that_says_what_it_is() {
    for (what, answer, expected) in [
        ("an old broker", frame(1, &versions((0, 2))), "versions 0 to 2 of Produce"),
        ("no list at all", frame(1, &[0, 35]), "UNSUPPORTED_VERSION"),
        ("cut off", frame(1, &[0, 0, 0, 0, 0, 9, 0, 0]), "cut off"),
        ("another answer", frame(77, &versions((0, 9))), "answers another request"),
        ("an impossible length", vec![0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 1], "length is impossible"),
        ("a negative length", vec![0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1], "length is impossible"),
        ("too much", [frame(1, &versions((0, 9))), vec![0; 9]].concat(), "longer than it says"),
        ("half an answer", frame(1, &versions((0, 9)))[..12].to_vec(), "did not answer in time"),
        ("text", b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), "length is impossible"),
    ] {
        let error = refusal(answer).await;
        assert!(error.contains(expected), "{what}: {error}");
    }
}

#[tokio::test]
async fn a_broker_that_ends_the_connection_is_noticed_before_the_next_request() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 4096];
        assert!(stream.read(&mut request).await.unwrap() > 0);
        stream.write_all(&frame(1, &versions((0, 9)))).await.unwrap();
        stream
    });
    let security = Security::new(&KafkaConfig::default()).unwrap();
    let until = Instant::now() + Duration::from_secs(10);
    let connection = Connection::open(address.into(), &security, until).await.unwrap();
    assert!(connection.is_usable());
    drop(server.await.unwrap());
    while connection.is_usable() {
        assert!(Instant::now() < until, "the end was not noticed");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn addresses_may_be_names_and_numbers() {
    assert_eq!(split("kafka-1.example.com:9092").unwrap(), ("kafka-1.example.com", 9092));
    assert_eq!(split("[::1]:9092").unwrap(), ("::1", 9092));
    assert!(split("kafka").is_err());
    assert!(split("kafka:x").is_err());
}
