//! `audit`: proves that the audit trail is as it was sealed, and hands it out.

mod database;
mod export;
mod head;
mod ocsf;
mod verify;

use clap::Subcommand;

use super::{error::Error, exit::Exit, screen::Screen};

/// Proves that the audit trail is as it was sealed, and hands it out
#[derive(Debug, Subcommand)]
pub(super) enum Audit {
    Export(export::Export),
    Verify(verify::Verify),
    Head(head::Head),
}

impl Audit {
    pub(super) async fn run(self, screen: &Screen) -> Result<Exit, Error> {
        match self {
            Self::Export(export) => export.run(screen).await,
            Self::Verify(verify) => verify.run(screen).await,
            Self::Head(head) => head.run(screen).await,
        }
    }
}
