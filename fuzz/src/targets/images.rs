//! Archives, layers and their compression.

use std::{
    fs,
    io::{Cursor, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use hako_image::{ImageStore, LoadOptions, Source};
use hako_layer::{ApplyOptions, Limits};
use hako_root::Root;
use hako_tar::{Header, Kind, Reader, Writer};
use serde_json::json;

/// Small enough that a bomb shows as an error, not as a slow machine.
const CONTENT_BYTES_MAX: u64 = 1 << 20;

fn write_tar(entries: &[(&str, Kind, &[u8])]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (name, kind, content) in entries {
        let mut header = Header::new(*name, *kind, 0o755);
        match kind {
            Kind::Symlink | Kind::HardLink => header.link = content.to_vec(),
            Kind::File => header.size = content.len() as u64,
            _ => {}
        }
        let body = if *kind == Kind::File { *content } else { &[] };
        writer.append(&header, body).expect("memory can be written");
    }
    writer.finish().expect("memory can be written")
}

/// A header by hand, for what an honest writer does not write.
fn raw(name: &str, kind: u8, content: &[u8]) -> Vec<u8> {
    let mut block = vec![0; 512];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[100..108].copy_from_slice(b"0000644\0");
    block[124..136].copy_from_slice(format!("{:011o}\0", content.len()).as_bytes());
    block[156] = kind;
    block[257..265].copy_from_slice(b"ustar\x0000");
    crate::mutate::mend_tar(&mut block);
    block.extend(content);
    block.resize(block.len().next_multiple_of(512), 0);
    block
}

pub(super) fn tars() -> Vec<Vec<u8>> {
    let long = "n/".repeat(90);
    let sparse = b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n25 GNU.sparse.name=x/sp\n30 GNU.sparse.realsize=100000\n";
    let mut with_pax = raw(
        "PaxHeaders/x",
        b'x',
        b"20 path=x/renamed\n\n30 SCHILY.xattr.user.a=value\n\n19 size=00000000005\n",
    );
    with_pax.extend(raw("x/y", b'0', b"hello"));
    let mut with_sparse = raw("PaxHeaders/s", b'x', sparse);
    with_sparse.extend(raw("x/sp", b'0', b"2\n0\n10\n50000\n10\n"));
    let mut with_long = raw("././@LongLink", b'L', long.as_bytes());
    with_long.extend(raw("short", b'0', b"content"));
    vec![
        write_tar(&[
            ("d/", Kind::Directory, b""),
            ("d/file", Kind::File, b"content"),
            ("d/link", Kind::Symlink, b"../d/file"),
            ("d/hard", Kind::HardLink, b"d/file"),
            ("d/.wh.gone", Kind::File, b""),
            ("d/.wh..wh..opq", Kind::File, b""),
            ("pipe", Kind::Fifo, b""),
        ]),
        write_tar(&[
            ("link", Kind::Symlink, b"/etc"),
            ("link/file", Kind::File, b"x"),
            (&long, Kind::Directory, b""),
        ]),
        with_pax,
        with_sparse,
        with_long,
        raw("old", 0, b"v7"),
    ]
}

/// An archive is read to its end or refused; content is never more than the header says.
pub(super) fn tar(input: &[u8]) {
    let mut reader = Reader::new(Cursor::new(input));
    while let Ok(Some(mut entry)) = reader.next_entry() {
        let size = entry.header().size;
        let mut buffer = Vec::new();
        if (&mut entry).take(CONTENT_BYTES_MAX).read_to_end(&mut buffer).is_ok() {
            assert!(buffer.len() as u64 <= size, "more content than the header says");
        }
    }
    assert!(reader.position() <= input.len() as u64);
}

pub(super) fn compressed() -> Vec<Vec<u8>> {
    // Of "hello hello hello hello\n", by the usual programs.
    const GZIP: &[u8] = &[
        0x1f, 0x8b, 0x08, 0, 0, 0, 0, 0, 0, 0x03, 0xcb, 0x48, 0xcd, 0xc9, 0xc9, 0x57, 0xc8, 0x40,
        0x27, 0xb8, 0x00, 0x00, 0x88, 0x59, 0x0b, 0x18, 0x00, 0x00, 0x00,
    ];
    const ZSTD: &[u8] =
        &[0x28, 0xb5, 0x2f, 0xfd, 0x20, 0x05, 0x29, 0x00, 0x00, b'h', b'e', b'l', b'l', b'o'];
    const ZSTD_SKIPPABLE: &[u8] = &[0x50, 0x2a, 0x4d, 0x18, 0x02, 0, 0, 0, 1, 2];
    let xz =
        b"\xfd7zXZ\0\0\x04\xe6\xd6\xb4\x46\x02\0!\x01\x16\0\0\0t/\xe5\xa3\x01\0\x05hello\n\0\0\0"
            .to_vec();
    vec![
        GZIP.to_vec(),
        ZSTD.to_vec(),
        [ZSTD_SKIPPABLE, ZSTD].concat(),
        xz,
        b"BZh91AY&SY".to_vec(),
        b"plain".to_vec(),
    ]
}

/// A stream gives its content or an error.
pub(super) fn decompress(input: &[u8]) {
    if let Ok((_, stream)) = hako_layer::decompress(Cursor::new(input.to_vec())) {
        let mut content = Vec::new();
        drop(stream.take(CONTENT_BYTES_MAX).read_to_end(&mut content));
    }
}

/// A layer is applied, and nothing outside of its directory is touched.
pub(super) fn layer(input: &[u8]) {
    let place = tempfile::tempdir().expect("a directory of our own");
    let canary = place.path().join("canary");
    let root = place.path().join("root");
    fs::create_dir(&root).expect("a directory of our own");
    fs::write(&canary, "untouched").expect("a file of our own");
    let limits =
        Limits { tar_bytes_max: 1 << 22, content_bytes_max: CONTENT_BYTES_MAX, entries_max: 1000 };
    let dest = Root::open(&root).expect("it is a directory");
    drop(hako_layer::apply(input, &dest, &ApplyOptions { limits, ..ApplyOptions::default() }));
    assert_eq!(fs::read(&canary).ok().as_deref(), Some(&b"untouched"[..]));
    assert_eq!(fs::read_dir(place.path()).expect("it is ours").count(), 2);
}

/// A layer is refused, or its index can be made: over nothing, and over itself. It is a function of
/// the tar, and what is written can be read.
pub(super) fn index(input: &[u8]) {
    let limits =
        Limits { tar_bytes_max: 1 << 22, content_bytes_max: CONTENT_BYTES_MAX, entries_max: 1000 };
    let (tar, sparse) = (tempfile::tempfile(), tempfile::tempfile());
    let (tar, sparse) = (tar.expect("a file of our own"), sparse.expect("a file of our own"));
    let Ok((listing, _)) = hako_layer::keep(input, &tar, &sparse, &limits) else { return };
    assert_eq!(hako_layer::list(&tar, &limits).expect("it was listed"), listing);
    hako_layer::check(&tar, Some(&sparse), &limits).expect("it was kept");
    let mut merge = hako_layer::Merge::default();
    let mut again = hako_layer::Merge::default();
    for _ in 0..2 {
        if merge.add(&listing, "tag").is_err() {
            return;
        }
        again.add(&listing, "tag").expect("it was added before");
    }
    let (mut one, mut other) = (Vec::new(), Vec::new());
    merge.write([7; 16], &mut one).expect("whatever is merged can be written");
    again.write([7; 16], &mut other).expect("whatever is merged can be written");
    assert!(one == other);
    hako_erofs::read(&one).expect("whatever is written can be read");
}

pub(super) fn indexes() -> Vec<Vec<u8>> {
    let index = |tar: Vec<u8>| {
        let (kept, sparse) = (tempfile::tempfile().ok()?, tempfile::tempfile().ok()?);
        let limits = Limits::default();
        let (listing, _) = hako_layer::keep(&tar[..], &kept, &sparse, &limits).ok()?;
        let mut merge = hako_layer::Merge::default();
        merge.add(&listing, "tag").ok()?;
        let mut image = Vec::new();
        merge.write([7; 16], &mut image).ok()?;
        Some(image)
    };
    tars().into_iter().filter_map(index).collect()
}

/// An index is refused, or it is one that can be written again.
pub(super) fn erofs(input: &[u8]) {
    if let Ok(tree) = hako_erofs::read(input) {
        let mut image = Vec::new();
        hako_erofs::write(&tree, &mut image).expect("whatever is read can be written");
        assert!(hako_erofs::read(&image).expect("whatever is written can be read") == tree);
    }
}

pub(super) fn archives() -> Vec<Vec<u8>> {
    let layer = write_tar(&[("f", Kind::File, b"x")]);
    let digest = hako_oci::Digest::sha256(&layer);
    let config = json!({"architecture": "amd64", "os": "linux", "config": {},
                        "rootfs": {"type": "layers", "diff_ids": [digest.to_string()]}})
    .to_string()
    .into_bytes();
    let config_digest = hako_oci::Digest::sha256(&config);
    let name = |digest: &hako_oci::Digest| format!("blobs/sha256/{}", digest.hex());
    let manifest = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config_digest.to_string(), "size": config.len()},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest.to_string(), "size": layer.len()}],
    }).to_string().into_bytes();
    let manifest_digest = hako_oci::Digest::sha256(&manifest);
    let index = json!({"schemaVersion": 2, "manifests": [{"mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": manifest_digest.to_string(), "size": manifest.len(),
        "annotations": {"org.opencontainers.image.ref.name": "v1"}}]}).to_string().into_bytes();
    let docker = json!([{"Config": "c.json", "RepoTags": ["a:b"], "Layers": ["l/layer.tar"]}])
        .to_string()
        .into_bytes();
    vec![
        write_tar(&[
            ("c.json", Kind::File, &config),
            ("l/layer.tar", Kind::File, &layer),
            ("manifest.json", Kind::File, &docker),
        ]),
        write_tar(&[
            ("oci-layout", Kind::File, br#"{"imageLayoutVersion":"1.0.0"}"#),
            (&name(&config_digest), Kind::File, &config),
            (&name(&digest), Kind::File, &layer),
            (&name(&manifest_digest), Kind::File, &manifest),
            ("index.json", Kind::File, &index),
        ]),
    ]
}

/// A store that all inputs share: what one leaves must not harm the next.
struct Images {
    store: ImageStore,
    place: PathBuf,
}

fn open(place: &Path) -> ImageStore {
    let db = Arc::new(hako_db::Db::open(&place.join("hako.db")).expect("a new database"));
    let content = hako_content::Store::open(&place.join("content"), db).expect("a new store");
    let snapshots = place.join("snapshots");
    fs::create_dir_all(&snapshots).expect("a directory of our own");
    ImageStore::new(
        content,
        Arc::new(hako_snapshot::Overlay::open(&snapshots).expect("a new snapshotter")),
    )
}

/// An archive is loaded or refused; the store stays sound and can be emptied.
pub(super) fn archive(input: &[u8]) {
    thread_local! {
        static IMAGES: Images = {
            // Removed with the process's other files by who runs it: a thread's end runs no drop here.
            let place = tempfile::tempdir().expect("a directory of our own").keep();
            Images { store: open(&place), place }
        };
    }
    IMAGES.with(|images| {
        let source = Source::Stream(Box::new(Cursor::new(input.to_vec())));
        drop(images.store.load(source, &LoadOptions::default()));
        images.store.images().expect("the store can be listed");
        assert!(images.place.join("hako.db").exists());
    });
}
