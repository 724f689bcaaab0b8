//! The database as its users see it: many threads and processes, kills, full and read-only disks.

#![allow(clippy::unwrap_used)]

use std::{
    io::Read,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use hako_db::{Db, Error};

const STEPS: &[&str] = &[
    "CREATE TABLE counter (n INTEGER NOT NULL) STRICT; INSERT INTO counter VALUES (0)",
    "CREATE TABLE pair (a INTEGER NOT NULL, b INTEGER NOT NULL) STRICT",
];
const COUNT: &str = "UPDATE counter SET n = n + 1";

fn count(db: &Db) -> i64 {
    db.read(|tx| tx.row("SELECT n FROM counter", [], |r| r.get(0))).unwrap().unwrap()
}

#[test]
fn many_first_users_make_one_database() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hako.db");
    thread::scope(|s| {
        for _ in 0..16 {
            s.spawn(|| {
                let db = Db::open(&path).unwrap();
                db.migrate("counter", STEPS).unwrap();
                for _ in 0..20 {
                    db.write(|tx| tx.execute(COUNT, [])).unwrap();
                }
            });
        }
    });
    assert_eq!(count(&Db::open(&path).unwrap()), 320);
}

#[test]
fn migrations_go_on_where_an_older_version_stopped_and_refuse_a_newer_one() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(&dir.path().join("hako.db")).unwrap();
    db.migrate("a", &STEPS[..1]).unwrap();
    db.migrate("a", STEPS).unwrap();
    db.migrate("a", STEPS).unwrap();
    assert_eq!(count(&db), 0);
    let newer = db.migrate("a", &STEPS[..1]).unwrap_err();
    assert!(matches!(newer, Error::Newer { found: 2, known: 1, .. }), "{newer}");
    // A step that fails leaves the version as it was, and nothing of itself.
    let steps = [STEPS[0], STEPS[1], "CREATE TABLE half (x); NOT SQL"];
    db.migrate("a", &steps).unwrap_err();
    db.migrate("a", STEPS).unwrap();
    let half = "SELECT 1 FROM sqlite_schema WHERE name = 'half'";
    assert_eq!(db.read(|tx| tx.row(half, [], |_| Ok(()))).unwrap(), None);
}

#[test]
fn a_failed_write_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(&dir.path().join("hako.db")).unwrap();
    db.migrate("a", STEPS).unwrap();
    let failed: Result<(), Error> = db.write(|tx| {
        tx.execute(COUNT, [])?;
        tx.execute("INSERT INTO counter VALUES (NULL)", [])?;
        Ok(())
    });
    assert!(matches!(failed, Err(Error::Constraint { .. })), "{failed:?}");
    assert_eq!(count(&db), 0);
    // Reading cannot wait for a writer: this would hang if it did.
    db.write(|tx| -> Result<(), Error> {
        tx.execute(COUNT, [])?;
        assert_eq!(count(&db), 0);
        Ok(())
    })
    .unwrap();
    db.sync().unwrap();
    assert_eq!(count(&db), 1);
}

/// Runs this test binary again as the process that `role` names.
fn process(role: &str, path: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child", "--nocapture"]).env("HAKO_DB_ROLE", role);
    command.env("HAKO_DB_PATH", path).stdout(Stdio::piped());
    command
}

#[test]
fn child() {
    let (Ok(role), Ok(path)) = (std::env::var("HAKO_DB_ROLE"), std::env::var("HAKO_DB_PATH"))
    else {
        return;
    };
    let db = Db::open(Path::new(&path)).unwrap();
    db.migrate("a", STEPS).unwrap();
    match role.as_str() {
        "count" => {
            for _ in 0..50 {
                db.write(|tx| tx.execute(COUNT, [])).unwrap();
            }
        }
        "pairs" => {
            println!("ready");
            for n in 0.. {
                db.write(|tx| -> Result<(), Error> {
                    tx.execute("INSERT INTO pair VALUES (?1, ?1)", [n])?;
                    tx.execute(COUNT, [])?;
                    Ok(())
                })
                .unwrap();
            }
        }
        "full" => {
            let fill = "INSERT INTO blob SELECT randomblob(100000)";
            db.migrate("b", &["CREATE TABLE blob (b BLOB)"]).unwrap();
            let full = (0..1000).find_map(|_| db.write(|tx| tx.execute(fill, [])).err()).unwrap();
            assert!(matches!(full, Error::Full { .. }), "{full}");
            // Reading goes on, and what was there is whole.
            assert_eq!(count(&db), 0);
        }
        "read-only" => {
            assert_eq!(count(&db), 50);
            let error = db.write(|tx| tx.execute(COUNT, [])).unwrap_err();
            assert!(matches!(error, Error::ReadOnly { .. }), "{error}");
        }
        other => panic!("no role {other}"),
    }
}

#[test]
fn many_processes_lose_no_write() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hako.db");
    let children: Vec<_> = (0..8).map(|_| process("count", &path).spawn().unwrap()).collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(count(&Db::open(&path).unwrap()), 8 * 50);
}

#[test]
fn a_killed_writer_leaves_whole_transactions_only() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hako.db");
    for round in 0..10 {
        let mut child = process("pairs", &path).spawn().unwrap();
        let mut out = child.stdout.take().unwrap();
        let mut seen = Vec::new();
        while !seen.ends_with(b"ready\n") {
            let mut byte = [0];
            assert_eq!(out.read(&mut byte).unwrap(), 1);
            seen.push(byte[0]);
        }
        thread::sleep(Duration::from_micros(700 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        let db = Db::open(&path).unwrap();
        let pairs = "SELECT count(*) FROM pair";
        let pairs: i64 = db.read(|tx| tx.row(pairs, [], |r| r.get(0))).unwrap().unwrap();
        assert_eq!(pairs, count(&db));
        let whole = "PRAGMA integrity_check";
        let whole: String = db.read(|tx| tx.row(whole, [], |r| r.get(0))).unwrap().unwrap();
        assert_eq!(whole, "ok");
    }
}

/// Runs a child in a mount namespace of its own, on a small tmpfs, while `script` acts there.
fn on_small_disk(role: &str, script: &str) {
    let dir = tempfile::tempdir().unwrap();
    let probe = Command::new("unshare").args(["-m", "true"]).output();
    if !probe.is_ok_and(|o| o.status.success()) {
        eprintln!("SKIP {role}: no mount namespace (needs root and unshare)");
        return;
    }
    let script =
        format!("set -e; mount -t tmpfs -o size=1m none '{0}'; {script}", dir.path().display());
    let out = Command::new("unshare")
        .args(["-m", "sh", "-c", &script, "sh"])
        .arg(std::env::current_exe().unwrap())
        .arg(dir.path())
        .env("HAKO_DB_ROLE", role)
        .env("HAKO_DB_PATH", dir.path().join("hako.db"))
        .output()
        .unwrap();
    assert!(out.status.success(), "{out:?}");
}

#[test]
fn a_full_disk_is_said_to_be_full() {
    on_small_disk("full", r#""$1" --exact child --nocapture"#);
}

#[test]
fn a_read_only_store_is_said_to_be_read_only() {
    let script = r#"
        HAKO_DB_ROLE=count "$1" --exact child --nocapture
        mount -o remount,ro "$2"
        "$1" --exact child --nocapture"#;
    on_small_disk("read-only", script);
}
