//! The transparency log: what anybody may verify this log with. Hashes alone, no contents.
//!
//! Checkpoints and tiles are in the formats and at the paths of C2SP tlog-tiles, below `/v1/log`.

use std::sync::Arc;

use axum::{
    extract::State,
    http::{HeaderName, HeaderValue, header},
    response::{IntoResponse, Response},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    app::Edge,
    exchange::{NoParameters, Question},
    fields::{FieldError, Validate},
    headers::CREWLOG_POSITION,
    json::Json,
    problem::Problem,
    query::{Path, Query},
    respond::{Page, Resource},
    values::{Position, Time, wrong},
};
use crate::{
    proofs::{tiles::TilePath, tree::Hash},
    service::{
        COSIGNATURES_MAX, Consistency, Inclusion, Service, SignedCheckpoint, WhichCheckpoint,
        signing::KnownKey,
    },
};

const TEXT: &str = "text/plain; charset=utf-8";
/// A full tile never changes.
const FOR_EVER: &str = "public, max-age=31536000, immutable";
/// The longest signature line, in characters.
const LINE_CHARACTERS_MAX: usize = 1_024;

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Edge> {
    OpenApiRouter::new()
        .routes(routes!(read_checkpoint))
        .routes(routes!(list_verifiers))
        .routes(routes!(read_tile))
        .routes(routes!(prove_inclusion))
        .routes(routes!(prove_consistency))
        .routes(routes!(add_cosignatures))
}

/// Which checkpoint.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct CheckpointQuery {
    /// The one of this size, where it was kept: one that was neither published nor cosigned is
    /// forgotten an hour after there is a newer.
    #[param(inline)]
    size: Option<Position>,
    /// The newest that a witness has signed.
    #[serde(default)]
    #[param(inline, required = false)]
    cosigned: bool,
}

/// The newest checkpoint (C2SP tlog-checkpoint): origin, size and root of the log, signed. One is
/// made once a second while the log grows.
#[utoipa::path(
    get, path = "/v1/log/checkpoint", tag = "transparency log", security(()),
    params(CheckpointQuery),
    responses((status = 200, description = "A signed note.", body = String, content_type = "text/plain")),
)]
pub async fn read_checkpoint(
    State(service): State<Arc<Service>>,
    Query(query): Query<CheckpointQuery>,
) -> Result<Response, Problem> {
    let which = match (query.size, query.cosigned) {
        (Some(_), true) => {
            let detail = "`size` and `cosigned` exclude each other";
            return Err(Problem::invalid_request(detail));
        }
        (Some(Position(size)), false) => WhichCheckpoint::OfSize(size),
        (None, true) => WhichCheckpoint::Cosigned,
        (None, false) => WhichCheckpoint::Newest,
    };
    let found = service.checkpoint(which).await?;
    let SignedCheckpoint { size, note } = found.ok_or_else(Problem::not_found)?;
    Ok(plain(TEXT, size, note))
}

fn plain(content_type: &'static str, position: u64, body: impl IntoResponse) -> Response {
    let headers: [(HeaderName, HeaderValue); 2] = [
        (header::CONTENT_TYPE, HeaderValue::from_static(content_type)),
        (CREWLOG_POSITION, HeaderValue::from(position)),
    ];
    (headers, body).into_response()
}

/// A key that checkpoints are verified with.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = VerifierKey)]
pub struct VerifierBody {
    /// `name+id+key`, as C2SP signed-note has it.
    #[schema(
        example = "crewlog/a1b2c3d4e5f60718+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
    )]
    verifier: String,
    created_at: Time,
    /// Until when it signs; `null` for the newest.
    #[schema(required)]
    signs_until: Option<Time>,
}

impl From<KnownKey> for VerifierBody {
    fn from(key: KnownKey) -> Self {
        Self {
            verifier: key.verifier.as_str().to_owned(),
            created_at: key.created_at.into(),
            signs_until: key.signs_until.map(Into::into),
        }
    }
}

