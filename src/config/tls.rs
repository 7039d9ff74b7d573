//! TLS on the gRPC port: which files, and whose certificates are asked for.

use std::path::PathBuf;

use super::{
    mistake::Origin,
    reader::{Given, Reader, Wrong},
    values::{non_empty, one_of},
};
use crate::auth::ClientAuth;

/// TLS on the gRPC port.
#[derive(Debug, Clone)]
pub struct Tls {
    /// The certificate's file.
    pub cert: PathBuf,
    /// Its key's file.
    pub key: PathBuf,
    /// The file of authorities for callers' certificates, where any are asked for.
    pub clients: Option<(PathBuf, ClientAuth)>,
}

/// Who has authorities named wants to know who calls: letting others in is said, since nobody would notice that it happens.
const WITH_AUTHORITIES: ClientAuth = ClientAuth::Required;
const WHO: &[(&str, Option<ClientAuth>)] =
    &[("none", None), ("optional", Some(ClientAuth::Optional)), ("required", Some(ClientAuth::Required))];

/// Some(None) without TLS; None after a mistake.
pub(super) fn read(reader: &mut Reader<'_>) -> Option<Option<Tls>> {
    let cert = file(reader, "tls_cert");
    let key = file(reader, "tls_key");
    let authorities = file(reader, "tls_client_ca");
    let who = reader.given("tls_client_auth");
    let auth = who.as_ref().map(|given| reader.parse(given, one_of(WHO)));
    if let (Some(_), None) = (&cert, &key) {
        reader.missing("tls_key", "the certificate is (UNBLOCK_TLS_CERT)");
    }
    if let (None, Some(_)) = (&cert, &key) {
        reader.missing("tls_cert", "its key is (UNBLOCK_TLS_KEY)");
    }
    let tls = cert.is_some() || key.is_some();
    if let (Some((given, _)), false) = (&authorities, tls) {
        let remedy = "set UNBLOCK_TLS_CERT and UNBLOCK_TLS_KEY, or leave this out";
        wrong(reader, given, "callers show certificates only over TLS", remedy);
    }
    match (&who, auth, &authorities) {
        (Some(given), Some(Some(Some(_))), None) => {
            let what = "there is no authority to verify certificates against";
            wrong(reader, given, what, "name a file of authorities with UNBLOCK_TLS_CLIENT_CA");
        }
        (Some(given), Some(Some(None)), Some(_)) => {
            let what = "authorities are named (UNBLOCK_TLS_CLIENT_CA), but no certificate is asked for";
            wrong(reader, given, what, "write required or optional, or leave the authorities out");
        }
        _ => {}
    }
    let auth = match auth {
        None => WITH_AUTHORITIES,
        Some(given) => given?.unwrap_or(WITH_AUTHORITIES),
    };
    match (cert, key) {
        (Some((_, cert)), Some((_, key))) => {
            let clients = authorities.map(|(_, file)| (file, auth));
            Some(Some(Tls { cert: cert.clone(), key: key.clone(), clients }))
        }
        (None, None) => Some(None),
        _ => None,
    }
}

/// A file that can be read. What is in it is looked at when it is used, then and each time it changes.
fn file(reader: &mut Reader<'_>, key: &str) -> Option<(Given, PathBuf)> {
    let given = reader.given(key)?;
    let text = reader.parse(&given, non_empty)?;
    let path = match &given.origin {
        Origin::File { .. } => reader.file.beside(&text),
        Origin::Flag(_) | Origin::Variable(_) => PathBuf::from(text),
    };
    if let Err(error) = std::fs::File::open(&path) {
        wrong(reader, &given, &format!("the file cannot be read: {error}"), "name a readable PEM file");
    }
    Some((given, path))
}

fn wrong(reader: &mut Reader<'_>, given: &Given, what: &str, remedy: &str) {
    reader.mistake(given.origin.clone(), Wrong(what.to_owned(), remedy.to_owned()));
}
