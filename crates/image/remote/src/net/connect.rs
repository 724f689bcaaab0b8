//! Connections: straight or through a proxy, plain or with TLS.

use std::{
    fmt,
    future::Future,
    io,
    pin::Pin,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use hyper::{
    Uri,
    rt::{Read, ReadBufCursor, Write},
};
use hyper_util::{
    client::legacy::connect::{Connected, Connection},
    rt::TokioIo,
};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, lookup_host},
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::{socks, tls};
use crate::{
    Config, Error, Result,
    config::{hosts::Certificates, proxy::Proxies, proxy::Proxy},
    url::{Origin, Scheme, Url},
};

/// How long one address of a host is tried, TLS included.
const CONNECT_MAX: Duration = Duration::from_secs(30);
/// A proxy's answer to CONNECT.
const PROXY_ANSWER_BYTES_MAX: usize = 16 << 10;

/// Makes connections for a pool.
#[derive(Clone)]
pub(crate) struct Connector {
    shared: Arc<Shared>,
}

struct Shared {
    certificates: Certificates,
    proxies: Proxies,
    timeout: Duration,
    /// Made when it is first needed: reading the machine's authorities takes milliseconds.
    tls: OnceLock<Arc<ClientConfig>>,
}

/// Why there is no connection; the error can be taken out of it once.
pub(crate) struct Failed(Mutex<Option<Error>>);

impl Failed {
    pub(crate) fn take(&self) -> Option<Error> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl fmt::Debug for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Failed")
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => error.fmt(f),
            None => f.write_str("no connection"),
        }
    }
}

impl std::error::Error for Failed {}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A connection that is ready for HTTP.
pub(crate) struct Stream {
    io: TokioIo<Box<dyn Io>>,
    http2: bool,
    /// Whether a proxy reads the requests.
    proxied: bool,
}

impl Connector {
    pub(super) fn new(config: &Config, certificates: Certificates) -> Connector {
        let timeout = CONNECT_MAX.min(config.stall);
        let proxies = config.proxies.clone();
        Connector {
            shared: Arc::new(Shared { certificates, proxies, timeout, tls: OnceLock::new() }),
        }
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").finish_non_exhaustive()
    }
}

impl tower_service::Service<Uri> for Connector {
    type Response = Stream;
    type Error = Failed;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, Failed>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            shared.connect(&uri).await.map_err(|error| Failed(Mutex::new(Some(error))))
        })
    }
}

impl Shared {
    async fn connect(&self, uri: &Uri) -> Result<Stream> {
        let bad = |why: String| Error::Protocol { url: uri.to_string(), why };
        let url: Url = uri.to_string().parse().map_err(|e| bad(format!("{e}")))?;
        let target = url.origin;
        let proxy = self.proxies.for_origin(&target);
        let (stream, proxied) = match proxy {
            None => (Box::new(self.dial(&target).await?) as Box<dyn Io>, false),
            Some(proxy) => {
                let mut stream: Box<dyn Io> = Box::new(self.dial(&proxy.origin).await?);
                if proxy.origin.scheme == Scheme::Https {
                    stream = Box::new(self.secure(stream, &proxy.origin, false).await?.0);
                }
                match target.scheme {
                    _ if proxy.socks => {
                        let asked = socks::connect(&mut stream, &target, proxy.login.as_ref());
                        let late = || io::Error::from(io::ErrorKind::TimedOut);
                        let done = timeout(self.timeout, asked).await;
                        let refused = |e: io::Error| Error::Proxy {
                            proxy: proxy.origin.authority(),
                            why: in_words(e).to_string(),
                        };
                        done.unwrap_or_else(|_| Err(late())).map_err(refused)?;
                        (stream, false)
                    }
                    Scheme::Http => (stream, true),
                    Scheme::Https => (self.tunnel(stream, proxy, &target).await?, false),
                }
            }
        };
        if target.scheme == Scheme::Http {
            return Ok(Stream { io: TokioIo::new(stream), http2: false, proxied });
        }
        let (stream, http2) = self.secure(stream, &target, true).await?;
        Ok(Stream { io: TokioIo::new(Box::new(stream)), http2, proxied: false })
    }

