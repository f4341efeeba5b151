//! Requests: what is read, what is refused, what is spliced.

use super::*;

fn chat(body: &str) -> Result<Request, RequestError> {
    Request::read(Api::OpenAiChat, body.as_bytes(), &HashKey::new([7; 32]))
}

#[track_caller]
fn rewritten(body: &str, model: Option<&str>, expected: &str) {
    let out = chat(body).unwrap().rewrite(&Bytes::from(body.to_owned()), model, true);
    assert_eq!(std::str::from_utf8(&out).unwrap(), expected);
}

#[test]
fn splices_change_nothing_else() {
    rewritten(
        r#"{ "model" : "a", "stream":true ,"x":[1, 2.50]}"#,
        Some("b\"c"),
        r#"{ "model" : "b\"c", "stream":true,"stream_options":{"include_usage":true} ,"x":[1, 2.50]}"#,
    );
    rewritten(r#"{"model":"a","stream":false}"#, Some("a"), r#"{"model":"a","stream":false}"#);
    rewritten(
        r#"{"stream_options": {"include_obfuscation":false},"model":"a","stream":true}"#,
        None,
        r#"{"stream_options": {"include_usage":true,"include_obfuscation":false},"model":"a","stream":true}"#,
    );
    rewritten(
        r#"{"stream_options":{"include_usage" : false},"model":"a","stream":true}"#,
        None,
        r#"{"stream_options":{"include_usage" : true},"model":"a","stream":true}"#,
    );
    for options in ["{}", "null", "{ }"] {
        rewritten(
            &format!(r#"{{"model":"a","stream":true,"stream_options":{options}}}"#),
            None,
            r#"{"model":"a","stream":true,"stream_options":{"include_usage":true}}"#,
        );
    }
    rewritten(
        r#"{"stream_options":{"include_usage":null},"model":"a","stream":true}"#,
        None,
        r#"{"stream_options":{"include_usage":true},"model":"a","stream":true}"#,
    );
}

#[test]
fn a_client_that_asks_for_usage_keeps_its_chunk() {
    let asked = chat(r#"{"model":"a","stream":true,"stream_options":{"include_usage":true}}"#);
    let asked = asked.unwrap();
    assert!(asked.usage_asked && !asked.strips_usage(true));
    let silent = chat(r#"{"model":"a","stream":true}"#).unwrap();
    assert!(!silent.usage_asked && silent.strips_usage(true) && !silent.strips_usage(false));
}

#[test]
fn what_two_parsers_may_read_differently_is_refused() {
    use RequestError::{Disguised, Duplicate, Missing, NotJson, WrongType};
    let error = |body: &str| chat(body).unwrap_err();
    assert_eq!(error(r#"{"model":"a","model":"b"}"#), Duplicate("model".into()));
    assert_eq!(error(r#"{"mod\u0065l":"a"}"#), Disguised("model", "model".into()));
    assert_eq!(error(r#"{"model":"a","Stream":true}"#), Disguised("stream", "Stream".into()));
    assert_eq!(error(r#"{"stream":true}"#), Missing("model"));
    assert!(matches!(error(r#"{"model":7}"#), WrongType("model", ..)));
    assert!(matches!(error(r#"{"model":"a","stream":"true"}"#), WrongType("stream", ..)));
    let options = |o: &str| format!(r#"{{"model":"a","stream":true,"stream_options":{o}}}"#);
    let twice = options(r#"{"include_usage":true,"include_usage":false}"#);
    assert_eq!(error(&twice), Duplicate("include_usage".into()));
    let disguised = options(r#"{"include_usag\u0065":true}"#);
    assert!(matches!(error(&disguised), Disguised("include_usage", _)));
    assert!(matches!(error(&options("3")), WrongType("stream_options", ..)));
    for body in ["", "[]", "{", "{}x", "\u{feff}{}", r#"{"model":"a",}"#] {
        assert!(matches!(error(body), NotJson(_)), "{body}");
    }
}

#[test]
fn a_prompt_is_described_without_its_words() {
    let key = HashKey::new([7; 32]);
    let read = |body: &str| Request::read(Api::AnthropicMessages, body.as_bytes(), &key).unwrap();
    let first = read(
        r#"{"model":"c","max_tokens":9,"system":"be kind","metadata":{"user_id":"u1"},
            "tools":[{"name":"search","input_schema":{}}],
            "messages":[{"role":"user","content":"hello"}]}"#,
    );
    let second = read(
        r#"{"model":"c","max_tokens":9,"system":[{"type":"text","text":"be kind",
            "cache_control":{"type":"ephemeral"}}],"tools":[{"name":"search","input_schema":{}}],
            "messages":[{"role":"user","content":[{"type":"text","text":"hello"}]},
            {"role":"assistant","content":"hi"},
            {"role":"user","content":[{"type":"image","source":{"data":"AAAA"}}]}]}"#,
    );
    let (a, b) = (&first.prompt.messages, &second.prompt.messages);
    assert_eq!(a[..], b[..2], "a turn more keeps the prefix");
    assert_eq!((b[3].text_bytes, b[3].media), (0, 1));
    assert_eq!(first.prompt.tools, ["search"]);
    assert_eq!(first.user.as_deref(), Some("u1"));
    assert_eq!(first.derived_route, second.derived_route);
    assert!(first.derived_route.as_deref().unwrap().starts_with("auto-"));
    assert!(!format!("{first:?}").contains("kind"));
}

#[test]
fn a_refusal_quotes_nothing_of_the_prompt() {
    for body in [r#""a secret prompt""#, r#"{"a secret prompt"}"#, "a secret prompt"] {
        let error = chat(body).unwrap_err().to_string();
        assert!(!error.contains("secret"), "{error}");
    }
}

#[test]
fn deep_nesting_is_read_or_passed_over() {
    let deep = |open: &str, close: &str| open.repeat(50_000) + "1" + &close.repeat(50_000);
    let part = deep(r#"[{"type":"tool_result","content":"#, "}]");
    for value in [deep("[", "]"), deep(r#"{"a":"#, "}"), part] {
        let message = format!(r#"{{"role":"user","content":{value}}}"#);
        let body = format!(r#"{{"model":"a","messages":[{message}],"tools":{value}}}"#);
        let request = chat(&body).unwrap();
        assert_eq!(request.prompt.messages.len(), 1);
        assert_eq!(request.rewrite(&Bytes::from(body.clone()), None, false), body);
    }
}

#[test]
fn token_ids_are_told_apart_and_counted() {
    let key = HashKey::new([7; 32]);
    let read = |input: &str| {
        let body = format!(r#"{{"model":"e","input":{input}}}"#);
        let request = Request::read(Api::OpenAiEmbeddings, body.as_bytes(), &key).unwrap();
        (request.prompt.messages[0].content, request.input_estimate())
    };
    let (one, other) = (read("[1200,34,5]"), read("[1200,34,6]"));
    assert_ne!(one.0, other.0);
    assert_eq!(one.1, TokenCount::from(2));
    assert_ne!(read("[[1],[2]]").0, read("[[1],[3]]").0);
}

#[test]
fn metadata_labels_are_read() {
    let body = r#"{"model":"a","metadata":{"farthing_route":"chat","farthing_x":7,"other":"y"}}"#;
    assert_eq!(chat(body).unwrap().metadata, [("route".to_owned(), "chat".to_owned())]);
}

fn read_at(api: Api, path: &str, body: &str) -> Result<Request, RequestError> {
    Request::read_at(api, path, body.as_bytes(), &HashKey::new([7; 32]))
}

#[test]
fn responses_are_described_like_chat_and_what_cannot_be_metered_is_refused() {
    let read = |body: &str| read_at(Api::OpenAiResponses, "/responses", body);
    let tools = r#""tools":[{"type":"function","name":"search","parameters":{}}]"#;
    let asked = read(&format!(
        r#"{{"model":"m","instructions":"be kind","max_output_tokens":9,"stream":true,{tools},
            "service_tier":"flex","metadata":{{"farthing_task":"t-1"}},"input":[
            {{"role":"user","content":[{{"type":"input_text","text":"hello"}},{{"type":"input_image","image_url":"x"}}]}},
            {{"type":"function_call","call_id":"c","name":"search","arguments":"{{}}"}},
            {{"type":"function_call_output","call_id":"c","output":"found"}}]}}"#
    ))
    .unwrap();
    use facts::Role::{Assistant, System, Tool, User};
    let roles: Vec<_> = asked.prompt.messages.iter().map(|message| message.role).collect();
    assert_eq!(roles, [System, User, Assistant, Tool]);
    let said: Vec<_> = asked.prompt.messages.iter().map(|message| message.text_bytes).collect();
    assert_eq!((said[0], said[1], said[3]), (7, 5, 5));
    assert_eq!(asked.prompt.messages[1].media, 1);
    assert_eq!(asked.prompt.tools, ["search"]);
    assert_eq!((asked.max_tokens, asked.stream), (Some(TokenCount::from(9)), true));
    assert_eq!((asked.tier.as_deref(), asked.bounded), (Some("flex"), true));
    assert_eq!(asked.metadata, [("task".to_owned(), "t-1".to_owned())]);
    let chat =
        format!(r#"{{"model":"m",{tools},"messages":[{{"role":"system","content":"be kind"}}]}}"#);
    assert_eq!(asked.derived_route, self::chat(&chat).unwrap().derived_route);
    let plain = read(r#"{"model":"m","input":"hello"}"#).unwrap();
    assert_eq!(plain.prompt.messages[0].content, {
        let list = r#"{"model":"m","input":[{"role":"user","content":"hello"}]}"#;
        read(list).unwrap().prompt.messages[0].content
    });
    assert!(matches!(read(r#"{"model":"m","background":true}"#), Err(RequestError::Unmetered(_))));
    assert!(read(r#"{"model":"m","background":false}"#).is_ok());
    assert!(matches!(
        read(r#"{"model":"m","background":1}"#),
        Err(RequestError::WrongType("background", ..))
    ));
    for adds in [
        r#""previous_response_id":"resp_1""#,
        r#""conversation":"conv_1""#,
        r#""prompt":{"id":"p"}"#,
        r#""tools":[{"type":"web_search"}]"#,
        r#""input":[{"type":"item_reference","id":"i"}]"#,
    ] {
        assert!(!read(&format!(r#"{{"model":"m",{adds}}}"#)).unwrap().bounded, "{adds}");
    }
}

#[test]
fn completions_count_a_choice_for_each_prompt_and_ask_for_usage() {
    let read = |body: &str| read_at(Api::OpenAiCompletions, "/completions", body).unwrap();
    let asked = read(r#"{"model":"m","prompt":["one","other"],"n":3,"stream":true}"#);
    assert_eq!((asked.choices, asked.strips_usage(true)), (Some(6), true));
    assert_eq!(read(r#"{"model":"m","prompt":[[1,2],[3]]}"#).choices, Some(2));
    for one in [r#""one""#, r#"["one"]"#, "[1,2,3]"] {
        assert_eq!(read(&format!(r#"{{"model":"m","prompt":{one}}}"#)).choices, None, "{one}");
    }
    assert!(!read(r#"{"model":"m","prompt":"x","best_of":9}"#).bounded);
}

#[test]
fn gemini_names_its_model_in_the_path_and_its_fields_in_two_ways() {
    const PATH: &str = "/models/gemini-3:streamGenerateContent";
    let read = |body: &str| read_at(Api::GeminiGenerate, PATH, body);
    let camel = read(
        r#"{"systemInstruction":{"parts":[{"text":"be kind"}]},"serviceTier":"flex",
            "generationConfig":{"maxOutputTokens":9,"candidateCount":2},
            "tools":[{"functionDeclarations":[{"name":"search"}]}],
            "contents":[{"role":"user","parts":[{"text":"hello"},{"inlineData":{"data":"AAAA"}}]},
                {"role":"model","parts":[{"functionCall":{"name":"search","args":{}}}]},
                {"role":"user","parts":[{"functionResponse":{"name":"search","response":{}}}]}]}"#,
    )
    .unwrap();
    let snake = read(
        r#"{"system_instruction":{"parts":[{"text":"be kind"}]},"service_tier":"flex",
            "generation_config":{"max_output_tokens":9,"candidate_count":2},
            "tools":[{"function_declarations":[{"name":"search"}]}],
            "contents":[{"parts":[{"text":"hello"},{"inlineData":{"data":"AAAA"}}]},
                {"role":"model","parts":[{"functionCall":{"name":"search","args":{}}}]},
                {"role":"user","parts":[{"functionResponse":{"name":"search","response":{}}}]}]}"#,
    )
    .unwrap();
    use facts::Role::{Assistant, System, Tool, User};
    for asked in [&camel, &snake] {
        assert_eq!((asked.model.as_deref(), asked.stream), (Some("gemini-3"), true));
        assert_eq!((asked.max_tokens, asked.choices), (Some(TokenCount::from(9)), Some(2)));
        assert_eq!((asked.tier.as_deref(), asked.bounded), (Some("flex"), true));
        assert_eq!(asked.prompt.tools, ["search"]);
        let roles: Vec<_> = asked.prompt.messages.iter().map(|message| message.role).collect();
        assert_eq!(roles, [System, User, Assistant, Tool]);
        assert_eq!(asked.prompt.messages[1].media, 1);
    }
    assert_eq!(camel.derived_route, snake.derived_route);
    assert_eq!(camel.prompt.messages, snake.prompt.messages);

    use RequestError::{Disguised, Duplicate, WrongType};
    let twice = r#"{"generationConfig":{"maxOutputTokens":1,"max_output_tokens":9}}"#;
    assert_eq!(read(twice).unwrap_err(), Duplicate("max_output_tokens".into()));
    let twice = r#"{"cachedContent":"a","cached_content":"b"}"#;
    assert_eq!(read(twice).unwrap_err(), Duplicate("cached_content".into()));
    let odd = read(r#"{"GenerationConfig":{}}"#).unwrap_err();
    assert_eq!(odd, Disguised("generationConfig", "GenerationConfig".into()));
    let config = read(r#"{"generationConfig":7}"#).unwrap_err();
    assert!(matches!(config, WrongType("generationConfig", ..)));
    assert!(matches!(read(r#"{"model":"models/other"}"#), Err(WrongType("model", ..))));
    for adds in [
        r#""cachedContent":"c""#,
        r#""tools":[{"googleSearch":{}}]"#,
        r#""generationConfig":{"responseModalities":["TEXT","IMAGE"]}"#,
    ] {
        assert!(!read(&format!("{{{adds}}}")).unwrap().bounded, "{adds}");
    }
}

#[test]
fn another_name_for_geminis_model_goes_into_the_path_and_only_there() {
    let path = "/models/alias:generateContent";
    let body = r#"{"contents":[]}"#;
    let asked = read_at(Api::GeminiGenerate, path, body).unwrap();
    assert_eq!(asked.rewrite(&Bytes::from_static(body.as_bytes()), Some("gemini-3"), true), body);
    let to = |model| asked.rewrite_path(path, model).into_owned();
    assert_eq!(to(None), path);
    assert_eq!(to(Some("alias")), path);
    assert_eq!(to(Some("gemini-3")), "/models/gemini-3:generateContent");
    assert_eq!(to(Some("a?b#c d:e")), "/models/a%3Fb%23c%20d%3Ae:generateContent");
    let body = r#"{"model": "models/alias", "contents":[]}"#;
    let asked = read_at(Api::GeminiGenerate, path, body).unwrap();
    let sent = asked.rewrite(&Bytes::from_static(body.as_bytes()), Some("gemini-3"), true);
    assert_eq!(sent, r#"{"model": "models/gemini-3", "contents":[]}"#);
    let chat = chat(r#"{"model":"a"}"#).unwrap();
    assert_eq!(chat.rewrite_path("/chat/completions", Some("b")), "/chat/completions");
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(body in proptest::collection::vec(0_u8..=255, 0..200)) {
        let _ = Request::read(Api::OpenAiChat, &body, &HashKey::new([7; 32]));
    }

    #[test]
    fn a_rewritten_body_says_the_same_but_for_what_was_spliced(
        before in "[a-z]{0,8}", stream: bool, spaces in "[ \n\t]{0,3}",
    ) {
        let body = format!(
            r#"{{"k":"{before}",{spaces}"model"{spaces}:{spaces}"a","stream":{spaces}{stream}{spaces}}}"#
        );
        let out = chat(&body).unwrap().rewrite(&Bytes::from(body.clone()), Some("b"), true);
        let mut out: serde_json::Value = serde_json::from_slice(&out).unwrap();
        let mut expected: serde_json::Value = serde_json::from_str(&body).unwrap();
        expected["model"] = "b".into();
        if stream {
            let options = out.as_object_mut().unwrap().remove("stream_options").unwrap();
            proptest::prop_assert_eq!(options, serde_json::json!({"include_usage": true}));
        }
        proptest::prop_assert_eq!(out, expected);
    }
}
