//! Packages on their way into the cache: several at once, each verified.

use std::{
    path::PathBuf,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use hako_remote::Stamp;

use crate::{
    Cache, Error, Net, Result, Selected, Selection,
    cache::Part,
    net::{self, Wanted},
};

/// Packages that are fetched at once.
const AT_ONCE: usize = 6;
/// How long the cache keeps what nobody uses.
const UNUSED_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Fetches all packages of a selection that are not in the cache. Gives their files, in the
/// selection's order; each was verified by size and digest in this call, wherever it was.
///
/// What is not at its place any more is looked for at `mirrors`, in order: archives that keep old
/// packages. `watch` hears of each package how many more of its bytes are here: the n-th of the
/// selection, from any thread.
pub fn fetch(
    cache: &Cache,
    net: &Net,
    selection: &Selection,
    mirrors: &[String],
    watch: &(dyn Fn(usize, u64) + Sync),
) -> Result<Vec<PathBuf>> {
    let packages = &selection.packages;
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<Option<PathBuf>>> = Mutex::new(vec![None; packages.len()]);
    let failed: Mutex<Option<(usize, Error)>> = Mutex::new(None);
    let work = || {
        loop {
            let n = next.fetch_add(1, Ordering::Relaxed);
            let Some(package) = packages.get(n) else { return };
            match fetch_one(cache, net, selection, package, mirrors, &|bytes| watch(n, bytes)) {
                Ok(path) => lock(&done)[n] = Some(path),
                Err(error) => {
                    // The others end with what they have begun.
                    next.store(packages.len(), Ordering::Relaxed);
                    let mut failed = lock(&failed);
                    if failed.as_ref().is_none_or(|(other, _)| n < *other) {
                        *failed = Some((n, error));
                    }
                    return;
                }
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(packages.len()) {
            scope.spawn(work);
        }
    });
    if let Some((_, error)) = lock(&failed).take() {
        return Err(error);
    }
    cache.prune(UNUSED_MAX)?;
    let paths: Option<Vec<PathBuf>> = lock(&done).drain(..).collect();
    paths.ok_or_else(|| Error::Deb("a package was not fetched".into()))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn fetch_one(
    cache: &Cache,
    net: &Net,
    selection: &Selection,
    package: &Selected,
    mirrors: &[String],
    watch: &(dyn Fn(u64) + Sync),
) -> Result<PathBuf> {
    let shown = format!("{} {}", package.name, package.version);
    let origin = selection.origins.get(package.origin).map(|origin| origin.uri.as_str());
    let places = origin.into_iter().chain(mirrors.iter().map(|m| m.trim_end_matches('/')));
    let urls: Vec<String> =
        places.map(|place| format!("{place}/{}", escaped(&package.filename))).collect();
    let what = format!("{shown} ({})", urls.first().map_or("", String::as_str));
    let mut had = 0;
    let path = cache.ensure(Part::Pool, &package.digest, package.size, &what, |from, sink| {
        had = from;
        watch(from);
        for url in &urls {
            let wanted = Wanted {
                url,
                from,
                size: Some(package.size),
                bytes_max: package.size,
                unless: Stamp::default(),
                digest: Some(&package.digest),
            };
            let got = net.get(&wanted, &mut |bytes| {
                sink(bytes)?;
                had += bytes.len() as u64;
                watch(bytes.len() as u64);
                Ok(())
            })?;
            if got.is_some() {
                return Ok(());
            }
        }
        let urls = urls.iter().map(|url| net::shown(url)).collect();
        Err(Error::Gone { package: shown.clone(), urls })
    })?;
    watch(package.size.saturating_sub(had));
    Ok(path)
}

/// A path as it may stand in an address: `+` and `~` may, but not every server takes them as they
/// are, and `%` is none of the path's own.
fn escaped(path: &str) -> String {
    let mut text = String::with_capacity(path.len());
    for c in path.chars() {
        match c.is_ascii_alphanumeric() || "-._~/+:=@,!$&'()*;".contains(c) {
            true => text.push(c),
            false => text.push_str(&format!("%{:02X}", u32::from(c))),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn paths() {
        let cases = [
            (
                "pool/main/g/g++/g++_4%3a1.0~rc1+b1_amd64.deb",
                "pool/main/g/g++/g++_4%253a1.0~rc1+b1_amd64.deb",
            ),
            ("pool/a|b", "pool/a%7Cb"),
        ];
        for (path, want) in cases {
            assert_eq!(escaped(path), want);
        }
    }
}
