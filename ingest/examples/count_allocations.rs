//! Counts what a beacon allocates on its worker's thread, and says where:
//! `cargo run --release -p fanal-ingest --example count_allocations`.
//!
//! A whole worker serves GET beacons over real connections; the event log behind it confirms
//! at once and keeps nothing, so that all that is counted belongs to the way in.
#![expect(unsafe_code, reason = "a global allocator is unsafe by its trait")]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a program for people at a terminal")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};

use fanal_ingest::{AddressKey, Ingest, Settings};
use fanal_model::SiteCode;
use fanal_service::health::Health;
use fanal_service::http::{HttpLimits, Sharing, Sockets, Workers};
use fanal_service::secret::Secret;
use fanal_service::stop::Stop;
use fanal_storage::catalogue::{Site, SiteDirectory};
use fanal_storage::log::{AppendError, Appended, Batch, EventLog, Partition, wall_clock};

const CONNECTIONS: usize = 64;
/// Rounds over all connections before anything is counted, and while it is.
const WARM_ROUNDS: usize = 200;
const ROUNDS: usize = 500;
/// Rounds in which each allocation is looked up; slow.
const TRACED_ROUNDS: usize = 2;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
    static BYTES: Cell<u64> = const { Cell::new(0) };
    static IS_TRACED: Cell<bool> = const { Cell::new(false) };
    static PLACES: RefCell<BTreeMap<String, u64>> = const { RefCell::new(BTreeMap::new()) };
}

struct Counting;

fn note(bytes: usize) {
    COUNT.set(COUNT.get() + 1);
    BYTES.set(BYTES.get() + bytes as u64);
    // Looking up allocates as well.
    if IS_TRACED.replace(false) {
        let place = place_of(&Backtrace::force_capture().to_string());
        PLACES.with_borrow_mut(|places| *places.entry(format!("{place} ({bytes} bytes)")).or_default() += 1);
        IS_TRACED.set(true);
    }
}

/// The innermost function that is neither the standard library's nor this program's.
fn place_of(trace: &str) -> String {
    const PASSED_OVER: [&str; 8] =
        ["std::", "core::", "alloc::", "<alloc", "<core", "count_allocations", "__rust", "note"];
    let names = trace.lines().filter_map(|line| line.trim().split_once(": ").map(|(_, name)| name));
    let mut ours = names.filter(|name| !PASSED_OVER.iter().any(|start| name.contains(start)));
    ours.next().unwrap_or("unknown").to_owned()
}

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size);
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `pointer` came from `alloc` or `realloc` above with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Confirms in a later turn, as a broker does.
#[derive(Clone)]
struct ConfirmsAll;

impl EventLog for ConfirmsAll {
    async fn append(&self, batch: Batch) -> Result<Appended, AppendError> {
        tokio::task::yield_now().await;
        drop(batch);
        Ok(Appended { partition: Partition::EMBEDDED, base_offset: 0 })
    }
}

fn request(number: usize) -> Vec<u8> {
    format!(
        "GET /visit/events?siteCode=shop&eventType=page&href=https%3A%2F%2Fwww.shop.example%2Fproducts%2F{number}&title=Product%20{number}\
         &keyPages=%5B%5D&referrers=%5B%5D&nonce={number:016X}&visitorCode=visitor{:08}&sdkName=javascript&sdkVersion=4.17.1 HTTP/1.1\r\n\
         Host: data.shop.example\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36\r\n\
         Referer: https://www.shop.example/products/{number}\r\nAccept: */*\r\n\r\n",
        number % 10_000
    )
    .into_bytes()
}

fn round(streams: &mut [TcpStream], number: &mut usize) {
    for stream in &mut *streams {
        *number += 1;
        stream.write_all(&request(*number)).unwrap();
    }
    let mut buffer = [0; 1024];
    for stream in streams {
        let read = stream.read(&mut buffer).unwrap();
        assert!(buffer[..read].starts_with(b"HTTP/1.1 204"), "{}", String::from_utf8_lossy(&buffer[..read]));
    }
}

/// Runs something on the worker's thread and gives what it says.
fn on_worker<T: Send + 'static>(workers: &Workers, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (said, heard): (Sender<T>, _) = channel();
    workers.spawn_on(0, async move { said.send(work()).unwrap() });
    heard.recv().unwrap()
}

#[tokio::main(flavor = "multi_thread", worker_threads = 1)]
async fn main() {
    let site = Site::new(SiteCode::parse("shop").unwrap());
    let key = AddressKey::of(&Secret::new("bench"));
    let sites = SiteDirectory::of([site]);
    let ingest = Ingest::new(ConfirmsAll, sites, Settings::default(), key, wall_clock(), Health::new());
    let mut workers = Workers::start(1, HttpLimits::default()).unwrap();
    let sockets = Sockets::bind("127.0.0.1:0".parse().unwrap(), "bench", 1, Sharing::Alone).unwrap();
    let address = sockets.local_addr().unwrap();
    let stop = Stop::new();
    workers.serve(sockets, None, &Arc::new(ingest), &stop).unwrap();
    let counted = tokio::task::spawn_blocking(move || {
        let connect = |_| TcpStream::connect(address).unwrap();
        let mut streams: Vec<_> = (0..CONNECTIONS).map(connect).collect();
        let mut number = 0;
        (0..WARM_ROUNDS).for_each(|_| round(&mut streams, &mut number));
        let (count, bytes) = on_worker(&workers, || (COUNT.get(), BYTES.get()));
        (0..ROUNDS).for_each(|_| round(&mut streams, &mut number));
        let (count_then, bytes_then) = on_worker(&workers, || (COUNT.get(), BYTES.get()));
        on_worker(&workers, || IS_TRACED.set(true));
        (0..TRACED_ROUNDS).for_each(|_| round(&mut streams, &mut number));
        let places = on_worker(&workers, || {
            IS_TRACED.set(false);
            PLACES.with_borrow_mut(std::mem::take)
        });
        drop(workers);
        (count_then - count, bytes_then - bytes, places)
    });
    let (count, bytes, places) = counted.await.unwrap();
    stop.stop();
    #[expect(clippy::cast_precision_loss, reason = "counts of a run stay far below 2^52")]
    let per_beacon = |total: u64, rounds: usize| total as f64 / (rounds * CONNECTIONS) as f64;
    println!("allocations per beacon: {:.3}", per_beacon(count, ROUNDS));
    println!("bytes allocated per beacon: {:.0}", per_beacon(bytes, ROUNDS));
    let mut places: Vec<_> = places.into_iter().collect();
    places.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    for (place, count) in places {
        println!("{:8.3}  {place}", per_beacon(count, TRACED_ROUNDS));
    }
}
