//! What has to be said for an unblock.

use regex::Regex;

/// What has to be said for an unblock in one environment.
#[derive(Debug, Clone, Default)]
pub struct Demands {
    pub(super) reason: bool,
    pub(super) ticket: bool,
    pub(super) on_behalf_of: bool,
    pub(super) ticket_pattern: Option<TicketPattern>,
}

/// What a ticket looks like, as a whole.
#[derive(Debug, Clone)]
pub(super) struct TicketPattern {
    pub(super) written: String,
    pub(super) whole: Regex,
}

impl Demands {
    /// The fields that do not say what is demanded, each with what to do about it. Spaces say nothing; a ticket that is not
    /// demanded has to look like one where it is given.
    #[must_use]
    pub fn check(&self, reason: &str, ticket: &str, on_behalf_of: &str) -> Vec<(&'static str, String)> {
        let missing = |demanded: bool, text: &str| demanded && text.trim().is_empty();
        let mut wrong = Vec::new();
        if missing(self.reason, reason) {
            wrong.push(("reason", "say why: this environment demands a reason".to_owned()));
        }
        match &self.ticket_pattern {
            Some(TicketPattern { written, .. }) if missing(self.ticket, ticket) => {
                wrong.push(("ticket", format!("name the ticket, one that is wholly matched by {written}")));
            }
            Some(TicketPattern { written, whole }) if !ticket.is_empty() && !whole.is_match(ticket) => {
                wrong.push(("ticket", format!("name a ticket that is wholly matched by {written}")));
            }
            None if missing(self.ticket, ticket) => {
                wrong.push(("ticket", "name the ticket: this environment demands one".to_owned()));
            }
            Some(_) | None => {}
        }
        if missing(self.on_behalf_of, on_behalf_of) {
            wrong.push(("on_behalf_of", "say for whom: this environment demands it".to_owned()));
        }
        wrong
    }

    /// Each demand as its key in the file has it.
    #[must_use]
    pub fn by_key(&self) -> Vec<String> {
        let flags = [
            ("require_reason", self.reason),
            ("require_ticket", self.ticket),
            ("require_on_behalf_of", self.on_behalf_of),
        ];
        let demanded = flags.into_iter().filter(|(_, demanded)| *demanded).map(|(key, _)| key.to_owned());
        let pattern = self.ticket_pattern.iter().map(|pattern| format!("ticket_pattern {}", pattern.written));
        demanded.chain(pattern).collect()
    }
}
