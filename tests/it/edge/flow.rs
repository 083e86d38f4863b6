//! What people do one after the other: signing up, inviting, accepting, changing roles, leaving.

use serde_json::{Value, json};

use super::Running;
use super::routes::{points_at, problem};
use super::team::{Person, Team, accept, address, invite, invited, number, password, text};
use crate::support::server::{Call, Reply, Server};
use crate::support::trials::{Case, StoreUnderTest, both};

pub fn trials() -> Vec<Case> {
    vec![
        both("edge", "a_team_comes_together", a_team),
        both("edge", "the_last_owner_stays", last_owner),
        both("edge", "roles_reach_up_to_ones_own", own_role),
        both("edge", "invitations_live_and_end", invitations),
        both("edge", "who_is_removed_is_out_at_once", revocation),
        both("edge", "profiles_follow_people", profiles),
    ]
}

impl Team {
    fn change(&self, server: &Server, by: &Person, of: &Person, role: &str) -> Call {
        let path = self.path(&format!("/members/{}", of.user));
        server
            .patch(&path)
            .bearer(&by.token)
            .json(json!({"role": role}))
    }

    fn remove(&self, server: &Server, by: &Person, of: &Person) -> Call {
        let path = self.path(&format!("/members/{}", of.user));
        server.delete(&path).bearer(&by.token)
    }

    async fn roles(&self, server: &Server) -> Vec<(String, String)> {
        let list = server
            .get(&self.path("/members?limit=200"))
            .bearer(&self.owner.token);
        let list = list.await.expect(200);
        let members = list.body["data"].as_array().expect("a list");
        members
            .iter()
            .map(|one| (text(one, "/user"), text(one, "/role")))
            .collect()
    }
}

fn newcomer(server: &Server, token: &str, name: &str, password: &str) -> Call {
    let body = json!({"token": token, "name": name, "password": password});
    server.post("/v1/invitations/accept").json(body)
}

fn decline(server: &Server, token: &str) -> Call {
    server
        .post("/v1/invitations/decline")
        .json(json!({"token": token}))
}

async fn a_team(store: StoreUnderTest) {
    let Running { server, store } = Running::on(store).await;
    let made = json!({
        "organization": {"name": "Acme"},
        "workspace": {"name": "Acme Support", "plan": "team"},
    });
    let (ada, signed_up) = Person::sign_up_with(&server, "Ada", made).await;
    let workspace = text(&signed_up.body, "/workspace/id");
    assert_eq!(
        signed_up.body["workspace"]["organization"],
        signed_up.body["organization"]["id"]
    );
    assert_eq!(signed_up.body["workspace"]["created_by"], ada.user.as_str());
    assert_eq!(signed_up.body["session"]["current"], true);

    // Somebody without an account, and somebody with one.
    let email = address("grace");
    let invitation = invite(&server, &workspace, &ada, &email, "admin")
        .await
        .expect(201);
    let (token, url) = (
        text(&invitation.body, "/token"),
        text(&invitation.body, "/accept_url"),
    );
    assert_eq!(invitation.body["status"], "pending");
    assert_eq!(invitation.body["email"], email.as_str());
    assert_eq!(invitation.body["invited_by"], ada.user.as_str());
    assert!(
        url.ends_with(&format!("/{token}")),
        "the token is the last part of {url}"
    );
    for left_out in ["name", "password"] {
        let mut body = json!({"token": token, "name": "Grace", "password": password()});
        body.as_object_mut().expect("an object").remove(left_out);
        let reply = server.post("/v1/invitations/accept").json(body).await;
        points_at(&reply, &format!("/{left_out}"), &["missing_field"]);
    }
    let accepted = newcomer(&server, &token, "Grace", &password())
        .await
        .expect(200);
    assert_eq!(accepted.body["role"], "admin");
    assert_eq!(accepted.body["email"], email.as_str());
    assert_eq!(accepted.body["invited_by"], ada.user.as_str());
    let grace = text(&accepted.body, "/session/token");
    let me = server.get("/v1/me").bearer(&grace).await.expect(200);
    assert_eq!(me.body["memberships"][0]["workspace"], workspace.as_str());
    assert_eq!(
        me.body["organizations"],
        json!([]),
        "a workspace gives no role in its organization"
    );

    let linus = Person::sign_up(&server, "Linus").await;
    let shouted = linus.email.to_uppercase();
    let token = invited(&server, &workspace, &ada, &shouted, "member").await;
    let accepted = accept(&server, &linus, &token).await.expect(200);
    assert_eq!(accepted.body["name"], linus.name.as_str());
    assert_eq!(
        accepted.body.get("session"),
        None,
        "who has an account keeps their session"
    );

    // Read, changed, refused.
    let path = format!("/v1/workspaces/{workspace}");
    server.get(&path).bearer(&linus.token).await.expect(200);
    let reply = server
        .get(&format!("{path}/audit"))
        .bearer(&linus.token)
        .await;
    problem(&reply, 403, "not_permitted");
    let member = format!("{path}/members/{}", linus.user);
    let to_viewer = server
        .patch(&member)
        .bearer(&grace)
        .json(json!({"role": "viewer"}));
    let changed = to_viewer.await.expect(200);
    assert_eq!(changed.body["role"], "viewer");
    let to_owner = || {
        server
            .patch(&member)
            .bearer(&grace)
            .json(json!({"role": "owner"}))
    };
    problem(&to_owner().await, 403, "role_above_own");
    let own = server
        .patch(&member)
        .bearer(&linus.token)
        .json(json!({"role": "admin"}));
    problem(&own.await, 403, "not_permitted");
    let log = server
        .get(&format!("{path}/audit"))
        .bearer(&grace)
        .await
        .expect(200);
    let actions: Vec<_> = log.body["data"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|entry| text(entry, "/action"))
        .collect();
    for action in [
        "workspace.created",
        "plan.selected",
        "member.invited",
        "invitation.accepted",
        "member.joined",
        "member.role_changed",
    ] {
        assert!(
            actions.iter().any(|one| one == action),
            "{action} is among {actions:?}"
        );
    }
    super::held(&store);
}

