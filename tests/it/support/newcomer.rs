//! Somebody who has just signed up, and made a first crew.

use serde_json::{Value, json};

use super::server::Server;

/// Who they are, and the paths of what they have.
#[derive(Debug)]
pub struct Newcomer {
    pub token: String,
    pub workspace: String,
    pub crew: String,
}

impl Newcomer {
    /// Signs them up with an organization, a workspace of the plan `team`, and a crew in development.
    pub async fn make(server: &Server) -> Self {
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        let body = json!({
            "email": format!("somebody{}@example.com", rand::random::<u64>()),
            "password": "a long enough password",
            "name": "Somebody",
            "organization": {"name": "Acme"},
            "workspace": {"name": "Acme", "plan": "team"},
        });
        let made = server.post("/v1/signup").json(body).await.expect(201).body;
        let token = text(&made["session"]["token"]);
        let workspace = format!("/v1/workspaces/{}", text(&made["workspace"]["id"]));
        let body = json!({"name": "Crew", "environment": "development"});
        let crews = format!("{workspace}/crews");
        let crew = server
            .post(&crews)
            .bearer(&token)
            .json(body)
            .await
            .expect(201)
            .body;
        Self {
            crew: format!("{crews}/{}", text(&crew["id"])),
            token,
            workspace,
        }
    }

    /// Adds an agent to the crew; its path.
    pub async fn agent(&self, server: &Server, body: Value) -> String {
        let agents = format!("{}/agents", self.crew);
        let call = server.post(&agents).bearer(&self.token);
        let agent = call.json(body).await.expect(201).body;
        format!("{agents}/{}", agent["id"].as_str().expect("an id"))
    }
}
