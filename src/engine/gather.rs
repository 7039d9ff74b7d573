//! What comes while one commit is in flight leaves together with the next. Where much comes, the next waits a moment for more: a
//! statement costs the same for one row as for thirty. Where little comes, nothing waits.

use std::time::Duration;

use tokio::{
    sync::mpsc::{Receiver, UnboundedReceiver},
    time::Instant,
};

/// From groups of that size on, the next is worth a moment.
const MUCH: usize = 6;
const MOMENT: Duration = Duration::from_millis(2);

/// A queue that is emptied in groups.
pub(super) trait Source<T> {
    /// Adds what is there, or waits for it; nothing comes any more: zero.
    fn take(&mut self, into: &mut Vec<T>, at_most: usize) -> impl Future<Output = usize> + Send;
}

impl<T: Send> Source<T> for Receiver<T> {
    async fn take(&mut self, into: &mut Vec<T>, at_most: usize) -> usize {
        self.recv_many(into, at_most).await
    }
}

impl<T: Send> Source<T> for UnboundedReceiver<T> {
    async fn take(&mut self, into: &mut Vec<T>, at_most: usize) -> usize {
        self.recv_many(into, at_most).await
    }
}

/// Groups of a queue.
#[derive(Debug)]
pub(super) struct Groups<S> {
    source: S,
    at_most: usize,
    last: usize,
}

impl<S> Groups<S> {
    pub(super) const fn new(source: S, at_most: usize) -> Self {
        Self { source, at_most, last: 0 }
    }

    /// The next group; nothing when nothing comes any more.
    pub(super) async fn next<T>(&mut self) -> Option<Vec<T>>
    where
        S: Source<T>,
    {
        let mut group = Vec::with_capacity(self.last.max(8));
        if self.source.take(&mut group, self.at_most).await == 0 {
            return None;
        }
        let expected = self.last.min(self.at_most);
        let until = Instant::now() + MOMENT;
        while self.last >= MUCH && group.len() < expected {
            let left = self.at_most - group.len();
            match tokio::time::timeout_at(until, self.source.take(&mut group, left)).await {
                Ok(1..) => {}
                Ok(0) | Err(_) => break,
            }
        }
        self.last = group.len();
        Some(group)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::mpsc;

    #[tokio::test(start_paused = true)]
    async fn where_little_comes_nothing_waits() {
        let (sender, receiver) = mpsc::channel(64);
        let mut groups = Groups::new(receiver, 64);
        for _ in 0..5 {
            let before = Instant::now();
            assert!(sender.try_send(()).is_ok());
            assert_eq!(groups.next().await, Some(vec![()]));
            assert_eq!(before.elapsed(), Duration::ZERO);
        }
        drop(sender);
        assert_eq!(groups.next().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn where_much_comes_the_next_group_is_waited_for_and_not_for_long() {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut groups = Groups::new(receiver, 64);
        (0..20).for_each(|number| assert!(sender.send(number).is_ok()));
        assert_eq!(groups.next().await.map(|group| group.len()), Some(20));
        let later = sender.clone();
        tokio::spawn(async move {
            for number in 0..20 {
                assert!(later.send(number).is_ok());
                tokio::task::yield_now().await;
            }
        });
        assert!(groups.next().await.is_some_and(|group| group.len() >= 2), "more than the first of them");
        while sender.send(0).is_ok() && groups.next().await.is_some_and(|group: Vec<i32>| group.len() >= MUCH)
        {
        }
        let before = Instant::now();
        assert!(sender.send(0).is_ok());
        assert_eq!(groups.next().await.map(|group| group.len()), Some(1));
        assert!(before.elapsed() <= MOMENT);
    }
}