/// Every key that this log has signed with, newest first. Who verifies takes it once, and not
/// from the server that is verified.
#[utoipa::path(
    get, path = "/v1/log/keys", tag = "transparency log", security(()),
    responses((status = 200, description = "All keys, on one page.", body = Page<VerifierBody>)),
)]
pub async fn list_verifiers(
    State(service): State<Arc<Service>>,
    Query(NoParameters {}): Query<NoParameters>,
) -> Result<Page<VerifierBody>, Problem> {
    let keys = service.verifiers().await?.into_iter().map(Into::into);
    Ok(Page::new(keys.collect(), None, service.position()))
}

/// A tile of height 8 (C2SP tlog-tiles): `{level}/{number}[.p/{width}]`, hashes of 32 bytes one
/// after the other. Tiles of entries are not served.
#[utoipa::path(
    get, path = "/v1/log/tile/{*tile}", tag = "transparency log", security(()),
    params(("tile" = String, Path, description = "`0/x001/234` or `1/007.p/12`")),
    responses((
        status = 200, description = "The hashes.", body = Vec<u8>,
        content_type = "application/octet-stream",
    )),
)]
pub async fn read_tile(
    State(service): State<Arc<Service>>,
    Path(path): Path<String>,
    Query(NoParameters {}): Query<NoParameters>,
) -> Result<Response, Problem> {
    let path = TilePath::parse(&path).ok_or_else(Problem::not_found)?;
    let hashes = service.tile(path).await?.ok_or_else(Problem::not_found)?;
    let position = service.position();
    let mut response = plain("application/octet-stream", position, hashes.to_vec());
    let cached = HeaderValue::from_static(FOR_EVER);
    response.headers_mut().insert(header::CACHE_CONTROL, cached);
    Ok(response)
}

/// What is to be proven to be in the log.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct InclusionQuery {
    /// Of the entry.
    #[param(inline)]
    position: Position,
    /// Of the log; the newest checkpoint's where nobody says.
    #[param(inline)]
    size: Option<Position>,
}

/// That an entry is in the log.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = InclusionProof)]
pub struct InclusionBody {
    tree_size: u64,
    /// The entry's position − 1.
    leaf_index: u64,
    /// The entry's leaf, in standard base64.
    leaf: String,
    /// From the leaf up (RFC 6962, section 2.1.1), in standard base64.
    hashes: Vec<String>,
}

fn encoded(hashes: &[Hash]) -> Vec<String> {
    hashes
        .iter()
        .map(|hash| BASE64_STANDARD.encode(hash))
        .collect()
}

impl From<Inclusion> for InclusionBody {
    fn from(proof: Inclusion) -> Self {
        Self {
            tree_size: proof.tree_size,
            leaf_index: proof.leaf_index,
            leaf: BASE64_STANDARD.encode(proof.leaf),
            hashes: encoded(&proof.hashes),
        }
    }
}

fn not_proven(what: &str) -> Problem {
    Problem::invalid_request(format!(
        "{what}, and no size can be above the newest checkpoint's: `GET /v1/log/checkpoint`"
    ))
}

/// Proves that an entry is in the log of a size.
#[utoipa::path(
    get, path = "/v1/log/proof/inclusion", tag = "transparency log", security(()),
    params(InclusionQuery),
    responses((status = 200, description = "The audit path.", body = InclusionBody)),
)]
pub async fn prove_inclusion(
    State(service): State<Arc<Service>>,
    Query(query): Query<InclusionQuery>,
) -> Result<Resource<InclusionBody>, Problem> {
    let size = query.size.map(|Position(size)| size);
    let proof = service.inclusion(query.position.0, size).await?;
    let proof = proof.ok_or_else(|| not_proven("`position` must be from 1 to `size`"))?;
    Ok(Resource::unversioned(proof.tree_size, proof.into()))
}

