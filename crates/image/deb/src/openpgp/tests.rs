use super::*;

/// A day of 2024, when the test's keys were three weeks old.
const NOW: u64 = 1_705_881_600;
/// On the day they were made.
const THEN: u64 = 1_704_070_800;

macro_rules! data {
    ($name:literal) => {
        &include_bytes!(concat!("testdata/", $name))[..]
    };
}

fn ring(keys: &[&[u8]]) -> Keyring {
    let mut ring = Keyring::default();
    for key in keys {
        ring.add(key).unwrap();
    }
    ring
}

fn all() -> Keyring {
    ring(&[
        data!("ring.gpg"),
        data!("expired.asc"),
        data!("revoked.asc"),
        data!("nosign.asc"),
        data!("dsa.gpg"),
    ])
}

fn verify(ring: &Keyring, signed: &[u8], now: u64) -> Result<String, String> {
    let text = split(signed).map_err(|e| e.to_string())?;
    ring.verify_clear(&text, now).map_err(|e| e.to_string())?;
    Ok(text.text)
}

#[test]
fn what_gpg_signed_is_signed() {
    let text = "Origin: Test\nSuite: stable\n- a dash\n\n-----not an armor\nlast\n";
    let good = [
        data!("rsa.signed"),
        data!("sub.signed"),
        data!("p256.signed"),
        data!("sha384.signed"),
        data!("p384.signed"),
        // One of the two is of a key that is not known.
        data!("two.signed"),
    ];
    for (i, signed) in good.into_iter().enumerate() {
        assert_eq!(verify(&all(), signed, NOW).as_deref(), Ok(text), "{i}");
        let crlf = String::from_utf8(signed.to_vec()).unwrap().replace('\n', "\r\n");
        assert_eq!(verify(&all(), crlf.as_bytes(), NOW).as_deref(), Ok(text), "{i}");
    }
    assert_eq!(verify(&all(), data!("expired.signed"), THEN).as_deref(), Ok(text));
    assert_eq!(verify(&all(), data!("shortlived.signed"), THEN).as_deref(), Ok(text));
}

#[test]
fn files_beside_their_signatures() {
    let text = data!("text");
    for signature in [data!("rsa.detached"), data!("sub.detached"), data!("rsa.textmode")] {
        all().verify(text, signature, NOW).unwrap();
        let changed = [text, b"."].concat();
        assert!(matches!(all().verify(&changed, signature, NOW), Err(PgpError::Bad(_))));
    }
    let other = ring(&[data!("other.asc")]);
    let error = other.verify(text, data!("rsa.detached"), NOW).unwrap_err();
    assert!(matches!(error, PgpError::UnknownKey(_)), "{error}");
    assert_eq!(all().verify(text, b"", NOW), Err(PgpError::Unsigned));
}

#[test]
fn what_is_not_signed() {
    let cases = [
        ("unknown key", data!("other.signed"), "which the keyring does not have"),
        ("expired key", data!("expired.signed"), "has expired"),
        ("revoked key", data!("revoked.signed"), "is revoked"),
        ("weak hash", data!("sha1.signed"), "SHA-1, which is weak"),
        ("expired signature", data!("shortlived.signed"), "it has expired"),
        ("no signature", data!("text"), "does not begin with a signed message"),
    ];
    for (name, signed, want) in cases {
        let error = verify(&all(), signed, NOW).expect_err(name);
        assert!(error.contains(want), "{name}: {error}");
    }
}

#[test]
fn what_was_changed_is_refused() {
    let signed = String::from_utf8(data!("rsa.signed").to_vec()).unwrap();
    let begin = "-----BEGIN PGP SIGNED MESSAGE-----";
    let signature = &signed[signed.find("-----BEGIN PGP SIGNATURE").unwrap()..];
    let cases = [
        ("text", signed.replace("stable", "sid"), "the content was changed"),
        ("a line more", signed.replace("last", "last\nSuite: sid"), "the content was changed"),
        ("before", format!("Suite: sid\n{signed}"), "does not begin with a signed"),
        ("an empty line before", format!("\n{signed}"), "does not begin with a signed"),
        ("behind", format!("{signed}\nSuite: sid\n"), "something follows"),
        ("twice", format!("{signed}{signed}"), "something follows"),
        ("header", signed.replace("Hash: ", "Suite: sid\nHash: "), "other headers"),
        (
            "not escaped",
            signed.replacen("Hash: ", "NotDashEscaped: yes\nHash: ", 1),
            "other headers",
        ),
        ("in the headers", signed.replacen("Hash:", "\tSuite: sid\nHash:", 1), "other headers"),
        (
            "a dash",
            signed.replace("- - a", "- a").replace("- -----not", "-----not"),
            "begins with a dash",
        ),
        ("an armor inside", signed.replace("last", begin), "begins with a dash"),
        ("no signature", signed.replace(signature, ""), "no signature"),
        ("no end", signed.replace("-----END PGP SIGNATURE-----", ""), "has no end"),
        ("zero", signed.replace("stable", "sta\0ble"), "zero byte"),
        ("cut armor", signed.replace("-----END", "x\n-----END"), "armor is broken"),
        ("another's armor", signed.replace("PGP SIGNATURE", "PGP MESSAGE"), "begins with a dash"),
    ];
    for (name, text, want) in cases {
        let error = verify(&all(), text.as_bytes(), NOW).expect_err(name);
        assert!(error.contains(want), "{name}: {error}");
    }
}

