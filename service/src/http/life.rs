//! What each connection is doing, and who ends it.
//!
//! Connections have no timers of their own: one [`Watch`] per accept loop looks at
//! all of them a few times a second and wakes those whose time is over. So a request
//! costs some stores to memory of its own core, and no clock, timer or lock. What
//! must stay true: nothing here waits, and the lock is taken once when a
//! connection begins, once when it ends, and by the look.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Context;
use std::time::{Duration, Instant};

use futures_util::task::AtomicWaker;

use super::HttpLimits;
use super::framing::Framing;
use super::gate::Load;
use super::plain::Date;
use crate::stop::Stop;

/// A connection that was told to close and has no request is dropped after this.
const CLOSE_GRACE: Duration = Duration::from_secs(1);
/// A connection without a request for so long gives its buffers back, where there is no short
/// way to get back to. Longer than the pause between two requests of a busy client.
const PARK_AFTER: Duration = Duration::from_secs(2);
/// The bounds of the time between two looks; an eighth of the shortest timeout lies between.
const LOOK_MIN: Duration = Duration::from_millis(10);
const LOOK_MAX: Duration = Duration::from_millis(250);

/// What a connection is told to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    GoOn,
    /// Finish what is in flight, take nothing new.
    Close,
    /// End now.
    Drop,
    /// Give buffers back until something comes.
    Park,
}

impl Order {
    fn of(number: u8) -> Self {
        match number {
            0 => Self::GoOn,
            1 => Self::Close,
            3 => Self::Park,
            _ => Self::Drop,
        }
    }
}

/// Looks after all connections of one accept loop.
#[derive(Debug)]
pub(super) struct Watch {
    limits: Arc<HttpLimits>,
    park_after: Duration,
    started: Instant,
    /// Milliseconds since `started`, as of the last look; never 0.
    now_ms: AtomicU64,
    /// When the stop was seen; 0 before.
    stopped_ms: AtomicU64,
    date: Date,
    load: Arc<Load>,
    connections: Mutex<Slots>,
}

#[derive(Debug, Default)]
struct Slots {
    slots: Vec<Option<Arc<Activity>>>,
    free: Vec<usize>,
}

impl Watch {
    /// `has_short_way`: connections get back to it at the second quiet look.
    pub(super) fn new(limits: Arc<HttpLimits>, load: Arc<Load>, has_short_way: bool) -> Arc<Self> {
        Arc::new(Self {
            limits,
            park_after: if has_short_way { Duration::ZERO } else { PARK_AFTER },
            started: Instant::now(),
            now_ms: AtomicU64::new(1),
            stopped_ms: AtomicU64::new(0),
            date: Date::new(),
            load,
            connections: Mutex::default(),
        })
    }

    /// Looks until it is dropped; at a stop at once.
    pub(super) async fn run(self: Arc<Self>, stop: Stop) {
        let limits = &self.limits;
        let shortest = limits.header_timeout.min(limits.idle_timeout).min(limits.close_grace);
        let pause = (shortest / 8).clamp(LOOK_MIN, LOOK_MAX);
        loop {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.stopped(), if self.stopped_ms.load(Relaxed) == 0 => {
                    self.stopped_ms.store(self.clock(), Relaxed);
                }
            }
            self.look();
        }
    }

    /// Whether answers must say that they are the last of their connection.
    pub(super) fn is_stopping(&self) -> bool {
        self.stopped_ms.load(Relaxed) != 0
    }

    pub(super) fn limits(&self) -> &HttpLimits {
        &self.limits
    }

    /// A request goes past the HTTP library.
    pub(super) fn took_short(&self) {
        self.load.took_short();
    }

    /// A request goes through it.
    pub(super) fn took_long(&self) {
        self.load.took_long();
    }

    pub(super) fn date(&self) -> &Date {
        &self.date
    }

    fn clock(&self) -> u64 {
        millis(self.started.elapsed()) + 1
    }

    fn look(&self) {
        let now = self.clock();
        self.now_ms.store(now, Relaxed);
        self.date.renew();
        self.load.show();
        let connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        for activity in connections.slots.iter().flatten() {
            activity.look(self, now);
        }
    }

    /// A new connection.
    pub(super) fn begin(self: &Arc<Self>) -> Watched {
        let now = self.now_ms.load(Relaxed);
        let activity = Arc::new(Activity {
            watch: Arc::clone(self),
            order: AtomicU8::new(Order::GoOn as u8),
            waker: AtomicWaker::new(),
            in_flight: AtomicU32::new(0),
            served_any: AtomicBool::new(false),
            is_http2: AtomicBool::new(false),
            is_writing: AtomicBool::new(false),
            was_quiet: AtomicBool::new(false),
            since_ms: AtomicU64::new(now),
            head_since_ms: AtomicU64::new(0),
            framing: Framing::default(),
        });
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = connections.free.pop().unwrap_or(connections.slots.len());
        if slot == connections.slots.len() {
            connections.slots.push(None);
        }
        connections.slots[slot] = Some(Arc::clone(&activity));
        Watched { activity, slot }
    }
}

