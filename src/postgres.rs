//! A private PostgreSQL cluster for `demo` and the tests.