#[test]
fn every_bit_of_a_signature_counts() {
    let text = data!("text");
    let signature = data!("sub.detached");
    let ring = all();
    for at in 0..signature.len() {
        for bit in 0..8 {
            let mut changed = signature.to_vec();
            changed[at] ^= 1 << bit;
            if ring.verify(text, &changed, NOW).is_ok() {
                // Unhashed subpackets and the two bytes of the hash are not signed.
                let parsed = Packets::new(&changed).next().unwrap().unwrap();
                let whole = Packets::new(signature).next().unwrap().unwrap();
                let same = Signature::parse(parsed.body).unwrap();
                let hashed = usize::from(u16::from_be_bytes([whole.body[4], whole.body[5]]));
                assert_eq!(parsed.body[..6 + hashed], whole.body[..6 + hashed], "byte {at}");
                assert_eq!(same.kind, Kind::Binary);
            }
        }
    }
}

#[test]
fn a_stolen_subkey_signs_for_nobody() {
    // The subkey of `sub` behind another's primary key, bound by a signature of the wrong key.
    let own = armor::decode_all(data!("sub.asc"), "PUBLIC KEY BLOCK").unwrap();
    let subkey: Vec<u8> = tail_from(&own, Tag::PUBLIC_SUBKEY);
    let mut thief = armor::decode_all(data!("other.asc"), "PUBLIC KEY BLOCK").unwrap();
    thief.extend(subkey);
    let error = verify(&ring(&[&thief]), data!("sub.signed"), NOW).unwrap_err();
    assert!(error.contains("no valid signature of its owner"), "{error}");
}

/// The packets from the first of this kind on.
fn tail_from(bytes: &[u8], tag: Tag) -> Vec<u8> {
    let packets: Vec<_> = Packets::new(bytes).map(Result::unwrap).collect();
    let mut tail = Vec::new();
    for packet in packets.iter().skip_while(|packet| packet.tag != tag) {
        tail.push(0xc0 | packet.tag.0);
        tail.push(255);
        tail.extend_from_slice(&u32::try_from(packet.body.len()).unwrap().to_be_bytes());
        tail.extend_from_slice(packet.body);
    }
    tail
}

#[test]
fn keyrings() {
    assert!(ring(&[data!("dsa.gpg")]).is_empty());
    let mut ring = ring(&[data!("ring.gpg")]);
    let fingerprint = {
        let text = split(data!("sub.signed")).unwrap();
        ring.verify_clear(&text, NOW).unwrap()
    };
    ring.retain(&[fingerprint[24..].to_owned()]);
    assert!(verify(&ring, data!("sub.signed"), NOW).is_ok());
    assert!(verify(&ring, data!("rsa.signed"), NOW).is_err());
    for broken in [&b"hello"[..], b"\x99", b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n"] {
        assert!(Keyring::default().add(broken).is_err(), "{broken:?}");
    }
}

/// The machine's own archives, where there are any.
#[test]
fn debians_own_signatures() {
    let Ok(keys) = std::fs::read("/usr/share/keyrings/debian-archive-keyring.gpg") else {
        println!("SKIP debians_own_signatures: there is no keyring of Debian's");
        return;
    };
    let lists = std::fs::read_dir("/var/lib/apt/lists").into_iter().flatten().flatten();
    let is_debians = |name: &str| name.contains("debian") && name.ends_with("_InRelease");
    let files: Vec<_> =
        lists.map(|e| e.path()).filter(|p| is_debians(&p.to_string_lossy())).collect();
    if files.is_empty() {
        println!("SKIP debians_own_signatures: apt has no lists");
    }
    let ring = ring(&[&keys]);
    for file in files {
        let signed = std::fs::read(&file).unwrap();
        let text =
            verify(&ring, &signed, 1_750_000_000).unwrap_or_else(|e| panic!("{file:?}: {e}"));
        assert!(text.contains("\nSHA256:\n"));
    }
}

proptest::proptest! {
    #[test]
    fn nothing_panics(
        bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..80),
        at in 0usize..600,
    ) {
        let _ = split(&bytes);
        let _ = Keyring::default().add(&bytes);
        let mut key = tail_from(data!("ring.gpg"), Tag::PUBLIC_KEY);
        key.truncate(at);
        key.extend(&bytes);
        let _ = Keyring::default().add(&key);
        let mut signature = data!("sub.detached").to_vec();
        signature.truncate(at % signature.len());
        signature.extend(&bytes);
        proptest::prop_assert!(ring(&[data!("rsa.asc")]).verify(b"x", &signature, NOW).is_err());
    }
}
