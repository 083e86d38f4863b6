//! The routes on a real service and an embedded store, asked as clients ask them.

use std::{collections::BTreeSet, sync::Arc};

use axum::{
    Router,
    body::Body,
    http::{HeaderMap, Request, StatusCode},
};
use serde_json::{Value, json};
use tower::ServiceExt;

use super::{
    EdgeSettings,
    access::{self, Access},
    app,
    testing::text_of,
};
use crate::{
    journal::{SystemSource, sealing::RootKey, stores::sqlite::SqliteStore},
    service::{Service, ServiceSettings},
};

const PASSWORD: &str = "correct horse battery";

/// A server on a store of its own.
struct Server {
    router: Router,
    _folder: tempfile::TempDir,
}

/// What came back.
#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    /// The body as it came.
    raw: String,
    body: Value,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_else(|| panic!("no {name} in {self:?}"))
    }

    fn text(&self, pointer: &str) -> String {
        let found = self.body.pointer(pointer).and_then(Value::as_str);
        found
            .unwrap_or_else(|| panic!("no text at {pointer} in {self:?}"))
            .to_owned()
    }

    /// That an object has these members, and no other.
    #[track_caller]
    fn has(&self, pointer: &str, names: &str) {
        let object = self.body.pointer(pointer).and_then(Value::as_object);
        let object = object.unwrap_or_else(|| panic!("no object at {pointer} in {self:?}"));
        let there: BTreeSet<_> = object.keys().map(String::as_str).collect();
        assert_eq!(there, names.split_whitespace().collect(), "{pointer}");
    }

    #[track_caller]
    fn is(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{self:?}");
        if self.status.is_success() && self.headers.contains_key("crewlog-position") {
            assert!(self.header("crewlog-position").parse::<u64>().is_ok());
        }
        self
    }

    #[track_caller]
    fn refused(self, status: u16, code: &str) -> Self {
        let answer = self.is(status);
        assert_eq!(answer.body["code"], code, "{answer:?}");
        assert!(answer.body["request_id"].is_string());
        answer
    }
}

/// One request that is being put together.
struct Ask<'a> {
    server: &'a Server,
    request: axum::http::request::Builder,
    body: Body,
}

impl Ask<'_> {
    fn held_by(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    fn header(mut self, name: &str, value: &str) -> Self {
        self.request = self.request.header(name, value);
        self
    }

    fn json(mut self, body: Value) -> Self {
        self.body = Body::from(body.to_string());
        self.header("content-type", "application/json")
    }

    async fn answer(self) -> Answer {
        let request = self.request.body(self.body).expect("a request");
        let response = self.server.router.clone().oneshot(request).await;
        let response = response.expect("infallible");
        let (status, headers) = (response.status(), response.headers().clone());
        let text = text_of(response).await;
        let body = serde_json::from_str(&text).unwrap_or_else(|_| json!(text));
        Answer {
            status,
            headers,
            raw: text,
            body,
        }
    }
}

/// Somebody who has signed up with an organization and a workspace.
struct Founder {
    token: String,
    user: String,
    organization: String,
    workspace: String,
}

impl Server {
    async fn start() -> Self {
        Self::start_with(EdgeSettings {
            public_url: Some("https://crewlog.example/".to_owned()),
            ..EdgeSettings::default()
        })
        .await
    }

