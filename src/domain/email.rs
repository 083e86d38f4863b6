//! An e-mail address at the edge: checked, compared, and sealed before it enters an event.
//!
//! The check is simple on purpose. Whether an address works is known only once somebody
//! has read what was sent to it.

use std::fmt;

/// An address that can be written to: at most [`EmailAddress::BYTES_MAX`] bytes, one `@`,
/// something before it and a domain with a dot after it, no blanks, no control characters.
///
/// It is personal, so it neither prints itself nor serializes.
#[derive(Clone, PartialEq, Eq)]
pub struct EmailAddress(String);

/// A text that cannot be an e-mail address. Does not repeat it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an e-mail address: expected `someone@example.com`, at most 254 bytes")]
pub struct InvalidEmailAddress;

impl EmailAddress {
    /// The longest address that mail servers carry (RFC 5321, 4.5.3.1.3, without the
    /// angle brackets).
    pub const BYTES_MAX: usize = 254;
    /// The longest part before the `@` (RFC 5321, 4.5.3.1.1).
    pub const LOCAL_BYTES_MAX: usize = 64;

    /// The address in `text`, without the blanks around it.
    ///
    /// # Errors
    /// When it cannot be an address.
    pub fn parse(text: &str) -> Result<Self, InvalidEmailAddress> {
        let address = text.trim();
        let (local, domain) = address.split_once('@').ok_or(InvalidEmailAddress)?;
        let printable = !address.chars().any(|c| c.is_whitespace() || c.is_control());
        let local_fits = (1..=Self::LOCAL_BYTES_MAX).contains(&local.len());
        if address.len() <= Self::BYTES_MAX && printable && local_fits && is_domain(domain) {
            Ok(Self(address.to_owned()))
        } else {
            Err(InvalidEmailAddress)
        }
    }

    /// The address as it was written: what mail is sent to.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The address in lower case: what is hashed to find a person by it, so that nobody
    /// has two accounts for one mailbox. Never what mail is sent to.
    pub fn normalized(&self) -> String {
        self.0.to_lowercase()
    }
}

/// Two labels or more, each of letters and digits of any script, with hyphens inside only.
fn is_domain(domain: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.chars().all(|c| c.is_alphanumeric() || c == '-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    domain.contains('.') && domain.split('.').all(is_label)
}

impl fmt::Debug for EmailAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("EmailAddress(not shown)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_kept_as_written_and_found_in_lower_case() {
        let address = EmailAddress::parse(" Ada.Lovelace+crew@Example.COM\n").unwrap();
        assert_eq!(address.as_str(), "Ada.Lovelace+crew@Example.COM");
        assert_eq!(address.normalized(), "ada.lovelace+crew@example.com");
        for good in ["a@b.cd", "zoë@bücher.example", "o'hara@mail.a-b.example"] {
            assert_eq!(EmailAddress::parse(good).unwrap().as_str(), good);
        }
    }

    #[test]
    fn an_address_does_not_print() {
        let address = EmailAddress::parse("ada@example.com").unwrap();
        assert!(!format!("{address:?}").contains("ada"));
        assert!(!InvalidEmailAddress.to_string().contains("ada"));
    }

    #[test]
    fn what_cannot_be_an_address_is_refused() {
        for bad in [
            "",
            "@",
            "ada",
            "ada@",
            "@example.com",
            "ada@localhost",
            "ada@example.",
            "ada@.example",
            "ada@exa..mple",
            "ada@b@example.com",
            "a da@example.com",
            "ada@exam ple.com",
            "ada\0@example.com",
            "ada\r\nBcc:x@example.com",
            "ada@-example.com",
            "ada@example-.com",
            "ada@exa_mple.com",
            "ada@[10.0.0.1]",
        ] {
            assert_eq!(
                EmailAddress::parse(bad),
                Err(InvalidEmailAddress),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn lengths_are_bounded_in_bytes() {
        let local = "a".repeat(EmailAddress::LOCAL_BYTES_MAX);
        assert!(EmailAddress::parse(&format!("{local}@example.com")).is_ok());
        assert!(EmailAddress::parse(&format!("{local}a@example.com")).is_err());
        let label = "b".repeat(62);
        let domain = format!("{label}.{label}.{label}");
        let room = EmailAddress::BYTES_MAX - domain.len() - "@.c".len();
        let longest = format!("{}@{domain}.c", "a".repeat(room));
        assert!(room <= EmailAddress::LOCAL_BYTES_MAX, "{room}");
        assert_eq!(longest.len(), EmailAddress::BYTES_MAX);
        assert!(EmailAddress::parse(&longest).is_ok());
        assert!(EmailAddress::parse(&format!("{longest}c")).is_err());
    }
}
