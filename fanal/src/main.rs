//! The only program of Fanal.

fn main() {}
