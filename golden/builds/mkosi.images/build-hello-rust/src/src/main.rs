//! Hello-rust prints the SHA-256 of its own executable: what runs in the image is what was built.

use std::io;
use std::process::ExitCode;

use sha2::{Digest, Sha256};

/// The SHA-256 of a file, in hexadecimal.
fn digest_of(path: &std::path::Path) -> io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let mut digest = Sha256::new();
    io::copy(&mut file, &mut digest)?;
    Ok(hex::encode(digest.finalize()))
}

fn main() -> ExitCode {
    let greeting = if cfg!(feature = "loud") { "HELLO" } else { "hello" };
    match std::env::current_exe().and_then(|path| digest_of(&path)) {
        Ok(digest) => {
            println!("hello-rust: {greeting}, I am {digest}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("hello-rust: cannot read myself: {error}");
            ExitCode::FAILURE
        }
    }
}
