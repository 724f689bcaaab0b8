use proptest::prelude::*;

use super::*;

fn cwd() -> &'static Path {
    Path::new("/work/dir")
}

fn bind(path: &str) -> Bind {
    Bind {
        path: path.into(),
        create: true,
        propagation: None,
        recursive: BindRecursive::Enabled,
        relabel: None,
    }
}

fn request(target: &str, source: MountSource, readonly: bool) -> MountRequest {
    MountRequest { target: target.into(), source, readonly }
}

fn volume(name: &str) -> VolumeRef {
    VolumeRef { name: Some(name.into()), ..VolumeRef::default() }
}

#[test]
fn volumes() {
    for (text, expected) in [
        ("/a:/b", request("/b", MountSource::Bind(bind("/a")), false)),
        ("/a/../c/:/b//d/", request("/b/d", MountSource::Bind(bind("/c")), false)),
        ("/a:/b:ro", request("/b", MountSource::Bind(bind("/a")), true)),
        ("/a:/b:rw", request("/b", MountSource::Bind(bind("/a")), false)),
        ("./x:/b", request("/b", MountSource::Bind(bind("/work/dir/x")), false)),
        (".:/b", request("/b", MountSource::Bind(bind("/work/dir")), false)),
        ("../x:/b", request("/b", MountSource::Bind(bind("/work/x")), false)),
        (
            "/a:/b:ro,Z,rshared,cached",
            request(
                "/b",
                MountSource::Bind(Bind {
                    propagation: Some("rshared".into()),
                    relabel: Some(Relabel::Private),
                    ..bind("/a")
                }),
                true,
            ),
        ),
        ("name:/b", request("/b", MountSource::Volume(volume("name")), false)),
        (
            "name:/b:nocopy,z",
            request("/b", MountSource::Volume(VolumeRef { nocopy: true, ..volume("name") }), false),
        ),
        ("/b", request("/b", MountSource::Volume(VolumeRef::default()), false)),
    ] {
        assert_eq!(parse_volume(text, cwd()), Ok(expected), "{text}");
    }
}

#[test]
fn wrong_volumes() {
    for (text, message) in [
        ("", "invalid volume specification: ''"),
        (":", "invalid volume specification: ':'"),
        (":/b", "invalid volume specification: ':/b'"),
        ("/a:", "invalid volume specification: '/a:'"),
        ("/a:ro", "invalid volume specification: '/a:ro'"),
        ("/a:/b:ro:x", "invalid volume specification: '/a:/b:ro:x'"),
        ("/a:/b:x", "invalid mode: x"),
        ("/a:/b:ro,rw", "invalid mode: ro,rw"),
        ("/a:/b:ro,", "invalid mode: ro,"),
        ("/a:/b:z,Z", "invalid mode: z,Z"),
        ("/a:/b:shared,slave", "invalid mode: shared,slave"),
        ("/a:/b:nocopy", "invalid mode: nocopy"),
        ("name:/b:rshared", "invalid mode: rshared"),
        (
            "/a:/",
            "invalid volume specification: '/a:/': invalid specification: destination can't be '/'",
        ),
        (
            "/a:b",
            "invalid volume specification: '/a:b': invalid mount path: 'b' mount path must be absolute",
        ),
        (
            "a/b:/c",
            "\"a/b\" includes invalid characters for a local volume name, only \
             \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, \
             use absolute path",
        ),
    ] {
        assert_eq!(parse_volume(text, cwd()).unwrap_err().to_string(), message, "{text}");
    }
}

