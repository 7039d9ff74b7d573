//! How fast requests end. Pure: time is passed in.

use tokio::time::{Duration, Instant};

const OVER: Duration = Duration::from_millis(100);

/// How many requests end per second, to know how many slots will come free.
#[derive(Debug, Default)]
pub(super) struct Pace {
    began: Option<Instant>,
    current: u32,
    rate: f64,
}

impl Pace {
    pub(super) fn count(&mut self, now: Instant) {
        self.turn(now);
        self.current += 1;
    }

    pub(super) fn expected(&mut self, now: Instant, within: Duration) -> usize {
        self.turn(now);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a small positive number"
        )]
        let expected = (self.rate * within.as_secs_f64()).ceil() as usize;
        expected
    }

    fn turn(&mut self, now: Instant) {
        let began = *self.began.get_or_insert(now);
        let passed = now.saturating_duration_since(began);
        if passed >= OVER {
            let measured = f64::from(self.current) / passed.as_secs_f64();
            // Half old, half new; after a pause only the new.
            self.rate = if passed < OVER * 5 { f64::midpoint(self.rate, measured) } else { measured };
            (self.began, self.current) = (Some(now), 0);
        }
    }
}
