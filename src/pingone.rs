//! PingOne as a client sees it: token, request, and what each answer means.
