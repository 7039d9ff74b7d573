//! The rules by which replicas share jobs, checked in every order of events: two replicas, two jobs, one crash or freeze. Holds: no request
//! to PingOne overlaps another for the same job; none starts after the job's end, its time or an acknowledged cancel; no late answer
//! changes a job; nothing acknowledged is lost. Each rule that is left out is missed: there is a path that breaks a promise without it.
#![cfg(test)]

mod claims;

use claims::{Broken, Claims, Wrong};
use stateright::{Checker as _, HasDiscoveries, Model as _};

fn with(broken: Broken) -> Claims {
    Claims { broken, ticks: 3, faults: 1, steered: 1 }
}

#[test]
fn what_is_promised_holds_in_every_order_of_events() {
    let checked = with(Broken::Nothing).checker().symmetry().spawn_dfs().join();
    println!("{} states, at most {} steps", checked.unique_state_count(), checked.max_depth());
    checked.assert_properties();
}

#[test]
fn each_rule_is_needed() {
    for (broken, wrong) in [
        (Broken::NoAttemptFence, Wrong::LateAnswer),
        (Broken::CompletedById, Wrong::LateAnswer),
        (Broken::ShortLease, Wrong::Overlap),
        (Broken::SentBeforeCommit, Wrong::Overlap),
        (Broken::NoSendWindow, Wrong::AfterTheEnd),
        (Broken::CancelSettledAtOnce, Wrong::AfterTheCancel),
        (Broken::AnsweredBeforeCommit, Wrong::Lost),
    ] {
        let until = HasDiscoveries::AllOf([wrong.denied()].into());
        let checked = with(broken).checker().finish_when(until).spawn_bfs().join();
        let path = checked.discovery(wrong.denied());
        let path = path.unwrap_or_else(|| panic!("{broken:?} does not break: {}", wrong.denied()));
        println!("{broken:?}, not so: {}; by {:?}", wrong.denied(), path.into_actions());
    }
}
