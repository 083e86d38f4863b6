//! A person's account: that it exists, how often its profile changed, and which sessions are live.
//!
//! It answers "who is this?" for every other rule: a session is the first link of each
//! chain of authority. It never sees a password, a session token or an opened e-mail
//! address; those stay outside of the log.
//!
//! A change of the profile is one event here and, in later units, one copy an
//! organization; [`User::profile_to_share`] says whether copies are due.
//!
//! To add something that can happen to an account: an event, the command that asks for it,
//! a function that decides it, its arm in `apply`, and its rule in `tests.rs`.

mod commands;
mod events;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use chrono::TimeDelta;
use cqrs_es::{Aggregate, DomainEvent, event_sink::EventSink};
use serde::{Deserialize, Serialize};

pub use commands::UserCommand;
pub use events::{SessionEnd, UserEvent};

use super::{
    Moment, Refusal, Stream, Timestamp,
    authority::AuthorityLink,
    ids::{OrganizationId, SessionId, UserId},
    sealed::Sealed,
};

/// The most sessions of one person that are live at once.
pub const LIVE_SESSIONS_MAX: usize = 50;

/// How long after their last session began somebody counts as still there.
pub const GONE_AFTER: TimeDelta = TimeDelta::days(30);

/// An account, folded from its events.
///
/// Holds `id` from sign-up on, and never more than [`LIVE_SESSIONS_MAX`] sessions:
/// starting one forgets those that had expired by then. `version` is the sequence of the
/// last event, and `profile_shared` never exceeds `profile_sequence`, which never exceeds
/// `version`; nor does `password_sequence`, that of the event that set the present password.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct User {
    version: u64,
    id: Option<UserId>,
    profile_sequence: u64,
    profile_shared: u64,
    password_sequence: u64,
    sessions: BTreeMap<SessionId, Session>,
    /// Nobody is behind it any more.
    is_erased: bool,
    /// When the last session began.
    signed_in_at: Option<Timestamp>,
}

/// A session that was started and not revoked; it may have expired since.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// When it began.
    pub started_at: Timestamp,
    /// First moment at which it no longer counts.
    pub expires_at: Timestamp,
    /// Position of the event that began it; 0 until the log has given it one.
    pub position: u64,
}

impl Session {
    /// Whether it still counts at `now`.
    pub fn is_live(&self, now: Timestamp) -> bool {
        now < self.expires_at
    }
}

impl User {
    /// Whether somebody signed up.
    pub fn exists(&self) -> bool {
        self.id.is_some()
    }

    /// Whether the person erased their account.
    pub fn is_erased(&self) -> bool {
        self.is_erased
    }

    /// That `session` proves, at `now`, who the person is.
    ///
    /// # Errors
    /// [`Refusal::SessionEnded`] when it is unknown, revoked or expired.
    pub fn session(&self, session: SessionId, now: Timestamp) -> Result<AuthorityLink, Refusal> {
        match self.sessions.get(&session) {
            Some(found) if found.is_live(now) => Ok(AuthorityLink::Session {
                id: session,
                position: found.position,
            }),
            Some(_) | None => Err(Refusal::SessionEnded),
        }
    }

    /// The sessions that count at `now`, in the order of their ids.
    pub fn live_sessions(&self, now: Timestamp) -> impl Iterator<Item = (SessionId, Session)> {
        self.sessions
            .iter()
            .map(|(id, session)| (*id, *session))
            .filter(move |(_, session)| session.is_live(now))
    }

    /// The sessions that count at `now`, but for `session`.
    pub fn other_sessions(&self, session: SessionId, now: Timestamp) -> Vec<SessionId> {
        self.live_sessions(now)
            .map(|(id, _)| id)
            .filter(|id| *id != session)
            .collect()
    }

    /// That the password which the event of this sequence set is still the present one: what
    /// was proven with it before has not been overtaken by a change.
    ///
    /// # Errors
    /// [`Refusal::WrongPassword`] when another one was chosen since.
    pub fn password_is_of(&self, password_sequence: u64) -> Result<(), Refusal> {
        if self.password_sequence == password_sequence {
            Ok(())
        } else {
            Err(Refusal::WrongPassword)
        }
    }

    /// Whether nobody is known to be behind it any more: it was never made, or no session lives and
    /// none has begun for [`GONE_AFTER`].
    pub fn is_gone(&self, now: Timestamp) -> bool {
        let lately = |signed_in_at: Timestamp| now < signed_in_at.plus(GONE_AFTER);
        let is_here =
            self.live_sessions(now).next().is_some() || self.signed_in_at.is_some_and(lately);
        self.existing().is_err() || !is_here
    }

