//! What becomes of an account: another password, and the sessions that end with it.

use std::future::IntoFuture;
use std::sync::Arc;

use crewlog::domain::EmailAddress;
use crewlog::journal::sealing::RootKey;
use crewlog::journal::stores::{Statement, Store};
use crewlog::service::{Request, Service, ServiceError, ServiceSettings};
use secrecy::SecretString;
use serde_json::{Value, json};

use super::Running;
use super::routes::{points_at, problem};
use super::team::{Person, password, text};
use crate::support::journal::{ROOT_KEY, TestSource, open_store};
use crate::support::server::{Call, Server};
use crate::support::trials::{Case, StoreUnderTest, both};

pub fn trials() -> Vec<Case> {
    vec![
        both(
            "account",
            "a_new_password_ends_the_other_sessions",
            password_change,
        ),
        both(
            "account",
            "wrong_passwords_count_wherever_they_are_tried",
            one_counter,
        ),
        both("account", "sessions_are_listed_and_ended", sessions),
        both(
            "account",
            "a_weak_hash_is_made_anew_when_its_person_signs_in",
            rehashed,
        ),
        both(
            "account",
            "nothing_begins_on_a_password_that_was_changed_meanwhile",
            overtaken,
        ),
    ]
}

fn change(server: &Server, person: &Person, new: &str) -> Call {
    let body = json!({"current_password": person.password, "new_password": new});
    server
        .post("/v1/me/password")
        .bearer(&person.token)
        .json(body)
}

fn sign_in(server: &Server, email: &str, password: &str) -> Call {
    let body = json!({"email": email, "password": password});
    server.post("/v1/sessions").json(body)
}

fn me(server: &Server, token: &str) -> Call {
    server.get("/v1/me").bearer(token)
}

async fn position(server: &Server) -> u64 {
    let reply = server.get("/v1/plans").await.expect(200);
    let text = reply.header("crewlog-position").expect("a position");
    text.parse().expect("a number")
}

async fn listed(server: &Server, person: &Person) -> Vec<Value> {
    let list = server
        .get("/v1/sessions?limit=200")
        .bearer(&person.token)
        .await
        .expect(200);
    list.body["data"].as_array().expect("a list").clone()
}

async fn password_change(store: StoreUnderTest) {
    let Running { server, store } = Running::on(store).await;
    let here = Person::sign_up(&server, "changes").await;
    let (there, elsewhere) = (here.sign_in(&server).await, here.sign_in(&server).await);
    let other = Person::sign_up(&server, "other").await;
    let before = position(&server).await;
    let new = password();

    // What is refused changes nothing.
    let same = change(&server, &here, &here.password).await;
    points_at(&same, "/new_password", &["invalid_value"]);
    let short = change(&server, &here, "short").await;
    points_at(&short, "/new_password", &["invalid_value"]);
    assert_eq!(position(&server).await, before, "nothing is written");
    me(&server, &there.token).await.expect(200);

    // All but the one that asks end in the commit that changes it.
    let key = "one-change";
    let send = || change(&server, &here, &new).header("Idempotency-Key", key);
    let changed = send().await.expect(204);
    let at: u64 = changed
        .header("crewlog-position")
        .expect("a position")
        .parse()
        .expect("a number");
    assert_eq!(at, before + 3, "a change, and two sessions that end");
    for ended in [&there, &elsewhere] {
        problem(&me(&server, &ended.token).await, 401, "unauthenticated");
    }
    me(&server, &here.token).await.expect(200);
    me(&server, &other.token).await.expect(200);
    let left = listed(&server, &here).await;
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!(left[0]["id"], here.session.as_str());

    // Told again, though what it was proven with is the password no more.
    let again = send().await.expect(204);
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(position(&server).await, at);

    let old = sign_in(&server, &here.email, &here.password).await;
    problem(&old, 401, "invalid_credentials");
    problem(
        &change(&server, &here, &password()).await,
        403,
        "wrong_password",
    );
    let session = sign_in(&server, &here.email, &new).await.expect(201);
    me(&server, &text(&session.body, "/token"))
        .await
        .expect(200);
    // Who has changed it can change it back.
    let now = Person {
        password: new,
        ..here.clone()
    };
    change(&server, &now, &here.password).await.expect(204);
    let ended = me(&server, &text(&session.body, "/token")).await;
    problem(&ended, 401, "unauthenticated");
    super::held(&store);
}

