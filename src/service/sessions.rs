//! Signing in and out.

use futures::FutureExt;
use secrecy::SecretString;

use super::{
    Caller, Request, Service, ServiceError, Token, TokenKind, Written,
    password_change::Proven,
    past::Part,
    write::{Composed, Made, Receipt, Sender, unmoved},
};
use crate::{
    domain::{
        EmailAddress, Refusal, Timestamp,
        authority::Actor,
        ids::{SessionId, UserId},
        user::{User, UserCommand},
    },
    journal::{Desk, Origin, StreamRef, Unit, stores::Statement},
    projections::{ACCOUNT, Documents, Found, Users},
};

/// A session, with its token in the one answer that shows it.
#[derive(Debug)]
pub struct SessionView {
    pub id: SessionId,
    pub user: UserId,
    pub version: u64,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
    /// Whether it is the one that asks.
    pub current: bool,
    pub token: Option<Token>,
}

const INSERT_TOKEN: &str = "
INSERT INTO session_tokens (token_hash, session, user_id, expires_at)
VALUES ($1, $2, $3, $4)";

const DELETE_TOKEN: &str = "
DELETE FROM session_tokens
 WHERE session = $1";

/// Takes away what an ended session was found by.
pub(super) fn end_token(session: SessionId) -> Statement {
    Statement::new(DELETE_TOKEN, [session.to_string().into()])
}

/// A session that is being started: its event, and the row that it is found by.
pub(super) struct NewSession {
    user: UserId,
    session: SessionId,
    token_hash: [u8; 32],
    lives: chrono::TimeDelta,
}

impl NewSession {
    pub(super) fn decide(&self, desk: &mut Desk<'_>, account: &StreamRef) -> Result<(), Refusal> {
        let expires_at = desk.now().plus(self.lives);
        let start = UserCommand::StartSession {
            session: self.session,
            expires_at,
        };
        desk.execute::<User>(account, start, &[])?;
        desk.write_beside(self.keep_token(expires_at));
        Ok(())
    }

    fn keep_token(&self, expires_at: Timestamp) -> Statement {
        let parameters = [
            self.token_hash.as_slice().into(),
            self.session.to_string().into(),
            self.user.to_string().into(),
            expires_at.0.into(),
        ];
        Statement::new(INSERT_TOKEN, parameters)
    }
}

impl Service {
    /// Signs somebody in.
    ///
    /// # Errors
    /// [`ServiceError::InvalidCredentials`] for a wrong password and for an unknown address
    /// alike; [`ServiceError::TooManyAttempts`] after too many of them, for the address or
    /// from the client's network.
    pub async fn sign_in(
        &self,
        request: &Request,
        email: &EmailAddress,
        password: SecretString,
    ) -> Result<Written<SessionView>, ServiceError> {
        let lookup = self.email_lookup(email);
        let user = self.user_of_email(&lookup).await?;
        let proven = self
            .prove_password(request, &lookup, user, password)
            .await?;
        let proven = proven.ok_or(ServiceError::InvalidCredentials)?;
        match self.start_session(request, proven).await {
            // Another was chosen since this one was looked at.
            Err(ServiceError::Refused(Refusal::WrongPassword)) => {
                Err(ServiceError::InvalidCredentials)
            }
            answer => answer,
        }
    }

    async fn start_session(
        &self,
        request: &Request,
        proven: Proven,
    ) -> Result<Written<SessionView>, ServiceError> {
        let user = proven.user;
        let sender = Sender::Anonymous(format!("sign-in {user}"));
        let session = SessionId::from_uuid(self.source().uuid());
        let token = Token::generate(TokenKind::Session, self.source());
        let receipt = self
            .submit(&sender, request, None, || {
                async {
                    let person = self.person_key(user, None).await?;
                    let origin = request.origin(Actor::User { id: user }, person.clone(), person);
                    Ok(self.compose_session(proven.clone(), session, &token, origin))
                }
                .boxed()
            })
            .await?;
        let Made::Session(user, session) = receipt.made else {
            return Err(ServiceError::Internal(
                "the kept answer is not a session".to_owned(),
            ));
        };
        let shown = self.session_shown(&receipt, user, session, token).await?;
        Ok(Written::of(&receipt, shown))
    }

    /// A session of `user` under a token that was just made.
    pub(super) fn new_session(
        &self,
        user: UserId,
        session: SessionId,
        token: &Token,
    ) -> NewSession {
        NewSession {
            user,
            session,
            token_hash: token.hash(),
            lives: self.settings.session_lifetime,
        }
    }

    fn compose_session(
        &self,
        proven: Proven,
        session: SessionId,
        token: &Token,
        origin: Origin,
    ) -> Composed {
        let user = proven.user;
        let stream = StreamRef::of::<User>(user, user);
        let started = self.new_session(user, session, token);
        Composed {
            lane: user.to_string(),
            streams: vec![stream.clone()],
            lookups: vec![],
            origin,
            decide: Box::new(move |desk| {
                proven.holds(desk, &stream)?;
                started.decide(desk, &stream)?;
                Ok(Made::Session(user, session).outcome(201))
            }),
        }
    }