    async fn start_with(edge: EdgeSettings) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let store = SqliteStore::open(folder.path()).await.expect("a store");
        let root = RootKey::generate(&SystemSource);
        let settings = ServiceSettings::default();
        let service = Service::start(Arc::new(store), Arc::new(SystemSource), &root, settings);
        let service = service.await.expect("a service");
        Self {
            router: app(service, &edge).expect("a router"),
            _folder: folder,
        }
    }

    fn ask(&self, method: &str, path: &str) -> Ask<'_> {
        Ask {
            server: self,
            request: Request::builder().method(method).uri(path),
            body: Body::empty(),
        }
    }

    /// Sends a write twice under one key; the second answer must be the first, but for its
    /// secrets.
    async fn send_twice(
        &self,
        token: Option<&str>,
        method: &str,
        path: &str,
        body: Value,
    ) -> Answer {
        let ask = || {
            let ask = self
                .ask(method, path)
                .json(body.clone())
                .header("idempotency-key", path);
            match token {
                Some(token) => ask.held_by(token),
                None => ask,
            }
        };
        let (first, again) = (ask().answer().await, ask().answer().await);
        assert_eq!(again.status, first.status, "{again:?}");
        assert_eq!(again.header("idempotent-replayed"), "true");
        for name in ["crewlog-position", "etag", "location"] {
            assert_eq!(
                again.headers.get(name),
                first.headers.get(name),
                "{name} of {path}"
            );
        }
        let mut told = first.body.clone();
        for place in ["", "/session"] {
            let object = told.pointer_mut(place).and_then(Value::as_object_mut);
            object.into_iter().for_each(|object| {
                object.retain(|name, _| name != "token" && name != "accept_url")
            });
        }
        assert_eq!(again.body, told, "{path}");
        first
    }

    async fn get(&self, token: &str, path: &str) -> Answer {
        self.ask("GET", path).held_by(token).answer().await
    }

    async fn send(&self, token: &str, method: &str, path: &str, body: Value) -> Answer {
        self.ask(method, path)
            .held_by(token)
            .json(body)
            .answer()
            .await
    }

    async fn founder(&self, name: &str) -> Founder {
        let answer = self
            .ask("POST", "/v1/signup")
            .json(json!({
                "email": format!("{name}@example.com"), "password": PASSWORD, "name": name,
                "organization": { "name": "Acme" }, "workspace": { "name": "Support" },
            }))
            .answer()
            .await
            .is(201);
        Founder {
            token: answer.text("/session/token"),
            user: answer.text("/user/id"),
            organization: answer.text("/organization/id"),
            workspace: answer.text("/workspace/id"),
        }
    }

    /// Lets somebody new into a workspace; answers their id and their token.
    async fn joined(&self, founder: &Founder, name: &str, role: &str) -> (String, String) {
        let path = format!("/v1/workspaces/{}/invitations", founder.workspace);
        let body = json!({ "email": format!("{name}@example.com"), "role": role });
        let invitation = self.send(&founder.token, "POST", &path, body).await.is(201);
        let accepted = self
            .ask("POST", "/v1/invitations/accept")
            .json(json!({ "token": invitation.text("/token"), "name": name, "password": PASSWORD }))
            .answer()
            .await
            .is(200);
        (accepted.text("/user"), accepted.text("/session/token"))
    }
}

#[tokio::test]
async fn signing_up_makes_all_three_and_a_session() {
    let server = Server::start().await;
    let sign_up = |email: &str, more: Value| {
        let mut body = json!({ "email": email, "password": PASSWORD, "name": "Ada" });
        for (name, value) in more.as_object().into_iter().flatten() {
            body[name] = value.clone();
        }
        server.ask("POST", "/v1/signup").json(body)
    };
    let all = json!({ "organization": { "name": "Acme" }, "workspace": { "name": "Support", "plan": "team" } });
    let answer = sign_up("ada@example.com", all).answer().await.is(201);
    assert_eq!(answer.header("location"), "/v1/me");
    assert_eq!(answer.header("etag"), "\"1\"");
    answer.has(
        "/user",
        "id version created_at updated_at email name memberships organizations",
    );
    answer.has(
        "/organization",
        "id version created_at updated_at name status suspended_at",
    );
    assert_eq!(answer.body["workspace"]["plan"], "team");
    assert_eq!(answer.body["user"]["memberships"][0]["role"], "owner");
    assert!(answer.text("/user/created_at").ends_with('Z'));
    assert_eq!(
        answer.text("/user/created_at").len(),
        "2026-11-24T06:30:00.000000Z".len()
    );

    let alone = sign_up("b@example.com", json!({})).answer().await.is(201);
    assert_eq!(alone.body["organization"], Value::Null);
    let free = json!({ "organization": { "name": "B" }, "workspace": { "name": "W" } });
    let free = sign_up("c@example.com", free).answer().await.is(201);
    assert_eq!(free.body["workspace"]["plan"], "free");

    sign_up("ada@example.com", json!({}))
        .answer()
        .await
        .refused(409, "email_taken");
    for (more, pointer, code) in [
        (
            json!({ "workspace": { "name": "W" } }),
            "/workspace",
            "invalid_value",
        ),
        (
            json!({ "organization": ["Acme"] }),
            "/organization",
            "wrong_type",
        ),
        (
            json!({ "organization": { "name": "" } }),
            "/organization/name",
            "invalid_value",
        ),
        (
            json!({ "organization": { "name": "A", "plan": "x" } }),
            "/organization/plan",
            "unknown_field",
        ),
        (
            json!({ "organization": { "name": "A" }, "workspace": { "name": "W", "plan": "gold" } }),
            "/workspace/plan",
            "invalid_value",
        ),
        (json!({ "password": "short" }), "/password", "invalid_value"),
        (json!({ "email": "nobody" }), "/email", "invalid_value"),
        (json!({ "name": "x".repeat(121) }), "/name", "too_long"),
        (json!({ "reason": "x".repeat(501) }), "/reason", "too_long"),
    ] {
        let answer = sign_up("d@example.com", more)
            .answer()
            .await
            .refused(422, "invalid_body");
        assert_eq!(answer.body["errors"][0]["pointer"], pointer, "{answer:?}");
        assert_eq!(answer.body["errors"][0]["code"], code, "{answer:?}");
    }
}

