//! The real clients: installed once, again from an empty client cache with no asset fetched, and
//! once more with the upstream gone.

mod maven;
mod npm;
mod nuget;
mod python;
