//! Signed notes (C2SP signed-note): checkpoints, cosignatures of witnesses, and the statements
//! at the end of exports.
//!
//! A key signs texts whose first line says what they are: a checkpoint begins with the log's
//! origin, an export's statement with [`STATEMENT`], which no origin can be.

use std::fmt;

use base64::{Engine, prelude::BASE64_STANDARD};
use ed25519_dalek::{Signature as Ed25519, Signer as _, SigningKey as Ed25519Key, VerifyingKey};
use signed_note::{
    Note, NoteError, Signature, Signer, StandardVerifier, Verifier, VerifierList, key_id,
    new_ed25519_verifier_key,
};
use tlog_tiles::{checkpoint, tlog};
use zeroize::Zeroizing;

use super::tree::Hash;

/// The first line of the statement at the end of an export. It has spaces, and so is no origin.
pub const STATEMENT: &str = "crewlog export v1";

/// The type of a timestamped Ed25519 cosignature.
const COSIGNATURE: u8 = 4;
/// The longest origin, in bytes.
const ORIGIN_BYTES_MAX: usize = 255;

/// The name of a log: the first line of its checkpoints, and the name of its keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin(String);

/// A text that is not an origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "an origin is 1 to 255 visible characters without spaces and `+`: `log.example.com/crewlog`"
)]
pub struct MalformedOrigin;

impl Origin {
    /// Reads one.
    ///
    /// # Errors
    /// When it has what C2SP signed-note does not allow in the name of a key.
    pub fn new(text: &str) -> Result<Self, MalformedOrigin> {
        let visible = !text
            .chars()
            .any(|letter| letter.is_whitespace() || letter.is_control());
        let allowed =
            visible && !text.contains('+') && (1..=ORIGIN_BYTES_MAX).contains(&text.len());
        allowed
            .then(|| Self(text.to_owned()))
            .ok_or(MalformedOrigin)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A key that signs. It does not print.
pub struct SigningKey {
    name: String,
    id: u32,
    key: Ed25519Key,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SigningKey({}+{:08x})", self.name, self.id)
    }
}

impl SigningKey {
    /// The key of an origin from 32 random bytes.
    pub fn new(origin: &Origin, seed: &Zeroizing<[u8; 32]>) -> Self {
        let key = Ed25519Key::from_bytes(seed);
        let public = [&[1][..], key.verifying_key().as_bytes()].concat();
        Self {
            name: origin.0.clone(),
            id: key_id(&origin.0, &public),
            key,
        }
    }

    /// What its signatures are verified with: `name+id+key`.
    pub fn verifier(&self) -> String {
        new_ed25519_verifier_key(&self.name, &self.key.verifying_key())
    }
}

impl Signer for SigningKey {
    fn name(&self) -> &str {
        &self.name
    }

    fn key_id(&self) -> u32 {
        self.id
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, ed25519_dalek::SignatureError> {
        Ok(self.key.try_sign(message)?.to_vec())
    }
}

/// A key that verifies: a log's, or a witness's.
#[derive(Clone)]
pub struct VerifierKey {
    text: String,
    kind: VerifierKind,
}

#[derive(Clone)]
enum VerifierKind {
    Log(StandardVerifier),
    Witness(Witness),
}

#[derive(Clone)]
struct Witness {
    name: String,
    id: u32,
    key: VerifyingKey,
}

/// A text that is not a verifier key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a verifier key is `name+id+key` as C2SP signed-note has it, of Ed25519")]
pub struct MalformedVerifier;

impl fmt::Debug for VerifierKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "VerifierKey({})", self.text)
    }
}

impl VerifierKey {
    /// Reads the text of the key of a log.
    ///
    /// # Errors
    /// When it is malformed, or the key of a witness.
    pub fn of_log(text: &str) -> Result<Self, MalformedVerifier> {
        let key = StandardVerifier::new(text).map_err(|_| MalformedVerifier)?;
        Ok(Self {
            text: text.to_owned(),
            kind: VerifierKind::Log(key),
        })
    }

