//! Which server a command asks, and as whom: options, certificates, token.

use std::{
    env,
    error::Error as StdError,
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use http::Uri;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use super::{
    NAME, args,
    client::{Client, TimeLimit},
    error::Error,
    tls,
    token::Bearer,
};

const DEFAULT_SERVER: &str = "http://127.0.0.1:50051";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// Which server, and as whom.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Server")]
pub(super) struct ServerOptions {
    /// Server to ask
    #[arg(long, value_name = "URL", env = "UNBLOCK_SERVER", default_value = DEFAULT_SERVER, value_parser = server)]
    server: String,
    /// Certificates to trust instead of the system's, PEM
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Client certificate, PEM
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// Key of the client certificate, PEM
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// File with the bearer token; without it the variable UNBLOCK_TOKEN, if set
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// A server, and how long it has for an answer.
#[derive(Debug, Clone, Args)]
pub(super) struct CallOptions {
    #[command(flatten)]
    pub(super) server: ServerOptions,
    /// How long to wait for an answer
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = args::duration)]
    timeout: Duration,
}

impl CallOptions {
    pub(super) fn time_limit(&self) -> TimeLimit {
        TimeLimit::start(self.timeout)
    }
}

impl ServerOptions {
    /// Connects at once, so that a server that is not there is noticed before anything is sent.
    ///
    /// # Errors
    /// [`Error::Usage`] for files and tokens that can not be used, [`Error::Connect`] where nobody answers.
    pub(super) async fn connect(&self) -> Result<Client, Error> {
        let bearer = self.bearer()?;
        let channel = self
            .endpoint()?
            .connect()
            .await
            .map_err(|error| Error::Connect { server: self.server.clone(), cause: cause(&error) })?;
        Ok(Client::new(channel, bearer))
    }

    /// The token, where nobody on the way can read it.
    fn bearer(&self) -> Result<Bearer, Error> {
        let bearer = Bearer::of(self.token_file.as_ref())?;
        if !bearer.is_none() && !self.is_private() {
            return Err(Error::Usage(format!(
                "the token would travel unencrypted to {}; give an https:// server, or no token \
                 (--token-file, UNBLOCK_TOKEN)",
                self.server
            )));
        }
        Ok(bearer)
    }

    /// The server to ask.
    pub(super) fn url(&self) -> &str {
        &self.server
    }

    /// `command` with the options that reach the same server again, to be pasted into a shell.
    pub(super) fn again(&self, command: &str) -> String {
        let mut line = format!("{NAME} {command}");
        let mut add = |flag: &str, value: &str| {
            line.push_str(&format!(" {flag} {}", shell_word(value)));
        };
        let usual = env::var("UNBLOCK_SERVER").unwrap_or_else(|_| DEFAULT_SERVER.to_owned());
        if self.server != usual {
            add("--server", &self.server);
        }
        let files = [("--ca", &self.ca), ("--cert", &self.cert), ("--key", &self.key)];
        for (flag, file) in files.into_iter().chain([("--token-file", &self.token_file)]) {
            if let Some(file) = file {
                add(flag, &file.to_string_lossy());
            }
        }
        line
    }

    fn endpoint(&self) -> Result<Endpoint, Error> {
        let unusable = |error: tonic::transport::Error| Error::Usage(format!("--server: {}", cause(&error)));
        let endpoint = Endpoint::from_shared(self.server.clone())
            .and_then(|endpoint| endpoint.user_agent(concat!("pingone-unblock/", env!("CARGO_PKG_VERSION"))))
            .map_err(unusable)?
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEP_ALIVE);
        match self.tls()? {
            Some(tls) => endpoint.tls_config(tls).map_err(|error| {
                Error::Usage(format!("the certificates can not be used: {}", cause(&error)))
            }),
            None => Ok(endpoint),
        }
    }

    fn tls(&self) -> Result<Option<ClientTlsConfig>, Error> {
        if !self.is_encrypted() {
            return match (&self.ca, &self.cert) {
                (None, None) => Ok(None),
                _ => Err(Error::Usage("--ca, --cert and --key need an https:// server".to_owned())),
            };
        }
        let mut tls = ClientTlsConfig::new();
        tls = match &self.ca {
            Some(ca) => tls.ca_certificate(Certificate::from_pem(read("--ca", ca)?)),
            None => tls.with_native_roots(),
        };
        if let (Some(cert), Some(key)) = (&self.cert, &self.key) {
            tls = tls.identity(Identity::from_pem(read("--cert", cert)?, read("--key", key)?));
        }
        Ok(Some(tls))
    }

    fn is_encrypted(&self) -> bool {
        self.uri().is_some_and(|uri| uri.scheme_str() == Some("https"))
    }

    /// Whether nobody else can read what is sent: TLS, or this very machine.
    fn is_private(&self) -> bool {
        self.is_encrypted() || self.uri().and_then(|uri| uri.host().map(is_this_machine)).unwrap_or(false)
    }

    fn uri(&self) -> Option<Uri> {
        self.server.parse().ok()
    }
}

/// Not by its beginning: `127.example.com` is elsewhere.
fn is_this_machine(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

fn server(text: &str) -> Result<String, String> {
    let uri = text.parse::<Uri>().ok();
    let usable =
        uri.is_some_and(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some());
    if usable { Ok(text.to_owned()) } else { Err(format!("a server is a URL such as {DEFAULT_SERVER}")) }
}

pub(super) fn read(flag: &str, file: &Path) -> Result<Vec<u8>, Error> {
    fs::read(file).map_err(|error| Error::Usage(format!("{flag} {}: {error}", file.display())))
}

/// The innermost cause, which names the reason: connection refused, unknown host, unknown certificate.
fn cause(error: &(dyn StdError + 'static)) -> String {
    if let Some(words) = tls::in_words(error) {
        return words;
    }
    let mut innermost: &dyn StdError = error;
    while let Some(deeper) = innermost.source() {
        innermost = deeper;
    }
    innermost.to_string()
}

/// `text` so that a shell reads it as one word.
pub(super) fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_./:@%+=,-".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_an_http_url() {
        assert!(server("http://127.0.0.1:50051").is_ok());
        assert!(server("https://unblock.example.com").is_ok());
        for wrong in ["", "localhost", "localhost:50051", "ftp://x", "http://", "/etc"] {
            assert!(server(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_this_machine_is_this_machine() {
        for host in ["localhost", "127.0.0.1", "127.8.0.1", "[::1]", "[::ffff:127.0.0.1]"] {
            assert!(is_this_machine(host), "{host}");
        }
        for host in ["127.example.com", "localhost.example.com", "10.0.0.1", "[::2]", "0.0.0.0"] {
            assert!(!is_this_machine(host), "{host}");
        }
    }

    #[test]
    fn words_survive_the_shell() {
        assert_eq!(shell_word("http://[::1]:50051"), "'http://[::1]:50051'");
        assert_eq!(shell_word("certs/ca.pem"), "certs/ca.pem");
        assert_eq!(shell_word("it's"), r"'it'\''s'");
    }
}
