//! The `layercast` program.
fn main() {}
