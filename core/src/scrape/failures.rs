//! `scrape_failure_log_file`: a line of JSON for each scrape that failed.
//!
//! The file is opened for each line: failures are rare, and whoever rotates it need not tell us.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;

#[derive(Clone)]
pub struct FailureLog {
    path: PathBuf,
    pool: String,
}

impl FailureLog {
    pub fn new(path: PathBuf, pool: &str) -> FailureLog {
        FailureLog { path, pool: pool.to_owned() }
    }

    /// Adds a line. The error says what cannot be written.
    pub fn write(&self, time_ms: i64, target: &str, reason: &str) -> Result<(), String> {
        let line = serde_json::json!({
            "time": rfc3339(time_ms),
            "level": "ERROR",
            "msg": reason,
            "scrape_pool": self.pool,
            "target": target,
        });
        // One write, so that lines of other pools do not come in between.
        let opened = OpenOptions::new().append(true).create(true).open(&self.path);
        let written = opened.and_then(|mut file| file.write_all(format!("{line}\n").as_bytes()));
        written.map_err(|e| format!("cannot write scrape_failure_log_file {}: {e}", self.path.display()))
    }
}

/// The time in UTC, as RFC 3339 writes it.
fn rfc3339(time_ms: i64) -> String {
    let (seconds, millis) = (time_ms.div_euclid(1000), time_ms.rem_euclid(1000));
    let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Days since 0000-03-01, so that a leap day ends its year; 400 years have 146097 days.
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_in_utc() {
        let check = |time_ms: i64, want: &str| assert_eq!(rfc3339(time_ms), want);
        check(0, "1970-01-01T00:00:00.000Z");
        check(951_782_400_001, "2000-02-29T00:00:00.001Z");
        check(1_709_251_199_999, "2024-02-29T23:59:59.999Z");
        check(4_107_542_399_000, "2100-02-28T23:59:59.000Z");
        check(4_107_542_400_000, "2100-03-01T00:00:00.000Z");
    }
}