/// Two sizes of the log.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ConsistencyQuery {
    /// The smaller size.
    #[param(inline)]
    from: Position,
    /// The larger size; the newest checkpoint's where nobody says.
    #[param(inline)]
    to: Option<Position>,
}

/// That the log of one size is the beginning of the log of another.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ConsistencyProof)]
pub struct ConsistencyBody {
    from: u64,
    to: u64,
    /// As RFC 6962 has them, section 2.1.2, in standard base64.
    hashes: Vec<String>,
}

impl From<Consistency> for ConsistencyBody {
    fn from(proof: Consistency) -> Self {
        Self {
            from: proof.from,
            to: proof.to,
            hashes: encoded(&proof.hashes),
        }
    }
}

/// Proves that nothing was changed in the log between two sizes, and only something added.
#[utoipa::path(
    get, path = "/v1/log/proof/consistency", tag = "transparency log", security(()),
    params(ConsistencyQuery),
    responses((status = 200, description = "The proof.", body = ConsistencyBody)),
)]
pub async fn prove_consistency(
    State(service): State<Arc<Service>>,
    Query(query): Query<ConsistencyQuery>,
) -> Result<Resource<ConsistencyBody>, Problem> {
    let to = query.to.map(|Position(size)| size);
    let proof = service.consistency(query.from.0, to).await?;
    let proof = proof.ok_or_else(|| not_proven("`from` must be from 1 to `to`"))?;
    Ok(Resource::unversioned(proof.to, proof.into()))
}

/// What witnesses have signed.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewCosignatures)]
pub struct CosignaturesBody {
    /// Of the checkpoint that they have signed.
    #[schema(minimum = 1)]
    size: u64,
    /// Lines as C2SP tlog-cosignature has them: `— name base64`, each of a configured witness.
    #[schema(min_items = 1, max_items = 16, max_length = 1024)]
    signatures: Vec<String>,
}

impl Validate for CosignaturesBody {
    fn validate(&self) -> Vec<FieldError> {
        let count = self.signatures.len();
        let counted = (1..=COSIGNATURES_MAX).contains(&count);
        let wrong_count = (!counted).then(|| {
            let detail = format!("1 to {COSIGNATURES_MAX} signatures");
            FieldError::invalid("/signatures", detail)
        });
        let lines = self.signatures.iter().take(COSIGNATURES_MAX).enumerate();
        let of_line = |(place, line): (usize, &String)| {
            FieldError::check_text(
                &format!("/signatures/{place}"),
                line,
                1..=LINE_CHARACTERS_MAX,
            )
        };
        wrong(lines.map(of_line).chain([wrong_count]))
    }
}

/// A checkpoint with the signatures of witnesses.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CosignedCheckpoint)]
pub struct CosignedBody {
    size: u64,
    /// The signed note.
    checkpoint: String,
}

/// Adds signatures of witnesses to a checkpoint that is kept. Needs no session: each signature is
/// verified with the key of its witness, and sending it again changes nothing.
#[utoipa::path(
    post, path = "/v1/log/cosignatures", tag = "transparency log", security(()),
    request_body = CosignaturesBody,
    responses((status = 200, description = "The checkpoint as it now is.", body = CosignedBody)),
)]
pub async fn add_cosignatures(
    State(service): State<Arc<Service>>,
    _question: Question,
    body: Json<CosignaturesBody>,
) -> Result<Resource<CosignedBody>, Problem> {
    let CosignaturesBody { size, signatures } = body.value;
    let kept = service.add_cosignatures(size, &signatures).await?;
    let kept = kept.ok_or_else(|| {
        let detail = "no checkpoint of this size is kept: read a new one, and sign that";
        FieldError::invalid("/size", detail)
    })?;
    let body = CosignedBody {
        size: kept.size,
        checkpoint: kept.note,
    };
    Ok(Resource::unversioned(kept.size, body))
}
