use facts::{
    Adjustment, Admission, Api, AttemptEnd, AttemptReason, ChargeLine, Charged, Dispatch, End, Gap,
    Labels, MessageShape, PriceRecord, PromptShape, Role, RouteSource, Settlement, ToldCost,
    Verdict,
};
use journal::{Batch, Body, Entry, JournalError, MemoryStorage, Reader, Record, Writer};
use proptest::prelude::*;
use quantity::{
    Billable, Doubt, Doubts, ExchangeId, Fingerprint, Metered, Money, PriceRowId, TokenClass,
    TokenCount, Unit, UnitPrice, UnixTime, Usage, UsageSource,
};

use crate::{WRITER, now};

fn exchange() -> ExchangeId {
    ExchangeId::new(now(), [0xab; 10])
}

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

pub(crate) fn admission() -> Admission {
    Admission {
        exchange: exchange(),
        at: now(),
        api: Api::OpenAiChat,
        stream: true,
        model_asked: text("gpt-5-mini"),
        max_tokens: TokenCount::new(1024),
        choices: Some(1),
        tier_asked: text("flex"),
        labels: Labels {
            route: "support".to_owned(),
            route_source: RouteSource::Header,
            task: text("ticket-4711"),
            task_type: text("ticket"),
            user: text("u1"),
            team: text("care"),
            tags: vec![("env".to_owned(), "prod".to_owned()), ("x".to_owned(), String::new())],
        },
        caller: Some(Fingerprint(0xdead_beef)),
        key: text("care-bot"),
        path: Some("/v1/files/*".to_owned()),
        client_retry: Some(2),
        request_bytes: 4321,
        prompt: PromptShape {
            messages: vec![MessageShape {
                role: Role::System,
                text_bytes: 300,
                media: 1,
                content: Fingerprint(1),
                chain: Fingerprint(u64::MAX),
            }],
            tools: vec!["search".to_owned()],
            tool_schema_bytes: 77,
        },
    }
}

pub(crate) fn dispatch() -> Dispatch {
    Dispatch {
        exchange: exchange(),
        ordinal: 1,
        at: now(),
        reason: AttemptReason::Fallback,
        upstream: "local".to_owned(),
        provider: text("openai"),
        model: text("gpt-5-mini-2025"),
        region: text("eu"),
        input_estimate: TokenCount::from(100),
        bound: Some(Money::from_pico(1_234_567_890_123)),
    }
}

pub(crate) fn attempt_end() -> AttemptEnd {
    let mut usage = Usage::default();
    usage.tokens[TokenClass::InputUncached] = TokenCount::from(1000);
    usage.tokens[TokenClass::OutputVideo] = TokenCount::new(i64::MAX as u64).unwrap();
    usage.units[Unit::WebSearch] = TokenCount::from(3);
    let line = ChargeLine {
        item: Billable::Tokens(TokenClass::InputUncached),
        count: TokenCount::from(1000),
        price: UnitPrice::from_pico(250_000).unwrap(),
        list: Money::from_pico(250_000_000),
        contracted: Money::from_pico(-1),
    };
    AttemptEnd {
        exchange: exchange(),
        ordinal: 1,
        first_byte_at: Some(now()),
        first_token_at: Some(now()),
        last_token_at: Some(UnixTime::from_nanos(-1)),
        at: now(),
        status: Some(200),
        end: End::Complete,
        error: text("rate_limit_error"),
        response_id: text("chatcmpl-1"),
        model_served: text("gpt-5-mini-2025"),
        tier_served: text("default"),
        region_served: text("us"),
        finish_reason: text("stop"),
        metered: Metered {
            usage,
            source: UsageSource::Reported,
            doubts: Doubts::from_bits(1 << 31).with(Doubt::LowerBound),
        },
        raw_usage: text("{\"a\":1}"),
        response_bytes: 9999,
        tools_called: vec!["search".to_owned(), "search".to_owned()],
        charged: Charged::Priced {
            row: PriceRowId::from_bytes([0x11; 16]),
            lines: vec![line, ChargeLine { item: Billable::Unit(Unit::WebSearch), ..line }],
        },
        told: Some(ToldCost::Of(Money::from_pico(42))),
    }
}

