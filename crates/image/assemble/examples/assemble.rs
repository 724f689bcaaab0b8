//! Puts packages together as layers of an image without a shell: `assemble OUT_DIR DEB...`.

#![forbid(unsafe_code)]

use std::{collections::BTreeSet, fs::File, io::BufWriter, path::PathBuf, time::Instant};

use hako_assemble::{Assembly, Style, unpack};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let out = arguments.next().ok_or("OUT_DIR is missing")?;
    let debs: Vec<PathBuf> = arguments.collect();
    let start = Instant::now();
    let packages = unpack(&debs, &out, &|_| {})?;
    eprintln!("unpacked {} packages: {:?}", packages.len(), start.elapsed());
    let requires = vec![Vec::new(); packages.len()];
    let base = ["base-files", "netbase", "tzdata", "ca-certificates"];
    let base: BTreeSet<String> = base.iter().map(|name| (*name).to_owned()).collect();
    let assembly = Assembly::new(packages, &requires, &base, Style::Distroless, None)?;
    eprintln!("assembled: {:?}", start.elapsed());
    for (number, group) in assembly.groups().iter().enumerate() {
        let path = out.join(format!("{number}.tar"));
        assembly.write(number, BufWriter::with_capacity(1 << 20, File::create(&path)?))?;
        let names: Vec<&str> =
            group.packages.iter().map(|&n| assembly.packages()[n].name()).collect();
        println!("{} {}: {}", path.display(), group.name, names.join(" "));
    }
    eprintln!("written: {:?}", start.elapsed());
    Ok(())
}
