//! Random usages of every model at random times: what a charge is, and why the source's own engine
//! says otherwise where it does.
//!
//! `FARTHING_PRICE_USAGES=1000` draws so many usages of each model instead of ten, and five times as many
//! of those that have more than a price for each token.

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use quantity::{Billable, TokenClass, TokenCount, Unit, UnixTime, Usage, grouped};
use tariff::{Book, Charge, Key, Unpriced};
use xtask::genai;

use crate::oracle::{self, Context, Counts, DAY, Model, Prices, Provider};

const USAGES: usize = 10;
const SECOND: i64 = 1_000_000_000;
/// Tiers that are asked for also where a model has no prices for them.
const TIERS: [(&str, &str); 4] = [
    ("processing", "batch"),
    ("service_tier", "flex"),
    ("service_tier", "priority"),
    ("service_tier", "fast"),
];

/// Numbers that look random and are the same in every run: SplitMix64, of Steele, Lea and Flood 2014.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }

    fn one_in(&mut self, limit: u64) -> bool {
        self.below(limit) == 0
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[usize::try_from(self.below(from.len() as u64)).unwrap()].clone()
    }

    fn between(&mut self, from: i64, to: i64) -> i64 {
        from + i64::try_from(self.below(u64::try_from(to - from).unwrap())).unwrap()
    }
}

/// A usage of a model at a time, and what was asked for.
struct Case<'a> {
    /// Who is asked: the model's provider, or one that borrows from it.
    provider: &'a Provider<'a>,
    model: &'a Model<'a>,
    borrowed: bool,
    context: Context,
    nanos: i64,
    usage: Usage,
}

impl<'a> Case<'a> {
    fn key(&self) -> Key<'_> {
        let at = UnixTime::from_nanos(self.nanos);
        Key::new(&self.provider.id, &self.model.id, at).on(self.tier())
    }

    /// The tier that the context means; other contexts have no place in a usage record.
    fn tier(&self) -> Option<&str> {
        match self.context.iter().next() {
            Some((key, tier)) if key == "service_tier" => Some(tier),
            Some((key, tier)) if key == "processing" => Some(tier),
            _ => None,
        }
    }

    /// Whether there is a price for the tier: a provider's tiers are its own, and it has none for what
    /// it borrows.
    fn is_offered(&self) -> bool {
        let standard = self.tier().is_none_or(|tier| tier == "default");
        standard || !self.borrowed && self.model.offers(&self.context, self.nanos)
    }

    fn our_prices(&self) -> Prices<'a> {
        let none = Context::new();
        let context = if self.tier().is_some() { &self.context } else { &none };
        self.model.prices(context, self.nanos)
    }

    /// The source falls back to the standard price where a tier has none.
    fn their_prices(&self) -> Prices<'a> {
        let none = Context::new();
        self.model.prices(if self.borrowed { &none } else { &self.context }, self.nanos)
    }

    fn our_counts(&self) -> Counts {
        let mut counts = oracle::inclusive(&self.usage);
        let used = self.usage != Usage::default();
        let calls = counts["requests"].max(i128::from(used));
        counts.insert("requests", calls);
        counts
    }

    /// The source bills one call, and of Groq's Whisper at least ten seconds.
    fn their_counts(&self) -> Counts {
        let mut counts = oracle::inclusive(&self.usage);
        counts.insert("requests", 1);
        let whisper = ["whisper-large-v3", "whisper-large-v3-turbo"];
        if self.provider.id == "groq" && whisper.contains(&self.model.id.as_str()) {
            for key in ["audio_seconds", "input_audio_seconds"] {
                counts.entry(key).and_modify(|n| *n = if *n > 0 { (*n).max(10) } else { *n });
            }
        }
        counts
    }
}

