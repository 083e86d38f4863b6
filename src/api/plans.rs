//! The catalogue of plans.

use std::{collections::BTreeMap, sync::Arc};

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{app::Edge, exchange::NoParameters, problem::Problem, query::Query, respond::Page};
use crate::{
    domain::{
        plans::{PlanName, Quotas},
        usage::Price,
    },
    service::{Service, plans::Plan},
};

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Edge> {
    OpenApiRouter::new().routes(routes!(list_plans))
}

/// A plan.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Plan)]
pub struct PlanBody {
    /// What it is chosen by.
    name: PlanName,
    /// What people see.
    title: String,
    quotas: QuotasBody,
    /// By meter.
    prices: BTreeMap<String, PriceBody>,
}

/// What a workspace may have on a plan; `null`: as many as it likes.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Quotas)]
pub struct QuotasBody {
    #[schema(required)]
    members: Option<u64>,
    #[schema(required)]
    crews_per_environment: Option<u64>,
    #[schema(required)]
    api_keys: Option<u64>,
    #[schema(required)]
    requests_per_minute: Option<u64>,
}

/// The price of a meter. A month of it costs its quantity times `amount_minor`, divided by
/// `per_quantity` and rounded once, half a minor unit upwards.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Price)]
pub struct PriceBody {
    /// ISO 4217.
    #[schema(min_length = 3, max_length = 3, example = "USD")]
    currency: String,
    /// In the currency's minor unit, for `per_quantity` of the meter.
    amount_minor: u64,
    per_quantity: u64,
}

impl From<&Plan> for PlanBody {
    fn from(plan: &Plan) -> Self {
        let prices = plan.prices.iter();
        Self {
            name: plan.name.clone(),
            title: plan.title.clone(),
            quotas: (&plan.quotas).into(),
            prices: prices
                .map(|(meter, price)| (meter.clone(), price.into()))
                .collect(),
        }
    }
}

impl From<&Quotas> for QuotasBody {
    fn from(quotas: &Quotas) -> Self {
        Self {
            members: quotas.members,
            crews_per_environment: quotas.crews_per_environment,
            api_keys: quotas.api_keys,
            requests_per_minute: quotas.requests_per_minute,
        }
    }
}

impl From<&Price> for PriceBody {
    fn from(price: &Price) -> Self {
        Self {
            currency: price.currency.clone(),
            amount_minor: price.amount_minor,
            per_quantity: price.per_quantity,
        }
    }
}

/// Every plan that may be chosen, on one page.
#[utoipa::path(
    get, path = "/v1/plans", tag = "getting in", security(()),
    responses((status = 200, description = "The catalogue.", body = Page<PlanBody>)),
)]
pub async fn list_plans(
    State(service): State<Arc<Service>>,
    Query(NoParameters {}): Query<NoParameters>,
) -> Result<Page<PlanBody>, Problem> {
    let plans = service.catalogue().plans.iter().map(PlanBody::from);
    Ok(Page::new(plans.collect(), None, service.position()))
}
