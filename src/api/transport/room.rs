//! How many connections there are: in all, and of one peer.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::telemetry::{metrics, metrics::Refused};

/// Places for connections.
#[derive(Debug)]
pub(super) struct Room {
    all: usize,
    /// Half of them: the other half is for everybody else. A proxy that all callers come through has its half.
    each: usize,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    all: usize,
    by_peer: HashMap<IpAddr, usize>,
}

/// A connection's place; free again when dropped.
#[derive(Debug)]
pub(super) struct Place {
    room: Arc<Room>,
    peer: IpAddr,
}

impl Room {
    pub(super) fn new(all: usize) -> Arc<Self> {
        Arc::new(Self { all, each: all.div_ceil(2), held: Mutex::default() })
    }

    /// A place for a connection from `address`.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn enter(self: &Arc<Self>, address: IpAddr) -> Result<Place, Refused> {
        let peer = peer(address);
        let mut held = self.held();
        if held.all >= self.all {
            return Err(Refused::TooMany);
        }
        let own = held.by_peer.get(&peer).copied().unwrap_or_default();
        if own >= self.each {
            return Err(Refused::TooManyOfPeer);
        }
        held.all += 1;
        held.by_peer.insert(peer, own + 1);
        metrics().security.connections(1);
        Ok(Place { room: Arc::clone(self), peer })
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = self.room.held();
        held.all = held.all.saturating_sub(1);
        if let Some(own) = held.by_peer.get_mut(&self.peer) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                held.by_peer.remove(&self.peer);
            }
        }
        drop(held);
        metrics().security.connections(-1);
    }
}

/// Who has an IPv6 address has all of its /64.
fn peer(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = u128::from(address) >> 64 << 64;
            IpAddr::V6(Ipv6Addr::from(network))
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("the tests write addresses")
    }

    #[test]
    fn one_peer_has_half_of_the_places_and_all_are_free_again() {
        let room = Room::new(4);
        let (one, other) = (address("192.0.2.1"), address("192.0.2.2"));
        let mut places = vec![room.enter(one), room.enter(one)];
        assert_eq!(room.enter(one).err(), Some(Refused::TooManyOfPeer));
        places.extend([room.enter(other), room.enter(other)]);
        assert!(places.iter().all(Result::is_ok));
        assert_eq!(room.enter(address("192.0.2.3")).err(), Some(Refused::TooMany));
        drop(places);
        assert!(room.held().by_peer.is_empty());
        assert!(room.enter(one).is_ok());
    }

    #[test]
    fn a_network_of_ipv6_is_one_peer() {
        let room = Room::new(2);
        let place = room.enter(address("2001:db8::1"));
        assert!(place.is_ok());
        assert_eq!(room.enter(address("2001:db8::ffff:1")).err(), Some(Refused::TooManyOfPeer));
        assert!(room.enter(address("2001:db8:0:1::1")).is_ok());
        assert_eq!(peer(address("::ffff:192.0.2.1")), address("192.0.2.1"));
    }

    #[test]
    fn a_single_place_can_be_had() {
        assert!(Room::new(1).enter(address("192.0.2.1")).is_ok());
    }
}