/// Signing in, a new address and a new password: one counter.
async fn one_counter(store: StoreUnderTest) {
    let Running { server, store } = Running::on(store).await;
    let person = Person::sign_up(&server, "guessed").await;
    let wrong = Person {
        password: password(),
        ..person.clone()
    };
    let new = password();
    let move_to = |email: &str| {
        let body = json!({"email": email, "password": wrong.password});
        server.patch("/v1/me").bearer(&person.token).json(body)
    };
    for round in 0..2 {
        problem(&change(&server, &wrong, &new).await, 403, "wrong_password");
        let moved = move_to("moved@mail-of-tests.example").await;
        problem(&moved, 401, "invalid_credentials");
        if round == 0 {
            let signed_in = sign_in(&server, &person.email, &wrong.password).await;
            problem(&signed_in, 401, "invalid_credentials");
        }
    }
    // Five are free; each further one waits, and makes the next wait longer.
    problem(&change(&server, &wrong, &new).await, 403, "wrong_password");
    for refused in [
        change(&server, &person, &new).await,
        sign_in(&server, &person.email, &person.password).await,
        move_to("moved@mail-of-tests.example").await,
    ] {
        problem(&refused, 429, "too_many_attempts");
    }
    super::eventually("the wait to be over", async || {
        let reply = change(&server, &person, &new).await;
        (reply.status == 204).then_some(())
    })
    .await;
    sign_in(&server, &person.email, &new).await.expect(201);
    super::held(&store);
}

async fn sessions(store: StoreUnderTest) {
    let Running { server, store } = Running::on(store).await;
    let here = Person::sign_up(&server, "lists").await;
    let there = here.sign_in(&server).await;
    let stranger = Person::sign_up(&server, "stranger").await;
    for (person, other) in [(&here, &there), (&there, &here)] {
        let list = listed(&server, person).await;
        assert_eq!(list.len(), 2, "{list:?}");
        for session in &list {
            let is_own = session["id"] == person.session.as_str();
            assert!(is_own || session["id"] == other.session.as_str());
            assert_eq!(session["current"], is_own, "{session}");
            assert!(session.get("token").is_none(), "{session}");
        }
    }
    // Nobody ends what is not theirs; one's own can be ended from either side, once.
    let path = format!("/v1/sessions/{}", there.session);
    let end = |token: &str| server.delete(&path).bearer(token);
    problem(&end(&stranger.token).await, 404, "not_found");
    me(&server, &there.token).await.expect(200);
    end(&here.token).await.expect(204);
    problem(&me(&server, &there.token).await, 401, "unauthenticated");
    problem(&end(&here.token).await, 404, "not_found");
    assert_eq!(listed(&server, &here).await.len(), 1);
    super::held(&store);
}

/// The service in this process on the store under test, and somebody who signed up there.
async fn in_process(store: &StoreUnderTest, person: &Person) -> InProcess {
    let opened = open_store(store).await;
    let root = match std::fs::read_to_string(store.data_dir().join("root.key")) {
        Ok(text) => text.trim().to_owned(),
        Err(_) => ROOT_KEY.to_owned(),
    };
    let root = RootKey::from_text(&root).expect("a root key");
    let source = Arc::new(TestSource::new(11));
    let head = crewlog::journal::stores::head(&*opened).await;
    source.not_before(head.expect("the head").recorded_at);
    let settings = ServiceSettings::default();
    let service = Service::start(opened.clone(), source, &root, settings).await;
    InProcess {
        service: service.expect("the service to start"),
        store: opened,
        email: EmailAddress::parse(&person.email).expect("an address"),
    }
}