pub(crate) fn settlement() -> Settlement {
    Settlement { exchange: exchange(), at: now(), verdict: Verdict::Completed }
}

fn adjustment() -> Adjustment {
    Adjustment {
        exchange: exchange(),
        ordinal: 1,
        at: now(),
        provider: "openai".to_owned(),
        model: "gpt-5".to_owned(),
        from: Some(PriceRowId::from_bytes([7; 16])),
        to: PriceRowId::from_bytes([8; 16]),
        contracted: Money::from_pico(-31_200_000_000),
        list: Money::from_pico(5),
    }
}

fn gap() -> Gap {
    Gap {
        since: now(),
        until: now().plus(std::time::Duration::from_secs(60)),
        exchanges: 12,
        attempts: 13,
        cost: Some(Money::from_pico(31_200_000_000)),
        tokens: Some(4711),
        cause: "full".to_owned(),
    }
}

fn row() -> PriceRecord {
    PriceRecord::PerUse { row: PriceRowId::from_bytes([7; 16]), text: "openai/gpt-5".to_owned() }
}

fn hourly() -> PriceRecord {
    let cost = Some(Money::from_pico(2_500_000_000_000));
    PriceRecord::PerHour { upstream: "local".to_owned(), cost, from: now() }
}

fn body(entry: &impl Entry) -> Vec<u8> {
    let mut out = Vec::new();
    entry.encode(&mut out);
    out
}

/// Writes records and reads them back.
fn round_trip(batch: &mut Batch) -> Result<Vec<Record>, JournalError> {
    let storage = MemoryStorage::new();
    Writer::open(storage.clone(), now(), WRITER)?.0.append(batch, now())?;
    let mut reader = Reader::open(storage)?;
    let mut records = Vec::new();
    while let Some(record) = reader.next()? {
        records.push(record.decode()?);
    }
    Ok(records)
}

fn round_trip_raw(kind: u8, version: u8, body: &[u8]) -> Result<Record, JournalError> {
    let mut batch = Batch::new();
    batch.push_raw(kind, version, 0, |out| out.extend_from_slice(body))?;
    Ok(round_trip(&mut batch)?.remove(0))
}

/// The format on disk, for ever. If this fails, the change breaks every journal there is.
#[test]
fn the_bytes_of_each_kind_are_these() {
    let hex = |bytes: Vec<u8>| -> String { bytes.iter().map(|b| format!("{b:02x}")).collect() };
    let bare = AttemptEnd { told: None, region_served: None, ..attempt_end() };
    let golden = [
        (Body::Admitted(Admission { key: None, path: None, ..admission() }), ADMITTED),
        (Body::Dispatched(Dispatch { region: None, ..dispatch() }), DISPATCHED),
        (Body::AttemptEnded(bare), ATTEMPT_ENDED),
        (Body::Settled(settlement()), SETTLED),
        (Body::Adjusted(adjustment()), ADJUSTED),
        (Body::Gap(gap()), GAP),
        (Body::Price(row()), ROW),
        (Body::Price(hourly()), HOURLY),
    ];
    for (body_of, expected) in golden {
        assert_eq!(hex(body(&body_of)), expected, "{body_of:?}");
    }
    // Fields 22 and 23 came later.
    let (before, after) = ADMITTED.split_once("620773").unwrap();
    let (key, path) = (hex(b"care-bot".to_vec()), hex(b"/v1/files/*".to_vec()));
    let longer = format!("{before}b20108{key}ba010b{path}620773{after}");
    assert_eq!(hex(body(&admission())), longer);
    // Field 21 came later.
    let (before, after) = ATTEMPT_ENDED.rsplit_once("920111").unwrap();
    for (told, value) in [(attempt_end().told, "020154"), (Some(ToldCost::Refused), "0102")] {
        let longer = format!("{before}aa01{value}920111{after}");
        let end = AttemptEnd { told, region_served: None, ..attempt_end() };
        assert_eq!(hex(body(&end)), longer);
    }
    // So did field 22, and field 10 of a dispatch.
    let longer = format!("{before}b201027573920111{after}");
    assert_eq!(hex(body(&AttemptEnd { told: None, ..attempt_end() })), longer);
    assert_eq!(hex(body(&dispatch())), format!("{DISPATCHED}52026575"));
    let charges = [Charged::Hosted, Charged::NotBilled, Charged::Unpriced { reason: "a".into() }];
    let tails = charges.map(|charged| {
        let tools_called = vec![];
        let (told, region_served) = (None, None);
        let end = AttemptEnd { charged, tools_called, told, region_served, ..attempt_end() };
        let bytes = body(&end);
        let at = bytes.windows(2).rposition(|pair| pair == [0x8a, 0x01]).unwrap();
        hex(bytes[at..at + 6].to_vec())
    });
    assert_eq!(tails, ["8a0101029201", "8a0101039201", "8a0103040161"]);
}

