//! What the page shows, as JSON: figures are written out here, by the code that writes the
//! terminal's bill, so that the page formats nothing and cannot disagree. Lengths of bars are
//! thousandths.

use facts::{Answer, Exchange, HostedLine, Measures, Verdict};
use quantity::{Money, UnixTime, grouped};
use report::bill::{self, Bill, BookLine};
use report::exchange::{self, Outcome};
use report::json::Json;
use report::number::{
    Cost, class_price, count_share, decimals, dollars, duration, money_share, per_mtok,
    per_thousand, percent, priced_tokens, ratio, usd,
};
use report::object;

/// Groups that a table shows; labels come from clients, who may send any number of them.
const GROUPS: usize = 40;

pub(crate) fn bill(
    routes: &Answer,
    models: &Answer,
    book: &BookLine,
    coming: &[String],
    now: UnixTime,
) -> Json {
    let whole = Bill::new(routes, book, now);
    let total = &routes.total;
    object! {
        "schema" => "farthing.page/1",
        "as_of" => now,
        "period" => whole.period(),
        "price_book" => book.text(),
        "tiles" => tiles(&whole, routes),
        "routes" => groups(&whole, routes),
        "models" => groups(&whole, models),
        "classes" => classes(total),
        "waste" => waste(total),
        "uncertain" => uncertain(total),
        "hosting" => routes.hosting.iter().map(hosting).collect::<Json>(),
        "adjusted" => whole.adjusted(),
        "gaps" => whole.gaps().collect::<Json>(),
        "price_changes" => coming.iter().collect::<Json>(),
    }
}

pub(crate) fn recent(rows: impl Iterator<Item = Json>, now: UnixTime) -> Json {
    object! {
        "schema" => "farthing.recent/1",
        "as_of" => now,
        "exchanges" => rows.collect::<Json>(),
    }
}

fn tiles(whole: &Bill<'_>, answer: &Answer) -> Json {
    let total = &answer.total;
    let cost = whole.cost();
    let tile = |name: &str, value: String, unit: &str, note: String| {
        object! { "name" => name, "value" => value, "unit" => unit, "note" => note }
    };
    let failed = total.exchanges - total.completed;
    let wasted: Money = total.waste.values().copied().sum();
    let spend = cost.written(|amount| match amount {
        Money::ZERO => "$0".to_owned(),
        _ => usd(amount, decimals([amount]).min(4)),
    });
    let per_1k = cost.amount().and_then(|amount| per_thousand(amount, total.exchanges));
    let per_mtok = cost.amount().and_then(|amount| per_mtok(amount, priced_tokens(total)));
    let priced = |amount: Option<Money>| match amount {
        Some(amount) => usd(amount, decimals([amount]).min(4)),
        None => "-".to_owned(),
    };
    let certainty = match (total.unpriced, total.unknown) {
        (0, 0) => "every attempt has a price".to_owned(),
        (0, unknown) => format!("usage unknown of {}", attempts(unknown)),
        (unpriced, _) => format!("{} unpriced, in no figure", attempts(unpriced)),
    };
    vec![
        tile(
            "Spend",
            spend,
            "US dollars",
            match cost {
                Cost::AtLeast(_) => "* at least: some has no price".to_owned(),
                _ => "contracted prices".to_owned(),
            },
        ),
        tile(
            "Exchanges",
            grouped(total.exchanges),
            &format!("in {}", attempts(total.attempts)),
            format!("{} not completed", grouped(failed)),
        ),
        tile("Unit price", priced(per_1k), "per 1,000 exchanges", "the whole bill".to_owned()),
        tile(
            "Unit price",
            priced(per_mtok),
            "per million tokens",
            format!("{} tokens", grouped(total.input() + total.output())),
        ),
        tile(
            "Wasted",
            percent(money_share(wasted, total.cost)),
            "of cost by the token",
            match wasted {
                Money::ZERO => "none that has a price".to_owned(),
                _ => usd(wasted, decimals([wasted]).min(4)),
            },
        ),
        tile(
            "Estimated",
            percent(money_share(total.estimated.cost, total.cost)),
            "of cost by the token",
            certainty,
        ),
    ]
    .into()
}

fn attempts(count: u64) -> String {
    if count == 1 { "1 attempt".to_owned() } else { format!("{} attempts", grouped(count)) }
}

