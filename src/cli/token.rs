//! The bearer token of a command: where it is, and each call's own look at it.

use std::{
    env,
    path::{Path, PathBuf},
};

use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::Interceptor,
};

use super::{error::Error, server::read};

const VARIABLE: &str = "UNBLOCK_TOKEN";

/// Puts the token, if there is one, on every call. A file is read anew each time: tokens expire while a batch goes on.
#[derive(Debug, Clone)]
pub(super) struct Bearer(Source);

#[derive(Debug, Clone)]
enum Source {
    None,
    Variable(MetadataValue<Ascii>),
    File(PathBuf),
}

impl Bearer {
    /// The token in `file`, else in the variable.
    ///
    /// # Errors
    /// [`Error::Usage`] for one that cannot be used.
    pub(super) fn of(file: Option<&PathBuf>) -> Result<Self, Error> {
        let source = match (file, env::var(VARIABLE)) {
            (Some(file), _) => {
                in_file(file)?;
                Source::File(file.clone())
            }
            (None, Ok(text)) => Source::Variable(header(VARIABLE, &text)?),
            (None, Err(env::VarError::NotPresent)) => Source::None,
            (None, Err(env::VarError::NotUnicode(_))) => return Err(no_token(VARIABLE)),
        };
        Ok(Self(source))
    }

    pub(super) const fn is_none(&self) -> bool {
        matches!(self.0, Source::None)
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let token = match &self.0 {
            Source::None => return Ok(request),
            Source::Variable(token) => token.clone(),
            Source::File(file) => {
                in_file(file).map_err(|error| Status::invalid_argument(error.to_string()))?
            }
        };
        request.metadata_mut().insert("authorization", token);
        Ok(request)
    }
}

fn in_file(file: &Path) -> Result<MetadataValue<Ascii>, Error> {
    header("--token-file", &String::from_utf8_lossy(&read("--token-file", file)?))
}

fn header(source: &str, text: &str) -> Result<MetadataValue<Ascii>, Error> {
    let token = text.trim();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(no_token(source));
    }
    let mut header: MetadataValue<Ascii> = format!("Bearer {token}").parse().map_err(|_| no_token(source))?;
    header.set_sensitive(true);
    Ok(header)
}

fn no_token(source: &str) -> Error {
    Error::Usage(format!("{source} holds no token"))
}
