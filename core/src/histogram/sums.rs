//! Sums and means of many: of a group's series at one time, or of one series' samples in a window.

use std::sync::Arc;

use super::arithmetic::Said;
use super::float::Float;
use super::view::View;
use super::{Hint, Histogram};

/// A sum or a mean, with what is to be said of it.
pub struct Summed {
    pub histogram: Arc<Histogram>,
    /// Both a reset and none were among the hints.
    pub collision: bool,
    pub reconciled: bool,
    /// The place of the one that cannot be added, where there is one; what comes after it was not looked at.
    pub incompatible: Option<usize>,
}

/// Where sums are made, one after the other.
#[derive(Default)]
pub struct Summer {
    sum: Float,
    next: Float,
}

impl Summer {
    /// The sum of these, of which there is at least one.
    pub fn total(&mut self, of: &[&Arc<Histogram>]) -> Summed {
        let [first, others @ ..] = of else { return self.nothing() };
        if others.is_empty() {
            return alone(first);
        }
        self.sum.load(View::from(&***first), true);
        let mut seen = Seen::default();
        seen.hint(first.hint);
        for (place, other) in (1..).zip(others) {
            seen.hint(other.hint);
            match self.sum.add(View::from(&***other)) {
                Ok(said) => seen.said(said),
                Err(_) => return seen.end(Arc::clone(first), Some(place)),
            }
        }
        self.sum.settle();
        seen.end(Arc::new(self.sum.histogram()), None)
    }

    /// The mean of these, of which there is at least one. Once their sum would overflow, the mean is carried on instead.
    pub fn mean(&mut self, of: &[&Arc<Histogram>]) -> Summed {
        let [first, others @ ..] = of else { return self.nothing() };
        if others.is_empty() {
            return alone(first);
        }
        self.sum.load(View::from(&***first), true);
        let mut seen = Seen::default();
        seen.hint(first.hint);
        let mut carried = false;
        for (place, other) in (1..).zip(others) {
            seen.hint(other.hint);
            let count = (place + 1) as f64;
            if !carried {
                self.next.copy(&self.sum);
                match self.next.add(View::from(&***other)) {
                    Ok(said) => seen.said(said),
                    Err(_) => return seen.end(Arc::clone(first), Some(place)),
                }
                if !self.next.overflows() {
                    std::mem::swap(&mut self.sum, &mut self.next);
                    continue;
                }
                carried = true;
                self.sum.divide(count - 1.0);
            }
            self.sum.scale((count - 1.0) / count);
            self.next.load(View::from(&***other), false);
            self.next.divide(count);
            match self.sum.add(self.next.view()) {
                Ok(said) => seen.said(said),
                Err(_) => return seen.end(Arc::clone(first), Some(place)),
            }
        }
        if !carried {
            self.sum.divide(of.len() as f64);
        }
        self.sum.settle();
        seen.end(Arc::new(self.sum.histogram()), None)
    }

    fn nothing(&self) -> Summed {
        Seen::default().end(Arc::new(Float::default().histogram()), None)
    }
}

/// The only one is the sum.
fn alone(one: &Arc<Histogram>) -> Summed {
    Seen::default().end(Arc::clone(one), None)
}

#[derive(Default)]
struct Seen {
    reset: bool,
    not_reset: bool,
    reconciled: bool,
}

impl Seen {
    fn hint(&mut self, hint: Hint) {
        self.reset |= hint == Hint::Reset;
        self.not_reset |= hint == Hint::NotReset;
    }

    fn said(&mut self, said: Said) {
        self.reconciled |= said.reconciled;
    }

    fn end(self, histogram: Arc<Histogram>, incompatible: Option<usize>) -> Summed {
        Summed { histogram, collision: self.reset && self.not_reset, reconciled: self.reconciled, incompatible }
    }
}