const ADMITTED: &str = "0a1001a2008d87887bababababababababab1100f24a91ef34ea18180120012a0a6770742d352d6d\
    696e6930800838014204666c657849efbeadde00000000500258e1216207737570706f7274680172\
    0b7469636b65742d343731317a067469636b657482010275318a01046361726592010903656e7604\
    70726f649201030178009a011401ac02010100000000000000ffffffffffffffffa2010673656172\
    6368a8014d";
const DISPATCHED: &str = "0a1001a2008d87887bababababababababab10011900f24a91ef34ea1820032a056c6f63616c3206\
    6f70656e61693a0f6770742d352d6d696e692d323032354064489693d89fee47";
const ATTEMPT_ENDED: &str = "0a1001a2008d87887bababababababababab10011900f24a91ef34ea182100f24a91ef34ea1829ff\
    ffffffffffffff3100f24a91ef34ea1838c80140014a10726174655f6c696d69745f6572726f7252\
    0a63686174636d706c2d315a0f6770742d352d6d696e692d32303235620764656661756c746a0473\
    746f7072077b2261223a317d788f4e8201067365617263688201067365617263688a012c01111111\
    11111111111111111111111111020101e80790a10f80cab5ee01010202e80790a10f80cab5ee0101\
    9201110201e8070fffffffffffffffff7f010203980101a0019080808008";
const ADJUSTED: &str = "0a1001a2008d87887bababababababababab10011900f24a91ef34ea1822066f70656e61692a056770\
    742d353210070707070707070707070707070707073a100808080808080808080808080808080840ff\
    dfd1bae801480a";
const GAP: &str = "0900f24a91ef34ea1811004a9289fd34ea18180c200d2880e0d1bae80130e7243a0466756c6c";
const SETTLED: &str = "0a1001a2008d87887bababababababababab1100f24a91ef34ea181801";
const ROW: &str = "0a1007070707070707070707070707070707120c6f70656e61692f6770742d35";
const HOURLY: &str = "1a056c6f63616c2080a0e5b9c291012900f24a91ef34ea18";

