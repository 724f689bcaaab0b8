//! Names and removal: Docker's rules and Docker's words.

#![allow(clippy::unwrap_used, clippy::type_complexity)]

mod common;

use common::{Place, config, docker_archive, file, layer, place, tar};
use hako_docker::image::DeleteItem;
use hako_image::{Error, User};
use hako_oci::Digest;

/// Loads an image of one layer.
fn image(place: &Place, name: &str, content: &str) -> Digest {
    let layer = layer(content);
    place.load_stream(tar(&docker_archive(name, &[&layer]))).unwrap();
    Digest::sha256(&config(&[&layer]))
}

fn names(place: &Place, id: &Digest) -> Vec<String> {
    let image = place.images.resolve(&id.to_string()).unwrap();
    image.names().iter().map(|name| name.familiar()).collect()
}

#[test]
fn an_image_is_found_by_every_way_to_name_it() {
    let place = place();
    let one = image(&place, "one:1", "one");
    let latest = image(&place, "reg.example:5000/a/two:latest", "two");
    let found = |name: &str| place.images.resolve(name).map(|image| image.id().clone());
    assert_eq!(found("reg.example:5000/a/two").unwrap(), latest);
    let full = one.to_string();
    for name in [
        "one:1",
        "docker.io/library/one:1",
        "library/one:1",
        &full,
        one.hex(),
        &one.hex()[..6],
        &full[..20],
    ] {
        assert_eq!(found(name).unwrap(), one, "{name}");
    }
    let missing = [
        ("one", "No such image: one:latest"),
        ("one:2", "No such image: one:2"),
        ("docker.io/library/none", "No such image: none:latest"),
        ("UPPER", "No such image: UPPER"),
        ("", "No such image: "),
        ("sha256:", "No such image: sha256:"),
        ("ffffffffffff", "No such image: ffffffffffff:latest"),
        (
            "one@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "No such image: one@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        ),
    ];
    for (name, text) in missing {
        let error = found(name).unwrap_err();
        assert!(matches!(error, Error::NotFound(_)), "{name}: {error:?}");
        assert_eq!(error.to_string(), text);
    }
}

#[test]
fn a_beginning_of_several_ids_is_ambiguous_and_a_name_comes_first() {
    let place = place();
    // As many images as it takes for two IDs to begin alike.
    let ids: Vec<Digest> =
        (0..20).map(|n| image(&place, &format!("i:{n}"), &format!("{n}"))).collect();
    let first = |id: &Digest| id.hex()[..1].to_owned();
    let shared =
        ids.iter().find(|id| ids.iter().filter(|o| first(o) == first(id)).count() > 1).unwrap();
    let error = place.images.resolve(&first(shared)).unwrap_err();
    let Error::AmbiguousId { ids: found, .. } = &error else { panic!("{error:?}") };
    assert!(found.contains(shared) && found.len() > 1, "{error}");
    // An image that is called as an ID begins.
    let name: String = ids[0].hex()[..4].into();
    if name.parse::<hako_oci::Reference>().is_ok() {
        place.images.tag("i:1", &name.parse().unwrap()).unwrap();
        assert_eq!(place.images.resolve(&name).unwrap().id(), &ids[1]);
    }
}

