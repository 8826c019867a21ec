//! Requests under way, each a task of its own; and how they ended, until somebody takes that.
//!
//! Invariant: each that was started is returned once, also when its task failed. Who waits is woken when enough of them have ended,
//! not for each: a turn takes many, and to look at all that a worker waits for takes a part of what a request takes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::model::ids::DestinationId;

/// Those of a worker, of each of which a `T` comes; they end when this is dropped.
#[derive(Debug)]
pub struct Requests<T> {
    tasks: JoinSet<()>,
    over: Arc<Over<T>>,
    under_way: usize,
}

/// One that is over.
#[derive(Debug)]
pub struct Finished<T> {
    /// To whom it went.
    pub destination: DestinationId,
    /// When it ended.
    pub at: Instant,
    /// What came of it; none if its task failed.
    pub ended: Option<T>,
}

#[derive(Debug)]
struct Over<T> {
    list: Mutex<List<T>>,
    bell: Notify,
}

#[derive(Debug)]
struct List<T> {
    finished: Vec<Finished<T>>,
    /// The bell rings when there are so many.
    enough: usize,
}

impl<T> Over<T> {
    fn list(&self) -> MutexGuard<'_, List<T>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, finished: Finished<T>) {
        let mut list = self.list();
        list.finished.push(finished);
        if list.finished.len() == list.enough {
            self.bell.notify_one();
        }
    }
}

/// Says that a request is over, whatever happens to its task.
struct Report<T> {
    over: Arc<Over<T>>,
    destination: DestinationId,
    ended: Option<T>,
}

impl<T> Report<T> {
    async fn on(mut self, request: impl Future<Output = T>) {
        self.ended = Some(request.await);
    }
}

impl<T> Drop for Report<T> {
    fn drop(&mut self) {
        let (destination, at, ended) = (self.destination, Instant::now(), self.ended.take());
        self.over.add(Finished { destination, at, ended });
    }
}

impl<T: Send + 'static> Requests<T> {
    /// None yet.
    pub fn new() -> Self {
        let list = Mutex::new(List { finished: Vec::new(), enough: 1 });
        Self { tasks: JoinSet::new(), over: Arc::new(Over { list, bell: Notify::new() }), under_way: 0 }
    }

    /// How many were started and not taken.
    pub fn len(&self) -> usize {
        self.under_way
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.under_way == 0
    }

    /// Starts one.
    pub fn start(&mut self, destination: DestinationId, request: impl Future<Output = T> + Send + 'static) {
        self.under_way += 1;
        let report = Report { over: Arc::clone(&self.over), destination, ended: None };
        self.tasks.spawn(report.on(request));
    }

    /// Takes those that are over.
    pub fn take_finished(&mut self) -> Vec<Finished<T>> {
        let finished = std::mem::take(&mut self.over.list().finished);
        self.under_way -= finished.len();
        while let Some(task) = self.tasks.try_join_next() {
            if let Err(error) = task {
                tracing::error!(%error, "a request's task failed");
            }
        }
        finished
    }

    /// Waits until at least so many are over and not taken; cancel safe.
    pub async fn wait_for(&self, enough: usize) {
        loop {
            {
                let mut list = self.over.list();
                if list.finished.len() >= enough {
                    return;
                }
                list.enough = enough;
            }
            self.over.bell.notified().await;
        }
    }
}

impl<T: Send + 'static> Default for Requests<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn who_waits_for_three_is_woken_by_the_third_and_takes_all() {
        let mut requests = Requests::new();
        let (answers, waiting): (Vec<_>, Vec<_>) = (0..4).map(|_| oneshot::channel::<u8>()).unzip();
        for answer in waiting {
            requests.start(DestinationId::new(), async move { answer.await.unwrap() });
        }
        for (number, answer) in (1..=3_u8).zip(answers.into_iter().rev()) {
            assert!(requests.wait_for(3).now_or_never().is_none());
            answer.send(number).unwrap();
            requests.wait_for(number.into()).await;
        }
        requests.wait_for(3).await;
        let numbers = requests.take_finished().into_iter().map(|finished| finished.ended);
        assert_eq!(numbers.collect::<Vec<_>>(), [Some(1), Some(2), Some(3)]);
        assert_eq!(requests.len(), 1);
        assert!(requests.wait_for(1).now_or_never().is_none());
    }

    #[tokio::test]
    async fn one_whose_task_fails_is_over_too_and_says_where_it_went() {
        let mut requests = Requests::<()>::new();
        let destination = DestinationId::new();
        requests.start(destination, async { panic!("a bug") });
        requests.wait_for(1).await;
        let finished = requests.take_finished();
        assert_eq!(finished.len(), 1);
        assert_eq!((finished[0].destination, finished[0].ended), (destination, None));
        assert!(requests.is_empty());
    }
}
