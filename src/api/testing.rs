//! What the tests of this room share.

use axum::{body::to_bytes, response::Response};

/// An answer's body as text.
pub async fn text_of(response: Response) -> String {
    let bytes = to_bytes(response.into_body(), usize::MAX)
        .await
        .expect("a body");
    String::from_utf8(bytes.to_vec()).expect("text")
}

/// An answer's body as JSON.
pub async fn json_of(response: Response) -> serde_json::Value {
    serde_json::from_str(&text_of(response).await).expect("JSON")
}