#[test]
fn a_name_moves_and_the_image_that_had_it_dangles() {
    let place = place();
    let old = image(&place, "a:1", "old");
    let new_layer = layer("new");
    let loaded = place.load_stream(tar(&docker_archive("a:1", &[&new_layer]))).unwrap();
    assert_eq!(loaded[0].renamed, [("a:1".parse().unwrap(), old.clone())]);
    assert_eq!(names(&place, &old), Vec::<String>::new());
    let again = place.load_stream(tar(&docker_archive("a:1", &[&new_layer]))).unwrap();
    assert_eq!(again[0].renamed, []);
    assert_eq!(place.images.tag("a:1", &"b".parse().unwrap()).unwrap(), None);
    assert_eq!(
        place.images.tag(old.hex(), &"a:1".parse().unwrap()).unwrap(),
        Some(loaded[0].id.clone())
    );
    assert_eq!(names(&place, &loaded[0].id), ["b:latest"]);
    let by_digest = format!("a@{old}").parse().unwrap();
    assert!(matches!(place.images.tag("b", &by_digest), Err(Error::Tag(_))));
    // What dangles and is not used is pruned, with its blobs and layers.
    image(&place, "a:1", "third");
    let mut used = |id: &Digest| Ok(if *id == old { vec![user(false)] } else { vec![] });
    assert_eq!(place.images.prune(false, &|_| true, &mut used).unwrap().0, []);
    let (pruned, freed) = place.images.prune(false, &|_| true, &mut |_| Ok(vec![])).unwrap();
    // The image, and the layer that no other needs.
    assert_eq!(pruned[0], DeleteItem::Deleted(old.to_string()));
    assert!(matches!(&pruned[1..], [DeleteItem::Deleted(_)]), "{pruned:?}");
    assert!(freed > 0);
    place.assert_tidy(6);
    assert_eq!(place.layers(), 2);
}

fn user(running: bool) -> User {
    User { id: "0123456789ab".into(), running }
}

#[test]
fn removing_follows_dockers_rules() {
    // Names of the image, what is removed, by force?, its users; what goes, or the error.
    type Case<'a> =
        (&'a [&'a str], &'a str, bool, Vec<User>, Result<(&'a [&'a str], bool), &'a str>);
    let cases: Vec<Case<'_>> = vec![
        (&["a:1"], "a:1", false, vec![], Ok((&["a:1"], true))),
        (&["a:1", "b:1"], "a:1", false, vec![], Ok((&["a:1"], false))),
        (&["a:1"], "ID", false, vec![], Ok((&["a:1"], true))),
        (&[], "ID", false, vec![], Ok((&[], true))),
        (&["a:1", "b:1"], "ID", true, vec![], Ok((&["a:1", "b:1"], true))),
        (
            &["a:1", "b:1"],
            "ID",
            false,
            vec![],
            Err(
                "conflict: unable to delete SHORT (must be forced) - image is referenced in multiple repositories",
            ),
        ),
        (
            &["a:1"],
            "a:1",
            false,
            vec![user(false)],
            Err(
                "conflict: unable to remove repository reference \"a:1\" (must force) - container 0123456789ab is using its referenced image SHORT",
            ),
        ),
        (
            &["a:1"],
            "ID",
            false,
            vec![user(false)],
            Err(
                "conflict: unable to delete SHORT (must be forced) - image is being used by stopped container 0123456789ab",
            ),
        ),
        (
            &["a:1"],
            "ID",
            true,
            vec![user(false), user(true)],
            Err(
                "conflict: unable to delete SHORT (cannot be forced) - image is being used by running container 0123456789ab",
            ),
        ),
        (&["a:1"], "ID", true, vec![user(false)], Ok((&["a:1"], true))),
        (&["a:1"], "a:1", true, vec![user(false)], Ok((&["a:1"], true))),
        // The name goes, the image stays with its container.
        (&["a:1"], "a:1", true, vec![user(true)], Ok((&["a:1"], false))),
        // Another name is left, so a container is no hindrance.
        (&["a:1", "b:1"], "a:1", false, vec![user(true)], Ok((&["a:1"], false))),
        (&["a:1"], "a:2", false, vec![], Err("No such image: a:2")),
    ];
    for (tags, what, force, users, expected) in cases {
        let place = place();
        let id = image(&place, "first:1", "x");
        for tag in tags {
            place.images.tag("first:1", &tag.parse().unwrap()).unwrap();
        }
        place.images.remove("first:1", true, &mut |_| Ok(vec![user(true)])).unwrap();
        let with_id = |text: &str| text.replace("ID", &id.hex()[..10]).replace("SHORT", id.short());
        let removed = place.images.remove(&with_id(what), force, &mut |_| Ok(users.clone()));
        let shown = format!("{tags:?} {what} {force} {users:?}");
        match (removed, expected) {
            (Ok(done), Ok((untagged, deleted))) => {
                let mut want: Vec<DeleteItem> =
                    untagged.iter().map(|tag| DeleteItem::Untagged(tag.to_string())).collect();
                if deleted {
                    want.push(DeleteItem::Deleted(id.to_string()));
                    // A chain of one layer is that layer.
                    want.push(DeleteItem::Deleted(Digest::sha256(&layer("x")).to_string()));
                }
                assert_eq!(done, want, "{shown}");
                place.assert_tidy(if deleted { 0 } else { 3 });
                assert_eq!(place.layers(), usize::from(!deleted), "{shown}");
            }
            (Err(e), Err(text)) => {
                assert_eq!(e.to_string(), with_id(text), "{shown}");
                assert_eq!(names(&place, &id).len(), tags.len(), "nothing was removed: {shown}");
            }
            (found, _) => panic!("{shown}: {found:?}"),
        }
    }
}

