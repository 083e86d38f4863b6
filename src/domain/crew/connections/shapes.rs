//! What of each kind there is to know, checked, and what is claimed by it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::ConnectionKind;
use crate::domain::{
    Name,
    claims::Sharing,
    contents::slots::{Slot, SlotKind},
    public_url::{InvalidUrl, PublicUrl},
};

/// The longest address of a channel, and the longest name of an account.
pub const ADDRESS_CHARACTERS_MAX: usize = 320;
/// The longest name of a kind of channel or integration.
pub const KIND_CHARACTERS_MAX: usize = 40;
/// The most events that a webhook endpoint names, and the longest name of one.
pub const ENDPOINT_EVENTS_MAX: usize = 100;
/// See [`ENDPOINT_EVENTS_MAX`].
pub const EVENT_NAME_CHARACTERS_MAX: usize = 64;

/// What a crew is joined to. Made by the functions that check it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Connection {
    /// In E.164.
    PhoneNumber { number: String },
    /// An address of some kind: an inbox, a chat, a widget.
    Channel { kind: String, address: String },
    /// Where a customer's system is told what happens.
    WebhookEndpoint {
        url: PublicUrl,
        /// What it is told of; everything where there is none.
        events: Option<BTreeSet<String>>,
    },
    /// An account of the customer's at somebody else's: the one by which slots name it, its kind,
    /// and whose account it is.
    Integration {
        name: String,
        kind: String,
        account: String,
    },
}

/// What is no connection of its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidConnection {
    #[error("a phone number that can be called, in E.164: `+`, the country, and the rest")]
    Number,
    #[error("a lower-case word of letters, digits and `_`, such as `email` or `web_chat`")]
    Kind,
    #[error("1 to {ADDRESS_CHARACTERS_MAX} characters, none of them a space or unprintable")]
    Address,
    #[error(transparent)]
    Url(#[from] InvalidUrl),
    #[error(
        "1 to {ENDPOINT_EVENTS_MAX} names of events, words of small letters, digits and `_`, \
         joined by dots; leave it out for all"
    )]
    Events,
}

impl Connection {
    /// A phone number that can be called, as E.164 writes it.
    ///
    /// # Errors
    /// [`InvalidConnection::Number`].
    pub fn phone_number(text: &str) -> Result<Self, InvalidConnection> {
        let known = phonenumber::parse(None, text).map_err(|_| InvalidConnection::Number)?;
        let number = known.format().mode(phonenumber::Mode::E164).to_string();
        match number == text && known.is_valid() {
            true => Ok(Self::PhoneNumber { number }),
            false => Err(InvalidConnection::Number),
        }
    }

    /// A channel.
    ///
    /// # Errors
    /// [`InvalidConnection::Kind`] and [`InvalidConnection::Address`].
    pub fn channel(kind: &str, address: &str) -> Result<Self, InvalidConnection> {
        let kind = checked_kind(kind)?;
        let length = address.chars().count();
        let is_printable = |c: char| !c.is_control() && !c.is_whitespace();
        if length == 0 || length > ADDRESS_CHARACTERS_MAX || !address.chars().all(is_printable) {
            return Err(InvalidConnection::Address);
        }
        let address = address.to_owned();
        Ok(Self::Channel { kind, address })
    }

    /// A webhook endpoint that is told of these events, or of all.
    ///
    /// # Errors
    /// [`InvalidConnection::Url`] and [`InvalidConnection::Events`].
    pub fn webhook_endpoint(
        url: &str,
        events: Option<BTreeSet<String>>,
    ) -> Result<Self, InvalidConnection> {
        let url = PublicUrl::parse(url)?;
        if let Some(events) = &events {
            let fits = (1..=ENDPOINT_EVENTS_MAX).contains(&events.len());
            if !fits || !events.iter().all(|name| is_event_name(name)) {
                return Err(InvalidConnection::Events);
            }
        }
        Ok(Self::WebhookEndpoint { url, events })
    }