#[test]
fn facts_come_back_as_they_were() {
    let bare_admission = Admission {
        model_asked: None,
        max_tokens: None,
        choices: None,
        tier_asked: None,
        caller: None,
        key: None,
        path: None,
        client_retry: None,
        labels: Labels {
            route: String::new(),
            route_source: RouteSource::Derived,
            task: None,
            task_type: None,
            user: None,
            team: None,
            tags: vec![],
        },
        prompt: PromptShape::default(),
        ..admission()
    };
    let bare_end = AttemptEnd {
        first_byte_at: None,
        first_token_at: None,
        last_token_at: None,
        status: None,
        error: None,
        response_id: None,
        model_served: None,
        tier_served: None,
        region_served: None,
        finish_reason: None,
        metered: Metered::unknown(),
        raw_usage: None,
        tools_called: vec![],
        charged: Charged::Unpriced { reason: "no row".to_owned() },
        told: None,
        ..attempt_end()
    };
    let ends = PriceRecord::PerHour { upstream: "local".to_owned(), cost: None, from: now() };
    let bodies = [
        Body::Admitted(admission()),
        Body::Admitted(bare_admission),
        Body::Dispatched(dispatch()),
        Body::Dispatched(Dispatch {
            provider: None,
            model: None,
            region: None,
            bound: None,
            ..dispatch()
        }),
        Body::AttemptEnded(attempt_end()),
        Body::AttemptEnded(bare_end),
        Body::AttemptEnded(AttemptEnd { charged: Charged::Hosted, ..attempt_end() }),
        Body::AttemptEnded(AttemptEnd { charged: Charged::NotBilled, ..attempt_end() }),
        Body::AttemptEnded(AttemptEnd { told: Some(ToldCost::Refused), ..attempt_end() }),
        Body::Settled(settlement()),
        Body::Adjusted(adjustment()),
        Body::Adjusted(Adjustment { from: None, ..adjustment() }),
        Body::Gap(gap()),
        Body::Gap(Gap { cost: None, tokens: None, ..gap() }),
        Body::Price(row()),
        Body::Price(hourly()),
        Body::Price(ends),
    ];
    let mut batch = Batch::new();
    bodies.iter().for_each(|body| batch.push(body).unwrap());
    let records = round_trip(&mut batch).unwrap();
    for (index, (record, body)) in records.iter().zip(&bodies).enumerate() {
        assert_eq!((&record.body, record.sequence), (body, index as u64 + 1));
        assert!(record.unknown.is_empty());
    }
    assert_eq!(records.len(), bodies.len());
}

#[test]
fn a_record_outside_of_a_journal_is_whole_or_none() {
    let sealed = Record::seal(&gap()).unwrap();
    assert_eq!(Record::unseal(&sealed).unwrap().body, Body::Gap(gap()));
    for at in 0..sealed.len() {
        assert_eq!(Record::unseal(&sealed[..at]), None);
        let mut changed = sealed.clone();
        changed[at] ^= 1;
        assert_eq!(Record::unseal(&changed), None);
    }
}

#[test]
fn unknown_fields_kinds_and_versions_are_kept() {
    // Field 1000 as bytes, then field 1001 as a varint.
    let newer = [0xc2, 0x3e, 2, b'h', b'i', 0xc8, 0x3e, 0x96, 1];
    let mut bytes = newer[..5].to_vec();
    bytes.extend_from_slice(&body(&settlement()));
    bytes.extend_from_slice(&newer[5..]);
    let record = round_trip_raw(4, 1, &bytes).unwrap();
    assert_eq!(record.body, Body::Settled(settlement()));
    assert_eq!(record.unknown, newer);

    let unknown = [(7, 1), (9, 1), (250, 7), (4, 2)].map(|(kind, version)| {
        let unknown = round_trip_raw(kind, version, b"anything").unwrap();
        let bytes = b"anything".to_vec();
        assert_eq!(unknown.body, Body::Unknown { kind, version, flags: 0, bytes });
        unknown
    });
    let mut again = Batch::new();
    again.push(&record).unwrap();
    unknown.iter().for_each(|record| again.push(record).unwrap());
    let again = round_trip(&mut again).unwrap();
    assert_eq!(again[0], record);
    assert_eq!(
        again[1..].iter().map(|r| &r.body).collect::<Vec<_>>(),
        unknown.each_ref().map(|r| &r.body)
    );
}