    /// Reads the text of the key of a witness (C2SP tlog-cosignature: `cosignature/v1`).
    ///
    /// # Errors
    /// When it is malformed, or the key of a log.
    pub fn of_witness(text: &str) -> Result<Self, MalformedVerifier> {
        let (name, rest) = text.split_once('+').ok_or(MalformedVerifier)?;
        let (id, key) = rest.split_once('+').ok_or(MalformedVerifier)?;
        let bytes = BASE64_STANDARD.decode(key).map_err(|_| MalformedVerifier)?;
        let [COSIGNATURE, public @ ..] = bytes.as_slice() else {
            return Err(MalformedVerifier);
        };
        let public: [u8; 32] = public.try_into().map_err(|_| MalformedVerifier)?;
        let witness = Witness {
            name: Origin::new(name).map_err(|_| MalformedVerifier)?.0,
            id: key_id(name, &bytes),
            key: VerifyingKey::from_bytes(&public).map_err(|_| MalformedVerifier)?,
        };
        (id == format!("{:08x}", witness.id))
            .then(|| Self {
                text: text.to_owned(),
                kind: VerifierKind::Witness(witness),
            })
            .ok_or(MalformedVerifier)
    }

    /// `name+id+key`.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The name of its owner, and the id of the key: `name+id`.
    pub fn short(&self) -> String {
        format!("{}+{:08x}", self.name(), self.key_id())
    }
}

impl Verifier for VerifierKey {
    fn name(&self) -> &str {
        match &self.kind {
            VerifierKind::Log(key) => key.name(),
            VerifierKind::Witness(key) => &key.name,
        }
    }

    fn key_id(&self) -> u32 {
        match &self.kind {
            VerifierKind::Log(key) => key.key_id(),
            VerifierKind::Witness(key) => key.id,
        }
    }

    fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.kind {
            VerifierKind::Log(key) => key.verify(message, signature),
            VerifierKind::Witness(key) => key.verify(message, signature),
        }
    }
}

impl Witness {
    /// What a witness signs is the checkpoint with the time before it, which the signature
    /// carries.
    fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        let Some((time, signature)) = signature.split_first_chunk::<8>() else {
            return false;
        };
        let Ok(signature) = Ed25519::from_slice(signature) else {
            return false;
        };
        let time = u64::from_be_bytes(*time);
        let signed = [format!("cosignature/v1\ntime {time}\n").as_bytes(), message].concat();
        self.key.verify_strict(&signed, &signature).is_ok()
    }
}

/// How large a log was, and what its entries came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    pub origin: String,
    pub size: u64,
    pub root: Hash,
}

/// Why a signed text cannot be believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Disbelief {
    #[error("it is not a signed note as C2SP signed-note has it")]
    Malformed,
    #[error("it is signed, but not a checkpoint")]
    NoCheckpoint,
    #[error("none of the given keys has signed it")]
    Unsigned,
    #[error("the signature of {0} is wrong: the text was changed, or signed by another key")]
    WrongSignature(String),
    #[error("it is a checkpoint of the log `{found}`, and the key is of `{expected}`")]
    OtherLog { found: String, expected: String },
}

impl From<NoteError> for Disbelief {
    fn from(error: NoteError) -> Self {
        match error {
            NoteError::InvalidSignature { name, id } => {
                Self::WrongSignature(format!("{name}+{id:08x}"))
            }
            NoteError::UnverifiedNote => Self::Unsigned,
            NoteError::MalformedNote
            | NoteError::InvalidSigner
            | NoteError::MismatchedVerifier
            | NoteError::VerificationError(_)
            | NoteError::SignatureError(_) => Self::Malformed,
        }
    }
}

impl Checkpoint {
    fn body(&self) -> String {
        let root = BASE64_STANDARD.encode(self.root);
        format!("{}\n{}\n{root}\n", self.origin, self.size)
    }

    fn of_body(body: &[u8]) -> Result<Self, Disbelief> {
        let read = checkpoint::Checkpoint::from_bytes(body).map_err(|_| Disbelief::NoCheckpoint)?;
        let tlog::Hash(root) = *read.hash();
        Ok(Self {
            origin: read.origin().to_owned(),
            size: read.size(),
            root,
        })
    }

    /// The checkpoint as a note with the signatures of these keys.
    pub fn signed(&self, keys: &[SigningKey]) -> String {
        sign(&self.body(), keys)
    }