/// Some usages of every model, of its provider and of those that borrow it.
fn each_case(check: &mut dyn FnMut(&Case<'_>)) {
    let usages = std::env::var("FARTHING_PRICE_USAGES").map_or(USAGES, |n| n.parse().unwrap());
    let data = genai::read().unwrap();
    let providers = oracle::parse(&data);
    let mut random = Random(1);
    for provider in &providers {
        let lenders = providers
            .iter()
            .filter(|lender| provider.fallback_model_providers.contains(&lender.id));
        let own = provider.models.iter().map(|model| (model, false));
        let borrowed = lenders.flat_map(|lender| &lender.models).map(|model| (model, true));
        for (model, borrowed) in own.chain(borrowed) {
            if borrowed && provider.models.iter().any(|own| own.is_called(&model.id)) {
                continue;
            }
            let contexts: Vec<Context> = model.contexts().into_iter().collect();
            let plain = contexts.is_empty() && model.is_plain();
            for _ in 0..if plain { usages } else { 5 * usages } {
                let context = match random.below(8) {
                    0 => {
                        let (key, tier) = random.pick(&TIERS);
                        Context::from([(key.into(), tier.into())])
                    }
                    1..=4 if !contexts.is_empty() => random.pick(&contexts),
                    _ => Context::new(),
                };
                let nanos = time(model, &mut random);
                let prices = model.prices(&context, nanos);
                let usage = usage(&prices, &mut random);
                check(&Case { provider, model, borrowed, context, nanos, usage });
            }
        }
    }
}

/// A time of some years, near a date or the edge of a window of the model, or on a weekend.
fn time(model: &Model<'_>, random: &mut Random) -> i64 {
    let (starts, edges) = (model.starts(), model.edges());
    let (first, last) = (oracle::midnight("2023-01-01"), oracle::midnight("2029-01-01"));
    let near = [0, -1, 1, -SECOND, SECOND, random.between(-DAY, DAY) * SECOND];
    let any = random.between(first, last);
    match random.below(4) {
        0 if !starts.is_empty() => random.pick(&starts) * SECOND + random.pick(&near),
        1 if !edges.is_empty() => {
            (any - any % DAY + random.pick(&edges)) * SECOND + random.pick(&near[..5])
        }
        2 => {
            // 1970-01-03 was a Saturday.
            let saturday = any - (any - 2 * DAY).rem_euclid(7 * DAY);
            (saturday + random.between(0, 2 * DAY)) * SECOND
        }
        _ => any * SECOND + random.between(0, SECOND),
    }
}

/// A usage of what has a price, now and then of what falls back to another's, seldom of what has none;
/// half of those with a price above a threshold are within a token of it.
fn usage(prices: &Prices<'_>, random: &mut Random) -> Usage {
    let thresholds: Vec<u32> = oracle::thresholds(prices).into_iter().collect();
    let near = (!thresholds.is_empty() && random.one_in(2)).then(|| random.pick(&thresholds));
    let most = [30, 3_000, 70_000, 400_000, 3_000_000, 1_000_000_000];
    let most = near.map_or_else(|| random.pick(&most), |threshold| u64::from(threshold) / 12);
    let mut usage = Usage::default();
    for item in Billable::all() {
        let (own, root) = oracle::keys_of(item.name());
        let used = match () {
            () if prices.contains_key(own) => !random.one_in(3),
            () if prices.contains_key(root) => random.one_in(4),
            () => random.one_in(100),
        };
        let most = match item {
            Billable::Unit(Unit::Call) => 4,
            // Around the ten seconds that some bill at least.
            Billable::Unit(Unit::AudioSecond) if random.one_in(2) => 20,
            _ => most,
        };
        let count = TokenCount::new(if used { random.below(most) } else { 0 }).unwrap();
        match item {
            Billable::Tokens(class) => usage.tokens[class] = count,
            Billable::Unit(unit) => usage.units[unit] = count,
        }
    }
    if let Some(threshold) = near {
        usage.tokens[TokenClass::InputUncached] = TokenCount::ZERO;
        let wanted = u64::from(threshold) + 1 - random.below(3);
        let rest = TokenCount::new(wanted - usage.input()).unwrap();
        usage.tokens[TokenClass::InputUncached] = rest;
    }
    usage
}

#[test]
fn a_charge_at_any_time_is_an_exact_recomputation_to_the_pico_dollar() {
    let book = Book::builtin();
    let mut seen = BTreeMap::<&str, u64>::new();
    each_case(&mut |case| {
        let mut saw = |what, yes| *seen.entry(what).or_default() += u64::from(yes);
        let (key, prices) = (case.key(), case.our_prices());
        let cost = oracle::cost(&prices, &case.our_counts());
        let charged = book.charge(&key, &case.usage);
        if let Ok((row, charge)) = &charged {
            assert_eq!(row.model(), case.model.id, "{key:?}");
            let lines: i128 = charge.lines.iter().map(|line| line.amount.pico()).sum();
            assert_eq!(lines, charge.total.pico(), "{key:?} {:?}", case.usage);
        }
        let priced = case.is_offered() && !cost.unpriced;
        let ours = charged.as_ref().map(|(_, charge)| charge.total.pico()).ok();
        assert_eq!(ours, priced.then_some(cost.booked), "{key:?} {:?}", case.usage);
        saw("priced", priced);
        saw("unpriced", !priced);
        saw("at rounded prices", priced && cost.is_rounded());
        let near = |at: &i64| (case.nanos / SECOND - at).abs() < DAY;
        saw("within a day of a start", case.model.starts().iter().any(near));
        saw("in a daily window", case.model.in_a_window(case.nanos));
        saw("on a weekend", oracle::weekend(case.nanos));
        let input = case.usage.input();
        let above = |from: &u32| input > u64::from(*from);
        saw("above a threshold", priced && oracle::thresholds(&prices).iter().any(above));
        saw("on another tier", priced && case.tier().is_some());
        saw("borrowed", priced && case.borrowed);
    });
    for (what, count) in &seen {
        println!("{:>9} {what}", grouped(*count));
    }
    assert!(seen["priced"] > 10_000 && seen.values().all(|count| *count > 30), "{seen:?}");
}

/// Why the source's own engine says otherwise, the first that holds. Who is right: docs/prices.md.
const CAUSES: [&str; 8] =
    [NO_NAME, NO_TIER, NO_PRICE, CONDITION, SEVERAL_CALLS, MINIMUM, ROUNDED, FLOAT];
const NO_NAME: &str = "the id of the model is none of its names";
const NO_TIER: &str = "the tier has no price";
const NO_PRICE: &str = "something used has no price";
const CONDITION: &str = "a condition that is no tier";
const SEVERAL_CALLS: &str = "a fee for each call";
const MINIMUM: &str = "a least amount that is billed";
const ROUNDED: &str = "a price below a pico-dollar";
const FLOAT: &str = "floats";

/// A sum of at most 15 products of floats is this near to the exact one, relatively: each has three
/// roundings of at most 2⁻⁵³ and is added with one more, and prices are within 2⁻⁵² of their decimals.
const FLOAT_BOUND: f64 = 4e-15;

#[expect(clippy::cast_precision_loss, reason = "the other engine counts in floats")]
fn is_near(float: f64, exact: i128) -> bool {
    let exact = exact as f64 / oracle::DOLLAR as f64;
    (float - exact).abs() <= FLOAT_BOUND * exact
}

fn calculated(case: &Case<'_>) -> Result<f64, genai_prices::Error> {
    #[expect(clippy::cast_precision_loss, reason = "the other engine counts in floats")]
    let counts = oracle::inclusive(&case.usage).into_iter().map(|(key, n)| (key, n as f64));
    let usage = genai_prices::Usage::from_iter(counts);
    let since = Duration::from_nanos(u64::try_from(case.nanos).unwrap());
    let mut request = genai_prices::PriceRequest::new(&case.model.id, &usage)
        .with_provider_id(&case.provider.id)
        .with_timestamp(UNIX_EPOCH + since);
    for (key, value) in &case.context {
        request = request.with_price_context(key, value);
    }
    genai_prices::calculate(&request).map(|found| found.total_price)
}

/// The cause of a difference; `None` if there is none.
///
/// What each engine says must be what the data says by its own rule, so that nothing hides behind a
/// cause; then the causes are what differs between the rules.
fn cause(
    case: &Case<'_>,
    ours: &Result<Charge, Unpriced>,
    theirs: &Result<f64, genai_prices::Error>,
) -> Result<Option<&'static str>, &'static str> {
    let Ok(theirs) = theirs else {
        let named = case.provider.models.iter().any(|model| model.is_called(&case.model.id));
        return if named { Err("not found under its name") } else { Ok(Some(NO_NAME)) };
    };
    let (our_counts, their_counts) = (case.our_counts(), case.their_counts());
    let (our_prices, their_prices) = (case.our_prices(), case.their_prices());
    let (cost, their_cost) =
        (oracle::cost(&our_prices, &our_counts), oracle::cost(&their_prices, &their_counts));
    if !is_near(*theirs, their_cost.exact) {
        return Err("theirs is not what the data says by its own rule");
    }
    let ours = match ours {
        Ok(charge) => charge.total,
        Err(Unpriced::NoPriceForTier { .. } | Unpriced::NotInForce { .. }) => {
            return if case.is_offered() { Err("unpriced") } else { Ok(Some(NO_TIER)) };
        }
        Err(Unpriced::NoPriceFor { .. }) if cost.unpriced => return Ok(Some(NO_PRICE)),
        Err(_) => return Err("unpriced"),
    };
    if ours.pico() != cost.booked {
        return Err("ours is not what the data says");
    }
    if ours.to_string().parse() == Ok(*theirs) {
        return Ok(None);
    }
    let texts = |prices: &Prices<'_>| {
        prices.iter().map(|(key, price)| (key.clone(), price.get().to_owned())).collect::<Vec<_>>()
    };
    let fee = our_prices.contains_key("requests_kcount");
    Ok(Some(if case.tier().is_none() && texts(&our_prices) != texts(&their_prices) {
        CONDITION
    } else if fee && our_counts["requests"] != their_counts["requests"] {
        SEVERAL_CALLS
    } else if our_counts["audio_seconds"] != their_counts["audio_seconds"] {
        MINIMUM
    } else if cost.is_rounded() {
        ROUNDED
    } else if is_near(*theirs, cost.exact) {
        FLOAT
    } else {
        return Err("no cause applies");
    }))
}