#[tokio::test]
async fn sessions_begin_are_listed_and_end() {
    let server = Server::start().await;
    let founder = server.founder("ada").await;
    let sign_in = |password: &str| {
        let body = json!({ "email": "Ada@example.com", "password": password });
        server.ask("POST", "/v1/sessions").json(body)
    };
    let session = sign_in(PASSWORD).answer().await.is(201);
    let id = session.text("/id");
    assert_eq!(session.header("location"), format!("/v1/sessions/{id}"));
    session.has(
        "",
        "id version created_at updated_at user expires_at current token",
    );
    assert_eq!(session.body["user"], founder.user.as_str());
    sign_in("wrong")
        .answer()
        .await
        .refused(401, "invalid_credentials");

    let page = server
        .get(&founder.token, "/v1/sessions?limit=1")
        .await
        .is(200);
    assert_eq!(page.body["data"][0]["current"], true);
    assert_eq!(page.body["data"][0].get("token"), None);
    let next = format!("/v1/sessions?limit=1&cursor={}", page.text("/next_cursor"));
    let page = server.get(&founder.token, &next).await.is(200);
    assert_eq!(page.body["data"][0]["id"], id.as_str());
    assert_eq!(page.body["next_cursor"], Value::Null);

    let path = format!("/v1/sessions/{id}");
    let end = || server.ask("DELETE", &path).held_by(&founder.token);
    end()
        .header("if-match", "\"1\"")
        .answer()
        .await
        .refused(412, "precondition_failed");
    end()
        .header("if-match", session.header("etag"))
        .answer()
        .await
        .is(204);
    end().answer().await.refused(404, "not_found");
    server
        .get(&session.text("/token"), "/v1/me")
        .await
        .refused(401, "unauthenticated");
    server
        .ask("GET", "/v1/me")
        .answer()
        .await
        .refused(401, "unauthenticated");
}

#[tokio::test]
async fn a_profile_is_read_and_changed() {
    let server = Server::start().await;
    let founder = server.founder("ada").await;
    let me = server.get(&founder.token, "/v1/me").await.is(200);
    assert_eq!(
        me.body["organizations"][0]["organization"],
        founder.organization.as_str()
    );
    let change = |body: Value| {
        server
            .ask("PATCH", "/v1/me")
            .held_by(&founder.token)
            .json(body)
    };

    let renamed = change(json!({ "name": "Ada L", "reason": "married" }));
    let renamed = renamed
        .header("if-match", me.header("etag"))
        .answer()
        .await
        .is(200);
    assert_eq!(renamed.body["name"], "Ada L");
    assert_ne!(renamed.header("etag"), me.header("etag"));
    let stale = change(json!({ "name": "Ada M" })).header("if-match", me.header("etag"));
    stale.answer().await.refused(412, "precondition_failed");
    change(json!({ "name": "Ada M" }))
        .header("if-match", "*")
        .answer()
        .await
        .is(200);

    let moved = json!({ "email": "ada@new.example", "password": PASSWORD });
    assert_eq!(
        change(moved).answer().await.is(200).body["email"],
        "ada@new.example"
    );
    let wrong = json!({ "email": "ada@newer.example", "password": "wrong" });
    change(wrong)
        .answer()
        .await
        .refused(401, "invalid_credentials");
    for (body, pointer) in [
        (json!({}), ""),
        (json!({ "password": PASSWORD }), ""),
        (json!({ "email": "a@b.example" }), "/password"),
        (json!({ "name": "a", "nick": "b" }), "/nick"),
    ] {
        let answer = change(body).answer().await.refused(422, "invalid_body");
        assert_eq!(answer.body["errors"][0]["pointer"], pointer, "{answer:?}");
    }
}

