//! Contracts and credits: what is billed beyond prices, and how commitments and credits stand.

use quantity::{Day, Money, UnixTime, grouped};
use tariff::commitment::{Billed, CommitmentPeriod, CreditLeft, DaySpan, Spent, Standing};

use crate::json::Json;
use crate::number::{decimals, dollars, usd};
use crate::object;
use crate::table::{Style, Table};

/// How agreements stand over days, ready to be rendered.
#[derive(Debug, Clone, Copy)]
pub struct Contracts<'a> {
    /// How they stand.
    pub standing: &'a Standing<'a>,
    /// Over which days.
    pub days: DaySpan,
}

impl Contracts<'_> {
    /// A report of its own, for a terminal.
    #[must_use]
    pub fn text(&self, style: Style, now: UnixTime) -> String {
        let heading = style.heading("Commitments and credits");
        let minute = now.to_string()[..16].replace('T', " ");
        let under = format!("as of {minute} UTC; by whole UTC days; US dollars");
        let mut out = format!("{heading}\n{}", style.faint_words(&under));
        match self.sections(style) {
            Some(sections) => {
                out.push('\n');
                out.push_str(&sections);
            }
            None => out.push_str(
                "\nThe configuration has none that has begun: see `commitment_usd` and `[[credits]]` in \
                 farthing.sample.toml.\n",
            ),
        }
        out
    }

    /// As JSON, schema `farthing.contracts/1`.
    #[must_use]
    pub fn json(&self, now: UnixTime) -> String {
        let fields = self.fields();
        let head = [("schema", Json::from("farthing.contracts/1")), ("as_of", Json::from(now))];
        let head = head.map(|(name, value)| (name.to_owned(), value));
        Json::Object(head.into_iter().chain(fields).collect()).pretty()
    }

    /// The same within a bill.
    #[must_use]
    pub fn value(&self) -> Json {
        Json::Object(self.fields())
    }

    fn fields(&self) -> Vec<(String, Json)> {
        let Self { standing, days } = self;
        let day = |day: Day| Json::from(day.to_string());
        let billed = standing.billed(days);
        let (commitments, credits) = (standing.commitments(days), standing.credits(days));
        let fields = [
            ("from_day", days.from.map(day).into()),
            ("until_day", day(days.until)),
            ("ledger_begins", standing.begins().map(day).into()),
            ("unattributed_usd", standing.unattributed().into()),
            ("billed", billed.iter().map(billed_json).collect()),
            ("commitments", commitments.iter().map(commitment_json).collect()),
            ("credits", credits.iter().map(credit_json).collect()),
        ];
        fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// The tables, and what is to be said below; `None` if nothing was agreed for these days.
    #[must_use]
    pub fn sections(&self, style: Style) -> Option<String> {
        let Self { standing, days } = self;
        let billed = standing.billed(days);
        if billed.is_empty() {
            return None;
        }
        let (commitments, credits) = (standing.commitments(days), standing.credits(days));
        let mut parts = vec![billed_table(&billed).render(style)];
        if !commitments.is_empty() {
            parts.push(commitments_table(&commitments).render(style));
        }
        if !credits.is_empty() {
            parts.push(credits_table(&credits, days.from.is_some()).render(style));
        }
        let mut notes = Vec::new();
        if days.from.is_some() {
            notes.push(
                "What is billed and paid by credits is of the UTC days that this bill touches, whole; a \
                 commitment is of its whole period, as far as it has come."
                    .to_owned(),
            );
        }
        let known = billed.iter().all(|one| one.is_complete)
            && commitments.iter().all(|one| one.is_complete)
            && credits.iter().all(|one| one.is_complete);
        if !known {
            let begins = standing
                .begins()
                .map_or("is empty".to_owned(), |begins| format!("begins on {begins}"));
            notes.push(format!(
                "* the ledger {begins}: what was used before is not known, so that more may be used, and \
                 less be left or due.",
            ));
        }
        notes.extend(billed.iter().filter_map(uncertain));
        if standing.unattributed() != Money::ZERO {
            let amount = standing.unattributed();
            notes.push(format!(
                "{} of pruned periods is of no provider that is known: it counts nowhere here.",
                usd(amount, decimals([amount]))
            ));
        }
        let notes: String = notes.iter().map(|note| style.faint_words(note)).collect();
        parts.extend((!notes.is_empty()).then_some(notes));
        Some(parts.join("\n"))
    }
}

fn billed_table(billed: &[Billed]) -> Table {
    let mut table = Table::default().text("provider").minor("list\nUSD", 1);
    table = table.number("contracted\nUSD").number("paid by\ncredits USD");
    table = table.number("shortfall\nUSD").number("billed\nUSD");
    let places = decimals(billed.iter().flat_map(|one| [one.spent.list, one.billed()]));
    let money = |amount| dollars(amount, places);
    for one in billed {
        let mark = if one.is_complete { "" } else { "*" };
        table.row([
            one.provider.clone(),
            money(one.spent.list),
            money(one.spent.contracted),
            money(one.credits),
            money(one.shortfall) + mark,
            money(one.billed()) + mark,
        ]);
    }
    table
}

