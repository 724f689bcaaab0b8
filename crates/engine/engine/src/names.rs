//! Names that containers get when nobody names them, and the words a name may consist of.

use std::{fs::File, io::Read as _};

use crate::{Error, Result};

const FEELINGS: &[&str] = &[
    "agile", "amber", "apt", "azure", "bold", "brave", "breezy", "bright", "brisk", "calm",
    "candid", "cheerful", "civil", "clear", "clever", "cobalt", "copper", "cosy", "crisp",
    "curious", "daring", "deft", "eager", "earnest", "fair", "fearless", "fleet", "fond", "frank",
    "fresh", "gentle", "glad", "golden", "grand", "happy", "hardy", "humble", "ivory", "jolly",
    "jovial", "keen", "kind", "lively", "loyal", "lucid", "mellow", "merry", "mild", "neat",
    "nimble", "noble", "patient", "placid", "plucky", "polite", "proud", "quick", "quiet", "ready",
    "robust", "rustic", "sage", "serene", "sharp", "silent", "silver", "sleek", "snug", "solid",
    "spry", "steady", "still", "stout", "sturdy", "subtle", "sunny", "supple", "swift", "tidy",
    "tranquil", "true", "upbeat", "vivid", "warm", "wise", "witty", "zesty",
];

const BOXES: &[&str] = &[
    "ark",
    "bento",
    "bin",
    "bundle",
    "cabin",
    "caddy",
    "canister",
    "cargo",
    "carton",
    "case",
    "cask",
    "casket",
    "cellar",
    "chest",
    "coffer",
    "container",
    "cradle",
    "crate",
    "cubby",
    "cupboard",
    "drawer",
    "flask",
    "folder",
    "furoshiki",
    "hamper",
    "hangar",
    "hatbox",
    "hold",
    "holster",
    "inbox",
    "jar",
    "jubako",
    "kiste",
    "kura",
    "larder",
    "lectern",
    "locker",
    "lunchbox",
    "magazine",
    "masu",
    "nest",
    "ottoman",
    "packet",
    "pail",
    "pallet",
    "pantry",
    "parcel",
    "pavilion",
    "pocket",
    "pouch",
    "purse",
    "quiver",
    "rack",
    "reliquary",
    "sachet",
    "sampler",
    "satchel",
    "shed",
    "shelf",
    "shell",
    "shrine",
    "silo",
    "sleeve",
    "stall",
    "suitcase",
    "tansu",
    "tin",
    "tray",
    "trough",
    "trunk",
    "tub",
    "urn",
    "vault",
    "vessel",
    "vial",
    "vitrine",
    "wallet",
    "wardrobe",
];

/// Random bytes from the kernel.
pub(crate) fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(Error::io("read", "/dev/urandom"))?;
    Ok(bytes)
}

/// A new container ID: 64 hexadecimal digits.
pub(crate) fn new_id() -> Result<String> {
    Ok(random::<32>()?.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A name as `calm_crate`; with a number behind it from the second `attempt` on.
pub(crate) fn suggest(attempt: u32) -> Result<String> {
    let [a, b, c, d] = random::<4>()?;
    let pick = |list: &'static [&'static str], high: u8, low: u8| {
        list[usize::from(u16::from_be_bytes([high, low])) % list.len()]
    };
    let name = format!("{}_{}", pick(FEELINGS, a, b), pick(BOXES, c, d));
    match attempt {
        0 => Ok(name),
        _ => Ok(format!("{name}{}", u16::from_be_bytes(random::<2>()?))),
    }
}

/// Checks a name that a user gave.
pub(crate) fn check(name: &str) -> Result<()> {
    let word = |b: u8| b.is_ascii_alphanumeric();
    let fits = match name.as_bytes() {
        [first, rest @ ..] => {
            word(*first) && !rest.is_empty() && rest.iter().all(|&b| word(b) || b"_.-".contains(&b))
        }
        [] => false,
    };
    if fits { Ok(()) } else { Err(Error::InvalidName(name.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggestions_are_names_and_ids_are_ids() {
        for attempt in 0..50 {
            let name = suggest(attempt % 3).unwrap();
            assert!(check(&name).is_ok(), "{name}");
        }
        let id = new_id().unwrap();
        assert!(id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit()));
        assert_ne!(id, new_id().unwrap());
    }

    #[test]
    fn names_are_checked_as_docker_does() {
        for good in ["ab", "a.b", "A_1-x"] {
            assert!(check(good).is_ok(), "{good}");
        }
        for bad in ["", "a", "-ab", ".ab", "a b", "a/b", "a:b", "ä", "../x"] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
