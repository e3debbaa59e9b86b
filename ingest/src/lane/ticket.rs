//! Waiting for the batch that a request's records are in.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use fanal_storage::log::AppendError;

/// Those who wait for one batch.
#[derive(Default)]
pub(super) struct Group(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    result: Option<Result<(), AppendError>>,
    wakers: Vec<Waker>,
}

impl Group {
    /// Answers everybody. The first answer counts.
    pub(super) fn end(&self, result: Result<(), AppendError>) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.result.get_or_insert(result);
        let wakers = std::mem::take(&mut waiting.wakers);
        drop(waiting);
        for waker in wakers {
            waker.wake();
        }
    }
}

/// Ready when the batch is durable, or when it is known not to be.
pub(crate) struct Ticket {
    group: Arc<Group>,
    /// Where this ticket's waker is.
    slot: Option<usize>,
}

impl Ticket {
    pub(super) fn new(group: Arc<Group>) -> Self {
        Self { group, slot: None }
    }

    /// For a request without a line.
    pub(super) fn ready() -> Self {
        let group = Group::default();
        group.end(Ok(()));
        Self::new(Arc::new(group))
    }
}

impl Future for Ticket {
    type Output = Result<(), AppendError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let mut waiting = this.group.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(result) = &waiting.result {
            return Poll::Ready(result.clone());
        }
        match this.slot.and_then(|slot| waiting.wakers.get_mut(slot)) {
            Some(waker) => waker.clone_from(cx.waker()),
            None => {
                this.slot = Some(waiting.wakers.len());
                waiting.wakers.push(cx.waker().clone());
            }
        }
        Poll::Pending
    }
}
