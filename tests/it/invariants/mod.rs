//! A file per invariant of the design.

mod ahead;
mod asked;
mod away;
mod base;
mod bounded;
mod decision;
mod leaks;
mod limits;
mod one_fetch;
mod outage;
mod recognised;
mod registries;
mod rewriting;
mod sockets;
mod sources;
mod verified;
mod web;