#[test]
fn mounts() {
    let named = |path: &str| Bind { create: false, ..bind(path) };
    let tmpfs = |options: &[&str]| {
        MountSource::Tmpfs(Tmpfs { options: options.iter().map(|o| o.to_string()).collect() })
    };
    for (text, expected) in [
        ("type=bind,source=/a,target=/b", request("/b", MountSource::Bind(named("/a")), false)),
        (
            "type=bind,src=./a,dst=/b,ro",
            request("/b", MountSource::Bind(named("/work/dir/a")), true),
        ),
        (
            "TYPE=BIND,Source=/a,destination=/b,readonly=false,consistency=cached",
            request("/b", MountSource::Bind(named("/a")), false),
        ),
        ("type=bind,\"src=/a,b\",dst=/b", request("/b", MountSource::Bind(named("/a,b")), false)),
        (
            "type=bind,src=/a,dst=/b,bind-propagation=rslave,bind-nonrecursive",
            request(
                "/b",
                MountSource::Bind(Bind {
                    propagation: Some("rslave".into()),
                    recursive: BindRecursive::Disabled,
                    ..named("/a")
                }),
                false,
            ),
        ),
        (
            "type=bind,src=/a,dst=/b,ro,bind-propagation=rprivate,bind-recursive=readonly",
            request(
                "/b",
                MountSource::Bind(Bind {
                    propagation: Some("rprivate".into()),
                    recursive: BindRecursive::Readonly,
                    ..named("/a")
                }),
                true,
            ),
        ),
        (
            "type=tmpfs,dst=/b,tmpfs-size=1m,tmpfs-mode=1770",
            request("/b", tmpfs(&["size=1048576", "mode=1770"]), false),
        ),
        ("type=tmpfs,dst=/b,ro", request("/b", tmpfs(&[]), true)),
        ("src=v1,dst=/b", request("/b", MountSource::Volume(volume("v1")), false)),
        (
            "type=volume,dst=/b,volume-nocopy,volume-subpath=x/y,volume-label=a=b,volume-opt=o=x",
            request(
                "/b",
                MountSource::Volume(VolumeRef {
                    nocopy: true,
                    subpath: Some("x/y".into()),
                    labels: [("a".into(), "b".into())].into(),
                    driver_options: [("o".into(), "x".into())].into(),
                    ..VolumeRef::default()
                }),
                false,
            ),
        ),
    ] {
        assert_eq!(parse_mount(text, cwd()), Ok(expected), "{text}");
    }
}

#[test]
fn wrong_mounts() {
    for (text, message) in [
        ("", "invalid field '' must be a key=value pair"),
        ("type=bind", "target is required"),
        ("type=bind,dst", "invalid field 'dst' must be a key=value pair"),
        ("type=bind,dst=/b,foo=1", "unexpected key 'foo' in 'foo=1'"),
        (
            "type=bind,dst=/b",
            "invalid mount config for type \"bind\": field Source must not be empty",
        ),
        (
            "type=bind,src=a,dst=/b",
            "invalid mount config for type \"bind\": invalid mount path: 'a' mount path must be absolute",
        ),
        (
            "type=bind,src=/a,dst=b",
            "invalid mount config for type \"bind\": invalid mount path: 'b' mount path must be absolute",
        ),
        (
            "type=tmpfs,dst=/..",
            "invalid mount config for type \"tmpfs\": invalid specification: destination can't be '/'",
        ),
        (
            "type=tmpfs,src=/a,dst=/b",
            "invalid mount config for type \"tmpfs\": field Source must not be specified",
        ),
        ("type=foo,dst=/b", "invalid mount config for type \"foo\": mount type unknown: \"foo\""),
        ("type=bind,src=/a,dst=/b,ro=x", "invalid value for ro: x"),
        ("type=tmpfs,dst=/b,tmpfs-size=x", "invalid value for tmpfs-size: x"),
        ("type=tmpfs,dst=/b,tmpfs-mode=888", "invalid value for tmpfs-mode: 888"),
        ("type=tmpfs,dst=/b,tmpfs-mode=77777", "invalid value for tmpfs-mode: 77777"),
        ("type=bind,src=/a,dst=/b,bind-propagation=x", "invalid propagation mode: x"),
        (
            "type=bind,src=/a,dst=/b,volume-nocopy",
            "cannot mix 'volume-*' options with mount type 'bind'",
        ),
        (
            "type=tmpfs,dst=/b,bind-recursive=enabled",
            "cannot mix 'bind-*' options with mount type 'tmpfs'",
        ),
        (
            "type=bind,src=/a,dst=/b,tmpfs-size=1",
            "cannot mix 'tmpfs-*' options with mount type 'bind'",
        ),
        (
            "type=bind,src=/a,dst=/b,bind-recursive=x",
            "invalid value for bind-recursive: x (must be \"enabled\", \"disabled\", \"writable\", \
             or \"readonly\")",
        ),
        (
            "type=bind,src=/a,dst=/b,bind-recursive=writable",
            "option 'bind-recursive=writable' requires 'readonly' to be specified in conjunction",
        ),
        (
            "type=bind,src=/a,dst=/b,ro,bind-recursive=readonly",
            "option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' to be specified \
             in conjunction",
        ),
        (
            "dst=/b,volume-subpath=../x",
            "invalid mount config for type \"volume\": subpath must be a relative path within the volume",
        ),
        ("type=bind,\"src=/a", "parse error in 'type=bind,\"src=/a': bare or unclosed \""),
        ("type=bi\"nd", "parse error in 'type=bi\"nd': bare or unclosed \""),
        ("\"type=bind\"x", "parse error in '\"type=bind\"x': bare or unclosed \""),
    ] {
        assert_eq!(parse_mount(text, cwd()).unwrap_err().to_string(), message, "{text}");
    }
}

