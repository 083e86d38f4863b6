//! A witness of the log (C2SP tlog-cosignature), written without the code under test.

use base64::{Engine, prelude::BASE64_STANDARD};
use ed25519_dalek::{Signer, SigningKey};
use sha2::{Digest, Sha256};

const NAME: &str = "witness.example.com/tests";

fn key() -> SigningKey {
    SigningKey::from_bytes(&[9; 32])
}

fn public() -> Vec<u8> {
    [&[4][..], key().verifying_key().as_bytes()].concat()
}

fn id() -> [u8; 4] {
    let digest = Sha256::digest([NAME.as_bytes(), b"\n", &public()].concat());
    digest[..4].try_into().expect("four bytes")
}

/// What a server that knows this witness is configured with.
pub fn verifier() -> String {
    let id: String = id().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{NAME}+{id}+{}", BASE64_STANDARD.encode(public()))
}

/// Its signature of a checkpoint, as a line.
pub fn cosign(checkpoint: &str, time: u64) -> String {
    let (body, _) = checkpoint.split_once("\n\n").expect("a signed note");
    let signed = format!("cosignature/v1\ntime {time}\n{body}\n");
    let signature = key().sign(signed.as_bytes()).to_bytes();
    let bytes = [&id()[..], &time.to_be_bytes(), &signature].concat();
    format!("— {NAME} {}", BASE64_STANDARD.encode(bytes))
}