    /// An integration with somebody's account.
    ///
    /// # Errors
    /// [`InvalidConnection::Kind`].
    pub fn integration(name: Name, kind: &str, account: Name) -> Result<Self, InvalidConnection> {
        let kind = checked_kind(kind)?;
        let (name, account) = (name.into(), account.into());
        Ok(Self::Integration {
            name,
            kind,
            account,
        })
    }

    /// Of what kind it is.
    pub fn kind(&self) -> ConnectionKind {
        match self {
            Self::PhoneNumber { .. } => ConnectionKind::PhoneNumber,
            Self::Channel { .. } => ConnectionKind::Channel,
            Self::WebhookEndpoint { .. } => ConnectionKind::WebhookEndpoint,
            Self::Integration { .. } => ConnectionKind::Integration,
        }
    }

    /// By what slots name it, no two of a kind alike in a crew; not every kind has names.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::PhoneNumber { .. } | Self::Channel { .. } | Self::WebhookEndpoint { .. } => None,
            Self::Integration { name, .. } => Some(name),
        }
    }

    /// Whether it is what a slot names. A number has no name of its own: the slot's says what for,
    /// and any of the crew's will do, and so it is with an endpoint; a channel is named by its kind.
    pub(in crate::domain::crew) fn fills(&self, slot: &Slot) -> bool {
        match self {
            Self::PhoneNumber { .. } => slot.kind == SlotKind::PhoneNumber,
            Self::Channel { kind, .. } => slot.kind == SlotKind::Channel && *kind == slot.name,
            Self::WebhookEndpoint { .. } => slot.kind == SlotKind::WebhookEndpoint,
            Self::Integration { name, .. } => {
                slot.kind == SlotKind::Integration && *name == slot.name
            }
        }
    }

    /// Who else may have the same.
    pub fn sharing(&self) -> Sharing {
        match self {
            Self::PhoneNumber { .. } => Sharing::OneOwner,
            Self::Channel { .. } | Self::WebhookEndpoint { .. } | Self::Integration { .. } => {
                Sharing::ProductionApart
            }
        }
    }

    /// What it consists of, by the names on the wire.
    pub fn fields(&self) -> Vec<(&'static str, Value)> {
        match self {
            Self::PhoneNumber { number } => vec![("number", json!(number))],
            Self::Channel { kind, address } => {
                vec![("kind", json!(kind)), ("address", json!(address))]
            }
            Self::WebhookEndpoint { url, events } => {
                vec![("url", json!(url)), ("events", json!(events))]
            }
            Self::Integration {
                name,
                kind,
                account,
            } => vec![
                ("name", json!(name)),
                ("kind", json!(kind)),
                ("account", json!(account)),
            ],
        }
    }

    /// What is claimed: the same for all that reach the same.
    pub fn claimed(&self) -> String {
        match self {
            Self::PhoneNumber { number } => number.clone(),
            // Most that deliver to addresses, or sign in to accounts, do not tell letters by case.
            Self::Channel { kind, address } => format!("{kind}:{}", address.to_lowercase()),
            Self::WebhookEndpoint { url, events: _ } => url.place(),
            Self::Integration {
                name: _,
                kind,
                account,
            } => format!("{kind}:{}", account.to_lowercase()),
        }
    }
}

fn checked_kind(kind: &str) -> Result<String, InvalidConnection> {
    let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let begins = kind.starts_with(|c: char| c.is_ascii_lowercase());
    match begins && kind.chars().all(is_part) && kind.len() <= KIND_CHARACTERS_MAX {
        true => Ok(kind.to_owned()),
        false => Err(InvalidConnection::Kind),
    }
}

fn is_event_name(name: &str) -> bool {
    let is_part = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_');
    let is_word = |word: &str| !word.is_empty() && word.bytes().all(is_part);
    name.len() <= EVENT_NAME_CHARACTERS_MAX && name.split('.').all(is_word)
}