async fn last_owner(store: StoreUnderTest) {
    let Running { server, store } = Running::on(store).await;
    let team = Team::make(&server).await;
    let (owner, admin) = (&team.owner, &team.admin);
    for role in ["admin", "member", "viewer"] {
        problem(
            &team.change(&server, owner, owner, role).await,
            409,
            "last_owner",
        );
    }
    problem(&team.remove(&server, owner, owner).await, 409, "last_owner");
    problem(
        &team.change(&server, admin, owner, "viewer").await,
        403,
        "role_above_own",
    );
    problem(
        &team.remove(&server, admin, owner).await,
        403,
        "role_above_own",
    );
    team.change(&server, owner, owner, "owner")
        .await
        .expect(200);
    // With a second one, the first may go.
    team.change(&server, owner, &team.viewer, "owner")
        .await
        .expect(200);
    team.change(&server, owner, owner, "viewer")
        .await
        .expect(200);
    problem(
        &team.remove(&server, owner, admin).await,
        403,
        "not_permitted",
    );
    problem(
        &team.remove(&server, &team.viewer, &team.viewer).await,
        409,
        "last_owner",
    );
    team.remove(&server, owner, owner).await.expect(204);
    problem(
        &server.get(&team.path("")).bearer(&owner.token).await,
        404,
        "not_found",
    );
    super::held(&store);
}

async fn own_role(store: StoreUnderTest) {
    let Running { server, store } = Running::on(store).await;
    let team = Team::make(&server).await;
    let admin = &team.admin;
    problem(
        &invite(&server, &team.workspace, admin, &address("x"), "owner").await,
        403,
        "role_above_own",
    );
    problem(
        &team.change(&server, admin, &team.member, "owner").await,
        403,
        "role_above_own",
    );
    // An invitation of an owner is above an admin, too.
    let above = invite(
        &server,
        &team.workspace,
        &team.owner,
        &address("y"),
        "owner",
    )
    .await
    .expect(201);
    let path = team.path(&format!("/invitations/{}", text(&above.body, "/id")));
    problem(
        &server.delete(&path).bearer(&admin.token).await,
        403,
        "role_above_own",
    );
    problem(
        &server
            .post(&format!("{path}/resend"))
            .bearer(&admin.token)
            .await,
        403,
        "role_above_own",
    );
    // Of their own kind they may make and unmake.
    team.change(&server, admin, &team.member, "admin")
        .await
        .expect(200);
    team.remove(&server, admin, &team.member).await.expect(204);
    team.change(&server, admin, admin, "viewer")
        .await
        .expect(200);
    problem(
        &team.change(&server, admin, admin, "admin").await,
        403,
        "not_permitted",
    );
    // Roles of others, and of nobody.
    for (by, code) in [
        (&team.viewer, "not_permitted"),
        (&team.stranger, "not_found"),
    ] {
        let reply = team.change(&server, by, &team.owner, "viewer").await;
        assert_eq!(reply.body["code"], code, "{}", reply.text);
    }
    problem(
        &team
            .change(&server, &team.owner, &team.stranger, "viewer")
            .await,
        404,
        "not_found",
    );
    problem(
        &team.remove(&server, &team.owner, &team.stranger).await,
        404,
        "not_found",
    );
    assert_eq!(team.roles(&server).await.len(), 3);
    super::held(&store);
}

async fn status_of(server: &Server, team: &Team, id: &str) -> String {
    let path = team.path(&format!("/invitations/{id}"));
    let reply = server
        .get(&path)
        .bearer(&team.owner.token)
        .await
        .expect(200);
    assert!(reply.body.get("token").is_none(), "a token is shown once");
    text(&reply.body, "/status")
}