#[test]
fn an_image_stays_where_nobody_knows_who_uses_it() {
    let place = place();
    image(&place, "a:1", "x");
    let error = place.images.remove("a:1", true, &mut |_| Err("no list of containers".into()));
    let error = error.unwrap_err();
    assert!(matches!(error, Error::Users { .. }), "{error}");
    place.images.resolve("a:1").unwrap();
}

#[test]
fn removing_one_image_leaves_what_another_shares_with_it() {
    let place = place();
    let (base, top) = (layer("base"), layer("top"));
    place.load_stream(tar(&docker_archive("one:1", &[&base]))).unwrap();
    let two = place.load_stream(tar(&docker_archive("two:1", &[&base, &top]))).unwrap();
    assert_eq!(place.layers(), 2);
    place.images.remove("two:1", false, &mut |_| Ok(vec![])).unwrap();
    assert_eq!(place.layers(), 1);
    place.assert_tidy(3);
    assert!(matches!(place.images.resolve(two[0].id.hex()), Err(Error::NotFound(_))));
    let one = place.images.resolve("one:1").unwrap();
    assert!(place.images.snapshots().has(&one.chain()));
}

#[test]
fn inspect_history_and_lists_show_what_docker_shows() {
    let place = place();
    let layer = layer("x");
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "author": "me", "comment": "no", "docker_version": "18.06.1-ce",
        "created": "2020-01-23T16:53:06.686519038Z",
        "config": { "Cmd": ["/bin/sh"], "Env": ["A=1"], "Labels": { "l": "v" }, "OnBuild": null },
        "rootfs": { "type": "layers", "diff_ids": [Digest::sha256(&layer)] },
        "history": [
            { "created": "2020-01-23T16:53:06Z", "created_by": "ADD" },
            { "created": "2020-01-23T16:53:07Z", "created_by": "CMD", "empty_layer": true, "comment": "c" },
        ],
    }).to_string();
    let mut archive = docker_archive("a:1", &[&layer]);
    archive[1] = file("config.json", config);
    let id = place.load_stream(tar(&archive)).unwrap()[0].id.to_string();
    let image = place.images.resolve("a:1").unwrap();
    let shown = place.images.inspect(&image).unwrap();
    assert_eq!(
        (shown.id.as_str(), shown.repo_tags, shown.repo_digests.len()),
        (id.as_str(), vec!["a:1".to_owned()], 0)
    );
    assert_eq!(
        (shown.size, shown.author.as_str(), shown.docker_version.as_str()),
        (12, "me", "18.06.1-ce")
    );
    assert_eq!(shown.config.unwrap().cmd.unwrap(), ["/bin/sh"]);
    let history = place.images.history(&image).unwrap();
    let rows: Vec<_> =
        history.iter().map(|h| (h.id.as_str(), h.created_by.as_str(), h.size, h.created)).collect();
    assert_eq!(
        rows,
        [(id.as_str(), "CMD", 0, 1_579_798_387), ("<missing>", "ADD", 12, 1_579_798_386)]
    );
    assert_eq!(history[0].tags, Some(vec!["a:1".to_owned()]));
    let list = place.images.list().unwrap();
    assert_eq!((list.len(), list[0].size_bytes, list[0].created), (1, 12, 1_579_798_386));
    assert_eq!(list[0].labels["l"], "v");
}
