//! OpenAI's `/v1/embeddings`: vectors that depend on nothing but the text.

use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use workload::{Fault, Random};

use crate::refusal::Refusal;
use crate::wish::Wish;
use crate::words;

/// Short, unless `dimensions` asks for more: nobody looks for neighbours here.
const DIMENSIONS: usize = 16;
const MOST_DIMENSIONS: usize = 4_096;
const MOST_INPUTS: usize = 2_048;

#[derive(Deserialize)]
struct Embeddings<'a> {
    model: String,
    #[serde(borrow)]
    input: &'a RawValue,
    dimensions: Option<usize>,
    encoding_format: Option<String>,
    metadata: Option<std::collections::BTreeMap<String, serde_json::Value>>,
}

/// One text or several; a list of numbers is a text in tokens.
#[derive(Deserialize)]
#[serde(untagged)]
enum Input {
    Text(String),
    Texts(Vec<String>),
    Tokens(Vec<u32>),
    ManyTokens(Vec<Vec<u32>>),
}

/// An answer that is ready.
pub(crate) struct Embedded {
    pub(crate) tokens: u64,
    pub(crate) fault: Option<Fault>,
    pub(crate) identity: u64,
    pub(crate) body: String,
}

pub(crate) fn embed(body: &[u8]) -> Result<Embedded, Refusal> {
    let request: Embeddings<'_> = serde_json::from_slice(body)?;
    let dimensions = request.dimensions.unwrap_or(DIMENSIONS);
    if !(1..=MOST_DIMENSIONS).contains(&dimensions) {
        return Err(Refusal::invalid(format!("`dimensions` must be 1 to {MOST_DIMENSIONS}")));
    }
    let base64 = match request.encoding_format.as_deref() {
        None | Some("float") => false,
        Some("base64") => true,
        Some(_) => return Err(Refusal::invalid("`encoding_format` must be float or base64")),
    };
    let mut wish = Wish::default();
    if let Some(metadata) = &request.metadata {
        wish.read_metadata(metadata).map_err(Refusal::invalid)?;
    }
    let seeded = |text: &[u8]| {
        let hash = blake3::hash(text);
        u64::from_le_bytes(hash.as_bytes()[..8].try_into().expect("the start of a hash"))
    };
    let in_tokens = |tokens: &[u32]| {
        let bytes: Vec<u8> = tokens.iter().flat_map(|token| token.to_le_bytes()).collect();
        (seeded(&bytes), tokens.len() as u64)
    };
    let in_text = |text: &str| (seeded(text.as_bytes()), words::count(text.len()));
    let input: Input = serde_json::from_str(request.input.get())
        .map_err(|_| Refusal::invalid("`input` must be a text, a list of texts, or tokens"))?;
    let texts: Vec<(u64, u64)> = match &input {
        Input::Text(text) => vec![in_text(text)],
        Input::Texts(texts) => texts.iter().map(|text| in_text(text)).collect(),
        Input::Tokens(tokens) => vec![in_tokens(tokens)],
        Input::ManyTokens(texts) => texts.iter().map(|tokens| in_tokens(tokens)).collect(),
    };
    if texts.is_empty() || texts.len() > MOST_INPUTS {
        return Err(Refusal::invalid(format!("`input` must hold 1 to {MOST_INPUTS} texts")));
    }
    let data: Vec<_> = texts
        .iter()
        .enumerate()
        .map(|(index, &(seed, _))| {
            let vector = vector(seed, dimensions);
            let embedding = if base64 {
                let bytes: Vec<u8> = vector.iter().flat_map(|value| value.to_le_bytes()).collect();
                json!(encode_base64(&bytes))
            } else {
                json!(vector)
            };
            json!({"object": "embedding", "index": index, "embedding": embedding})
        })
        .collect();
    let tokens: u64 = texts.iter().map(|&(_, tokens)| tokens).sum();
    let mut body = json!({"object": "list", "data": data, "model": request.model});
    if wish.fault != Some(Fault::NoUsage) {
        body["usage"] = json!({"prompt_tokens": tokens, "total_tokens": tokens});
    }
    let identity = seeded(request.input.get().as_bytes());
    Ok(Embedded { tokens, fault: wish.fault, identity, body: body.to_string() })
}

/// Of length one.
fn vector(seed: u64, dimensions: usize) -> Vec<f32> {
    let mut random = Random::new(seed);
    let values: Vec<f64> = (0..dimensions).map(|_| random.unit() - 0.5).collect();
    let length = values.iter().map(|value| value * value).sum::<f64>().sqrt();
    #[expect(clippy::cast_possible_truncation, reason = "embeddings are single precision")]
    values.iter().map(|value| (value / length) as f32).collect()
}

fn encode_base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            if digit > group.len() {
                text.push('=');
            } else {
                text.push(char::from(DIGITS[(bits >> (18 - 6 * digit) & 63) as usize]));
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_padded() {
        let encoded = ["", "f", "fo", "foo", "foob"].map(|text| encode_base64(text.as_bytes()));
        assert_eq!(encoded, ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg=="]);
    }

    #[test]
    fn every_input_has_a_vector_and_its_tokens_are_counted() {
        let embedded = embed(br#"{"model":"e","input":["abcd","abcde"]}"#).unwrap();
        let body: serde_json::Value = serde_json::from_str(&embedded.body).unwrap();
        assert_eq!((embedded.tokens, &body["usage"]["prompt_tokens"]), (3, &json!(3)));
        assert_eq!(body["data"][1]["embedding"].as_array().unwrap().len(), DIMENSIONS);
        assert_eq!(embed(br#"{"model":"e","input":[1,2,3]}"#).unwrap().tokens, 3);
        for wrong in
            [r#"{"model":"e"}"#, r#"{"model":"e","input":[]}"#, r#"{"model":"e","input":{}}"#]
        {
            assert!(embed(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