async fn invitations(store: StoreUnderTest) {
    let Running { server, store } = Running::on(store).await;
    let team = Team::make(&server).await;
    let owner = &team.owner;
    let made = async |role: &str| {
        let email = address("invitee");
        let reply = invite(&server, &team.workspace, owner, &email, role)
            .await
            .expect(201);
        (text(&reply.body, "/id"), text(&reply.body, "/token"), email)
    };
    let path = |id: &str| team.path(&format!("/invitations/{id}"));
    let over = async |id: &str, token: &str| {
        let reply = newcomer(&server, token, "Late", &password()).await;
        problem(&reply, 409, "invitation_not_pending");
        problem(
            &decline(&server, token).await,
            409,
            "invitation_not_pending",
        );
        problem(
            &server.delete(&path(id)).bearer(&owner.token).await,
            409,
            "invitation_not_pending",
        );
        let resend = server
            .post(&format!("{}/resend", path(id)))
            .bearer(&owner.token);
        problem(&resend.await, 409, "invitation_not_pending");
    };

    // Sent again: the old token is dead, the new one works, the deadline moves.
    let (id, old, _) = made("viewer").await;
    let before = server
        .get(&path(&id))
        .bearer(&owner.token)
        .await
        .expect(200);
    let resent = server
        .post(&format!("{}/resend", path(&id)))
        .bearer(&owner.token)
        .await
        .expect(200);
    let new = text(&resent.body, "/token");
    assert_ne!(old, new);
    assert!(text(&resent.body, "/expires_at") > text(&before.body, "/expires_at"));
    for call in [
        newcomer(&server, &old, "Old", &password()),
        decline(&server, &old),
    ] {
        let reply = call.await;
        assert!(
            matches!(reply.status, 404 | 409),
            "a dead token: {}",
            reply.text
        );
    }
    let accepted = newcomer(&server, &new, "New", &password())
        .await
        .expect(200);
    assert_eq!(status_of(&server, &team, &id).await, "accepted");
    over(&id, &new).await;
    let member = accepted.body["user"].clone();
    let list = team.roles(&server).await;
    assert_eq!(
        list.iter()
            .filter(|(user, _)| member == user.as_str())
            .count(),
        1
    );

    // Declined, and taken back.
    let (id, token, _) = made("member").await;
    let declined = decline(&server, &token).await.expect(200);
    assert_eq!(declined.body["status"], "declined");
    over(&id, &token).await;
    let (id, token, _) = made("member").await;
    let revoked = server
        .delete(&path(&id))
        .bearer(&owner.token)
        .await
        .expect(200);
    assert_eq!(revoked.body["status"], "revoked");
    over(&id, &token).await;

    // For somebody else, and for somebody who is in already.
    let (_, token, email) = made("member").await;
    problem(
        &accept(&server, &team.stranger, &token).await,
        403,
        "invitation_for_another",
    );
    problem(
        &accept(&server, &team.viewer, &token).await,
        403,
        "invitation_for_another",
    );
    let taken = invited(
        &server,
        &team.workspace,
        owner,
        &team.stranger.email,
        "viewer",
    )
    .await;
    problem(
        &newcomer(&server, &taken, "Twice", &password()).await,
        409,
        "email_taken",
    );
    accept(&server, &team.stranger, &taken).await.expect(200);
    let again = invite(
        &server,
        &team.workspace,
        owner,
        &team.stranger.email,
        "admin",
    )
    .await;
    problem(&again, 409, "already_member");
    // Two invitations of one address: the second finds a member.
    let second = invited(&server, &team.workspace, owner, &email, "admin").await;
    let first = newcomer(&server, &token, "Once", &password())
        .await
        .expect(200);
    let session = text(&first.body, "/session/token");
    let twice = server
        .post("/v1/invitations/accept")
        .bearer(&session)
        .json(json!({"token": second}));
    problem(&twice.await, 409, "already_member");

    // No token at all.
    for token in ["", "x", "crew_invite_", owner.token.as_str()] {
        let reply = newcomer(&server, token, "Nobody", &password()).await;
        assert!(
            matches!(reply.status, 404 | 422),
            "{token:?}: {}",
            reply.text
        );
        let reply = decline(&server, token).await;
        assert!(
            matches!(reply.status, 404 | 422),
            "{token:?}: {}",
            reply.text
        );
    }

    // An inviter who may no longer give the role.
    let helper = team.joined(&server, "admin").await;
    let for_admin = invited(&server, &team.workspace, &helper, &address("a"), "admin").await;
    let for_viewer = invited(&server, &team.workspace, &helper, &address("b"), "viewer").await;
    team.change(&server, owner, &helper, "member")
        .await
        .expect(200);
    for token in [&for_admin, &for_viewer] {
        let reply = newcomer(&server, token, "Too late", &password()).await;
        problem(&reply, 409, "invitation_exceeds_inviter");
    }
    team.change(&server, owner, &helper, "admin")
        .await
        .expect(200);
    newcomer(&server, &for_admin, "In time", &password())
        .await
        .expect(200);
    team.remove(&server, owner, &helper).await.expect(204);
    let reply = newcomer(&server, &for_viewer, "Too late", &password()).await;
    problem(&reply, 409, "invitation_exceeds_inviter");
    super::held(&store);
}

