use std::os::fd::AsFd;
use std::path::PathBuf;

use proptest::prelude::*;

use super::*;
use crate::config::LogConfig;
use crate::time::Timestamp;

fn at(seconds: i64) -> Timestamp {
    Timestamp { seconds, nanoseconds: 5 }
}

struct Dir(tempfile::TempDir);

impl Dir {
    fn new() -> Dir {
        Dir(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("x-json.log")
    }

    fn config(&self) -> LogConfig {
        LogConfig { path: self.path(), ..LogConfig::default() }
    }

    fn writer(&self) -> Writer {
        Writer::open(self.config()).unwrap()
    }

    fn text(&self) -> String {
        std::fs::read_to_string(self.path()).unwrap()
    }

    fn read(&self, window: Window) -> Vec<Entry> {
        all(Reader::open(&self.path(), window, Follow::default()).unwrap())
    }
}

fn all(mut reader: Reader) -> Vec<Entry> {
    std::iter::from_fn(|| reader.next_entry().unwrap()).collect()
}

/// The texts that come back of what was written in one go.
fn texts(bytes: &[u8]) -> Vec<String> {
    let dir = Dir::new();
    let mut writer = dir.writer();
    writer.log(Stream::Stdout, bytes, at(1));
    writer.end(Stream::Stdout, at(2));
    assert_eq!(writer.lost().bytes, 0);
    dir.read(Window::default()).into_iter().map(|entry| entry.text).collect()
}

#[test]
fn lines_are_dockers_byte_for_byte() {
    let dir = Dir::new();
    let mut writer = dir.writer();
    writer.log(Stream::Stdout, b"a\n", at(0));
    writer.log(Stream::Stderr, "\"\\\t<&>\x7f\u{2028}é€\r\n".as_bytes(), at(1));
    writer.log(Stream::Stdout, b"\xff\xe2\x82x\n", at(2));
    let expected = concat!(
        r#"{"log":"a\n","stream":"stdout","time":"1970-01-01T00:00:00.000000005Z"}"#,
        "\n",
        r#"{"log":"\"\\\u0009\u003c\u0026\u003e"#,
        "\x7f",
        r#"\u2028é€\r\n","stream":"stderr","time":"1970-01-01T00:00:01.000000005Z"}"#,
        "\n",
        r#"{"log":"\ufffd\ufffd\ufffdx\n","stream":"stdout","time":"1970-01-01T00:00:02.000000005Z"}"#,
        "\n",
    );
    assert_eq!(dir.text(), expected);
}

#[test]
fn a_line_waits_for_its_end() {
    let dir = Dir::new();
    let mut writer = dir.writer();
    writer.log(Stream::Stdout, b"a", at(1));
    assert_eq!(dir.text(), "");
    writer.log(Stream::Stderr, b"e\n", at(2));
    // A character on the seam of two reads.
    writer.log(Stream::Stdout, b"\xe2\x82", at(3));
    writer.log(Stream::Stdout, b"\xac\nrest", at(4));
    writer.end(Stream::Stdout, at(5));
    writer.end(Stream::Stderr, at(6));
    let seen: Vec<_> =
        dir.read(Window::default()).into_iter().map(|e| (e.stream, e.text, e.time)).collect();
    assert_eq!(
        seen,
        [
            (Stream::Stderr, "e\n".into(), at(2)),
            (Stream::Stdout, "a€\n".into(), at(4)),
            (Stream::Stdout, "rest".into(), at(5)),
        ]
    );
}

#[test]
fn long_lines_come_in_parts_with_the_time_of_the_first() {
    let x = |n: usize| "x".repeat(n);
    for (bytes, expected) in [
        (x(PART_SIZE - 1) + "\n", vec![x(PART_SIZE - 1) + "\n"]),
        (x(PART_SIZE) + "\n", vec![x(PART_SIZE), "\n".into()]),
        (x(PART_SIZE), vec![x(PART_SIZE)]),
        (
            x(2 * PART_SIZE + 3) + "\ny",
            vec![x(PART_SIZE), x(PART_SIZE), "xxx\n".into(), "y".into()],
        ),
    ] {
        assert_eq!(texts(bytes.as_bytes()), expected);
    }
    let dir = Dir::new();
    let mut writer = dir.writer();
    writer.log(Stream::Stdout, x(PART_SIZE).as_bytes(), at(1));
    writer.log(Stream::Stdout, b"\n", at(9));
    writer.log(Stream::Stdout, b"z\n", at(9));
    let times: Vec<_> = dir.read(Window::default()).into_iter().map(|e| e.time).collect();
    assert_eq!(times, [at(1), at(1), at(9)]);
}

#[test]
fn windows() {
    let dir = Dir::new();
    let mut writer =
        Writer::open(LogConfig { max_bytes: Some(300), max_files: 3, ..dir.config() }).unwrap();
    for n in 0..10 {
        writer.log(Stream::Stdout, format!("{n}\n").as_bytes(), at(n));
    }
    // Lines of 72 bytes: four to a file, and three files of them.
    assert!(rotated(&dir.path(), 2).exists() && !rotated(&dir.path(), 3).exists());
    let window = |tail, since: Option<i64>, until: Option<i64>| {
        let window = Window { tail, since: since.map(at), until: until.map(at) };
        dir.read(window).into_iter().map(|e| e.text.trim().to_owned()).collect::<String>()
    };
    for (tail, since, until, expected) in [
        (None, None, None, "0123456789"),
        (Some(0), None, None, ""),
        (Some(1), None, None, "9"),
        (Some(2), None, None, "89"),
        (Some(3), None, None, "789"),
        (Some(6), None, None, "456789"),
        (Some(9), None, None, "123456789"),
        (Some(100), None, None, "0123456789"),
        (None, Some(7), None, "789"),
        (None, Some(3), Some(5), "345"),
        (Some(2), Some(3), None, "89"),
    ] {
        assert_eq!(window(tail, since, until), expected, "{tail:?} {since:?} {until:?}");
    }
}

#[test]
fn one_file_is_cut() {
    let dir = Dir::new();
    let mut writer = Writer::open(LogConfig { max_bytes: Some(200), ..dir.config() }).unwrap();
    for n in 0..5 {
        writer.log(Stream::Stdout, format!("{n}\n").as_bytes(), at(n));
    }
    let texts: Vec<_> = dir.read(Window::default()).into_iter().map(|e| e.text).collect();
    assert_eq!(texts, ["4\n"]);
    assert!(!rotated(&dir.path(), 1).exists());
}

#[test]
fn half_a_line_of_a_killed_writer_spoils_nothing() {
    let dir = Dir::new();
    dir.writer().log(Stream::Stdout, b"a\n", at(1));
    let mut text = dir.text();
    text.push_str("{\"log\":\"hal");
    std::fs::write(dir.path(), &text).unwrap();
    dir.writer().log(Stream::Stdout, b"b\n", at(2));
    let mut reader = Reader::open(&dir.path(), Window::default(), Follow::default()).unwrap();
    assert_eq!(reader.next_entry().unwrap().unwrap().text, "a\n");
    assert_eq!(reader.next_entry().unwrap().unwrap().text, "b\n");
    assert_eq!(reader.next_entry().unwrap(), None);
    assert_eq!(reader.damaged(), 1);
}

#[test]
fn what_does_not_fit_is_lost_and_counted() {
    let dir = Dir::new();
    std::os::unix::fs::symlink("/dev/full", dir.path()).unwrap();
    let mut writer = dir.writer();
    writer.log(Stream::Stdout, b"abc\n", at(1));
    assert_eq!(writer.lost().bytes, 4);
    assert!(writer.lost().cause.is_some());
}

#[test]
fn is_followed_through_rotations_until_the_writer_is_gone() {
    let dir = Dir::new();
    let lock = dir.0.path().join("lock");
    let held = std::fs::File::create(&lock).unwrap();
    assert!(hako_sys::fs::try_flock(held.as_fd(), hako_sys::fs::Lock::Exclusive).unwrap());
    let follow = Follow { lock: Some(lock) };
    let reader = Reader::open(&dir.path(), Window::default(), follow).unwrap();
    let reading = std::thread::spawn(move || all(reader));
    let config = LogConfig { max_bytes: Some(20_000), max_files: 1000, ..dir.config() };
    let mut writer = Writer::open(config).unwrap();
    for n in 0..5000 {
        writer.log(Stream::Stdout, format!("{n}\n").as_bytes(), at(n));
    }
    drop(held);
    let seen: Vec<_> = reading.join().unwrap().into_iter().map(|e| e.time.seconds).collect();
    assert_eq!(seen, (0..5000).collect::<Vec<_>>());
}

#[test]
fn a_rotation_that_is_half_done_hides_no_file() {
    for age in 0..4 {
        let dir = Dir::new();
        let config = LogConfig { max_bytes: Some(200), max_files: 10, ..dir.config() };
        let mut writer = Writer::open(config).unwrap();
        for n in 0..8 {
            writer.log(Stream::Stdout, format!("{n}\n").as_bytes(), at(n));
        }
        assert!(rotated(&dir.path(), 3).exists());
        // The oldest are moved, those younger than `age` not yet.
        for age in (age..9).rev() {
            let _ = std::fs::rename(rotated(&dir.path(), age), rotated(&dir.path(), age + 1));
        }
        let seen: Vec<_> =
            dir.read(Window::default()).into_iter().map(|e| e.time.seconds).collect();
        assert_eq!(seen, (0..8).collect::<Vec<_>>(), "missing: {age}");
        let last = dir.read(Window { tail: Some(7), ..Window::default() });
        let last: Vec<_> = last.into_iter().map(|e| e.time.seconds).collect();
        assert_eq!(last, (1..8).collect::<Vec<_>>(), "missing: {age}");
    }
}

#[test]
fn a_missing_log_is_empty_and_a_foreign_file_an_error() {
    let dir = Dir::new();
    assert!(dir.read(Window::default()).is_empty());
    std::fs::write(dir.path(), vec![b'x'; 3 << 20]).unwrap();
    let mut reader = Reader::open(&dir.path(), Window::default(), Follow::default()).unwrap();
    assert!(matches!(reader.next_entry(), Err(LogError::LineTooLong(_))));
}

/// What Docker makes of bytes that are no text: U+FFFD for each.
fn lossy(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| '\u{fffd}'));
    }
    text
}