#[test]
fn what_a_body_lacks_or_has_wrong_is_named() {
    let whole = body(&settlement());
    let verdict = whole.len() - 2;
    let cases: [(Vec<u8>, &str); 6] = [
        (whole[..verdict].to_vec(), "record 1 of writer 1122334455667788, field 3: is missing"),
        (
            [&whole[..verdict], &[0x18, 99]].concat(),
            "field 3: has a number that this version does not know",
        ),
        ([&whole[..verdict], &[0x19, 1, 0, 0, 0, 0, 0, 0, 0]].concat(), "field 3: is no varint"),
        (whole[..verdict - 1].to_vec(), "field 0: ends in mid-value"),
        ([&whole[..], &[0x1f]].concat(), "field 0: has an unknown wire type"),
        ([&[0x0a, 15][..], &whole[2..17], &whole[18..]].concat(), "field 1: is no 16 bytes"),
    ];
    for (bytes, expected) in cases {
        let error = round_trip_raw(4, 1, &bytes).unwrap_err().to_string();
        assert!(error.ends_with(expected), "{error} for {expected}");
    }
}

fn any_charged() -> impl Strategy<Value = Charged> {
    let line =
        (any::<u32>(), any::<u32>(), any::<i128>()).prop_map(|(count, price, money)| ChargeLine {
            item: Billable::Tokens(TokenClass::Reasoning),
            count: TokenCount::from(count),
            price: UnitPrice::from_pico(u64::from(price)).unwrap(),
            list: Money::from_pico(money),
            contracted: Money::from_pico(!money),
        });
    prop_oneof![
        (any::<[u8; 16]>(), prop::collection::vec(line, 0..4))
            .prop_map(|(row, lines)| Charged::Priced { row: PriceRowId::from_bytes(row), lines }),
        any::<String>().prop_map(|reason| Charged::Unpriced { reason }),
        Just(Charged::Hosted),
    ]
}

proptest! {
    #[test]
    fn any_attempt_end_comes_back(
        id in any::<[u8; 16]>(),
        times in any::<[Option<i64>; 3]>(),
        texts in any::<[Option<String>; 3]>(),
        tokens in any::<[u32; 15]>(),
        doubts in any::<u32>(),
        tools_called in any::<Vec<String>>(),
        charged in any_charged(),
        told in prop::option::of(prop::option::of(any::<i128>())),
    ) {
        let mut usage = Usage::default();
        for (class, count) in TokenClass::ALL.iter().zip(tokens) {
            usage.tokens[*class] = TokenCount::from(count);
        }
        let [first_byte_at, first_token_at, last_token_at] =
            times.map(|at| at.map(UnixTime::from_nanos));
        let [error, finish_reason, raw_usage] = texts;
        let doubts = Doubts::from_bits(doubts);
        let end = AttemptEnd {
            exchange: ExchangeId::from_bytes(id),
            first_byte_at, first_token_at, last_token_at, error, finish_reason, raw_usage,
            metered: Metered { usage, source: UsageSource::Partial, doubts },
            tools_called, charged,
            told: told.map(|told| {
                told.map_or(ToldCost::Refused, |told| ToldCost::Of(Money::from_pico(told)))
            }),
            ..attempt_end()
        };
        let mut batch = Batch::new();
        batch.push(&end).unwrap();
        let record = round_trip(&mut batch).unwrap().remove(0);
        prop_assert_eq!(record.body, Body::AttemptEnded(end));
    }

    #[test]
    fn no_body_panics_the_decoder(
        kind in 0_u8..10,
        bytes in prop::collection::vec(any::<u8>(), 0..60),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        drop(round_trip_raw(kind, 1, &bytes));
        // Nearly sound bodies reach further into the decoder.
        for (kind, mut body) in [(1, body(&admission())), (3, body(&attempt_end())), (8, body(&hourly()))] {
            for (index, byte) in &flips {
                let index = index.index(body.len());
                body[index] = *byte;
            }
            // What decodes is encoded to something that decodes to the same.
            if let Ok(record) = round_trip_raw(kind, 1, &body) {
                let mut again = Batch::new();
                again.push(&record).unwrap();
                let again = round_trip(&mut again).unwrap().remove(0);
                prop_assert_eq!(again.body, record.body);
            }
        }
    }
}