/// A connection that is looked after as long as this lives.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) activity: Arc<Activity>,
    slot: usize,
}

impl Drop for Watched {
    fn drop(&mut self) {
        let mut connections = self.activity.watch.connections.lock().unwrap_or_else(PoisonError::into_inner);
        connections.slots[self.slot] = None;
        connections.free.push(self.slot);
    }
}

/// Shared by a connection's task, the requests on it and the watch.
#[derive(Debug)]
// One cache line: with thousands of busy connections each line of theirs is fetched anew.
#[repr(align(64))]
pub(super) struct Activity {
    watch: Arc<Watch>,
    order: AtomicU8,
    waker: AtomicWaker,
    in_flight: AtomicU32,
    served_any: AtomicBool,
    is_http2: AtomicBool,
    /// The peer's window is full.
    is_writing: AtomicBool,
    /// At the last look, and nothing was asked since.
    was_quiet: AtomicBool,
    /// When the last request ended, the connection began, or the order to close was given.
    since_ms: AtomicU64,
    /// When the first byte of an unfinished HTTP/1 head came; 0: there is none.
    head_since_ms: AtomicU64,
    pub(super) framing: Framing,
}

const _: () = assert!(size_of::<Activity>() == 64);

impl Activity {
    /// The task that obeys. To be called before each [`Self::order`]: a wake uses the waker up.
    fn listen(&self, cx: &Context<'_>) {
        self.waker.register(cx.waker());
    }

    fn order(&self) -> Order {
        Order::of(self.order.load(Relaxed))
    }

    /// Whether nothing is asked, being asked or being answered.
    pub(super) fn is_quiet(&self) -> bool {
        let is_idle = self.in_flight.load(Relaxed) == 0 && !self.is_writing.load(Relaxed);
        is_idle && self.head_since_ms.load(Relaxed) == 0
    }

    /// Takes back the order to park, if it is that.
    pub(super) fn unpark(&self) {
        let (park, go_on) = (Order::Park as u8, Order::GoOn as u8);
        self.order.compare_exchange(park, go_on, Relaxed, Relaxed).ok();
    }

    fn park(&self) {
        self.order.store(Order::Park as u8, Relaxed);
        self.waker.wake();
    }

    pub(super) fn watch(&self) -> &Watch {
        &self.watch
    }

    pub(super) fn is_http2(&self) {
        self.is_http2.store(true, Relaxed);
        self.head_since_ms.store(0, Relaxed);
    }

    /// Bytes came in.
    pub(super) fn received(&self, bytes: &[u8]) {
        if self.in_flight.load(Relaxed) == 0 && !self.is_http2.load(Relaxed) && !bytes.is_empty() {
            let is_first = self.head_since_ms.load(Relaxed) == 0;
            if is_first {
                self.head_since_ms.store(self.watch.now_ms.load(Relaxed), Relaxed);
            }
            self.framing.received(bytes, is_first);
        }
    }

    /// Whether the peer's window is full; called with every write.
    pub(super) fn wrote(&self, is_pending: bool) {
        if self.is_writing.load(Relaxed) != is_pending {
            self.is_writing.store(is_pending, Relaxed);
        }
    }

