//! Contracts in the configuration: discounts and rates that were agreed on.

use anyhow::{Context, anyhow};
use serde::Deserialize;
use tariff::{Contract, Rule};

use super::prices::time;

#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub(super) struct RawContract {
    name: String,
    provider: String,
    #[serde(default)]
    models: Vec<String>,
    #[serde(default)]
    tiers: Vec<String>,
    from: Option<String>,
    until: Option<String>,
    discount: Option<String>,
}

/// Reads them. `rated` tells whether prices name a contract.
pub(super) fn read(
    raw: &[RawContract],
    rated: &dyn Fn(&str) -> bool,
) -> anyhow::Result<Vec<Contract>> {
    let mut contracts: Vec<Contract> = Vec::new();
    for (index, raw) in raw.iter().enumerate() {
        let at = || format!("invalid `contracts[{index}]`");
        let contract = contract(raw).with_context(at)?;
        if contracts.iter().any(|other| other.name == contract.name) {
            let name = &raw.name;
            let error =
                anyhow!("invalid `name`: expected one that no other contract has, found `{name}`");
            return Err(error).with_context(at);
        }
        if contract.discount.is_none() && !rated(&raw.name) {
            let error = anyhow!(
                "`discount` is missing: expected a percentage such as \"15%\", or `[[prices]]` with \
                 `contract = \"{}\"`",
                raw.name
            );
            return Err(error).with_context(at);
        }
        contracts.push(contract);
    }
    Ok(contracts)
}

/// The contract of a name.
pub(super) fn named<'a>(contracts: &'a [Contract], name: &str) -> anyhow::Result<&'a Contract> {
    let full = full_name(name);
    contracts.iter().find(|contract| *contract.name == *full).ok_or_else(|| {
        anyhow!("invalid `contract`: expected the `name` of one of `contracts`, found `{name}`")
    })
}

/// How price rows name it as their source.
fn full_name(name: &str) -> String {
    format!("contract:{name}")
}

fn contract(raw: &RawContract) -> anyhow::Result<Contract> {
    let end = |key: &str, text: &Option<String>| match text {
        Some(text) => time(key, text).map(Some),
        None => Ok(None),
    };
    let models = match raw.models.as_slice() {
        [] => None,
        models => Some(Rule::parse("models", &models.join(" | "))?),
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if raw.name.is_empty() || !raw.name.chars().all(plain) {
        let name = &raw.name;
        return Err(anyhow!(
            "invalid `name`: expected letters, digits, `.`, `_` and `-`, found `{name}`"
        ));
    }
    let (from, until) = (end("from", &raw.from)?, end("until", &raw.until)?);
    if let Some(until) = until.filter(|until| from.is_some_and(|from| from >= *until)) {
        return Err(anyhow!("invalid `until`: expected a time after `from`, found `{until}`"));
    }
    if let Some(found) = &raw.discount {
        tariff::Discount::parse(found).ok_or_else(|| {
            anyhow!("invalid `discount`: expected a percentage such as `15%`, found `{found}`")
        })?;
    }
    Ok(Contract {
        name: full_name(&raw.name).into(),
        provider: raw.provider.clone(),
        models,
        tiers: raw.tiers.clone(),
        from,
        until,
        discount: raw.discount.as_deref().map(Into::into),
    })
}