    /// The session that a write made; its token only the first time.
    pub(super) async fn session_shown(
        &self,
        receipt: &Receipt,
        user: UserId,
        session: SessionId,
        token: Token,
    ) -> Result<SessionView, ServiceError> {
        let key = user.to_string();
        let mut account = self
            .shown::<Users, User>(self.users(), receipt, &key, &key)
            .await?;
        if !account.sessions.contains_key(&session) {
            // It has ended already: a new password came right after it.
            let store = &**self.journal.store();
            let then = Documents::<Users>::as_of::<User>(store, &key, &key, receipt.position);
            let then = then.await?;
            account = then.unwrap_or(account);
        }
        let known = account.sessions.get(&session);
        let known = known.ok_or_else(|| {
            ServiceError::Internal(format!("session {session} is not in its account"))
        })?;
        Ok(SessionView {
            id: session,
            user,
            version: known.version,
            created_at: known.started_at,
            expires_at: known.expires_at,
            current: true,
            token: (!receipt.replayed).then_some(token),
        })
    }

    /// The caller's live sessions, oldest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn sessions(
        &self,
        request: &Request,
        caller: &Caller,
    ) -> Result<Found<Vec<SessionView>>, ServiceError> {
        let state = self.state(request, &[Part::Person(caller.user)]).await?;
        let users = state.documents::<Users>();
        let found = users.get(&caller.user.to_string()).await?;
        let now = state.now();
        let sessions = found
            .value
            .map(|account| account.sessions)
            .unwrap_or_default();
        let live = sessions
            .into_iter()
            .filter(|(_, session)| session.expires_at > now);
        let value = live
            .map(|(id, session)| SessionView {
                id,
                user: caller.user,
                version: session.version,
                created_at: session.started_at,
                expires_at: session.expires_at,
                current: id == caller.session,
                token: None,
            })
            .collect();
        Ok(Found {
            position: found.position,
            value,
        })
    }

    /// Ends a session of the caller's, which may be the one that asks.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] when the caller has no such live session.
    pub async fn end_session(
        &self,
        request: &Request,
        caller: &Caller,
        session: SessionId,
    ) -> Result<Written<()>, ServiceError> {
        let sender = Sender::Person(caller.clone());
        let receipt = self
            .submit(&sender, request, None, || {
                async {
                    let (caller, stream) = (caller.clone(), caller.stream());
                    let version = async {
                        let account = self.users().get(&caller.user.to_string()).await?.value;
                        let known =
                            account.and_then(|account| account.sessions.get(&session).cloned());
                        Ok(known.map(|session| session.version))
                    };
                    let sequence = self.checked_sequence(request, &stream, version).await?;
                    let origin = self.origin(&caller, request, None, None).await?;
                    Ok(Composed {
                        lane: caller.user.to_string(),
                        streams: vec![stream.clone()],
                        lookups: vec![],
                        origin,
                        decide: Box::new(move |desk| {
                            caller.is_live(desk)?;
                            unmoved(desk, &stream, sequence)?;
                            desk.execute::<User>(
                                &stream,
                                UserCommand::RevokeSession { session },
                                &[],
                            )?;
                            desk.write_beside(end_token(session));
                            Ok(Made::Nothing.outcome(204))
                        }),
                    })
                }
                .boxed()
            })
            .await?;
        Ok(Written::of(&receipt, ()))
    }

    /// Writes down the wrong passwords of accounts, a minute at a time.
    pub(super) async fn write_failed_sign_ins(&self) -> Result<u64, ServiceError> {
        let failures = self.passwords.failures_before(self.source().now().minute());
        let mut written = 0;
        for (lookup, minute, count) in failures {
            let found = self.subjects.of_email(ACCOUNT, &lookup).await?;
            if let Some(user) = found.and_then(|found| found.user) {
                self.write_failed_sign_in(user, minute, count).await?;
                written += 1;
            }
        }
        Ok(written)
    }

    async fn write_failed_sign_in(
        &self,
        user: UserId,
        minute: i64,
        count: u64,
    ) -> Result<(), ServiceError> {
        let stream = StreamRef::of::<User>(user, user);
        let unit = Unit {
            lane: user.to_string(),
            streams: vec![stream.clone()],
            lookups: vec![],
            origin: Origin::system(),
            idempotency: None,
            decide: Box::new(move |desk| {
                let command = UserCommand::RecordSignInFailed { minute, count };
                match desk.execute::<User>(&stream, command, &[]) {
                    Ok(()) | Err(Refusal::NotFound { .. }) => Ok(Made::Nothing.outcome(0)),
                    Err(refusal) => Err(refusal.into()),
                }
            }),
        };
        self.journal.submit(unit).await?;
        Ok(())
    }
}
