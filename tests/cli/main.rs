//! The real binary against a real gRPC server with canned answers: what it prints, how it ends, what it sends.

mod batch;
mod batches;
mod bulk;
mod bulk_file;
mod bulk_input;
mod devices;
mod env;
mod erase;
mod harness;
mod help;
mod jobs;
mod server;
mod status;
mod terminal;
mod unblock;
