//! Whoever reads our output may stop, as `head` does: that is no failure of ours.

use std::panic::{self, PanicHookInfo};

/// What the standard library's `println!` panics with when nobody reads any more.
const BROKEN_PIPE: &str = "failed printing to stdout: Broken pipe";

/// Ends the program without a word when nobody reads what it prints. Other panics are told as ever.
pub fn end_quietly() {
    let told = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        if is_broken_pipe(panic) {
            std::process::exit(0);
        }
        told(panic);
    }));
}

fn is_broken_pipe(panic: &PanicHookInfo<'_>) -> bool {
    panic.payload_as_str().is_some_and(|text| text.starts_with(BROKEN_PIPE))
}