fn commitments_table(periods: &[CommitmentPeriod<'_>]) -> Table {
    // Days are columns of numbers, which are not cut: the first of the period, and the first after.
    let mut table = Table::default().text("commitment").number("from").minor("to", 1);
    table = table.minor("committed\nUSD", 2).number("used\nUSD").number("left\nUSD").prose("");
    let amounts = periods.iter().flat_map(|one| [one.commitment.amount, one.used]);
    let places = decimals(amounts);
    for one in periods {
        let mark = if one.is_complete { "" } else { "*" };
        let left = one.left();
        let standing = match one.shortfall() {
            _ if left == Money::ZERO => "met".to_owned(),
            Some(_) => format!("shortfall, due on {}", one.until),
            None if one.is_over => "not known whether it was met".to_owned(),
            None => format!("due on {} if no more is used", one.until),
        };
        table.row([
            one.commitment.contract.clone(),
            one.from.to_string(),
            one.until.to_string(),
            dollars(one.commitment.amount, places),
            dollars(one.used, places) + mark,
            dollars(left, places) + if left == Money::ZERO { "" } else { mark },
            standing,
        ]);
    }
    table
}

fn credits_table(credits: &[CreditLeft<'_>], of_days: bool) -> Table {
    let mut table = Table::default().text("credit").text("provider").number("amount\nUSD");
    if of_days {
        table = table.minor("paid\nbefore", 1);
    }
    table = table.number("paid\nUSD").number("left\nUSD").prose("");
    let places = decimals(credits.iter().map(|one| one.credit.amount));
    for one in credits {
        let mark = if one.is_complete { "" } else { "*" };
        let left = one.left();
        let standing = match one.credit.until {
            _ if left == Money::ZERO => "used up".to_owned(),
            Some(until) if one.is_over => format!("expired on {until}: what is left is lost"),
            Some(until) => format!("expires on {until}"),
            None => "does not expire".to_owned(),
        };
        let mut row = vec![
            one.credit.name.clone(),
            one.credit.provider.clone(),
            dollars(one.credit.amount, places),
        ];
        if of_days {
            row.push(dollars(one.before, places) + mark);
        }
        row.extend([dollars(one.drawn, places), dollars(left, places) + mark, standing]);
        table.row(row);
    }
    table
}

/// What is in no sum of a provider because it is not known, in words.
fn uncertain(billed: &Billed) -> Option<String> {
    let Spent { unknown, at_most, unbounded, unpriced, .. } = billed.spent;
    let bound = match unbounded {
        0 => format!("which cost at most {}", usd(at_most, decimals([at_most]))),
        _ if unbounded >= unknown => "of which no bound is known".to_owned(),
        _ => format!(
            "which cost at most {}, without {} that have no known bound",
            usd(at_most, decimals([at_most])),
            grouped(unbounded)
        ),
    };
    let unknown = (unknown > 0)
        .then(|| format!("{} of usage that was never told, {bound}", attempts(unknown)));
    let unpriced = (unpriced > 0).then(|| format!("{} without a price", attempts(unpriced)));
    let parts: Vec<String> = [unknown, unpriced].into_iter().flatten().collect();
    (!parts.is_empty()).then(|| {
        format!("{}: in none of these sums are {}.", billed.provider, parts.join(", and "))
    })
}

fn attempts(count: u64) -> String {
    match count {
        1 => "1 attempt".to_owned(),
        _ => format!("{} attempts", grouped(count)),
    }
}

fn billed_json(one: &Billed) -> Json {
    object! {
        "provider" => &one.provider,
        "list_usd" => one.spent.list,
        "contracted_usd" => one.spent.contracted,
        "credits_usd" => one.credits,
        "shortfall_usd" => one.shortfall,
        "billed_usd" => one.billed(),
        "billed_is_complete" => one.is_complete,
        "unknown_attempts" => one.spent.unknown,
        "unknown_at_most_usd" => one.spent.at_most,
        "unbounded_attempts" => one.spent.unbounded,
        "unpriced_attempts" => one.spent.unpriced,
    }
}

fn commitment_json(one: &CommitmentPeriod<'_>) -> Json {
    object! {
        "contract" => &one.commitment.contract,
        "provider" => &one.commitment.provider,
        "per" => one.commitment.per.name(),
        "from_day" => one.from.to_string(),
        "until_day" => one.until.to_string(),
        "committed_usd" => one.commitment.amount,
        "used_usd" => one.used,
        "used_is_complete" => one.is_complete,
        "credits_not_counted_usd" => one.not_counted,
        "left_usd" => one.left(),
        "is_over" => one.is_over,
        "shortfall_usd" => one.shortfall(),
    }
}

fn credit_json(one: &CreditLeft<'_>) -> Json {
    object! {
        "credit" => &one.credit.name,
        "provider" => &one.credit.provider,
        "from_day" => one.credit.from.to_string(),
        "until_day" => one.credit.until.map(|until| until.to_string()),
        "counts_toward_commitment" => one.credit.counts,
        "amount_usd" => one.credit.amount,
        "paid_before_usd" => one.before,
        "paid_usd" => one.drawn,
        "paid_is_complete" => one.is_complete,
        "left_usd" => one.left(),
        "is_over" => one.is_over,
    }
}