#[test]
fn tmpfs() {
    let ok = |target: &str, options: &[&str], readonly| {
        let options = options.iter().map(|o| o.to_string()).collect();
        Ok(request(target, MountSource::Tmpfs(Tmpfs { options }), readonly))
    };
    for (text, expected) in [
        ("/run", ok("/run", &[], false)),
        ("/run:", ok("/run", &[], false)),
        ("/run:rw,noexec,size=64k", ok("/run", &["rw", "noexec", "size=64k"], false)),
        ("/run:rw,ro", ok("/run", &["rw", "ro"], true)),
        ("/run:foo", Err(MountError::TmpfsOption("foo".into()))),
        ("/run:size=", Err(MountError::TmpfsOption("size=".into()))),
        ("/run:lowerdir=/x", Err(MountError::TmpfsOption("lowerdir=/x".into()))),
        ("run", Err(MountError::Relative("run".into()))),
        ("/", Err(MountError::Root)),
        ("//", Err(MountError::Root)),
        ("", Err(MountError::Relative("".into()))),
    ] {
        assert_eq!(parse_tmpfs(text), expected, "{text}");
    }
}

#[test]
fn sources_are_made_or_missed() {
    let dir = std::env::temp_dir().join(format!("hako-bundle-sources-{}", std::process::id()));
    let missing = dir.join("a/b");
    let at = |create| {
        let path = missing.clone();
        [request("/x", MountSource::Bind(Bind { path, create, ..bind("/") }), false)]
    };
    let error = ensure_sources(&at(false)).unwrap_err().to_string();
    let expected = format!(
        "invalid mount config for type \"bind\": bind source path does not exist: {}",
        missing.display()
    );
    assert_eq!(error, expected);
    assert!(!missing.exists());
    ensure_sources(&at(true)).unwrap();
    assert!(missing.is_dir());
    ensure_sources(&at(false)).unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
}

proptest! {
    #[test]
    fn whatever_is_accepted_is_clean(text in "[./a:,=\"rozZ\\PC]{0,24}") {
        for parsed in [
            parse_volume(&text, cwd()),
            parse_mount(&format!("type=bind,src=/s,dst={text}"), cwd()),
            parse_mount(&text, cwd()),
            parse_tmpfs(&text),
        ].into_iter().flatten() {
            prop_assert!(parsed.target.starts_with('/') && parsed.target != "/");
            prop_assert!(parsed.target.split('/').all(|part| part != ".." && part != "."));
            if let MountSource::Bind(bind) = parsed.source {
                prop_assert!(bind.path.is_absolute());
            }
        }
    }
}
