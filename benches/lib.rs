//! Criterion benches of dsv3; see the files beside this one.
