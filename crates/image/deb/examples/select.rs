//! Selects packages of a suite that this machine's apt knows, and shows what they need:
//! `select CACHE SUITE PACKAGE...`.

#![forbid(unsafe_code)]

use std::{env, error::Error, path::Path, time::Instant};

use hako_deb::{Archive, Base, Cache, Method, Net, Request, Settings, Sources};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = env::args().skip(1);
    let cache = args.next().ok_or("which directory is the cache?")?;
    let suite = args.next().ok_or("which suite?")?;
    let include = args.map(|name| name.parse()).collect::<Result<Vec<_>, _>>()?;
    let root = env::var("ROOT").unwrap_or_else(|_| "/".into());
    let settings = Settings::of_machine()?;
    let sources = Sources::of_machine(Path::new(&root), &suite, settings)?;
    let net =
        Net::new(Method::Direct, &sources.settings, Path::new(&root))?.with_logins_of(&sources);
    let start = Instant::now();
    let archive = Archive::open(&Cache::open(Path::new(&cache))?, &net, &sources, "amd64")?;
    eprintln!("archive after {:?}", start.elapsed());
    let request = Request { include, base: Base::Nothing, recommends: false };
    let selection = archive.select(&request)?;
    eprintln!("selection after {:?}", start.elapsed());
    for package in &selection.packages {
        println!("{} {} {}", package.name, package.version, package.size);
    }
    Ok(())
}
