//! Which provider's model a person means by a bare name.

use std::collections::BTreeSet;

use quantity::edit_distance;

use crate::book::{Book, Provider};

/// A model that the book can quote: `provider` and `model` are good for a [`crate::Key`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The provider's id.
    pub provider: String,
    /// The model as asked for, without the provider.
    pub model: String,
}

/// A name that leads to no model, or to several.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FindError {
    /// Nothing has that name.
    #[error("the price book has no model `{asked}`{}", list("; did you mean", near))]
    Unknown {
        /// As asked for.
        asked: String,
        /// Names that are near, as `provider/model`.
        near: Vec<String>,
    },
    /// Several providers serve it, and none makes it.
    #[error("several providers serve `{asked}`{}", list("; name one of", candidates))]
    Ambiguous {
        /// As asked for.
        asked: String,
        /// All of them, as `provider/model`.
        candidates: Vec<String>,
    },
}

fn list(lead: &str, names: &[String]) -> String {
    if names.is_empty() { String::new() } else { format!("{lead} `{}`", names.join("`, `")) }
}

const NEAR: usize = 5;

impl Book {
    /// The model that `gpt-5-mini` or `openai/gpt-5-mini` means.
    ///
    /// Own rows come first, then a provider that is named, then the first provider that makes models
    /// of such names, then the only one that serves it.
    ///
    /// # Errors
    /// [`FindError`] lists near names or candidates.
    pub fn find(&self, asked: &str) -> Result<Found, FindError> {
        let asked = asked.trim();
        if let Some((provider, model)) = asked.split_once('/')
            && let Some(provider) = self.serving(provider, model)
        {
            return Ok(Found { provider, model: model.to_owned() });
        }
        let lower = asked.to_lowercase();
        let own = self.own.keys().filter(|(_, model)| *model == lower);
        let mut serving: Vec<String> = own.map(|(provider, _)| provider.clone()).collect();
        if serving.is_empty() {
            let mut makers = self.serving_any(&lower).filter(|provider| {
                provider.serves.as_ref().is_some_and(|rule| rule.matches(&lower))
            });
            serving.extend(makers.next().map(|maker| maker.id.to_string()));
        }
        if serving.is_empty() {
            serving = self.serving_any(&lower).map(|provider| provider.id.to_string()).collect();
            // Layers may know the same provider.
            let mut seen = BTreeSet::new();
            serving.retain(|provider| seen.insert(provider.clone()));
        }
        match serving.as_slice() {
            [] => Err(FindError::Unknown { asked: asked.to_owned(), near: self.near(&lower) }),
            [provider] => Ok(Found { provider: provider.clone(), model: asked.to_owned() }),
            several => Err(FindError::Ambiguous {
                asked: asked.to_owned(),
                candidates: several.iter().map(|provider| format!("{provider}/{asked}")).collect(),
            }),
        }
    }

    /// Provider and model as the book calls them, in lower case, whatever name of theirs was used; as they
    /// are named where the book does not have them.
    #[must_use]
    pub fn names(&self, provider: &str, model: &str) -> (String, String) {
        let (provider, model) = (provider.trim().to_lowercase(), model.to_lowercase());
        let known = self.layers.iter().find_map(|layer| self.provider(layer, &provider));
        let found = self.layers.iter().find_map(|layer| {
            let found = layer.model(self.provider(layer, &provider)?, &model)?;
            Some(found.model.id.to_lowercase())
        });
        (known.map(|known| known.id.to_lowercase()).unwrap_or(provider), found.unwrap_or(model))
    }

    /// Providers that have a model of this lower-case name, in the order of the books.
    fn serving_any<'b>(&'b self, lower: &'b str) -> impl Iterator<Item = &'b Provider> {
        self.layers.iter().flat_map(move |layer| {
            let all = layer.providers.iter();
            all.filter(move |provider| layer.model(provider, lower).is_some())
        })
    }

    /// The id of the named provider, if it serves that model.
    fn serving(&self, provider: &str, model: &str) -> Option<String> {
        let (provider, model) = (provider.to_lowercase(), model.to_lowercase());
        if self.own.contains_key(&(provider.clone(), model.clone())) {
            return Some(provider);
        }
        self.layers.iter().find_map(|layer| {
            let provider = self.provider(layer, &provider)?;
            layer.model(provider, &model)?;
            Some(provider.id.to_string())
        })
    }

    /// Names that contain the one asked for, or are a few letters off; nearest first.
    fn near(&self, lower: &str) -> Vec<String> {
        let asked = lower.rsplit('/').next().unwrap_or(lower);
        let listed = self.models().map(|model| (model.provider, model.model));
        let own = self.own.keys().map(|(provider, model)| (provider.as_str(), model.as_str()));
        let mut near: Vec<(usize, String)> = own
            .chain(listed)
            .filter_map(|(provider, model)| {
                let name = model.to_lowercase();
                let distance = edit_distance(asked, name.rsplit('/').next().unwrap_or(&name));
                let limit = asked.chars().count().div_euclid(3).max(1);
                let contains = asked.len() > 2 && name.contains(asked);
                (contains || distance <= limit).then(|| (distance, format!("{provider}/{model}")))
            })
            .collect();
        near.sort();
        near.truncate(NEAR);
        near.into_iter().map(|(_, name)| name).collect()
    }
}
