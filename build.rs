//! Tells the linker which code of the agent belongs together (`link/call_path.ld`).

use std::env;
use std::path::Path;

fn main() {
    println!("cargo:rerun-if-changed=link/call_path.ld");
    // Only what is measured and shipped: a linker that does not read scripts is good enough to develop with.
    if env::var("PROFILE").is_ok_and(|profile| profile == "release") {
        let order = Path::new(env!("CARGO_MANIFEST_DIR")).join("link/call_path.ld");
        println!("cargo:rustc-link-arg-bin=recordd=-T{}", order.display());
    }
}
