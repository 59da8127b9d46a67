//! Sums that keep what rounding loses.

/// A sum and what it has lost so far (Neumaier).
#[derive(Clone, Copy, Default)]
pub struct Sum {
    pub total: f64,
    pub lost: f64,
}

impl Sum {
    pub fn add(&mut self, term: f64) {
        let after = self.total + term;
        if after.is_infinite() {
            self.lost = 0.0;
        } else if self.total.abs() >= term.abs() {
            self.lost += (self.total - after) + term;
        } else {
            self.lost += (term - after) + self.total;
        }
        self.total = after;
    }

    pub fn result(self) -> f64 {
        if self.total.is_infinite() {
            self.total
        } else {
            self.total + self.lost
        }
    }
}

/// The mean of values, of which there is at least one; incremental from where the sum would overflow.
pub fn mean(mut values: impl Iterator<Item = f64>) -> f64 {
    let mut sum = Sum { total: values.next().unwrap_or(f64::NAN), lost: 0.0 };
    let mut count = 1.0;
    let mut average: Option<Sum> = None;
    for value in values {
        count += 1.0;
        let Some(of) = &mut average else {
            let mut next = sum;
            next.add(value);
            if !next.total.is_infinite() {
                sum = next;
                continue;
            }
            let before = count - 1.0;
            let share = before / count;
            let mut of = Sum { total: share * (sum.total / before), lost: share * (sum.lost / before) };
            of.add(value / count);
            average = Some(of);
            continue;
        };
        let share = (count - 1.0) / count;
        *of = Sum { total: share * of.total, lost: share * of.lost };
        of.add(value / count);
    }
    average.map_or(sum.total / count + sum.lost / count, |of| of.total + of.lost)
}
