//! A file per invariant of the design.

mod ahead;
mod base;
mod bounded;
mod decision;
mod leaks;
mod one_fetch;
mod outage;
mod rewriting;
mod sockets;
mod sources;
mod verified;
mod web;