    /// Sequence of the newest profile event; 0 before sign-up.
    pub fn profile_sequence(&self) -> u64 {
        self.profile_sequence
    }

    /// Sequence of the newest profile event, if the person's organizations have not been
    /// told of it yet.
    pub fn profile_to_share(&self) -> Option<u64> {
        (self.profile_sequence > self.profile_shared).then_some(self.profile_sequence)
    }

    /// The events that `command` leads to at `now`; nothing has changed yet.
    fn decide(&self, command: UserCommand, now: Timestamp) -> Result<Vec<UserEvent>, Refusal> {
        match command {
            UserCommand::SignUp { user, email, name } => self.sign_up(user, email, name),
            UserCommand::Rename {
                name,
                previous,
                profile_sequence,
            } => {
                self.profile_is_at(profile_sequence)?;
                Ok(vec![UserEvent::UserRenamed { name, previous }])
            }
            UserCommand::ChangeEmail {
                email,
                previous,
                profile_sequence,
            } => {
                self.profile_is_at(profile_sequence)?;
                Ok(vec![UserEvent::UserEmailChanged { email, previous }])
            }
            UserCommand::ShareProfile {
                profile_sequence,
                organizations,
            } => self.share_profile(profile_sequence, organizations),
            UserCommand::StartSession {
                session,
                expires_at,
            } => self.start_session(session, now, expires_at),
            UserCommand::RevokeSession { session } => self.revoke_session(session, now),
            UserCommand::RecordSignInFailed { minute, count } => {
                self.existing()?;
                Ok(vec![UserEvent::SignInFailed { minute, count }])
            }
            UserCommand::ChangePassword { session } => self.change_password(session, now),
            UserCommand::Erase { session } => self.erase(session, now),
        }
    }

    fn existing(&self) -> Result<UserId, Refusal> {
        self.id
            .filter(|_| !self.is_erased)
            .ok_or(Refusal::NotFound {
                what: "user",
                hidden: false,
            })
    }

    fn sign_up(
        &self,
        user: UserId,
        email: Sealed,
        name: Sealed,
    ) -> Result<Vec<UserEvent>, Refusal> {
        if self.exists() {
            return Err(Refusal::AlreadyExists { what: "user" });
        }
        Ok(vec![UserEvent::UserSignedUp { user, email, name }])
    }

    fn profile_is_at(&self, profile_sequence: u64) -> Result<(), Refusal> {
        self.existing()?;
        if self.profile_sequence == profile_sequence {
            Ok(())
        } else {
            Err(Refusal::ProfileMoved)
        }
    }

    fn share_profile(
        &self,
        profile_sequence: u64,
        organizations: Vec<OrganizationId>,
    ) -> Result<Vec<UserEvent>, Refusal> {
        self.existing()?;
        if profile_sequence > self.profile_sequence {
            // Taking a profile that does not exist for shared would hide the next one.
            return Err(Refusal::NotFound {
                what: "profile",
                hidden: false,
            });
        }
        if profile_sequence <= self.profile_shared {
            return Ok(Vec::new());
        }
        Ok(vec![UserEvent::UserProfileShared {
            profile_sequence,
            organizations,
        }])
    }

    fn start_session(
        &self,
        session: SessionId,
        started_at: Timestamp,
        expires_at: Timestamp,
    ) -> Result<Vec<UserEvent>, Refusal> {
        self.existing()?;
        if self.sessions.contains_key(&session) {
            return Err(Refusal::AlreadyExists { what: "session" });
        }
        let mut events = self.sessions_that_give_way(started_at);
        events.push(UserEvent::SessionStarted {
            session,
            started_at,
            expires_at,
        });
        Ok(events)
    }

    /// The oldest live sessions, as many as must end so that one more fits.
    fn sessions_that_give_way(&self, now: Timestamp) -> Vec<UserEvent> {
        let mut live: Vec<_> = self.live_sessions(now).collect();
        live.sort_by_key(|(id, session)| (session.started_at, *id));
        let too_many = (live.len() + 1).saturating_sub(LIVE_SESSIONS_MAX);
        live.into_iter()
            .take(too_many)
            .map(|(session, _)| UserEvent::SessionRevoked {
                session,
                cause: SessionEnd::Replaced,
            })
            .collect()
    }

    fn revoke_session(
        &self,
        session: SessionId,
        now: Timestamp,
    ) -> Result<Vec<UserEvent>, Refusal> {
        self.session(session, now).map_err(|_| Refusal::NotFound {
            what: "session",
            hidden: false,
        })?;
        Ok(vec![UserEvent::SessionRevoked {
            session,
            cause: SessionEnd::SignedOut,
        }])
    }

