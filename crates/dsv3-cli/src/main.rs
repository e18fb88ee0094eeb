//! The command-line tool `dsv3`.
fn main() {}
