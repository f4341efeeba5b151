//! Contracts in the configuration: discounts, rates and sums that were agreed on.

use anyhow::{Context, anyhow, bail};
use quantity::{Day, Money};
use serde::Deserialize;
use tariff::commitment::Per;
use tariff::{Commitment, Contract, Credit, Rule};

use super::prices::time;

/// Far more than anybody commits to, and so little that sums of it fit.
const MOST_USD: Money = Money::from_pico(1_000_000_000_000_000_000_000_000);

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
    commitment_usd: Option<String>,
    commitment_per: Option<String>,
    commitment_used_usd: Option<String>,
}

#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub(super) struct RawCredit {
    name: String,
    provider: String,
    #[serde(default)]
    models: Vec<String>,
    amount_usd: String,
    from: String,
    until: Option<String>,
    #[serde(default)]
    counts_toward_commitment: bool,
}

/// Reads them. `rated` tells whether prices name a contract, `known` whether there is a provider.
pub(super) fn read(
    raw: &[RawContract],
    rated: &dyn Fn(&str) -> bool,
    known: &dyn Fn(&str) -> bool,
) -> anyhow::Result<(Vec<Contract>, Vec<Commitment>)> {
    let mut contracts: Vec<Contract> = Vec::new();
    let mut commitments: Vec<Commitment> = Vec::new();
    for (index, raw) in raw.iter().enumerate() {
        let at = || format!("invalid `contracts[{index}]`");
        let contract = contract(raw).with_context(at)?;
        if contracts.iter().any(|other| other.name == contract.name) {
            let name = &raw.name;
            let error =
                anyhow!("invalid `name`: expected one that no other contract has, found `{name}`");
            return Err(error).with_context(at);
        }
        let commitment = commitment(raw, &contract, known).with_context(at)?;
        if contract.discount.is_none() && commitment.is_none() && !rated(&raw.name) {
            let error = anyhow!(
                "`discount` is missing: expected a percentage such as \"15%\", or `commitment_usd`, or \
                 `[[prices]]` with `contract = \"{}\"`",
                raw.name
            );
            return Err(error).with_context(at);
        }
        if let Some(commitment) = commitment {
            if let Some(other) = commitments.iter().find(|other| other.overlaps(&commitment)) {
                let error = anyhow!(
                    "invalid `commitment_usd`: expected one commitment to `{}` at a time, found that of \
                     contract `{}` beside it",
                    raw.provider,
                    other.contract
                );
                return Err(error).with_context(at);
            }
            commitments.push(commitment);
        }
        contracts.push(contract);
    }
    Ok((contracts, commitments))
}

/// Reads credits.
pub(super) fn credits(
    raw: &[RawCredit],
    known: &dyn Fn(&str) -> bool,
) -> anyhow::Result<Vec<Credit>> {
    let mut credits: Vec<Credit> = Vec::new();
    for (index, raw) in raw.iter().enumerate() {
        let at = || format!("invalid `credits[{index}]`");
        let credit = credit(raw, known).with_context(at)?;
        if credits.iter().any(|other| other.name == credit.name) {
            let name = &raw.name;
            let error =
                anyhow!("invalid `name`: expected one that no other credit has, found `{name}`");
            return Err(error).with_context(at);
        }
        credits.push(credit);
    }
    Ok(credits)
}

fn credit(raw: &RawCredit, known: &dyn Fn(&str) -> bool) -> anyhow::Result<Credit> {
    check_name(&raw.name)?;
    let (from, until) = (day("from", &raw.from)?, optional(day, "until", &raw.until)?);
    if let Some(until) = until.filter(|until| *until <= from) {
        bail!("invalid `until`: expected a day after `from`, found `{until}`");
    }
    Ok(Credit {
        name: raw.name.clone(),
        provider: provider(&raw.provider, known)?,
        models: models(&raw.models)?,
        amount: amount("amount_usd", &raw.amount_usd)?,
        from,
        until,
        counts: raw.counts_toward_commitment,
    })
}

