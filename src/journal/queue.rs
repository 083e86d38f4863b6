//! The queue in front of the writer: bounded, and fair.
//!
//! Each organization has a lane; lanes take turns. A lane may hold a quarter of the queue
//! at most, so that a flood from one organization neither starves nor shuts out another.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

/// How a queue is bounded.
#[derive(Debug, Clone, Copy)]
pub struct QueueLimits {
    /// The most that wait in all lanes together.
    pub capacity: usize,
}

impl QueueLimits {
    /// The most that wait in one lane.
    pub fn lane_capacity(&self) -> usize {
        (self.capacity / 4).max(1)
    }
}

/// Why something could not be queued: there is too much before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// The queue has ended: nothing comes in any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closed;

/// A bounded queue of lanes that take turns.
#[derive(Debug)]
pub struct FairQueue<T> {
    limits: QueueLimits,
    lanes: Mutex<Lanes<T>>,
    arrived: Notify,
}

#[derive(Debug)]
struct Lanes<T> {
    /// What waits, by lane; a lane without anything is not there.
    waiting: HashMap<String, VecDeque<T>>,
    /// The lanes in the order of their turns; each that waits, once.
    turns: VecDeque<String>,
    length: usize,
    closed: bool,
}

impl<T> FairQueue<T> {
    /// An empty queue.
    pub fn new(limits: QueueLimits) -> Self {
        Self {
            limits,
            lanes: Mutex::new(Lanes {
                waiting: HashMap::new(),
                turns: VecDeque::new(),
                length: 0,
                closed: false,
            }),
            arrived: Notify::new(),
        }
    }

    /// Puts something at the end of its lane.
    ///
    /// # Errors
    /// [`Full`] when the queue or the lane is; also after [`FairQueue::close`].
    pub fn push(&self, lane: &str, item: T) -> Result<(), Full> {
        let mut lanes = self.lock();
        let in_lane = lanes.waiting.get(lane).map_or(0, VecDeque::len);
        if lanes.closed
            || lanes.length >= self.limits.capacity
            || in_lane >= self.limits.lane_capacity()
        {
            return Err(Full);
        }
        if in_lane == 0 {
            lanes.turns.push_back(lane.to_owned());
        }
        lanes
            .waiting
            .entry(lane.to_owned())
            .or_default()
            .push_back(item);
        lanes.length += 1;
        drop(lanes);
        self.arrived.notify_one();
        Ok(())
    }

    /// Waits until there is something, and takes up to `most` of it: one of each lane in
    /// turn, in order within a lane.
    ///
    /// # Errors
    /// [`Closed`] when the queue was closed and everything in it has been taken.
    pub async fn take(&self, most: usize) -> Result<Vec<T>, Closed> {
        loop {
            let arrived = self.arrived.notified();
            {
                let mut lanes = self.lock();
                if lanes.length > 0 {
                    return Ok(lanes.take(most));
                }
                if lanes.closed {
                    return Err(Closed);
                }
            }
            arrived.await;
        }
    }

    /// Lets nothing in any more; what waits can still be taken.
    pub fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_one();
    }

    /// How many wait.
    pub fn length(&self) -> usize {
        self.lock().length
    }

    fn lock(&self) -> MutexGuard<'_, Lanes<T>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Lanes<T> {
    fn take(&mut self, most: usize) -> Vec<T> {
        let mut taken = Vec::with_capacity(most.min(self.length));
        while taken.len() < most {
            let Some(lane) = self.turns.pop_front() else {
                break;
            };
            let Some(waiting) = self.waiting.get_mut(&lane) else {
                continue;
            };
            taken.extend(waiting.pop_front());
            if waiting.is_empty() {
                self.waiting.remove(&lane);
            } else {
                self.turns.push_back(lane);
            }
        }
        self.length -= taken.len();
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lanes_take_turns_and_keep_their_order() {
        let queue = FairQueue::new(QueueLimits { capacity: 40 });
        for number in 0..6 {
            queue.push("flood", ("flood", number)).unwrap();
        }
        queue.push("quiet", ("quiet", 0)).unwrap();
        assert_eq!(
            queue.take(3).await.unwrap(),
            [("flood", 0), ("quiet", 0), ("flood", 1)]
        );
        assert_eq!(queue.take(9).await.unwrap().len(), 4);
    }

    #[tokio::test]
    async fn a_flood_fills_its_own_lane_only() {
        let queue = FairQueue::new(QueueLimits { capacity: 8 });
        assert_eq!(queue.push("flood", 1), Ok(()));
        assert_eq!(queue.push("flood", 2), Ok(()));
        assert_eq!(queue.push("flood", 3), Err(Full));
        assert_eq!(queue.push("quiet", 4), Ok(()));
        for lane in ["a", "b", "c", "d", "e"] {
            assert_eq!(queue.push(lane, 5), Ok(()));
        }
        assert_eq!(queue.push("late", 6), Err(Full));
    }

    #[tokio::test]
    async fn what_waits_is_taken_after_closing_and_then_nothing() {
        let queue = FairQueue::new(QueueLimits { capacity: 8 });
        queue.push("lane", 1).unwrap();
        queue.close();
        assert_eq!(queue.push("lane", 2), Err(Full));
        assert_eq!(queue.take(5).await, Ok(vec![1]));
        assert_eq!(queue.take(5).await, Err(Closed));
    }
}