#[tokio::test]
async fn organizations_and_workspaces_are_made_read_and_changed() {
    let server = Server::start().await;
    let founder = server.founder("ada").await;
    let token = &founder.token;
    let made = server
        .send(
            token,
            "POST",
            "/v1/organizations",
            json!({ "name": " Globex " }),
        )
        .await
        .is(201);
    let path = made.header("location").to_owned();
    assert_eq!(made.body["name"], "Globex");
    let read = server.get(token, &path).await.is(200);
    assert_eq!(
        (read.header("etag"), &read.body),
        (made.header("etag"), &made.body)
    );
    let begins = format!(
        r#"{{"id":"{}","version":1,"created_at":"{at}","updated_at":"{at}","#,
        made.text("/id"),
        at = made.text("/created_at")
    );
    assert!(read.raw.starts_with(&begins), "{read:?}");
    let renamed = server
        .send(token, "PATCH", &path, json!({ "name": "Globex 2" }))
        .await
        .is(200);
    assert_eq!(
        renamed.body["version"].as_u64(),
        renamed.header("etag").trim_matches('"').parse().ok()
    );
    let list = server.get(token, "/v1/organizations?limit=1").await.is(200);
    assert_eq!(list.body["data"][0]["id"], founder.organization.as_str());
    let next = format!("/v1/organizations?cursor={}", list.text("/next_cursor"));
    let list = server.get(token, &next).await.is(200);
    assert_eq!(list.body["data"], json!([renamed.body]));

    let workspaces = format!("{path}/workspaces");
    let made = server
        .send(
            token,
            "POST",
            &workspaces,
            json!({ "name": "Sales", "plan": "team" }),
        )
        .await
        .is(201);
    made.has(
        "",
        "id version created_at updated_at organization name plan created_by",
    );
    let path = made.header("location").to_owned();
    assert_eq!(server.get(token, &path).await.is(200).body, made.body);
    assert_eq!(
        server.get(token, "/v1/workspaces").await.is(200).body["data"]
            .as_array()
            .map(Vec::len),
        Some(2)
    );
    let renamed = server
        .send(token, "PATCH", &path, json!({ "name": "Sales 2" }))
        .await
        .is(200);
    assert_eq!(renamed.body["name"], "Sales 2");
    let plan = format!("{path}/plan");
    assert_eq!(
        server
            .send(token, "PUT", &plan, json!({ "plan": "enterprise" }))
            .await
            .is(200)
            .body["plan"],
        "enterprise"
    );
    let unknown = server
        .send(token, "PUT", &plan, json!({ "plan": "gold" }))
        .await
        .refused(422, "invalid_body");
    assert_eq!(unknown.body["errors"][0]["pointer"], "/plan");

    let plans = server.ask("GET", "/v1/plans").answer().await.is(200);
    plans.has("", "data next_cursor");
    plans.has("/data/0", "name title quotas prices");
}