async fn revocation(store: StoreUnderTest) {
    let Running { server, store } = Running::on(store).await;
    let team = Team::make(&server).await;
    for _ in 0..5 {
        let guest = team.joined(&server, "admin").await;
        let rename = |role: &str| team.change(&server, &guest, &team.viewer, role);
        rename("viewer").await.expect(200);
        team.change(&server, &team.owner, &guest, "viewer")
            .await
            .expect(200);
        problem(&rename("member").await, 403, "not_permitted");
        team.remove(&server, &team.owner, &guest).await.expect(204);
        problem(&rename("member").await, 404, "not_found");
        problem(
            &server
                .get(&team.path("/members"))
                .bearer(&guest.token)
                .await,
            404,
            "not_found",
        );
        let me = server.get("/v1/me").bearer(&guest.token).await.expect(200);
        assert_eq!(me.body["memberships"], json!([]));
        // Whoever was removed can be invited again.
        team.join(&server, &guest, "member").await;
        let other = guest.sign_in(&server).await;
        let end = format!("/v1/sessions/{}", other.session);
        server.delete(&end).bearer(&guest.token).await.expect(204);
        let reply = team.change(&server, &other, &team.viewer, "member").await;
        assert_eq!(reply.status, 401, "{}", reply.text);
    }
    super::held(&store);
}

async fn profiles(store: StoreUnderTest) {
    let Running { server, store } = Running::on(store).await;
    let team = Team::make(&server).await;
    let member = &team.member;
    let before = server
        .get(&team.path(&format!("/members/{}", member.user)))
        .bearer(&team.owner.token);
    let before = before.await.expect(200);
    assert_eq!(before.body["email"], member.email.as_str());
    let (name, email) = (format!("Renamed {}", number()), address("moved"));
    let change = json!({"name": name, "email": email, "password": member.password});
    let change = server
        .patch("/v1/me")
        .bearer(&member.token)
        .json(change)
        .await
        .expect(200);
    assert_eq!(
        (change.body["name"].clone(), change.body["email"].clone()),
        (json!(name), json!(email))
    );
    let after = server
        .get(&team.path(&format!("/members/{}", member.user)))
        .bearer(&team.owner.token);
    let after = after.await.expect(200);
    assert_eq!(
        after.body["name"],
        name.as_str(),
        "organizations are told at once"
    );
    assert_eq!(after.body["email"], email.as_str());
    assert_eq!(after.body["role"], before.body["role"]);
    // The new address finds the member, the old one is free.
    let again = invite(&server, &team.workspace, &team.owner, &email, "viewer").await;
    problem(&again, 409, "already_member");
    let body = json!({"email": member.email, "password": password(), "name": "Somebody else"});
    let other = server.post("/v1/signup").json(body).await.expect(201);
    assert_ne!(other.body["user"]["id"], member.user.as_str());
    let stays_out = server
        .get(&team.path(""))
        .bearer(&text(&other.body, "/session/token"))
        .await;
    problem(&stays_out, 404, "not_found");
    // Who has the old address now is somebody else, who can be invited like anybody.
    let token = invited(
        &server,
        &team.workspace,
        &team.owner,
        &member.email,
        "viewer",
    )
    .await;
    let newcomer = Person {
        user: text(&other.body, "/user/id"),
        token: text(&other.body, "/session/token"),
        ..member.clone()
    };
    let accepted: Reply = accept(&server, &newcomer, &token).await.expect(200);
    assert_eq!(accepted.body["name"], "Somebody else");
    let still = server
        .get(&team.path(&format!("/members/{}", member.user)))
        .bearer(&team.owner.token);
    assert_eq!(
        still.await.expect(200).body["name"],
        name.as_str(),
        "and nobody else is renamed"
    );
    // Nobody's address can be taken.
    let taken = json!({"email": team.owner.email, "password": member.password});
    let taken = server
        .patch("/v1/me")
        .bearer(&member.token)
        .json(taken)
        .await;
    problem(&taken, 409, "email_taken");
    let me = server.get("/v1/me").bearer(&member.token).await.expect(200);
    assert_eq!(me.body["email"], email.as_str());
    assert_eq!(me.body.get("password"), None::<&Value>);
    super::held(&store);
}