    fn erase(&self, session: SessionId, now: Timestamp) -> Result<Vec<UserEvent>, Refusal> {
        self.session(session, now)?;
        let sessions = self.live_sessions(now).map(|(id, _)| id).collect();
        Ok(vec![UserEvent::UserErased { sessions }])
    }

    fn change_password(
        &self,
        session: SessionId,
        now: Timestamp,
    ) -> Result<Vec<UserEvent>, Refusal> {
        self.session(session, now)?;
        let sessions = self.other_sessions(session, now);
        let ended = sessions
            .clone()
            .into_iter()
            .map(|session| UserEvent::SessionRevoked {
                session,
                cause: SessionEnd::PasswordChanged,
            });
        let changed = UserEvent::PasswordChanged { sessions };
        Ok(std::iter::once(changed).chain(ended).collect())
    }
}

impl Aggregate for User {
    const TYPE: &'static str = "user";
    type Command = UserCommand;
    type Event = UserEvent;
    type Error = Refusal;
    type Services = Moment;

    async fn handle(
        &mut self,
        command: UserCommand,
        moment: &Moment,
        sink: &EventSink<Self>,
    ) -> Result<(), Refusal> {
        // All is decided before the first write, and `write` applies: a refusal changes
        // nothing, and nothing is applied twice.
        for event in self.decide(command, moment.now)? {
            sink.write(event, self).await;
        }
        Ok(())
    }

    fn apply(&mut self, event: UserEvent) {
        self.version += 1;
        match event {
            UserEvent::UserSignedUp {
                user,
                email: _,
                name: _,
            } => {
                self.id = Some(user);
                self.profile_sequence = self.version;
                self.password_sequence = self.version;
            }
            UserEvent::UserRenamed {
                name: _,
                previous: _,
            }
            | UserEvent::UserEmailChanged {
                email: _,
                previous: _,
            } => self.profile_sequence = self.version,
            UserEvent::UserProfileShared {
                profile_sequence,
                organizations: _,
            } => self.profile_shared = profile_sequence,
            UserEvent::SessionStarted {
                session,
                started_at,
                expires_at,
            } => {
                self.signed_in_at = Some(started_at);
                self.sessions.retain(|_, known| known.is_live(started_at));
                let position = 0;
                self.sessions.insert(
                    session,
                    Session {
                        started_at,
                        expires_at,
                        position,
                    },
                );
            }
            UserEvent::SessionRevoked { session, cause: _ } => {
                self.sessions.remove(&session);
            }
            UserEvent::SignInFailed {
                minute: _,
                count: _,
            } => {}
            UserEvent::PasswordChanged { sessions: _ } => self.password_sequence = self.version,
            UserEvent::UserErased { .. } => {
                // Whatever was composed from the profile, or proven by the password, is overtaken;
                // and there is nothing left to be shared.
                self.is_erased = true;
                self.profile_sequence = self.version;
                self.profile_shared = self.version;
                self.password_sequence = self.version;
                self.sessions.clear();
            }
        }
    }
}

impl Stream for User {
    const STATE_VERSION: i64 = 5;

    fn positioned(&mut self, event: &UserEvent, position: u64) {
        match event {
            UserEvent::SessionStarted { session, .. } => {
                if let Some(session) = self.sessions.get_mut(session) {
                    session.position = position;
                }
            }
            UserEvent::UserSignedUp { .. }
            | UserEvent::UserRenamed { .. }
            | UserEvent::UserEmailChanged { .. }
            | UserEvent::UserProfileShared { .. }
            | UserEvent::SessionRevoked { .. }
            | UserEvent::SignInFailed { .. }
            | UserEvent::UserErased { .. }
            | UserEvent::PasswordChanged { .. } => {}
        }
    }

    fn organization(&self) -> Option<OrganizationId> {
        None
    }

    fn weight_bytes(&self) -> usize {
        // 64 bytes a session, with its share of the node.
        size_of::<Self>() + self.sessions.len() * 64
    }
}

impl DomainEvent for UserEvent {
    fn event_type(&self) -> String {
        match self {
            Self::UserSignedUp { .. } => "user_signed_up",
            Self::UserRenamed { .. } => "user_renamed",
            Self::UserEmailChanged { .. } => "user_email_changed",
            Self::UserProfileShared { .. } => "user_profile_shared",
            Self::SessionStarted { .. } => "session_started",
            Self::SessionRevoked { .. } => "session_revoked",
            Self::SignInFailed { .. } => "sign_in_failed",
            Self::PasswordChanged { .. } => "password_changed",
            Self::UserErased { .. } => "user_erased",
        }
        .to_owned()
    }

    fn event_version(&self) -> String {
        "1".to_owned()
    }
}