#[tokio::test]
async fn a_team_is_invited_changes_and_leaves() {
    let server = Server::start().await;
    let founder = server.founder("ada").await;
    let token = &founder.token;
    let base = format!("/v1/workspaces/{}", founder.workspace);
    let invitations = format!("{base}/invitations");
    let invite = json!({ "email": "bob@example.com", "role": "member" });
    let sent = server
        .send(token, "POST", &invitations, invite.clone())
        .await
        .is(201);
    sent.has("", "id version created_at updated_at workspace email role status expires_at invited_by token accept_url");
    let link = format!(
        "https://crewlog.example/invitations/accept/{}",
        sent.text("/token")
    );
    assert_eq!(sent.text("/accept_url"), link);
    let path = sent.header("location").to_owned();
    let read = server.get(token, &path).await.is(200);
    assert_eq!(
        (read.body.get("token"), read.body.get("accept_url")),
        (None, None)
    );
    assert_eq!(
        server.get(token, &invitations).await.is(200).body["data"],
        json!([read.body])
    );

    let resent = server
        .ask("POST", &format!("{path}/resend"))
        .held_by(token)
        .answer()
        .await
        .is(200);
    assert_ne!(resent.text("/token"), sent.text("/token"));
    let accept = |body: Value| server.ask("POST", "/v1/invitations/accept").json(body);
    accept(json!({ "token": sent.text("/token"), "name": "Bob", "password": PASSWORD }))
        .answer()
        .await
        .refused(404, "not_found");
    let missing = accept(json!({ "token": resent.text("/token") }))
        .answer()
        .await
        .refused(422, "invalid_body");
    assert_eq!(missing.body["errors"][0]["code"], "missing_field");
    assert_eq!(missing.body["errors"][1]["pointer"], "/password");
    accept(json!({ "token": resent.text("/token") }))
        .held_by("crew_session_x")
        .answer()
        .await
        .refused(401, "unauthenticated");
    accept(json!({ "token": resent.text("/token") }))
        .held_by(token)
        .answer()
        .await
        .refused(403, "invitation_for_another");
    let accepted =
        accept(json!({ "token": resent.text("/token"), "name": "Bob", "password": PASSWORD }));
    let accepted = accepted.answer().await.is(200);
    for name in [
        "user",
        "email",
        "name",
        "role",
        "since",
        "invited_by",
        "workspace",
        "session",
    ] {
        assert!(
            accepted
                .body
                .get(name)
                .is_some_and(|value| !value.is_null()),
            "{name}"
        );
    }
    let (bob, bobs) = (accepted.text("/user"), accepted.text("/session/token"));

    let member = format!("{base}/members/{bob}");
    let read = server.get(&bobs, &member).await.is(200);
    assert_eq!(read.header("etag"), accepted.header("etag"));
    let changed = server
        .ask("PATCH", &member)
        .held_by(token)
        .json(json!({ "role": "viewer" }));
    let changed = changed
        .header("if-match", read.header("etag"))
        .answer()
        .await
        .is(200);
    assert_eq!(changed.body["role"], "viewer");
    let until = json!({ "role": "admin", "until": "2020-01-01T00:00:00Z" });
    let until = server
        .send(token, "PATCH", &member, until)
        .await
        .refused(422, "invalid_body");
    assert_eq!(until.body["errors"][0]["pointer"], "/until");
    let list = server
        .get(&bobs, &format!("{base}/members?limit=1"))
        .await
        .is(200);
    let next = format!("{base}/members?cursor={}", list.text("/next_cursor"));
    assert_eq!(
        server.get(&bobs, &next).await.is(200).body["data"],
        json!([changed.body])
    );

    server
        .send(&bobs, "POST", &invitations, invite)
        .await
        .refused(403, "not_permitted");
    let owner = format!("{base}/members/{}", founder.user);
    server
        .ask("DELETE", &owner)
        .held_by(token)
        .answer()
        .await
        .refused(409, "last_owner");
    server
        .ask("DELETE", &member)
        .held_by(&bobs)
        .answer()
        .await
        .is(204);
    server.get(&bobs, &member).await.refused(404, "not_found");

    let (carol, _) = server.joined(&founder, "carol", "admin").await;
    let member = format!("{base}/members/{carol}");
    server
        .send(token, "DELETE", &member, json!({ "reason": "left us" }))
        .await
        .is(204);
}

#[tokio::test]
async fn invitations_are_revoked_declined_and_accepted_with_an_account() {
    let server = Server::start().await;
    let (founder, other) = (server.founder("ada").await, server.founder("bob").await);
    let invitations = format!("/v1/workspaces/{}/invitations", founder.workspace);
    let invite = async |email: &str| {
        let body = json!({ "email": email, "role": "viewer" });
        server
            .send(&founder.token, "POST", &invitations, body)
            .await
            .is(201)
    };
    let revoked = invite("x@example.com").await;
    let revoke = || {
        server
            .ask("DELETE", revoked.header("location"))
            .held_by(&founder.token)
    };
    assert_eq!(revoke().answer().await.is(200).body["status"], "revoked");
    revoke()
        .answer()
        .await
        .refused(409, "invitation_not_pending");

    let declined = invite("y@example.com").await;
    let decline = || {
        let body = json!({ "token": declined.text("/token") });
        server.ask("POST", "/v1/invitations/decline").json(body)
    };
    assert_eq!(decline().answer().await.is(200).body["status"], "declined");
    decline()
        .answer()
        .await
        .refused(409, "invitation_not_pending");

    let body = json!({ "token": invite("bob@example.com").await.text("/token") });
    let accepted = server
        .send(&other.token, "POST", "/v1/invitations/accept", body)
        .await
        .is(200);
    assert_eq!(accepted.body["user"], other.user.as_str());
    assert_eq!(accepted.body.get("session"), None);
}

