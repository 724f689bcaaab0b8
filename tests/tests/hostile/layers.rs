//! Attacks by the entries of a layer.

use hako_tests::{
    Case,
    archive::{Entry, gzip, tar, tar_without_end},
    image::{Image, busybox_layer, pack},
};

use super::Attack;

const LAYERS: &str = "SECURITY I: layers";

/// A layer of hand-made bytes on top of busybox.
#[track_caller]
fn load_raw(attack: &Attack, layer: Vec<u8>) -> hako_tests::command::Output {
    attack.load_image(&Image::new("evil:1", vec![busybox_layer(), layer]))
}

pub(crate) const CASES: &[Case] = &[
    Case::new("layer-dotdot", LAYERS, "`..` in a name stays inside or is refused", || {
        let attack = Attack::new();
        let name = format!("{}/new", attack.climbing());
        let output = attack.load_layers(&[vec![Entry::file(&name, 0o644, "x")]]);
        if output.code == 0 {
            attack.run(&[], "true");
        }
    }),
    Case::new("layer-absolute", LAYERS, "an absolute name is below the root, or refused", || {
        let attack = Attack::new();
        let name = format!("{}/new", attack.path());
        let output = attack.load_layers(&[vec![Entry::file(&name, 0o644, "inside")]]);
        if output.code == 0 {
            attack.run(&[], &format!("cat {name}")).prints("inside");
        }
    }),
    Case::new(
        "layer-symlinked-parent",
        LAYERS,
        "an absolute link is followed inside the root only",
        || {
            let attack = Attack::new();
            let entries =
                vec![Entry::symlink("link", &attack.path()), Entry::file("link/new", 0o644, "x")];
            let output = attack.load_layers(&[entries]);
            if output.code == 0 {
                attack.run(&[], "true");
            }
        },
    ),
    Case::new("layer-climbing-parent", LAYERS, "… a climbing one too", || {
        let attack = Attack::new();
        let entries =
            vec![Entry::symlink("link", &attack.climbing()), Entry::file("link/new", 0o644, "x")];
        let output = attack.load_layers(&[entries]);
        if output.code == 0 {
            attack.run(&[], "true");
        }
    }),
    Case::new("layer-link-of-a-lower-layer", LAYERS, "… one in a lower layer too", || {
        let attack = Attack::new();
        let lower = vec![Entry::symlink("link", &attack.path())];
        let upper = vec![Entry::file("link/new", 0o644, "x")];
        let output = attack.load_layers(&[lower, upper]);
        if output.code == 0 {
            attack.run(&[], "true");
        }
    }),
    Case::new("layer-file-over-symlink", LAYERS, "a file over a link replaces the link", || {
        let attack = Attack::new();
        let target = format!("{}/file", attack.path());
        let entries = vec![Entry::symlink("x", &target), Entry::file("x", 0o644, "replaced")];
        attack.load_layers(&[entries]).ok();
        attack.run(&[], "cat /x").prints("replaced");
    }),
    Case::new(
        "layer-replaced-between",
        LAYERS,
        "a directory that becomes a link between two entries",
        || {
            let attack = Attack::new();
            let entries = vec![
                Entry::directory("d/", 0o755),
                Entry::file("d/first", 0o644, "x"),
                Entry::symlink("d", &attack.path()),
                Entry::file("d/second", 0o644, "x"),
                Entry::directory("d/", 0o777),
            ];
            let output = attack.load_layers(&[entries]);
            if output.code == 0 {
                attack.run(&[], "true");
            }
        },
    ),
    Case::new(
        "layer-hard-link-outside",
        LAYERS,
        "a hard link to a file outside is refused or dangles",
        || {
            for absolute in [true, false] {
                let attack = Attack::new();
                let target = if absolute { attack.path() } else { attack.climbing() };
                let output =
                    attack.load_layers(&[vec![Entry::hard_link("x", &format!("{target}/file"))]]);
                if output.code == 0 {
                    attack.run(&[], "cat /x");
                }
            }
        },
    ),
    Case::new(
        "layer-hard-link-to-symlink",
        LAYERS,
        "a hard link to a link is no way to its target",
        || {
            let attack = Attack::new();
            let target = format!("{}/file", attack.path());
            let entries = vec![
                Entry::symlink("s", &target),
                Entry::hard_link("h", "s"),
                Entry::file("h", 0o644, "overwritten"),
            ];
            let output = attack.load_layers(&[entries]);
            if output.code == 0 {
                attack.run(&[], "cat /h").prints("overwritten");
            }
        },
    ),
    Case::new("layer-hard-link-through-symlink", LAYERS, "nor through a link in its path", || {
        let attack = Attack::new();
        let entries = vec![Entry::symlink("s", &attack.path()), Entry::hard_link("h", "s/file")];
        let output = attack.load_layers(&[entries]);
        if output.code == 0 {
            attack.run(&[], "cat /h");
        }
    }),
    Case::new(
        "layer-whiteout-through-symlink",
        LAYERS,
        "a whiteout does not reach through a link",
        || {
            let attack = Attack::new();
            let entries =
                vec![Entry::symlink("s", &attack.path()), Entry::file("s/.wh.file", 0o644, "")];
            let output = attack.load_layers(&[entries]);
            if output.code == 0 {
                attack.run(&[], "true");
            }
        },
    ),
    Case::new(
        "layer-whiteout-of-parents",
        LAYERS,
        "whiteouts of `.`, `..`, the root and of nothing",
        || {
            for name in
                [".wh.", ".wh..", ".wh...", "../.wh.canary", ".wh../canary", "a/.wh...", "/.wh./"]
            {
                let attack = Attack::new();
                let output = attack.load_layers(&[vec![Entry::file(name, 0o644, "")]]);
                if output.code == 0 {
                    attack.run(&[], "ls /bin/sh").prints("/bin/sh");
                }
            }
        },
    ),
    Case::new(
        "layer-whiteout",
        "image-spec layer.md#whiteouts",
        "a whiteout hides what is below only",
        || {
            let attack = Attack::new();
            let upper =
                vec![Entry::file("etc/.wh.group", 0o644, ""), Entry::file("etc/new", 0o644, "new")];
            attack.load_layers(&[upper]).ok();
            attack.run(&[], "ls /etc | sort | tr '\\n' ' '").says("new os-release passwd");
            assert!(!attack.run(&[], "ls /etc").stdout.contains("group"));
        },
    ),
    Case::new(
        "layer-opaque-after-siblings",
        "image-spec layer.md#opaque-whiteout",
        "opaque spares its own layer",
        || {
            let attack = Attack::new();
            let upper = vec![
                Entry::directory("etc/", 0o755),
                Entry::file("etc/mine", 0o644, "x"),
                Entry::file("etc/.wh..wh..opq", 0o644, ""),
                Entry::file("etc/after", 0o644, "x"),
            ];
            attack.load_layers(&[upper]).ok();
            let output = attack.run(&[], "ls /etc | grep -v host | grep -v resolv | tr '\\n' ' '");
            output.prints("after mine");
        },
    ),
    Case::new(
        "layer-overlay-attributes",
        LAYERS,
        "attributes of overlayfs in a layer have no effect",
        || {
            for name in ["trusted.overlay.opaque", "user.overlay.opaque"] {
                let attack = Attack::new();
                let key = format!("SCHILY.xattr.{name}");
                let upper = vec![Entry::pax(&[(&key, b"y")]), Entry::directory("etc/", 0o755)];
                let output = attack.load_layers(&[upper]);
                if output.code == 0 {
                    attack.run(&[], "cat /etc/os-release").says("hako-test");
                }
            }
        },
    ),
    Case::new("layer-overlay-redirect", LAYERS, "nor do redirects and metadata-only files", || {
        for (name, value) in
            [("redirect", &b"/root"[..]), ("metacopy", b""), ("origin", b"x"), ("whiteout", b"y")]
        {
            for space in ["trusted", "user"] {
                let attack = Attack::new();
                let key = format!("LIBARCHIVE.xattr.{space}.overlay.{name}");
                let entries = vec![
                    Entry::pax(&[(&key, value), (&key.replace("LIBARCHIVE", "SCHILY"), value)]),
                    Entry::file("made", 0o644, "content"),
                ];
                let output = attack.load_layers(&[entries]);
                if output.code == 0 {
                    attack.run(&[], "cat /made").prints("content");
                }
            }
        }
    }),
    Case::new(
        "layer-char-device-0-0",
        LAYERS,
        "a 0:0 device, overlayfs' whiteout, hides nothing by surprise",
        || {
            let attack = Attack::new();
            let output = attack.load_layers(&[vec![Entry::device("etc/os-release", 0, 0)]]);
            if output.code == 0 {
                attack.run(&[], "true").ok();
            }
        },
    ),
    Case::new("layer-device", LAYERS, "a device in a layer cannot be opened", || {
        let attack = Attack::new();
        let output = attack.load_layers(&[vec![Entry::device("memory", 1, 1)]]);
        if output.code == 0 {
            attack.run(&[], "head -c 1 /memory || echo refused").prints("refused");
        }
    }),
    Case::new("layer-setuid", LAYERS, "mode bits are kept, setuid too", || {
        let attack = Attack::new();
        attack
            .load_layers(&[vec![Entry::file("s", 0o4755, "x"), Entry::file("g", 0o2711, "x")]])
            .ok();
        attack.run(&[], "stat -c %a /s /g").prints("4755\n2711");
    }),
    Case::new("layer-big-ids", LAYERS, "owners up to 2^32 - 2", || {
        let attack = Attack::new();
        attack
            .load_layers(&[vec![
                Entry::file("big", 0o644, "x").owned(4_294_967_294, 3_000_000_000),
            ]])
            .ok();
        attack.run(&[], "stat -c %u:%g /big").prints("4294967294:3000000000");
    }),
    Case::new("layer-twice", LAYERS, "of two entries with one name the last one counts", || {
        let attack = Attack::new();
        let entries = vec![
            Entry::file("x", 0o644, "first"),
            Entry::directory("y/", 0o755),
            Entry::file("x", 0o600, "second"),
            Entry::file("y", 0o644, "file over an empty directory"),
        ];
        attack.load_layers(&[entries]).ok();
        attack
            .run(&[], "cat /x; stat -c %a /x; cat /y")
            .prints("second600\nfile over an empty directory");
    }),
    Case::new("layer-pax-sizes", LAYERS, "negative, huge and senseless sizes are refused", || {
        for size in
            ["-1", "9223372036854775807", "18446744073709551615", "99999999999999999999", "x"]
        {
            let attack = Attack::new();
            let entries =
                vec![Entry::pax(&[("size", size.as_bytes())]), Entry::file("x", 0o644, "content")];
            let output = attack.load_layers(&[entries]);
            attack.refused(&output);
        }
    }),
    Case::new("layer-header-sizes", LAYERS, "the same in the header", || {
        for size in [
            &b"77777777777\0"[..],
            &[0xff; 12],
            b"-0000000001\0",
            &[0x80, 0, 0, 0, 0x7f, 255, 255, 255, 255, 255, 255, 255],
        ] {
            let attack = Attack::new();
            let mut entry = Entry::file("x", 0o644, "content");
            entry.size = Some(size.to_vec());
            let output = attack.load_layers(&[vec![entry]]);
            attack.refused(&output);
        }
    }),
    Case::new("layer-pax-paths", LAYERS, "paths and links in PAX records are held as well", || {
        let attack = Attack::new();
        let path = format!("{}/new", attack.climbing());
        let link = format!("{}/file", attack.path());
        let entries = vec![
            Entry::pax(&[("path", path.as_bytes())]),
            Entry::file("x", 0o644, "x"),
            Entry::pax(&[("linkpath", link.as_bytes())]),
            Entry::hard_link("h", "x"),
        ];
        let output = attack.load_layers(&[entries]);
        if output.code == 0 {
            attack.run(&[], "cat /h");
        }
    }),
    Case::new("layer-pax-broken", LAYERS, "broken PAX records are refused", || {
        for data in [
            &b"999 path=x\n"[..],
            b"5 a=b",
            b"0 =\n",
            b"x path=y\n",
            b"11 path=\0\0\n",
            b"-3 a=b\n",
        ] {
            let attack = Attack::new();
            let entries = vec![
                Entry { kind: b'x', ..Entry::file("PaxHeaders/x", 0o644, data) },
                Entry::file("x", 0o644, "content"),
            ];
            let output = attack.load_layers(&[entries]);
            if output.code == 0 {
                attack.run(&[], "true").ok();
            }
        }
    }),
    Case::new("layer-long-names", LAYERS, "names longer than the kernel takes are refused", || {
        for (name, directories) in [("n".repeat(300), false), ("d/".repeat(3000), true)] {
            let attack = Attack::new();
            let entry = if directories {
                Entry::directory("x/", 0o755)
            } else {
                Entry::file("x", 0o644, "content")
            };
            let output = attack.load_layers(&[vec![Entry::gnu_long(b'L', &name), entry]]);
            if output.code == 0 {
                attack.run(&[], "true");
            }
        }
    }),
    Case::new(
        "layer-long-name-without-end",
        LAYERS,
        "a GNU long name that never ends is refused",
        || {
            let attack = Attack::new();
            let mut record = Entry::gnu_long(b'L', "x");
            record.size = Some(b"77777777777\0".to_vec());
            let output = attack.load_layers(&[vec![record]]);
            attack.refused(&output);
        },
    ),
    Case::new(
        "layer-only-a-long-name",
        LAYERS,
        "a long name or PAX header with nothing after it",
        || {
            for entry in [
                Entry::gnu_long(b'L', "name"),
                Entry::gnu_long(b'K', "name"),
                Entry::pax(&[("path", b"x")]),
            ] {
                let attack = Attack::new();
                let output = attack.load_layers(&[vec![entry]]);
                if output.code == 0 {
                    attack.run(&[], "true").ok();
                }
            }
        },
    ),
    Case::new("layer-wrong-checksum", LAYERS, "a header whose sum is wrong is refused", || {
        let attack = Attack::new();
        let mut layer = tar(&[Entry::file("x", 0o644, "content")]);
        layer[150] ^= 1;
        let output = load_raw(&attack, layer);
        attack.refused(&output);
    }),
    Case::new("layer-truncated", LAYERS, "a layer that ends in the middle is refused", || {
        for count in [100, 512, 700, 1500] {
            let attack = Attack::new();
            let mut layer = tar_without_end(&[Entry::file("x", 0o644, vec![b'x'; 4096])]);
            layer.truncate(count);
            let output = load_raw(&attack, layer);
            attack.refused(&output);
        }
    }),
    Case::new(
        "layer-without-end",
        LAYERS,
        "without the two empty blocks it is read, as by every tar",
        || {
            let attack = Attack::new();
            load_raw(&attack, tar_without_end(&[Entry::file("x", 0o644, "content")])).ok();
            attack.run(&[], "cat /x").prints("content");
        },
    ),
    Case::new(
        "layer-gzip-members",
        LAYERS,
        "a layer of several gzip members is read whole",
        || {
            let attack = Attack::new();
            let layer = tar(&[Entry::file("x", 0o644, "content")]);
            let image = Image::new("evil:1", vec![busybox_layer(), layer.clone()]);
            let mut members = gzip(&layer[..300]);
            members.extend(gzip(&layer[300..]));
            let mut files = image.docker_archive();
            replace_layer(&mut files, &layer, members);
            attack.load_bytes(&pack(&files)).ok();
            attack.run(&[], "cat /x").prints("content");
        },
    ),
    Case::new(
        "layer-gzip-broken",
        LAYERS,
        "truncated gzip, and garbage behind it, are refused",
        || {
            let layer = tar(&[Entry::file("x", 0o644, vec![b'x'; 100_000])]);
            let whole = gzip(&layer);
            let truncated = whole[..whole.len() - 20].to_vec();
            let mut flipped = whole.clone();
            let middle = flipped.len() - 6;
            flipped[middle] ^= 0xff;
            for bytes in [truncated, flipped] {
                let attack = Attack::new();
                let mut files =
                    Image::new("evil:1", vec![busybox_layer(), layer.clone()]).docker_archive();
                replace_layer(&mut files, &layer, bytes);
                let output = attack.load_bytes(&pack(&files));
                attack.refused(&output);
            }
        },
    ),
];

/// Puts other bytes where a layer's file is.
fn replace_layer(files: &mut hako_tests::image::Files, layer: &[u8], bytes: Vec<u8>) {
    let file =
        files.iter_mut().find(|(_, data)| data == layer).expect("the layer is in the archive");
    file.1 = bytes;
}
