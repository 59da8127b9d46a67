//! When targets are scraped: each has its place on a grid as wide as its interval, the same in every process.

use crate::labels::Labels;

/// FNV-1a: equal in every version and process, so that a target keeps its place.
pub fn spread(url: &str, labels: &Labels) -> u64 {
    let pairs = labels.iter().flat_map(|(name, value)| [name.as_bytes(), value.as_bytes()]);
    let bytes = std::iter::once(url.as_bytes()).chain(pairs).flat_map(|part| part.iter().chain(&[0xff]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

/// The first time after `after_ms` on a grid of this width and shift.
pub(super) fn next_on_grid(after_ms: i64, width_ms: i64, spread: u64) -> i64 {
    let shift = (spread % width_ms as u64) as i64;
    (after_ms - shift).div_euclid(width_ms) * width_ms + shift + width_ms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grid_is_as_wide_as_the_interval_and_shifted() {
        let check = |after: i64, width: i64, spread: u64, want: i64| assert_eq!(next_on_grid(after, width, spread), want);
        check(0, 10, 3, 3);
        check(3, 10, 3, 13);
        check(2, 10, 13, 3);
        check(1_000_000, 15_000, 7, 1_005_007);
        for after in 0..50 {
            let next = next_on_grid(after, 7, 25);
            assert!(next > after && next <= after + 7 && next % 7 == 4);
        }
    }

    #[test]
    fn the_spread_of_a_target_never_changes() {
        let labels = Labels::from_pairs(vec![("job".into(), "a".into())]);
        assert_eq!(spread("http://a/metrics", &labels), spread("http://a/metrics", &labels));
        assert_ne!(spread("http://a/metrics", &labels), spread("http://b/metrics", &labels));
        assert_eq!(spread("", &Labels::empty()) % 1000, (0xcbf2_9ce4_8422_2325u64 ^ 0xff).wrapping_mul(0x100_0000_01b3) % 1000);
    }
}
