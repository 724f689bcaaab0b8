//! SOCKS 5 (RFC 1928), with a user's name and password (RFC 1929). Names are the proxy's to look up,
//! be it called `socks5` or `socks5h`, as Go's programs have it.

use std::{io, net::IpAddr};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::url::Origin;

const VERSION: u8 = 5;
const NO_LOGIN: u8 = 0;
const PASSWORD: u8 = 2;
const CONNECT: u8 = 1;
const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;

/// What a proxy says where it does not connect, by its number.
const REFUSALS: &[&str] = &[
    "general failure",
    "not allowed by its rules",
    "network is unreachable",
    "host is unreachable",
    "connection refused",
    "it took too long",
    "it knows no such command",
    "it knows no such address",
];

/// Asks the proxy at the other end of `stream` for a connection to `target`.
pub(super) async fn connect(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    target: &Origin,
    login: Option<&(String, String)>,
) -> io::Result<()> {
    let refused = |why: &str| io::Error::other(format!("SOCKS: {why}"));
    let offer: &[u8] = match login {
        None => &[VERSION, 1, NO_LOGIN],
        Some(_) => &[VERSION, 2, NO_LOGIN, PASSWORD],
    };
    stream.write_all(offer).await?;
    let mut chosen = [0; 2];
    stream.read_exact(&mut chosen).await?;
    match (chosen, login) {
        ([VERSION, NO_LOGIN], _) => {}
        ([VERSION, PASSWORD], Some((user, password))) => {
            let too_long = |_| refused("the user's name or password is longer than 255 bytes");
            let mut question = vec![1];
            for text in [user, password] {
                question.push(u8::try_from(text.len()).map_err(too_long)?);
                question.extend_from_slice(text.as_bytes());
            }
            stream.write_all(&question).await?;
            let mut answer = [0; 2];
            stream.read_exact(&mut answer).await?;
            if answer[1] != 0 {
                return Err(refused("the user's name or password is wrong"));
            }
        }
        ([VERSION, _], _) => return Err(refused("it wants a login that there is not")),
        _ => return Err(refused("it does not speak version 5")),
    }
    let mut question = vec![VERSION, CONNECT, 0];
    match target.host.parse() {
        Ok(IpAddr::V4(address)) => {
            question.push(IPV4);
            question.extend_from_slice(&address.octets());
        }
        Ok(IpAddr::V6(address)) => {
            question.push(IPV6);
            question.extend_from_slice(&address.octets());
        }
        Err(_) => {
            let length = u8::try_from(target.host.len());
            let length = length.map_err(|_| refused("the host's name is longer than 255 bytes"))?;
            question.extend_from_slice(&[NAME, length]);
            question.extend_from_slice(target.host.as_bytes());
        }
    }
    question.extend_from_slice(&target.port.to_be_bytes());
    stream.write_all(&question).await?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).await?;
    if answer[1] != 0 {
        let why = REFUSALS.get(usize::from(answer[1]) - 1).unwrap_or(&"an unknown failure");
        return Err(refused(why));
    }
    // The address that it connected from, which nobody needs.
    let rest = match answer[3] {
        IPV4 => 4,
        IPV6 => 16,
        NAME => usize::from(stream.read_u8().await?),
        _ => return Err(refused("its answer has no address")),
    };
    let mut ignored = [0; 257];
    stream.read_exact(&mut ignored[..rest + 2]).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::url::Scheme;

    /// Plays a proxy that sends `says`; gives what was asked of it, and the result.
    fn play(host: &str, login: Option<(&str, &str)>, says: &[u8]) -> (Vec<u8>, Result<(), String>) {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (mut ours, mut theirs) = tokio::io::duplex(4096);
            theirs.write_all(says).await.unwrap();
            let target = Origin { scheme: Scheme::Https, host: host.into(), port: 443 };
            let login = login.map(|(user, password)| (user.to_owned(), password.to_owned()));
            let done = connect(&mut ours, &target, login.as_ref()).await;
            drop(ours);
            let mut asked = Vec::new();
            theirs.read_to_end(&mut asked).await.unwrap();
            (asked, done.map_err(|e| e.to_string()))
        })
    }

    #[test]
    fn what_is_asked() {
        let fine = [5, 0, 5, 0, 0, 1, 127, 0, 0, 1, 0, 80];
        let (asked, done) = play("r.example", None, &fine);
        assert_eq!(done, Ok(()));
        assert_eq!(asked, [&[5, 1, 0, 5, 1, 0, 3, 9][..], b"r.example", &[1, 187]].concat());
        let (asked, done) = play("10.0.0.1", None, &fine);
        assert_eq!(done, Ok(()));
        assert_eq!(asked[3..], [5, 1, 0, 1, 10, 0, 0, 1, 1, 187]);
        let named = [5, 2, 1, 0, 5, 0, 0, 3, 2, b'a', b'b', 0, 80];
        let (asked, done) = play("::1", Some(("me", "pw")), &named);
        assert_eq!(done, Ok(()));
        assert_eq!(asked[..4], [5, 2, 0, 2]);
        assert_eq!(asked[4..11], [&[1, 2][..], b"me", &[2], b"pw"].concat());
        assert_eq!(asked[14], 4);
    }

    #[test]
    fn what_is_answered() {
        for (says, why) in [
            (&[4, 0][..], "it does not speak version 5"),
            (&[5, 255], "it wants a login that there is not"),
            (&[5, 0, 5, 5, 0, 1], "connection refused"),
            (&[5, 0, 5, 99, 0, 1], "an unknown failure"),
            (&[5, 0, 5, 0, 0, 9], "its answer has no address"),
        ] {
            let (_, done) = play("r.example", None, says);
            assert_eq!(done, Err(format!("SOCKS: {why}")));
        }
        let (_, done) = play("r.example", Some(("me", "pw")), &[5, 2, 1, 1]);
        assert_eq!(done, Err("SOCKS: the user's name or password is wrong".into()));
        let long = "x".repeat(300);
        assert!(play(&long, None, &[5, 0]).1.unwrap_err().contains("longer than 255"));
    }
}