struct InProcess {
    service: Arc<Service>,
    store: Arc<dyn Store>,
    email: EmailAddress,
}

impl InProcess {
    async fn hash_of(&self, user: &str) -> String {
        let sql = "SELECT hash FROM passwords WHERE user_id = $1";
        let rows = self.store.query(sql, vec![user.into()]).await;
        rows.expect("a row")[0].text(0).expect("a hash").to_owned()
    }

    async fn sign_in(&self, password: &str) -> Result<(), ServiceError> {
        let password = SecretString::from(password);
        let request = Request::default();
        let session = self.service.sign_in(&request, &self.email, password).await;
        session.map(drop)
    }
}

/// Signs somebody up with the program, and ends it.
async fn signed_up(store: &StoreUnderTest) -> Person {
    let mut server = Server::start(store).await;
    let person = Person::sign_up(&server, "somebody").await;
    assert!(server.terminate().await.success(), "{}", server.logs());
    person
}

async fn rehashed(store: StoreUnderTest) {
    let person = signed_up(&store).await;
    let here = in_process(&store, &person).await;
    let strong = here.hash_of(&person.user).await;
    assert!(
        strong.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
        "{strong}"
    );
    here.sign_in(&person.password).await.expect("a session");
    assert_eq!(here.hash_of(&person.user).await, strong, "not made anew");

    // As an older release might have made it.
    let weak = weak_hash(&person.password);
    let statement = Statement::new(
        "UPDATE passwords SET hash = $1 WHERE user_id = $2",
        [weak.as_str().into(), person.user.as_str().into()],
    );
    here.store.execute(vec![statement]).await.expect("a row");
    let wrong = here.sign_in(&password()).await;
    assert!(matches!(wrong, Err(ServiceError::InvalidCredentials)));
    assert_eq!(here.hash_of(&person.user).await, weak, "nothing was proven");
    here.sign_in(&person.password).await.expect("a session");
    let stronger = here.hash_of(&person.user).await;
    assert!(
        stronger.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
        "{stronger}"
    );
    assert_ne!(stronger, strong);
    here.sign_in(&person.password).await.expect("a session");
    assert!(here.service.stop(std::time::Duration::from_secs(10)).await);
    drop(here);
    super::held(&store);
}

fn weak_hash(password: &str) -> String {
    use argon2::password_hash::{PasswordHasher, SaltString};
    let params = argon2::Params::new(64, 1, 1, None).expect("parameters");
    let argon2 = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
    let salt = SaltString::encode_b64(&[7; 16]).expect("a salt");
    let hash = argon2.hash_password(password.as_bytes(), &salt);
    hash.expect("a hash").to_string()
}

/// Many sign in with the old password while it is changed: whoever got in by it before is out
/// after, and nobody gets in by it later.
async fn overtaken(store: StoreUnderTest) {
    let Running { server, store } = Running::on(store).await;
    for _ in 0..3 {
        let person = Person::sign_up(&server, "raced").await;
        let new = password();
        let changing = change(&server, &person, &new).into_future();
        let racing =
            (0..8).map(|_| sign_in(&server, &person.email, &person.password).into_future());
        let (changed, racing) = tokio::join!(changing, futures::future::join_all(racing));
        changed.expect(204);
        for reply in racing {
            match reply.status {
                201 => {
                    let ended = me(&server, &text(&reply.body, "/token")).await;
                    problem(&ended, 401, "unauthenticated");
                }
                429 => problem(&reply, 429, "too_many_attempts"),
                _ => problem(&reply, 401, "invalid_credentials"),
            }
        }
        let left = listed(&server, &person).await;
        assert_eq!(left.len(), 1, "only the one that asked: {left:?}");
    }
    super::held(&store);
}
