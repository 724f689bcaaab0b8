//! `-u` and `--group-add`: who the container's process is, from the image's passwd and group.
//!
//! A number is a number, even where an account has that number as its *name*: what the image says
//! never changes which number the user meant. Numbers are 0 to 2147483647, in plain digits.

use hako_oci::runtime::User;

/// A user or group that cannot be used. Texts are those of Docker and runc.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UserError {
    /// No such account.
    #[error("unable to find user {0}: no matching entries in passwd file")]
    UnknownUser(String),
    /// No such group.
    #[error("unable to find group {0}: no matching entries in group file")]
    UnknownGroup(String),
    /// A number that is none, or out of range.
    #[error("invalid user or group {0:?}: uids and gids must be in range 0-2147483647")]
    Range(String),
    /// More than `user:group`, or a part that is empty.
    #[error("invalid user {0:?}: expected user, uid, user:group, uid:gid, uid:group, or user:gid")]
    Form(String),
    /// A file that no image needs to have.
    #[error("{file} of the image has more than {FILE_MAX} bytes")]
    TooLarge {
        /// Which file.
        file: &'static str,
    },
}

/// Most bytes of passwd or group that are looked at.
pub const FILE_MAX: usize = 16 << 20;

/// Most supplementary groups of a process (NGROUPS_MAX).
const GROUPS_MAX: usize = 65536;

/// Who a process is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Supplementary groups, the primary one first, as Docker sets them.
    pub groups: Vec<u32>,
    /// Home directory, `/` where no account says another.
    pub home: String,
}

/// Finds who `user` is (`""` is root), with the groups of `group_add` besides.
pub fn resolve(
    user: &str,
    group_add: &[String],
    passwd: &[u8],
    group: &[u8],
) -> Result<Identity, UserError> {
    for (file, bytes) in [("/etc/passwd", passwd), ("/etc/group", group)] {
        if bytes.len() > FILE_MAX {
            return Err(UserError::TooLarge { file });
        }
    }
    let (user_word, group_word) = match user.split_once(':') {
        Some(("", _) | (_, "")) => return Err(UserError::Form(user.into())),
        Some((_, group_word)) if group_word.contains(':') => {
            return Err(UserError::Form(user.into()));
        }
        Some((user_word, group_word)) => (user_word, Some(group_word)),
        None if user.is_empty() => ("0", None),
        None => (user, None),
    };
    let account = match number(user_word)? {
        Some(uid) => accounts(passwd).find(|a| a.uid == uid).unwrap_or(Account {
            name: "",
            uid,
            gid: 0,
            home: "",
        }),
        None => accounts(passwd)
            .find(|a| a.name == user_word)
            .ok_or_else(|| UserError::UnknownUser(user_word.into()))?,
    };
    let gid = match group_word {
        Some(word) => find_group(word, group)?,
        None => account.gid,
    };
    let mut groups = vec![gid];
    let mut add = |gid: u32| {
        if groups.len() < GROUPS_MAX && !groups.contains(&gid) {
            groups.push(gid);
        }
    };
    // A group that was named stands alone; else the account's memberships count.
    if group_word.is_none() && !account.name.is_empty() {
        let is_member = |g: &Group<'_>| g.members.split(',').any(|m| m.trim() == account.name);
        group_lines(group).filter(is_member).for_each(|g| add(g.gid));
    }
    for word in group_add {
        add(find_group(word, group)?);
    }
    // What goes into the environment must be one line of text.
    let home = match account.home {
        home if home.is_empty() || home.contains(|c: char| c.is_control()) => "/",
        home => home,
    };
    Ok(Identity { uid: account.uid, gid, groups, home: home.into() })
}

/// Who `user` is, as config.json says it.
pub fn resolve_user(user: &str, passwd: &[u8], group: &[u8]) -> Result<User, UserError> {
    let who = resolve(user, &[], passwd, group)?;
    Ok(User { uid: who.uid, gid: who.gid, additional_gids: who.groups, ..User::default() })
}

fn find_group(word: &str, group: &[u8]) -> Result<u32, UserError> {
    match number(word)? {
        Some(gid) => Ok(gid),
        None => group_lines(group)
            .find(|g| g.name == word)
            .map(|g| g.gid)
            .ok_or_else(|| UserError::UnknownGroup(word.into())),
    }
}

/// The number that `word` is; `None` where it is a name. What starts like a number and is no valid
/// one is refused.
fn number(word: &str) -> Result<Option<u32>, UserError> {
    let unsigned = word.strip_prefix(['-', '+']).unwrap_or(word);
    let all_digits = !unsigned.is_empty() && unsigned.bytes().all(|b| b.is_ascii_digit());
    if !all_digits {
        return match word.is_empty() {
            true => Err(UserError::Form(word.into())),
            false => Ok(None),
        };
    }
    match word.parse::<u32>() {
        Ok(n) if n <= i32::MAX as u32 && unsigned == word => Ok(Some(n)),
        _ => Err(UserError::Range(word.into())),
    }
}

struct Account<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

/// The valid lines of a passwd file; others are as if they were not there.
fn accounts(passwd: &[u8]) -> impl Iterator<Item = Account<'_>> {
    lines(passwd).filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let uid = fields.nth(1)?.parse().ok().filter(|n| *n <= i32::MAX as u32)?;
        let gid = fields.next()?.parse().ok().filter(|n| *n <= i32::MAX as u32)?;
        Some(Account { name, uid, gid, home: fields.nth(1).unwrap_or("") })
    })
}

struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

/// The valid lines of a group file; others are as if they were not there.
fn group_lines(group: &[u8]) -> impl Iterator<Item = Group<'_>> {
    lines(group).filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let gid = fields.nth(1)?.parse().ok().filter(|n| *n <= i32::MAX as u32)?;
        Some(Group { name, gid, members: fields.next().unwrap_or("") })
    })
}

fn lines(bytes: &[u8]) -> impl Iterator<Item = &str> {
    bytes
        .split(|&b| b == b'\n')
        .filter_map(|line| std::str::from_utf8(line).ok())
        .map(str::trim)
        .filter(|line| !line.starts_with('#'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\
        # comment:x:7:7::/:/bin/sh\n\
        bad:x:-1:0::/:\n\
        short:x\n\
        www:x:33:33:www:/var/www:/bin/false\n\
        1000:x:5:5:a number as name:/five:/bin/sh\n\
        nohome:x:6:6::\n\
        newline:x:8:8::/x\ty:\n\
        big:x:4294967296:0::/:\n";
    const GROUP: &str = "root:x:0:\nwww:x:33:\naudio:x:29:www,other\nvideo:x:44: www\n\
        wheel:x:10:root\n2000:x:7:www2\nbroken:x:y:www\n";

    fn check(user: &str, add: &[&str]) -> Result<(u32, u32, Vec<u32>, String), String> {
        let add: Vec<String> = add.iter().map(|a| a.to_string()).collect();
        resolve(user, &add, PASSWD.as_bytes(), GROUP.as_bytes())
            .map(|i| (i.uid, i.gid, i.groups, i.home))
            .map_err(|e| e.to_string())
    }

    #[test]
    fn who_it_is() {
        for (user, add, uid, gid, groups, home) in [
            ("", &[][..], 0, 0, &[0, 10][..], "/root"),
            ("root", &[], 0, 0, &[0, 10], "/root"),
            ("0", &[], 0, 0, &[0, 10], "/root"),
            ("www", &[], 33, 33, &[33, 29, 44], "/var/www"),
            ("33", &[], 33, 33, &[33, 29, 44], "/var/www"),
            ("www:audio", &[], 33, 29, &[29], "/var/www"),
            ("www:0", &[], 33, 0, &[0], "/var/www"),
            ("0:33", &[], 0, 33, &[33], "/root"),
            ("12345", &[], 12345, 0, &[0], "/"),
            ("12345:678", &[], 12345, 678, &[678], "/"),
            ("2147483647", &[], 2147483647, 0, &[0], "/"),
            // Never the account whose name is this number.
            ("1000", &[], 1000, 0, &[0], "/"),
            ("1000:2000", &[], 1000, 2000, &[2000], "/"),
            ("0", &["2000"], 0, 0, &[0, 10, 2000], "/root"),
            ("0", &["audio", "77", "0"], 0, 0, &[0, 10, 29, 77], "/root"),
            ("nohome", &[], 6, 6, &[6], "/"),
            ("newline", &[], 8, 8, &[8], "/"),
        ] {
            let expected = Ok((uid, gid, groups.to_vec(), home.to_string()));
            assert_eq!(check(user, add), expected, "{user}");
        }
    }

    #[test]
    fn who_it_is_not() {
        let range = "uids and gids must be in range 0-2147483647";
        for (user, add, message) in [
            ("nobody", &[][..], "unable to find user nobody: no matching entries in passwd file"),
            ("bad", &[], "unable to find user bad: no matching entries in passwd file"),
            ("big", &[], "unable to find user big: no matching entries in passwd file"),
            ("short", &[], "unable to find user short: no matching entries in passwd file"),
            ("0:nobody", &[], "unable to find group nobody: no matching entries in group file"),
            ("0", &["broken"], "unable to find group broken: no matching entries in group file"),
            ("-1", &[], range),
            ("+1", &[], range),
            ("2147483648", &[], range),
            ("4294967296", &[], range),
            ("0:-1", &[], range),
            ("0", &["4294967296"], range),
            ("1:2:3", &[], "expected user, uid,"),
            (":", &[], "expected user, uid,"),
            (":1", &[], "expected user, uid,"),
            ("1:", &[], "expected user, uid,"),
            ("0", &[""], "expected user, uid,"),
        ] {
            let error = check(user, add).unwrap_err();
            assert!(error.contains(message), "{user}: {error}");
        }
        let huge = vec![b'\n'; FILE_MAX + 1];
        let error = resolve("0", &[], b"", &huge).unwrap_err();
        assert_eq!(error, UserError::TooLarge { file: "/etc/group" });
    }

    #[test]
    fn an_image_without_accounts() {
        let who = resolve("0", &[], b"", b"").unwrap();
        assert_eq!(who, Identity { uid: 0, gid: 0, groups: vec![0], home: "/".into() });
    }

    proptest! {
        #[test]
        fn any_files_and_words(
            user in ".{0,12}",
            passwd in proptest::collection::vec(any::<u8>(), 0..200),
            group in "([a-z0-9]{0,3}:x?:[0-9]{0,11}:[a-z0-9,]{0,6}\n){0,8}",
        ) {
            if let Ok(who) = resolve(&user, &[], &passwd, group.as_bytes()) {
                prop_assert!(who.uid <= i32::MAX as u32 && who.gid <= i32::MAX as u32);
                prop_assert!(!who.home.contains('\n'));
                prop_assert_eq!(who.groups[0], who.gid);
            }
        }
    }
}