    /// The first of a host's addresses that answers.
    async fn dial(&self, origin: &Origin) -> Result<TcpStream> {
        let address = origin.authority();
        let failed = |source| Error::Connect { address: address.clone(), source: in_words(source) };
        let late = |_| io::Error::from(io::ErrorKind::TimedOut);
        let addresses = lookup_host((origin.host.as_str(), origin.port));
        let addresses = timeout(self.timeout, addresses).await.map_err(|e| failed(late(e)))?;
        let mut last = io::Error::new(io::ErrorKind::NotFound, "no such host");
        for address in addresses.map_err(failed)? {
            match timeout(self.timeout, TcpStream::connect(address)).await.map_err(late) {
                Ok(Ok(stream)) => {
                    stream.set_nodelay(true).map_err(failed)?;
                    return Ok(stream);
                }
                Ok(Err(e)) | Err(e) => last = e,
            }
        }
        Err(failed(last))
    }

    /// Asks a proxy for a connection to `target`.
    async fn tunnel(
        &self,
        mut stream: Box<dyn Io>,
        proxy: &Proxy,
        target: &Origin,
    ) -> Result<Box<dyn Io>> {
        let refused = |why: String| Error::Proxy { proxy: proxy.origin.authority(), why };
        let host = match target.host.contains(':') {
            true => format!("[{}]:{}", target.host, target.port),
            false => format!("{}:{}", target.host, target.port),
        };
        let mut question = format!("CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n");
        if let Some(authorization) = proxy.authorization() {
            question.push_str(&format!("Proxy-Authorization: {authorization}\r\n"));
        }
        question.push_str("\r\n");
        let answered = timeout(self.timeout, async {
            stream.write_all(question.as_bytes()).await?;
            let mut answer = Vec::new();
            // Byte by byte: what follows the answer is not ours to read.
            while !answer.ends_with(b"\r\n\r\n") {
                if answer.len() == PROXY_ANSWER_BYTES_MAX {
                    return Err(io::ErrorKind::InvalidData.into());
                }
                answer.push(stream.read_u8().await?);
            }
            Ok(answer)
        });
        let answer = match answered.await {
            Err(_) => return Err(refused("it does not answer".into())),
            Ok(answer) => answer.map_err(|e: io::Error| refused(e.to_string()))?,
        };
        let line = answer.split(|b| *b == b'\r').next().unwrap_or_default();
        let line = String::from_utf8_lossy(line);
        match line.split(' ').nth(1) {
            Some("200") => Ok(stream),
            _ => Err(refused(crate::error::Said::text(&line).to_string())),
        }
    }

    /// Speaks TLS on a connection, and says whether HTTP/2 was agreed on.
    async fn secure(
        &self,
        stream: Box<dyn Io>,
        origin: &Origin,
        http2: bool,
    ) -> Result<(impl Io + use<>, bool)> {
        let address = origin.authority();
        let mut config = match self.tls.get() {
            Some(config) => Arc::clone(config),
            None => {
                let config = Arc::new(tls::config(&self.certificates)?);
                Arc::clone(self.tls.get_or_init(|| config))
            }
        };
        if !http2 {
            Arc::make_mut(&mut config).alpn_protocols.clear();
        }
        let name = ServerName::try_from(origin.host.clone()).map_err(|e| Error::Connect {
            address: address.clone(),
            source: io::Error::new(io::ErrorKind::InvalidInput, e),
        })?;
        let handshake = timeout(self.timeout, TlsConnector::from(config).connect(name, stream));
        let source = match handshake.await {
            Ok(Ok(stream)) => {
                let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                return Ok((stream, http2));
            }
            Ok(Err(e)) => e,
            Err(_) => io::ErrorKind::TimedOut.into(),
        };
        let of_tls = source.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
        if let Some(rustls::Error::InvalidCertificate(wrong)) = of_tls {
            return Err(Error::Certificate { address, why: tls::explain(wrong) });
        }
        Err(Error::Connect { address, source })
    }
}

/// In the words that people know from Go's programs.
fn in_words(error: io::Error) -> io::Error {
    let words = match error.kind() {
        io::ErrorKind::ConnectionRefused => "connect: connection refused",
        io::ErrorKind::NetworkUnreachable => "connect: network is unreachable",
        io::ErrorKind::HostUnreachable => "connect: no route to host",
        io::ErrorKind::TimedOut => "i/o timeout",
        _ => return error,
    };
    io::Error::new(error.kind(), words)
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        let connected = Connected::new().proxy(self.proxied);
        if self.http2 { connected.negotiated_h2() } else { connected }
    }
}

impl Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl Write for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
