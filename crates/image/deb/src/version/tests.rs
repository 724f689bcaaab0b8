use std::process::Command;

use proptest::prelude::*;

use super::*;

#[test]
fn orders() {
    // Each is less than the next.
    let rising = [
        "0~~",
        "0~~a",
        "0~",
        "0",
        "0+a",
        "0.1~rc1-1",
        "0.1-0~x",
        "0.1",
        "0.1-1",
        "0.1-1+b1",
        "0.1-1.1",
        "0.1-2",
        "0.1a",
        "0.1.1",
        "0.9",
        "0.10",
        "1.2.3",
        "1:0",
        "1:0.1-1",
        "2:0~1",
        "10:0",
    ];
    for (i, a) in rising.iter().enumerate() {
        for (j, b) in rising.iter().enumerate() {
            assert_eq!(compare(a, b), i.cmp(&j), "{a} against {b}");
        }
    }
    for (a, b) in [("1.0", "1.00"), ("0:1", "1"), ("1-0", "1"), ("01", "1"), ("1.", "1.0")] {
        assert_eq!(compare(a, b), Ordering::Equal, "{a} against {b}");
    }
}

#[test]
fn what_is_no_version() {
    for text in
        ["", "1:", "-1", "1 2", "1/2", "x:1", "-1:1", "1-", "1_2", "99999999999:1", ":1", "1-é"]
    {
        assert!(text.parse::<Version>().is_err(), "{text}");
    }
    for text in ["1", "a", "1:2:3-4", "1-2-3", "2.7~rc1+dfsg-1ubuntu0.1~22.04", "0"] {
        assert!(text.parse::<Version>().is_ok(), "{text}");
    }
}

fn version() -> impl Strategy<Value = String> {
    "([0-2]:)?[0-2][0-2a-b.+~]{0,5}(-[0-2a.+~]{1,3})?"
}

proptest! {
    #[test]
    fn is_an_order(a in version(), b in version(), c in version()) {
        prop_assert_eq!(compare(&a, &b), compare(&b, &a).reverse());
        if compare(&a, &b).is_le() && compare(&b, &c).is_le() {
            prop_assert!(compare(&a, &c).is_le());
        }
    }

    #[test]
    fn nothing_panics(a in ".{0,20}", b in ".{0,20}") {
        compare(&a, &b);
        prop_assert!(a.parse::<Version>().is_err() || !a.contains('/'));
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn orders_as_dpkg_does(a in version(), b in version()) {
        for (relation, want) in [("lt", Ordering::Less), ("eq", Ordering::Equal), ("gt", Ordering::Greater)] {
            let asked = Command::new("dpkg").args(["--compare-versions", &a, relation, &b]).status();
            let Ok(status) = asked else {
                println!("SKIP orders_as_dpkg_does: there is no dpkg");
                return Ok(());
            };
            prop_assert_eq!(status.success(), compare(&a, &b) == want, "{} {} {}", a, relation, b);
        }
    }
}