proptest! {
    #[test]
    fn whatever_is_written_is_read(
        bytes in proptest::collection::vec(prop_oneof![any::<u8>(), Just(b'\n'), Just(0xE2), Just(0x80)], 0..400),
        cuts in proptest::collection::vec(0usize..400, 0..6),
        tail in 0u64..10,
    ) {
        let dir = Dir::new();
        let mut writer = dir.writer();
        let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(bytes.len())).collect();
        cuts.sort_unstable();
        cuts.push(bytes.len());
        let mut start = 0;
        for cut in cuts {
            writer.log(Stream::Stderr, &bytes[start..cut], at(1));
            start = cut;
        }
        writer.end(Stream::Stderr, at(2));
        let texts: Vec<String> =
            dir.read(Window::default()).into_iter().map(|e| e.text).collect();
        let expected: Vec<String> = bytes.split_inclusive(|b| *b == b'\n').map(lossy).collect();
        prop_assert_eq!(&texts, &expected);
        let last = dir.read(Window { tail: Some(tail), ..Window::default() });
        let skip = texts.len().saturating_sub(tail as usize);
        prop_assert_eq!(last.into_iter().map(|e| e.text).collect::<Vec<_>>(), &expected[skip..]);
    }

    #[test]
    fn any_file_is_read(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let dir = Dir::new();
        std::fs::write(dir.path(), bytes).unwrap();
        dir.read(Window::default());
    }
}
