//! Which folds a program has.

use std::{collections::BTreeMap, marker::PhantomData, sync::Arc};

use super::{AnyProjection, Projection, Typed, audit_index};

/// The folds of a program. Another version of one can be put in its place: beside a program that
/// runs, what its next version will do with a store can so be tried in one process.
#[derive(Clone)]
pub struct Projections(Vec<Arc<dyn AnyProjection>>);

impl std::fmt::Debug for Projections {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_tuple("Projections")
            .field(&self.versions())
            .finish()
    }
}

impl Projections {
    pub(super) fn new(all: Vec<Arc<dyn AnyProjection>>) -> Self {
        Self(all)
    }

    /// The same with this one in the place of the one of its name, or as one more.
    #[must_use]
    pub fn with<P: Projection>(mut self) -> Self {
        self.0.retain(|projection| projection.name() != P::NAME);
        self.0.push(Arc::new(Typed::<P>(PhantomData)));
        self
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<dyn AnyProjection>> {
        self.0.iter()
    }

    /// The names of everything that can be rebuilt, the audit index included.
    pub fn names(&self) -> Vec<&'static str> {
        let names = self.iter().map(|projection| projection.name());
        names.chain([audit_index::NAME]).collect()
    }

    /// The version of each, the audit index included.
    pub fn versions(&self) -> BTreeMap<&'static str, i64> {
        let versions = self
            .iter()
            .map(|projection| (projection.name(), projection.version()));
        let audit = (audit_index::NAME, audit_index::VERSION);
        versions.chain([audit]).collect()
    }
}
