//! What the user's clock shows: the time zone of `TZ`, else of `/etc/localtime`.

use std::ffi::CStr;
use std::mem::MaybeUninit;

/// The time zone at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone {
    /// Seconds that its clocks are ahead of UTC; negative west of Greenwich.
    pub offset_seconds: i64,
    /// Its abbreviation, as `CET`.
    pub name: String,
}

/// The zone at `seconds` since 1970. `None` where the year is beyond what a clock can show.
pub fn zone_at(seconds: i64) -> Option<Zone> {
    let time = narrowed(seconds)?;
    let mut broken = MaybeUninit::<libc::tm>::uninit();
    // SAFETY: both pointers are to our own locals. What localtime_r reads beside them is the
    // environment, which no program of this workspace changes: `set_var` is unsafe, and forbidden
    // with all unsafe code outside of this crate, where nobody calls it.
    let filled = unsafe { libc::localtime_r(&time, broken.as_mut_ptr()) };
    if filled.is_null() {
        return None;
    }
    // SAFETY: localtime_r did not fail, so it has set every field.
    let broken = unsafe { broken.assume_init() };
    let name = match broken.tm_zone.is_null() {
        true => String::new(),
        // SAFETY: the C library keeps the names of zones as strings until another zone is read,
        // which takes a changed environment (see above); this one is copied here and now.
        false => unsafe { CStr::from_ptr(broken.tm_zone) }.to_string_lossy().into_owned(),
    };
    // A `long`, which has 32 bits elsewhere.
    #[allow(clippy::useless_conversion)]
    let offset_seconds = i64::from(broken.tm_gmtoff);
    Some(Zone { offset_seconds, name })
}

/// As the C library's type for it: 32 bits in some, and musl's is not to be named (its crate warns).
fn narrowed<T: TryFrom<i64>>(seconds: i64) -> Option<T> {
    T::try_from(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_is_within_a_day_of_utc_and_years_have_an_end() {
        let zone = zone_at(1_714_564_800).expect("2024 has a zone");
        assert!(zone.offset_seconds.abs() < 86_400 && !zone.name.is_empty(), "{zone:?}");
        assert_eq!(zone_at(i64::MAX), None);
    }
}
