//! Keys of ours that an upstream repeats in an error are blotted out before the client sees them.

use bytes::Bytes;
use hyper::HeaderMap;
use hyper::header::HeaderValue;

/// A shorter key is no secret: servers of one's own take any word for one.
const SHORTEST: usize = 8;

/// Blots a key out of what passes, however that is cut: every byte of it becomes `*`.
pub(crate) struct Blotter {
    /// The key as it may be written, the longest form first.
    forms: Vec<Vec<u8>>,
    /// The end of what came, in which a form may have begun.
    held: Vec<u8>,
}

impl Blotter {
    /// For a key; `None` if it is no secret.
    pub(crate) fn of(key: &str) -> Option<Self> {
        if key.len() < SHORTEST {
            return None;
        }
        let quoted = serde_json::Value::from(key).to_string();
        let json = quoted[1..quoted.len() - 1].to_owned();
        let percent = |upper: bool| -> String {
            let one = |byte: u8| match (byte, upper) {
                (b'-' | b'.' | b'_' | b'~', _) => char::from(byte).to_string(),
                (byte, _) if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
                (byte, true) => format!("%{byte:02X}"),
                (byte, false) => format!("%{byte:02x}"),
            };
            key.bytes().map(one).collect()
        };
        let slashes = json.replace('/', "\\/");
        let forms = [key.to_owned(), json, slashes, percent(true), percent(false)];
        let mut forms = forms.map(String::into_bytes).to_vec();
        forms.sort_by(|a, b| b.len().cmp(&a.len()).then(a.cmp(b)));
        forms.dedup();
        Some(Self { forms, held: Vec::new() })
    }

    /// Takes bytes, and gives those in which no key can have begun.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Bytes {
        self.held.extend_from_slice(bytes);
        blot(&self.forms, &mut self.held);
        let held = self.forms[0].len() - 1;
        let sure = self.held.len().saturating_sub(held);
        Bytes::from(self.held.drain(..sure).collect::<Vec<u8>>())
    }

    /// What was held, once nothing follows.
    pub(crate) fn finish(&mut self) -> Bytes {
        Bytes::from(std::mem::take(&mut self.held))
    }

    /// Blots the values of headers.
    pub(crate) fn headers(&self, headers: &mut HeaderMap) {
        for value in headers.values_mut() {
            let mut bytes = value.as_bytes().to_vec();
            if blot(&self.forms, &mut bytes)
                && let Ok(blotted) = HeaderValue::from_bytes(&bytes)
            {
                *value = blotted;
            }
        }
    }
}

fn blot(forms: &[Vec<u8>], bytes: &mut [u8]) -> bool {
    let mut found = false;
    for form in forms {
        let mut from = 0;
        while let Some(at) = bytes[from..].windows(form.len()).position(|part| part == &form[..]) {
            found = true;
            from += at;
            bytes[from..from + form.len()].fill(b'*');
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(key: &str, text: &str, size: usize) -> String {
        let mut blotter = Blotter::of(key).unwrap();
        let mut out = Vec::new();
        for piece in text.as_bytes().chunks(size) {
            out.extend(blotter.push(piece));
        }
        out.extend(blotter.finish());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_key_is_blotted_out_in_every_form_and_however_it_is_cut() {
        let key = "sk-a/b\"c+d";
        let text = r#"a sk-a/b"c+d b sk-a/b\"c+dsk-a/b\"c+d c sk-a\/b\"c+d d sk-a%2Fb%22c%2Bd sk-a%2fb%22c%2bd sk-a/b"c+"#;
        let blotted = r#"a ********** b ********************** c ************ d **************** **************** sk-a/b"c+"#;
        assert_eq!(text.len(), blotted.len());
        for size in 1..text.len() {
            assert_eq!(passed(key, text, size), blotted, "{size}");
        }
    }

    #[test]
    fn what_is_no_secret_passes() {
        assert!(Blotter::of("EMPTY").is_none() && Blotter::of("").is_none());
        let mut headers = HeaderMap::new();
        headers.insert("x-said", HeaderValue::from_static("no key"));
        headers.insert("x-told", HeaderValue::from_static("Bearer sk-kanarie"));
        Blotter::of("sk-kanarie").unwrap().headers(&mut headers);
        assert_eq!(headers["x-said"], "no key");
        assert_eq!(headers["x-told"], "Bearer **********");
    }
}
