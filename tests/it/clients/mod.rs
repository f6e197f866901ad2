//! The real clients: installed once, again from an empty client cache with no asset fetched, and
//! once more with the upstream gone.

pub mod maven;
pub mod npm;
pub mod nuget;
pub mod python;