    /// Reads a checkpoint that is signed by one of the keys, and of the log that they are of.
    ///
    /// # Errors
    /// When it cannot be believed.
    pub fn open(text: &str, keys: &[VerifierKey]) -> Result<Self, Disbelief> {
        let body = open(text, keys)?;
        let checkpoint = Self::of_body(&body)?;
        match keys.iter().find(|key| key.name() == checkpoint.origin) {
            Some(_) => Ok(checkpoint),
            None => Err(Disbelief::OtherLog {
                found: checkpoint.origin,
                expected: keys
                    .first()
                    .map(|key| key.name().to_owned())
                    .unwrap_or_default(),
            }),
        }
    }

    /// What a text says, whoever has signed it: for messages, and for what is verified elsewhere.
    ///
    /// # Errors
    /// When it is not a checkpoint.
    pub fn unverified(text: &str) -> Result<Self, Disbelief> {
        let note = Note::from_bytes(text.as_bytes()).map_err(|_| Disbelief::Malformed)?;
        Self::of_body(note.text())
    }
}

/// A text with the signatures of keys; its lines end with a newline.
pub fn sign(text: &str, keys: &[SigningKey]) -> String {
    let mut note = Note::new(text.as_bytes(), &[]).expect("what is signed here is plain text");
    let signers: Vec<_> = keys.iter().map(|key| key as &dyn Signer).collect();
    note.add_sigs(&signers).expect("Ed25519 signs everything");
    String::from_utf8(note.to_bytes()).expect("a note is text")
}

/// The text of a note that at least one of the keys has signed, and none wrongly.
///
/// # Errors
/// When it cannot be believed.
pub fn open(note: &str, keys: &[VerifierKey]) -> Result<Vec<u8>, Disbelief> {
    let note = Note::from_bytes(note.as_bytes())?;
    note.verify(&verifiers(keys))?;
    Ok(note.text().to_vec())
}

fn verifiers(keys: &[VerifierKey]) -> VerifierList {
    let mut texts: Vec<_> = keys.iter().map(VerifierKey::as_str).collect();
    texts.sort_unstable();
    texts.dedup();
    let boxed = |text: &&str| keys.iter().find(|key| key.text == *text).cloned();
    let keys = texts.iter().filter_map(boxed);
    VerifierList::new(keys.map(|key| Box::new(key) as Box<dyn Verifier>).collect())
}