/// What a contract commits to, if it does.
fn commitment(
    raw: &RawContract,
    contract: &Contract,
    known: &dyn Fn(&str) -> bool,
) -> anyhow::Result<Option<Commitment>> {
    let Some(sum) = &raw.commitment_usd else {
        let beside = [
            ("commitment_per", &raw.commitment_per),
            ("commitment_used_usd", &raw.commitment_used_usd),
        ];
        if let Some((key, _)) = beside.iter().find(|(_, text)| text.is_some()) {
            bail!("invalid `{key}`: expected `commitment_usd` beside it, found none");
        }
        return Ok(None);
    };
    let amount_usd = amount("commitment_usd", sum)?;
    let expected = || {
        let names: Vec<_> = Per::ALL.iter().map(|per| format!("\"{per}\"")).collect();
        format!("expected one of {}", names.join(", "))
    };
    let per = raw.commitment_per.as_deref().ok_or_else(|| {
        anyhow!("`commitment_per` is missing: {}, for which the sum is due", expected())
    })?;
    let per = Per::from_name(per)
        .ok_or_else(|| anyhow!("invalid `commitment_per`: {}, found `{per}`", expected()))?;
    let from = raw.from.as_deref().ok_or_else(|| {
        anyhow!("`from` is missing: expected the day from which periods of the commitment count")
    })?;
    let commitment = Commitment {
        contract: raw.name.clone(),
        provider: provider(&contract.provider, known)?,
        amount: amount_usd,
        per,
        from: day("from", from)?,
        until: optional(day, "until", &raw.until)?,
        used_before: optional(amount, "commitment_used_usd", &raw.commitment_used_usd)?,
    };
    match commitment.until {
        None if per == Per::Term => {
            bail!("`until` is missing: expected the day on which the term of the commitment ends")
        }
        Some(until) if !commitment.is_whole() => {
            bail!(
                "invalid `until`: expected a whole number of {per}s after `from`, found `{until}`"
            )
        }
        _ => Ok(Some(commitment)),
    }
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
    check_name(&raw.name)?;
    let (from, until) = (optional(time, "from", &raw.from)?, optional(time, "until", &raw.until)?);
    if let Some(until) = until.filter(|until| from.is_some_and(|from| from >= *until)) {
        bail!("invalid `until`: expected a time after `from`, found `{until}`");
    }
    if let Some(found) = &raw.discount {
        tariff::Discount::parse(found).ok_or_else(|| {
            anyhow!("invalid `discount`: expected a percentage such as `15%`, found `{found}`")
        })?;
    }
    Ok(Contract {
        name: full_name(&raw.name).into(),
        provider: raw.provider.clone(),
        models: models(&raw.models)?,
        tiers: raw.tiers.clone(),
        from,
        until,
        discount: raw.discount.as_deref().map(Into::into),
    })
}

fn check_name(name: &str) -> anyhow::Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if name.is_empty() || !name.chars().all(plain) {
        bail!("invalid `name`: expected letters, digits, `.`, `_` and `-`, found `{name}`");
    }
    Ok(())
}

/// A provider that there is, as the charges of a ledger are named.
fn provider(name: &str, known: &dyn Fn(&str) -> bool) -> anyhow::Result<String> {
    if !known(name) {
        bail!(
            "invalid `provider`: expected one of the price book or of `provider` of an upstream, \
             found `{name}`"
        );
    }
    Ok(name.trim().to_lowercase())
}

fn models(rules: &[String]) -> anyhow::Result<Option<Rule>> {
    match rules {
        [] => Ok(None),
        rules => Ok(Some(Rule::parse("models", &rules.join(" | "))?)),
    }
}

fn amount(key: &str, text: &str) -> anyhow::Result<Money> {
    let amount = text.parse().ok().filter(|sum| (Money::ZERO..=MOST_USD).contains(sum));
    amount.ok_or_else(|| {
        anyhow!("invalid `{key}`: expected US dollars such as \"10000\", found `{text}`")
    })
}

/// Sums are counted by whole days.
fn day(key: &str, text: &str) -> anyhow::Result<Day> {
    text.parse().map_err(|_| {
        anyhow!("invalid `{key}`: expected a day in UTC such as \"2026-11-01\", found `{text}`")
    })
}

fn optional<T>(
    read: impl Fn(&str, &str) -> anyhow::Result<T>,
    key: &str,
    text: &Option<String>,
) -> anyhow::Result<Option<T>> {
    text.as_deref().map(|text| read(key, text)).transpose()
}
