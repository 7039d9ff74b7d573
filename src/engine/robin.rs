//! Deficit round robin: everyone in turn, each as much as the others over time, whatever their jobs cost. Pure.

use std::collections::VecDeque;

/// Who takes turns. What a turn is worth is the same for all.
#[derive(Debug)]
pub(super) struct Robin<K> {
    turns: VecDeque<Turn<K>>,
    quantum: u32,
    /// The front has not been given its quantum in this round.
    fresh: bool,
}

#[derive(Debug)]
struct Turn<K> {
    key: K,
    credit: u32,
}

impl<K: Copy + Eq> Robin<K> {
    /// Nobody yet; each turn is worth `quantum`, which must be at least what one job costs at most.
    pub(super) const fn new(quantum: u32) -> Self {
        Self { turns: VecDeque::new(), quantum, fresh: true }
    }

    /// `key` takes turns from now on, after all others.
    pub(super) fn enter(&mut self, key: K) {
        if !self.turns.iter().any(|turn| turn.key == key) {
            self.turns.push_back(Turn { key, credit: 0 });
        }
    }

    /// Only those that `stays` holds for take turns from now on.
    pub(super) fn retain(&mut self, stays: impl Fn(K) -> bool) {
        let front = self.turns.front().map(|turn| turn.key);
        self.turns.retain(|turn| stays(turn.key));
        self.fresh |= self.turns.front().map(|turn| turn.key) != front;
    }

    /// Whose turn it is. `cost` says what the next job of a key costs, at least 1; nothing where it has none now.
    pub(super) fn pick(&mut self, mut cost: impl FnMut(K) -> Option<u32>) -> Option<K> {
        for _ in 0..=self.turns.len() * 2 {
            let front = self.turns.front_mut()?;
            match cost(front.key) {
                Some(cost) => {
                    if std::mem::take(&mut self.fresh) {
                        front.credit += self.quantum;
                    }
                    if front.credit >= cost {
                        front.credit -= cost;
                        return Some(front.key);
                    }
                }
                // Who has nothing saves nothing up.
                None => front.credit = 0,
            }
            self.turns.rotate_left(1);
            self.fresh = true;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Over any stretch in which all have work, no two shares differ by more than a turn and a job; and nobody starves.
        #[test]
        fn shares_differ_by_a_turn_at_most(
            costs in proptest::collection::vec(1_u32..=2, 2..12), quantum in 2_u32..16, rounds in 50_usize..2000,
        ) {
            let mut robin = Robin::new(quantum);
            (0..costs.len()).for_each(|key| robin.enter(key));
            let mut served = vec![0_u32; costs.len()];
            for _ in 0..rounds {
                let key = robin.pick(|key| Some(costs[key])).expect("all have work");
                served[key] += costs[key];
            }
            let (least, most) = (served.iter().min().copied(), served.iter().max().copied());
            prop_assert!(most.zip(least).is_some_and(|(most, least)| most - least <= quantum + 2), "{served:?}");
        }

        /// Who has work again is served within one round, and gets nothing for the time it had none.
        #[test]
        fn idleness_is_neither_punished_nor_paid(idle in 1_usize..500, quantum in 1_u32..16) {
            let mut robin = Robin::new(quantum);
            (0..3).for_each(|key| robin.enter(key));
            for _ in 0..idle {
                robin.pick(|key| (key != 2).then_some(1));
            }
            let picks: Vec<i32> = (0..60).filter_map(|_| robin.pick(|_| Some(1))).collect();
            let first = picks.iter().position(|key| *key == 2);
            prop_assert!(first.is_some_and(|first| first <= 2 * quantum as usize), "{picks:?}");
            let run = picks.chunk_by(|a, b| a == b).filter(|run| run[0] == 2).map(<[i32]>::len).max();
            prop_assert!(run.is_some_and(|run| run <= quantum as usize));
        }
    }

    #[test]
    fn where_nobody_has_work_nobody_is_picked() {
        let mut robin = Robin::new(4);
        robin.enter('a');
        robin.enter('b');
        assert_eq!(robin.pick(|_| None), None);
        robin.retain(|key| key == 'b');
        assert_eq!(robin.pick(|_| Some(1)), Some('b'));
        robin.retain(|_| false);
        assert_eq!(robin.pick(|_| Some(1)), None);
    }
}