/// The witness of a cosignature of a signed checkpoint.
///
/// # Errors
/// When no witness of these has made it, or not for this checkpoint.
pub fn witness_of<'a>(
    checkpoint: &str,
    line: &str,
    witnesses: &'a [VerifierKey],
) -> Result<&'a VerifierKey, Disbelief> {
    let note = Note::from_bytes(checkpoint.as_bytes())?;
    let signature = Signature::from_bytes(line.trim_end().as_bytes())?;
    let witness = witnesses
        .iter()
        .find(|key| key.name() == signature.name() && key.key_id() == signature.id())
        .ok_or(Disbelief::Unsigned)?;
    match witness.verify(note.text(), signature.signature()) {
        true => Ok(witness),
        false => Err(Disbelief::WrongSignature(witness.short())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin() -> Origin {
        Origin::new("log.example.com/crewlog").unwrap()
    }

    fn key(seed: u8) -> SigningKey {
        SigningKey::new(&origin(), &Zeroizing::new([seed; 32]))
    }

    fn verifier(key: &SigningKey) -> VerifierKey {
        VerifierKey::of_log(&key.verifier()).unwrap()
    }

    fn checkpoint() -> Checkpoint {
        Checkpoint {
            origin: origin().0,
            size: 42,
            root: [5; 32],
        }
    }

    #[test]
    fn a_checkpoint_is_believed_if_one_key_has_signed_it() {
        let (old, new, other) = (key(1), key(2), key(3));
        let text = checkpoint().signed(&[new, old]);
        for key in [key(1), key(2)] {
            assert_eq!(Checkpoint::open(&text, &[verifier(&key)]), Ok(checkpoint()));
        }
        let both = [verifier(&key(1)), verifier(&other), verifier(&key(1))];
        assert_eq!(Checkpoint::open(&text, &both), Ok(checkpoint()));
        assert_eq!(
            Checkpoint::open(&text, &[verifier(&other)]),
            Err(Disbelief::Unsigned)
        );
        let changed = text.replace("\n42\n", "\n43\n");
        assert!(matches!(
            Checkpoint::open(&changed, &both),
            Err(Disbelief::WrongSignature(_))
        ));
        assert_eq!(
            Checkpoint::open("nothing", &both),
            Err(Disbelief::Malformed)
        );
        assert_eq!(Checkpoint::unverified(&text), Ok(checkpoint()));
    }

    /// The example of C2SP signed-note's reference implementation.
    #[test]
    fn notes_of_others_are_read() {
        let verifier = VerifierKey::of_log(
            "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        );
        let note = "If you think cryptography is the answer to your problem,\n\
                    then you don't know what your problem is.\n\
                    \n\
                    — PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
        assert!(open(note, &[verifier.unwrap()]).is_ok());
    }

    #[test]
    fn what_a_key_signed_as_something_else_is_no_checkpoint() {
        let key = key(1);
        let verifiers = [verifier(&key)];
        let statement = sign(&format!("{STATEMENT}\n{{}}\n"), &[key]);
        assert!(open(&statement, &verifiers).is_ok());
        assert_eq!(
            Checkpoint::open(&statement, &verifiers),
            Err(Disbelief::NoCheckpoint)
        );
        assert_eq!(Origin::new(STATEMENT), Err(MalformedOrigin));
        assert_eq!(Origin::new("a+b"), Err(MalformedOrigin));
        assert_eq!(Origin::new(""), Err(MalformedOrigin));
    }

    /// A cosignature as C2SP tlog-cosignature has it, made here without the code above.
    fn cosigned(checkpoint: &str, time: u64) -> (String, String) {
        let key = Ed25519Key::from_bytes(&[9; 32]);
        let public = [&[COSIGNATURE][..], key.verifying_key().as_bytes()].concat();
        let id = key_id("witness.example.com", &public);
        let (body, _) = checkpoint.split_once("\n\n").unwrap();
        let signed = format!("cosignature/v1\ntime {time}\n{body}\n");
        let signature = key.sign(signed.as_bytes()).to_vec();
        let bytes = [&id.to_be_bytes()[..], &time.to_be_bytes(), &signature].concat();
        let line = format!("— witness.example.com {}", BASE64_STANDARD.encode(bytes));
        let text = format!(
            "witness.example.com+{id:08x}+{}",
            BASE64_STANDARD.encode(public)
        );
        (line, text)
    }

    #[test]
    fn cosignatures_are_verified() {
        let text = checkpoint().signed(&[key(1)]);
        let (line, witness) = cosigned(&text, 1_764_000_000);
        let witnesses = [VerifierKey::of_witness(&witness).unwrap()];
        let found = witness_of(&text, &line, &witnesses).map(VerifierKey::as_str);
        assert_eq!(found, Ok(witness.as_str()));
        let another = Checkpoint {
            size: 43,
            ..checkpoint()
        };
        let another = another.signed(&[key(1)]);
        assert!(matches!(
            witness_of(&another, &line, &witnesses).map(drop),
            Err(Disbelief::WrongSignature(_))
        ));
        assert_eq!(
            witness_of(&text, &line, &[]).map(drop),
            Err(Disbelief::Unsigned)
        );
        assert_eq!(
            witness_of(&text, "rubbish", &witnesses).map(drop),
            Err(Disbelief::Malformed)
        );
        // With the cosignature, the log's own signature still counts.
        let whole = format!("{text}{line}\n");
        assert_eq!(
            Checkpoint::open(&whole, &[verifier(&key(1))]),
            Ok(checkpoint())
        );
        assert!(VerifierKey::of_log(&witness).is_err());
        assert!(VerifierKey::of_witness(&key(1).verifier()).is_err());
    }

    #[test]
    fn a_key_does_not_print() {
        let printed = format!("{:?}", key(1));
        assert_eq!(printed.matches('+').count(), 1, "{printed}");
    }
}
