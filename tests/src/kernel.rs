//! The kernel that the tests run on.

use crate::skip;

/// Skips the test on a kernel older than this, which has not what it says.
pub fn needs(version: (u32, u32), what: &str) {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    if parse(&release) < version {
        skip!("{what} needs Linux {}.{}, this is {}", version.0, version.1, release.trim());
    }
}

fn parse(release: &str) -> (u32, u32) {
    let mut numbers = release.split(['.', '-']).map(|number| number.trim().parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    #[test]
    fn releases_are_numbers() {
        assert_eq!(super::parse("5.10.0-32-cloud-amd64\n"), (5, 10));
        assert_eq!(super::parse("6.18\n"), (6, 18));
        assert_eq!(super::parse(""), (0, 0));
    }
}
