//! A histogram as text: what `count_values` makes a label's value of.

use std::fmt::{Display, Formatter, Result};

use super::view::View;

/// A number as Prometheus prints one here: its shortest form, with an exponent if that is small or large.
pub struct General(pub f64);

impl Display for General {
    fn fmt(&self, out: &mut Formatter<'_>) -> Result {
        let value = self.0;
        if value.is_nan() {
            return out.write_str("NaN");
        }
        if value.is_infinite() {
            return out.write_str(if value > 0.0 { "+Inf" } else { "-Inf" });
        }
        let text = format!("{value:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let exponent: i32 = exponent.parse().unwrap_or(0);
        if value == 0.0 || (-4..6).contains(&exponent) {
            return write!(out, "{value}");
        }
        let sign = if exponent < 0 { '-' } else { '+' };
        write!(out, "{digits}e{sign}{:02}", exponent.abs())
    }
}

impl Display for View<'_> {
    fn fmt(&self, out: &mut Formatter<'_>) -> Result {
        write!(out, "{{count:{}, sum:{}", General(self.count), General(self.sum))?;
        let zero = (self.zero != 0.0 && !self.is_custom()).then(|| self.zero_bucket());
        let side = |side: super::view::Side, negative: bool| {
            let mut side: Vec<_> = side.iter().filter(|b| b.1 != 0.0).map(|(i, c)| self.raw_bucket(i, c, negative)).collect();
            if negative {
                side.reverse();
            }
            side
        };
        for bucket in side(self.negative, true).into_iter().chain(zero).chain(side(self.positive, false)) {
            let open = if bucket.lower_inclusive { '[' } else { '(' };
            let close = if bucket.upper_inclusive { ']' } else { ')' };
            let (lower, upper, count) = (General(bucket.lower), General(bucket.upper), General(bucket.count));
            write!(out, ", {open}{lower},{upper}{close}:{count}")?;
        }
        out.write_str("}")
    }
}
