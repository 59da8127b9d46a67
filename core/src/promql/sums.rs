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

/// The same without a branch for each term, which is faster; where it is not finite it is not to be used.
fn quick(values: &[f64]) -> Sum {
    let mut sum = Sum::default();
    for term in values {
        let after = sum.total + term;
        let taken = after - sum.total;
        sum.lost += (sum.total - (after - taken)) + (term - taken);
        sum.total = after;
    }
    sum
}

/// The sum of a window.
pub fn sum_of(values: &[f64]) -> f64 {
    let sum = quick(values);
    if sum.total.is_finite() && sum.lost.is_finite() {
        return sum.total + sum.lost;
    }
    let mut sum = Sum::default();
    values.iter().for_each(|value| sum.add(*value));
    sum.result()
}

/// The mean of a window.
pub fn mean_of(values: &[f64]) -> f64 {
    let (sum, count) = (quick(values), values.len() as f64);
    if sum.total.is_finite() && sum.lost.is_finite() {
        return sum.total / count + sum.lost / count;
    }
    mean(values.iter().copied())
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
