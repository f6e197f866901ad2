//! A file per invariant of the design.

mod ahead;
mod away;
mod base;
mod bounded;
mod decision;
mod leaks;
mod one_fetch;
mod outage;
mod recognised;
mod rewriting;
mod sockets;
mod sources;
mod verified;
mod web;