#[tokio::test]
async fn the_audit_log_is_read_filtered_and_paged() {
    let server = Server::start().await;
    let founder = server.founder("ada").await;
    let audit = format!("/v1/workspaces/{}/audit", founder.workspace);
    let (bob, bobs) = server.joined(&founder, "bob", "member").await;
    let path = format!("/v1/workspaces/{}", founder.workspace);
    let renamed = server.send(
        &founder.token,
        "PATCH",
        &path,
        json!({ "name": "Sales", "reason": "growth" }),
    );
    let position = renamed.await.is(200).header("crewlog-position").to_owned();
    server
        .send(&bobs, "PATCH", &path, json!({ "name": "Mine" }))
        .await
        .refused(403, "not_permitted");
    server
        .get(&bobs, &audit)
        .await
        .refused(403, "not_permitted");

    let page = server
        .get(
            &founder.token,
            &format!("{audit}?action=workspace.renamed&outcome=ok"),
        )
        .await
        .is(200);
    page.has("/data/0", "position id recorded_at action outcome actor target organization workspace crew environment break_glass changes reason request_id ip user_agent leaf");
    let entry = &page.body["data"][0];
    assert_eq!(
        entry["actor"],
        json!({ "type": "user", "id": founder.user, "name": "ada" })
    );
    assert_eq!(
        entry["target"],
        json!({ "type": "workspace", "id": founder.workspace, "name": "Sales" })
    );
    assert_eq!(
        entry["changes"],
        json!([{ "path": "name", "from": "Support", "to": "Sales" }])
    );
    assert_eq!(
        (&entry["reason"], &entry["crew"]),
        (&json!("growth"), &Value::Null)
    );

    let one = server
        .get(&founder.token, &format!("{audit}/{position}"))
        .await
        .is(200);
    let mut bare = one.body.clone();
    let canonical = bare
        .as_object_mut()
        .and_then(|entry| entry.remove("canonical"));
    assert_eq!(&bare, entry);
    assert!(canonical.is_some_and(|text| text.as_str().is_some_and(|text| text.starts_with('{'))));
    server
        .get(&founder.token, &format!("{audit}/999999"))
        .await
        .refused(404, "not_found");
    server
        .get(&founder.token, &format!("{audit}/x"))
        .await
        .refused(404, "not_found");

    let denied = server
        .get(
            &founder.token,
            &format!("{audit}?outcome=denied&actor={bob}"),
        )
        .await
        .is(200);
    assert_eq!(denied.body["data"].as_array().map(Vec::len), Some(2));
    let found = server
        .get(&founder.token, &format!("{audit}?q=renamed+sales"))
        .await
        .is(200);
    assert_eq!(found.body["data"][0]["position"].to_string(), position);
    let none = format!(
        "{audit}?from=2999-01-01T00:00:00Z&to=2999-01-02T00:00:00%2B02:00&crew=x&environment=staging"
    );
    assert_eq!(
        server.get(&founder.token, &none).await.is(200).body["data"],
        json!([])
    );

    let all = server
        .get(&founder.token, &format!("{audit}?order=asc&limit=200"))
        .await
        .is(200);
    let (mut paged, mut path) = (Vec::new(), format!("{audit}?order=asc&limit=2"));
    loop {
        let page = server.get(&founder.token, &path).await.is(200);
        paged.extend(page.body["data"].as_array().cloned().unwrap_or_default());
        match page.body["next_cursor"].as_str() {
            Some(cursor) => path = format!("{audit}?order=asc&limit=2&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(Value::Array(paged), all.body["data"]);

    let whole = format!("/v1/organizations/{}/audit", founder.organization);
    let page = server
        .get(&founder.token, &format!("{whole}?limit=1"))
        .await
        .is(200);
    let newest = format!("{whole}/{}", page.body["data"][0]["position"]);
    server.get(&founder.token, &newest).await.is(200);
    server.get(&bobs, &whole).await.refused(404, "not_found");
    for (query, detail) in [
        ("outcome=maybe", "outcome"),
        ("from=yesterday", "from"),
        ("after=-1", "after"),
        ("order=up", "order"),
        ("actor=", "actor"),
        ("limit=0", "limit"),
        ("cursor=x", "cursor"),
        ("as_of=7", "as_of"),
    ] {
        let answer = server
            .get(&founder.token, &format!("{audit}?{query}"))
            .await;
        let answer = answer.refused(400, "invalid_request");
        assert!(
            answer.text("/detail").contains(&format!("`{detail}`")),
            "{answer:?}"
        );
    }
}

#[tokio::test]
async fn a_repeated_write_is_answered_as_the_first_time_without_its_secrets() {
    let server = Server::start().await;
    let founder = server.founder("ada").await;
    let path = format!("/v1/workspaces/{}/invitations", founder.workspace);
    let invite = |email: &str| {
        let body = json!({ "role": "viewer", "email": email });
        let ask = server.ask("POST", &path).held_by(&founder.token).json(body);
        ask.header("idempotency-key", "k1")
    };
    let first = invite("x@example.com").answer().await.is(201);
    let again = invite("x@example.com").answer().await.is(201);
    assert_eq!(again.header("idempotent-replayed"), "true");
    assert_eq!(
        again.header("crewlog-position"),
        first.header("crewlog-position")
    );
    assert_eq!(again.header("location"), first.header("location"));
    let mut told = first.body.clone();
    for secret in ["token", "accept_url"] {
        assert!(
            told.as_object_mut()
                .and_then(|body| body.remove(secret))
                .is_some()
        );
    }
    assert_eq!(again.body, told);
    invite("y@example.com")
        .answer()
        .await
        .refused(422, "idempotency_key_reused");
    let elsewhere = server
        .ask("POST", "/v1/organizations")
        .held_by(&founder.token);
    let elsewhere = elsewhere
        .json(json!({ "name": "A" }))
        .header("idempotency-key", "k1");
    elsewhere
        .answer()
        .await
        .refused(422, "idempotency_key_reused");
}

#[tokio::test]
async fn every_write_can_be_repeated() {
    let server = Server::start().await;
    let sign_up = json!({
        "email": "ada@example.com", "password": PASSWORD, "name": "Ada",
        "organization": { "name": "Acme" }, "workspace": { "name": "Support" },
    });
    let made = server
        .send_twice(None, "POST", "/v1/signup", sign_up)
        .await
        .is(201);
    let token = made.text("/session/token");
    let sign_in = json!({ "email": "ada@example.com", "password": PASSWORD });
    let session = server
        .send_twice(None, "POST", "/v1/sessions", sign_in)
        .await
        .is(201);
    let send = async |method: &str, path: &str, body: Value| {
        server.send_twice(Some(&token), method, path, body).await
    };
    send("DELETE", session.header("location"), json!({}))
        .await
        .is(204);
    let moved = json!({ "name": "Ada L", "email": "ada@new.example", "password": PASSWORD });
    send("PATCH", "/v1/me", moved).await.is(200);
    send("POST", "/v1/organizations", json!({ "name": "Globex" }))
        .await
        .is(201);
    let organization = format!("/v1/organizations/{}", made.text("/organization/id"));
    send("PATCH", &organization, json!({ "name": "Acme 2" }))
        .await
        .is(200);
    send(
        "POST",
        &format!("{organization}/workspaces"),
        json!({ "name": "Sales" }),
    )
    .await
    .is(201);
    let workspace = format!("/v1/workspaces/{}", made.text("/workspace/id"));
    send("PATCH", &workspace, json!({ "name": "Support 2" }))
        .await
        .is(200);
    send(
        "PUT",
        &format!("{workspace}/plan"),
        json!({ "plan": "team" }),
    )
    .await
    .is(200);

    let invitations = format!("{workspace}/invitations");
    let invite = json!({ "email": "bob@example.com", "role": "member" });
    let invitation = send("POST", &invitations, invite)
        .await
        .is(201)
        .header("location")
        .to_owned();
    let resent = send("POST", &format!("{invitation}/resend"), json!({}))
        .await
        .is(200);
    let accept = json!({ "token": resent.text("/token"), "name": "Bob", "password": PASSWORD });
    let bob = server
        .send_twice(None, "POST", "/v1/invitations/accept", accept)
        .await
        .is(200);
    let member = format!("{workspace}/members/{}", bob.text("/user"));
    send("PATCH", &member, json!({ "role": "viewer" }))
        .await
        .is(200);
    let bobs = bob.text("/session/token");
    server
        .send_twice(Some(&bobs), "DELETE", &member, json!({}))
        .await
        .is(204);

    let invite = async |email: &str| {
        let body = json!({ "email": email, "role": "viewer" });
        server
            .send(&token, "POST", &invitations, body)
            .await
            .is(201)
    };
    let revoked = invite("x@example.com").await.header("location").to_owned();
    send("DELETE", &revoked, json!({})).await.is(200);
    let declined = json!({ "token": invite("y@example.com").await.text("/token") });
    server
        .send_twice(None, "POST", "/v1/invitations/decline", declined)
        .await
        .is(200);
    let accept = json!({ "token": invite("bob@example.com").await.text("/token") });
    server
        .send_twice(Some(&bobs), "POST", "/v1/invitations/accept", accept)
        .await
        .is(200);
}

#[tokio::test]
async fn only_public_routes_answer_without_a_session() {
    let server = Server::start().await;
    let suffix = "01h00000000000000000000000";
    for route in access::ROUTES {
        let mut path = route.path.to_owned();
        for (name, prefix) in [
            ("org", "org"),
            ("ws", "ws"),
            ("user", "usr"),
            ("inv", "inv"),
            ("id", "ses"),
        ] {
            path = path.replace(&format!("{{{name}}}"), &format!("{prefix}_{suffix}"));
        }
        let path = path
            .replace("{position}", "1")
            .replace("{code}", "internal");
        let answer = server.ask(route.method, &path).answer().await;
        if route.access == Access::Public {
            assert_ne!(answer.status, StatusCode::UNAUTHORIZED, "{path}");
        } else {
            // Before anything else of the request is looked at.
            answer.refused(401, "unauthenticated");
            let wrong = server
                .ask(route.method, &format!("{path}?x=1"))
                .held_by("crew_session_x");
            wrong.answer().await.refused(401, "unauthenticated");
        }
    }
}

#[tokio::test]
async fn what_somebody_may_not_know_of_is_not_there() {
    let server = Server::start().await;
    let (founder, stranger) = (server.founder("ada").await, server.founder("bob").await);
    let path = format!("/v1/workspaces/{}", founder.workspace);
    let organization = format!("/v1/organizations/{}", founder.organization);
    for path in [&path, &organization] {
        server
            .get(&stranger.token, path)
            .await
            .refused(404, "not_found");
        // Nor does a condition tell that it exists.
        for tag in ["\"999\"", "*"] {
            let body = json!({ "name": "Mine" });
            let rename = server
                .ask("PATCH", path)
                .held_by(&stranger.token)
                .json(body);
            rename
                .header("if-match", tag)
                .answer()
                .await
                .refused(404, "not_found");
        }
    }
    let body = json!({ "email": "x@example.com", "role": "viewer" });
    let theirs = server
        .send(&founder.token, "POST", &format!("{path}/invitations"), body)
        .await
        .is(201);
    let here = format!(
        "/v1/workspaces/{}/invitations/{}",
        stranger.workspace,
        theirs.text("/id")
    );
    let revoke = server
        .ask("DELETE", &here)
        .held_by(&stranger.token)
        .header("if-match", "\"999\"");
    revoke.answer().await.refused(404, "not_found");
    server
        .get(&stranger.token, "/v1/workspaces/ws_x")
        .await
        .refused(404, "not_found");
}

#[tokio::test]
async fn reads_wait_for_a_position_and_take_nothing_unknown() {
    let server = Server::start().await;
    let founder = server.founder("ada").await;
    let path = format!("/v1/workspaces/{}", founder.workspace);
    let read = server.get(&founder.token, &path).await.is(200);
    let at = |position: &str| {
        let ask = server.ask("GET", &path).held_by(&founder.token);
        ask.header("crewlog-position", position)
    };
    at(read.header("crewlog-position")).answer().await.is(200);
    at("999999")
        .answer()
        .await
        .refused(503, "position_not_reached");
    let past = server.get(&founder.token, &format!("{path}?since=1")).await;
    let past = past.refused(400, "invalid_request");
    assert!(past.text("/detail").contains("`since`"), "{past:?}");
    let made = server
        .ask("POST", "/v1/organizations")
        .held_by(&founder.token);
    let made = made.json(json!({ "name": "A" })).header("if-match", "*");
    made.answer().await.refused(400, "invalid_request");
}

#[tokio::test]
async fn how_the_server_is_can_be_asked_by_anybody() {
    let server = Server::start().await;
    server.founder("ada").await;
    assert_eq!(
        server.ask("GET", "/healthz").answer().await.is(200).body,
        json!({ "status": "ok" })
    );
    let ready = server.ask("GET", "/readyz").answer().await.is(200);
    ready.has(
        "",
        "ready problems store position queue projections rebuild",
    );
    assert_eq!(ready.body["projections"][0]["lag"], 0);
    let version = server.ask("GET", "/version").answer().await.is(200);
    version.has("", "name version log_format");
    let metrics = server.ask("GET", "/metrics").answer().await;
    metrics.refused(404, "not_found");
}

#[tokio::test]
async fn metrics_are_told_where_they_are_kept() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    metrics::with_local_recorder(&recorder, || {
        metrics::counter!("things_total").increment(3);
    });
    let settings = EdgeSettings {
        metrics: Some(recorder.handle()),
        ..EdgeSettings::default()
    };
    let server = Server::start_with(settings).await;
    let answer = server.ask("GET", "/metrics").answer().await.is(200);
    let kind = answer.header("content-type");
    assert!(kind.starts_with("text/plain; version=0.0.4"), "{kind}");
    assert!(answer.text("").contains("things_total 3"), "{answer:?}");
}