fn groups(whole: &Bill<'_>, answer: &Answer) -> Json {
    let answer = &answer.clone().top(GROUPS);
    let spend = answer.spend();
    let places = decimals([spend]);
    let spends = answer.groups.iter().map(|group| group.measures.spend());
    let largest = spends.max().unwrap_or_default();
    let length = |part| money_share(part, largest).unwrap_or(0);
    let row = |label: String, measures: &Measures, cost: Cost| {
        let wasted: Money = measures.waste.values().copied().sum();
        let useful = measures.spend() - wasted;
        let of_group = |part| percent(money_share(part, measures.spend()));
        let amount = cost.amount();
        object! {
            "label" => label,
            "exchanges" => grouped(measures.exchanges),
            "input" => grouped(measures.input()),
            "cached" => percent(count_share(bill::cached(measures), measures.input())),
            "output" => grouped(measures.output()),
            "cost" => cost.written(|amount| dollars(amount, places)),
            "share" => percent(amount.and_then(|amount| money_share(amount, spend))),
            "per_1k" => ratio(amount.and_then(|a| per_thousand(a, measures.exchanges))),
            "per_mtok" => ratio(amount.and_then(|a| per_mtok(a, priced_tokens(measures)))),
            "useful_length" => length(useful),
            "wasted_length" => length(wasted),
            "useful_share" => of_group(useful),
            "wasted_share" => of_group(wasted),
        }
    };
    let shown = answer.groups.iter().map(|group| {
        let label = bill::labels(group).collect::<Vec<_>>().join(", ");
        row(label, &group.measures, Cost::of(&group.measures))
    });
    let other = answer.other.iter();
    let other =
        other.map(|other| row(bill::other_name(other), &other.measures, Cost::of(&other.measures)));
    // Idle time is on the bill and nobody's: a row without a bar, for it has one under own GPUs.
    let idle = answer.hosting.iter().filter(|line| line.idle > Money::ZERO).map(|line| {
        object! {
            "label" => format!("({} idle)", line.upstream),
            "cost" => dollars(line.idle, places),
            "share" => percent(money_share(line.idle, spend)),
        }
    });
    let adjusted = answer.adjustments.iter().map(|line| {
        object! {
            "label" => bill::adjusted_name(line),
            "cost" => dollars(line.contracted, places),
            "share" => percent(money_share(line.contracted, spend)),
        }
    });
    object! {
        "rows" => shown.chain(other).chain(idle).chain(adjusted).collect::<Json>(),
        "total" => row("total".to_owned(), &answer.total, whole.cost()),
    }
}

fn classes(total: &Measures) -> Json {
    let places = decimals([total.cost]);
    let row = |class| {
        let cost = bill::class_cost(total, class);
        let share = cost.and_then(|cost| money_share(cost, total.cost));
        object! {
            "label" => bill::class_name(class),
            "class" => quantity::TokenClass::name(class),
            "tokens" => grouped(total.tokens[class]),
            "cost" => cost.map_or("-".to_owned(), |cost| dollars(cost, places)),
            "share" => percent(share),
            "per_mtok" => ratio(class_price(total, class)),
            "length" => share.unwrap_or(0),
        }
    };
    bill::shown(total).map(row).collect()
}

fn waste(total: &Measures) -> Json {
    let places = decimals([total.cost]);
    let largest = total.waste.values().copied().max().unwrap_or_default();
    let rows = total.waste.iter().map(|(cause, cost)| {
        let share = money_share(*cost, total.cost);
        object! {
            "label" => bill::cause_name(*cause),
            "cost" => dollars(*cost, places),
            "share" => percent(share),
            "length" => money_share(*cost, largest).unwrap_or(0),
        }
    });
    rows.collect()
}

fn uncertain(total: &Measures) -> Json {
    let rows = bill::uncertain(total).into_iter().map(|line| {
        object! {
            "label" => line.name,
            "attempts" => grouped(line.attempts),
            "cost" => line.cost,
            "share" => percent(line.share),
            "note" => line.note,
        }
    });
    rows.collect()
}

fn hosting(line: &HostedLine) -> Json {
    let places = decimals([line.busy, line.idle]);
    object! {
        "label" => &line.upstream,
        "paid" => duration(line.paid),
        "utilisation" => percent(bill::utilisation(line)),
        "busy_length" => bill::utilisation(line).unwrap_or(0),
        "busy" => dollars(line.busy, places),
        "idle" => dollars(line.idle, places),
        "useful_tokens" => grouped(line.useful_tokens),
        "per_useful_mtok" => ratio(bill::per_useful_mtok(line)),
    }
}

/// One line of the live list.
pub(crate) fn recent_row(exchange: &Exchange) -> Json {
    let admission = &exchange.admission;
    let outcome = Outcome::of(exchange);
    let tokens = exchange::token_counts(exchange);
    let count = |count: Option<u64>| count.map_or("-".to_owned(), grouped);
    let cached = tokens.map(|(_, cached, _)| cached).filter(|cached| *cached > 0);
    let mut notes = Vec::new();
    if exchange.settlement.verdict != Verdict::Completed {
        notes.push(exchange.settlement.verdict.name().to_owned());
    }
    if exchange.attempts.len() > 1 {
        notes.push(attempts(exchange.attempts.len() as u64));
    }
    if outcome.estimated {
        notes.push("estimated".to_owned());
    }
    object! {
        "id" => admission.exchange.to_string(),
        "time" => &admission.at.to_string()[11..19],
        "route" => &admission.labels.route,
        "model" => exchange::model(exchange),
        "status" => exchange.attempts.last().map(exchange::status),
        "completed" => exchange.settlement.verdict == Verdict::Completed,
        "duration" => duration(exchange.settlement.at.since(admission.at)),
        "ttft" => exchange::first_token(exchange).map(duration),
        "input" => count(tokens.map(|(input, _, _)| input)),
        "cached" => count(cached),
        "output" => count(tokens.map(|(_, _, output)| output)),
        "cost" => outcome.short(),
        "notes" => notes.join(", "),
        "reason" => outcome.unpriced,
    }
}
