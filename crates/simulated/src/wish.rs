//! What a request wishes the model to do.

use std::collections::BTreeMap;

use quantity::Money;
use workload::Fault;

/// Wishes of one request; `None` is left to the model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Wish {
    /// Output tokens, calls of tools included.
    pub(crate) output: Option<u64>,
    pub(crate) reasoning: Option<u64>,
    pub(crate) tools: Option<u64>,
    pub(crate) fault: Option<Fault>,
    /// What OpenAI's dialects are to tell that it cost, as resellers do.
    pub(crate) cost: Option<Money>,
}

/// More of anything is a mistake in the request; it bounds the work one request can ask for.
const MOST: u64 = 200_000;
const MOST_TOOLS: u64 = 128;

/// Where the wishes of a text begin and end.
const OPEN: &str = "[[sim ";
const CLOSE: &str = "]]";

impl Wish {
    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let count = |most: u64| match value.parse() {
            Ok(count) if count <= most => Ok(Some(count)),
            _ => Err(format!("invalid wish `{name}`: expected a number up to {most}")),
        };
        match name {
            "output" => self.output = count(MOST)?,
            "reasoning" => self.reasoning = count(MOST)?,
            "tools" => self.tools = count(MOST_TOOLS)?,
            "fault" => self.fault = Some(value.parse().map_err(|error| format!("{error}"))?),
            "cost" => self.cost = Some(value.parse().map_err(|error| format!("{error}"))?),
            _ => {
                return Err(format!(
                    "unknown wish `{name}`: expected output, reasoning, tools, fault or cost"
                ));
            }
        }
        Ok(())
    }

    /// The wishes in the last user message, if it has any.
    pub(crate) fn read_text(&mut self, text: &str) -> Result<(), String> {
        let Some((_, rest)) = text.split_once(OPEN) else { return Ok(()) };
        let Some((wishes, _)) = rest.split_once(CLOSE) else { return Ok(()) };
        for wish in wishes.split_ascii_whitespace() {
            let (name, value) =
                wish.split_once('=').ok_or_else(|| format!("wish `{wish}` has no value"))?;
            self.set(name, value)?;
        }
        Ok(())
    }

    /// The wishes in a request's metadata; keys that are not ours are left alone.
    pub(crate) fn read_metadata(
        &mut self,
        metadata: &BTreeMap<String, serde_json::Value>,
    ) -> Result<(), String> {
        for (key, name) in [
            ("sim_output_tokens", "output"),
            ("sim_reasoning_tokens", "reasoning"),
            ("sim_tool_calls", "tools"),
            ("sim_fault", "fault"),
            ("sim_cost", "cost"),
        ] {
            match metadata.get(key) {
                None => {}
                Some(serde_json::Value::String(text)) => self.set(name, text)?,
                Some(other) => self.set(name, &other.to_string())?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_are_read_from_text_and_metadata() {
        let mut wish = Wish::default();
        wish.read_text(
            "please [[sim output=120 reasoning=64 tools=1 fault=cut:20 cost=0.0042]] thanks",
        )
        .unwrap();
        let expected = Wish {
            output: Some(120),
            reasoning: Some(64),
            tools: Some(1),
            fault: Some(Fault::Cut(20)),
            cost: Some(Money::from_pico(4_200_000_000)),
        };
        assert_eq!(wish, expected);
        let metadata = serde_json::from_str(
            r#"{"sim_output_tokens":"120","sim_reasoning_tokens":64,"sim_tool_calls":"1","sim_fault":"cut:20","sim_cost":"0.0042","user_id":"u"}"#,
        );
        let mut same = Wish::default();
        same.read_metadata(&metadata.unwrap()).unwrap();
        assert_eq!(same, expected);
    }

    #[test]
    fn a_wrong_wish_is_an_error_and_no_wish_is_none() {
        for wrong in [
            "[[sim output=x]]",
            "[[sim output]]",
            "[[sim boom=1]]",
            "[[sim output=999999]]",
            "[[sim cost=$1]]",
        ] {
            assert!(Wish::default().read_text(wrong).is_err(), "{wrong}");
        }
        let mut wish = Wish::default();
        wish.read_text("nothing [[sim output=4").unwrap();
        assert_eq!(wish, Wish::default());
    }
}