#[test]
fn every_difference_from_the_source_has_a_listed_cause() {
    let book = Book::builtin();
    let mut counts: BTreeMap<&str, u64> = CAUSES.map(|cause| (cause, 0)).into();
    let (mut usages, mut unexplained) = (0_u64, Vec::new());
    each_case(&mut |case| {
        usages += 1;
        let ours = book.charge(&case.key(), &case.usage).map(|(_, charge)| charge);
        let theirs = calculated(case);
        match cause(case, &ours, &theirs) {
            Ok(cause) => cause.into_iter().for_each(|cause| *counts.get_mut(cause).unwrap() += 1),
            Err(why) => {
                let used: Vec<_> = Billable::all()
                    .map(|item| (item.name(), used(item, &case.usage)))
                    .filter(|(_, count)| *count > 0)
                    .collect();
                let ours = ours.map(|charge| charge.total.to_string());
                unexplained.push(format!(
                    "{why}: {:?}, {:?}: {used:?}: {ours:?} here, {theirs:?} there",
                    case.key(),
                    case.context
                ));
            }
        }
    });
    let differ: u64 = counts.values().sum();
    println!("{} usages, {} differ", grouped(usages), grouped(differ));
    for cause in CAUSES {
        println!("{:>9} {cause}", grouped(counts[cause]));
    }
    assert!(unexplained.is_empty(), "{}\n{}", unexplained.len(), unexplained.join("\n"));
    assert!(usages > 10_000 && counts.values().all(|count| *count > 0), "{counts:?}");
    if std::env::var_os("FARTHING_PRICE_USAGES").is_none() {
        let docs = include_str!("../../../../docs/prices.md");
        let total = format!("{} usages, {} of which differ", grouped(usages), grouped(differ));
        assert!(docs.contains(&total), "docs/prices.md does not say `{total}`");
        for (cause, count) in counts {
            let line = docs.lines().find(|line| line.starts_with(&format!("| {cause} |")));
            let told = line.is_some_and(|line| line.ends_with(&format!("| {} |", grouped(count))));
            assert!(told, "docs/prices.md, `{cause}`: expected {count}, found {line:?}");
        }
    }
}

fn used(item: Billable, usage: &Usage) -> u64 {
    match item {
        Billable::Tokens(class) => usage.tokens[class].get(),
        Billable::Unit(unit) => usage.units[unit].get(),
    }
}