    /// A request begins; `None` if there are too many.
    pub(super) fn begin(&self) -> Option<InFlight<'_>> {
        self.head_since_ms.store(0, Relaxed);
        self.served_any.store(true, Relaxed);
        self.was_quiet.store(false, Relaxed);
        self.in_flight.fetch_add(1, Relaxed);
        let is_admitted = self.watch.load.begin();
        let in_flight = InFlight(self);
        is_admitted.then_some(in_flight)
    }

    fn end(&self) {
        self.since_ms.store(self.watch.now_ms.load(Relaxed), Relaxed);
        self.in_flight.fetch_sub(1, Relaxed);
        self.watch.load.end();
    }

    fn give(&self, order: Order, now: u64) {
        self.since_ms.store(now, Relaxed);
        self.order.store(order as u8, Relaxed);
        self.waker.wake();
    }

    fn look(&self, watch: &Watch, now: u64) {
        let limits = &*watch.limits;
        let is_over = |since: u64, limit: Duration| now.saturating_sub(since) > millis(limit);
        let is_idle = self.in_flight.load(Relaxed) == 0 && !self.is_writing.load(Relaxed);
        let since = self.since_ms.load(Relaxed);
        match self.order() {
            Order::Drop => {}
            Order::Close if !is_idle => self.since_ms.store(now, Relaxed),
            Order::Close if is_over(since, CLOSE_GRACE) => self.give(Order::Drop, now),
            Order::Close => {}
            order @ (Order::GoOn | Order::Park) => {
                let is_http2 = self.is_http2.load(Relaxed);
                let head = self.head_since_ms.load(Relaxed);
                let stopped = watch.stopped_ms.load(Relaxed);
                let is_new = !self.served_any.load(Relaxed);
                if is_idle && !is_http2 && (is_new || head != 0) {
                    let from = if is_new { since } else { head };
                    if is_over(from, limits.header_timeout) {
                        return self.give(Order::Drop, now);
                    }
                }
                let limit = if is_new { limits.header_timeout } else { limits.idle_timeout };
                if is_idle && is_over(since, limit)
                    // The protocol itself says which requests are still answered.
                    || stopped != 0 && (is_http2 || is_over(stopped, limits.close_grace))
                {
                    self.give(Order::Close, now);
                } else if order == Order::GoOn
                    && !is_http2
                    && !is_new
                    && self.is_quiet()
                    && is_over(since, watch.park_after)
                    // An answer may be written and the rest of its request still be coming, which
                    // only the HTTP library knows, and ends. It was asked since the last look.
                    && self.was_quiet.swap(true, Relaxed)
                {
                    self.park();
                }
            }
        }
    }
}

/// The orders of the watch, as the connection's task hears them.
pub(super) struct Orders<'a> {
    activity: &'a Activity,
    obeyed: Order,
}

impl<'a> Orders<'a> {
    pub(super) fn new(activity: &'a Activity) -> Self {
        Self { activity, obeyed: Order::GoOn }
    }

    /// An order that is new, else to go on.
    pub(super) fn next(&mut self, cx: &Context<'_>) -> Order {
        self.activity.listen(cx);
        let order = self.activity.order();
        if order == self.obeyed {
            return Order::GoOn;
        }
        self.obeyed = order;
        order
    }
}

/// One request in flight.
#[derive(Debug)]
pub(super) struct InFlight<'a>(&'a Activity);

impl InFlight<'_> {
    /// For a body that goes on when the request's future has ended.
    pub(super) fn stream(self, activity: &Arc<Activity>) -> Streaming {
        activity.watch.load.begin_stream();
        Streaming(self.keep(activity))
    }

    /// For a request whose future borrows nothing.
    pub(super) fn keep(self, activity: &Arc<Activity>) -> Kept {
        std::mem::forget(self);
        Kept(Arc::clone(activity))
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// The same, without a borrow.
#[derive(Debug)]
pub(super) struct Kept(Arc<Activity>);

impl Drop for Kept {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// One request in flight whose answer is a stream.
#[derive(Debug)]
pub(super) struct Streaming(Kept);

impl Drop for Streaming {
    fn drop(&mut self) {
        self.0.0.watch.load.end_stream();
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
