//! Rows of a group made one: `sum by` and its like.

use super::sums::mean;

/// A matrix of rows that belong to groups.
pub struct Matrix<'a> {
    pub values: &'a [f64],
    pub present: &'a [bool],
    pub steps: usize,
    /// Of each row.
    pub groups: &'a [i64],
    /// How many groups there are.
    pub count: usize,
}

impl Matrix<'_> {
    fn rows(&self) -> impl Iterator<Item = (usize, &[f64], &[bool])> {
        let steps = self.steps.max(1);
        let rows = self.values.chunks_exact(steps).zip(self.present.chunks_exact(steps));
        self.groups.iter().zip(rows).map(|(group, (values, present))| (*group as usize, values, present))
    }

    fn at(&self, group: usize) -> std::ops::Range<usize> {
        group * self.steps..(group + 1) * self.steps
    }

    /// How many rows each cell of each group has.
    fn numbers(&self) -> Vec<u32> {
        let mut numbers = vec![0u32; self.count * self.steps];
        for (group, _, present) in self.rows() {
            for (number, there) in numbers[self.at(group)].iter_mut().zip(present) {
                *number += u32::from(*there);
            }
        }
        numbers
    }

    fn fold(&self, start: f64, better: impl Fn(f64, f64) -> f64) -> Vec<f64> {
        let mut out = vec![start; self.count * self.steps];
        for (group, values, present) in self.rows() {
            for ((out, value), there) in out[self.at(group)].iter_mut().zip(values).zip(present) {
                if *there {
                    *out = better(*out, *value);
                }
            }
        }
        out
    }

    /// Sums, and what rounding took from them.
    fn sums(&self) -> (Vec<f64>, Vec<f64>) {
        let (mut sums, mut lost) = (vec![0.0; self.count * self.steps], vec![0.0; self.count * self.steps]);
        for (group, values, present) in self.rows() {
            let at = self.at(group);
            let cells = sums[at.clone()].iter_mut().zip(&mut lost[at]);
            for (((sum, lost), value), there) in cells.zip(values).zip(present) {
                // Without a branch, so that it is done for several steps at once.
                let term = if *there { *value } else { 0.0 };
                let after = *sum + term;
                let taken = after - *sum;
                *lost += (*sum - (after - taken)) + (term - taken);
                *sum = after;
            }
        }
        (sums, lost)
    }

    fn averages(&self, numbers: &[u32]) -> Vec<f64> {
        let (sums, lost) = self.sums();
        let cells = sums.iter().zip(&lost).zip(numbers).enumerate();
        let average = |(at, ((sum, lost), number)): (usize, ((&f64, &f64), &u32))| {
            let number = f64::from(*number);
            if sum.is_finite() || number == 0.0 {
                return sum / number + lost / number;
            }
            // It may have overflowed on the way.
            let (group, step) = (at / self.steps, at % self.steps);
            mean(self.rows().filter(|(g, _, present)| *g == group && present[step]).map(|(_, values, _)| values[step]))
        };
        cells.map(average).collect()
    }

    /// The operator's values and where there are any; None if it is none of these.
    pub fn aggregate(&self, operator: &str) -> Option<(Vec<f64>, Vec<bool>)> {
        let numbers = self.numbers();
        let values = match operator {
            "count" => numbers.iter().map(|n| f64::from(*n)).collect(),
            "group" => vec![1.0; numbers.len()],
            "max" => self.fold(f64::NAN, f64::max),
            "min" => self.fold(f64::NAN, f64::min),
            "sum" => {
                let (sums, lost) = self.sums();
                sums.iter().zip(lost).map(|(sum, lost)| if sum.is_infinite() { *sum } else { sum + lost }).collect()
            }
            "avg" => self.averages(&numbers),
            _ => return None,
        };
        Some((values, numbers.iter().map(|n| *n > 0).collect()))
    }
}
