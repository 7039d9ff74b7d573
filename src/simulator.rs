//! PingOne as its documents describe it, over real HTTP, with faults on request.
