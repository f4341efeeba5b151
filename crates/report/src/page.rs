//! One self-contained page: its style is in it, and it loads and runs nothing.

/// The look that all pages have in common.
pub const STYLE: &str = include_str!("page/base.css");

/// What the icon of a page is.
pub const ICON: &str = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Ccircle cx='8' cy='8' r='7' fill='%232c6e6a'/%3E%3Cpath d='M6 12V4h5M6 8h4' stroke='white' stroke-width='1.8' fill='none'/%3E%3C/svg%3E";

/// A text in which nothing is markup, also within quotes.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\'' => out += "&#39;",
            letter if letter.is_control() && letter != '\n' => out.push('\u{fffd}'),
            letter => out.push(letter),
        }
    }
    out
}

/// A page with a title, what it is about in a line, and a body of HTML.
#[must_use]
pub fn page(title: &str, about: &str, body: &str) -> String {
    format!(
        r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="content-security-policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'">
<title>{title}</title>
<link rel="icon" href="{ICON}">
<style>
{STYLE}{plots}</style>
</head>
<body>
<header>
  <h1>Farthing</h1>
  <p>{about}</p>
</header>
<main>
{body}</main>
</body>
</html>
"#,
        title = escape(title),
        about = escape(about),
        plots = include_str!("page/plot.css"),
    )
}

/// A section under a heading; its body is HTML.
#[must_use]
pub fn section(title: &str, body: &str) -> String {
    format!("<section>\n<h2>{}</h2>\n{body}</section>\n", escape(title))
}

/// Figures in large type: name, value, unit and note of each.
#[must_use]
pub fn tiles(tiles: &[[String; 4]]) -> String {
    let each = tiles.iter().map(|tile| {
        let [name, value, unit, note] = tile.each_ref().map(|text| escape(text));
        format!(
            r#"<div class="tile"><dt>{name}</dt><dd class="value">{value}</dd><dd class="unit">{unit}</dd><dd class="note">{note}</dd></div>
"#
        )
    });
    format!("<dl class=\"tiles\">\n{}</dl>\n", each.collect::<String>())
}

/// A paragraph of words.
#[must_use]
pub fn words(text: &str) -> String {
    format!("<p class=\"words\">{}</p>\n", escape(text))
}

/// Shares of a whole as one bar: the class of the page's colours, the share from 0 to 1, and what it is.
#[must_use]
pub fn whole_bar(parts: &[(&str, f64, String)]) -> String {
    let each = parts.iter().filter(|(_, share, _)| *share > 0.0).map(|(class, share, name)| {
        format!(
            r#"<span class="{class}" style="width:{:.3}%" title="{}"></span>"#,
            share * 100.0,
            escape(name)
        )
    });
    let each: String = each.collect();
    let told: Vec<&str> = parts.iter().map(|(_, _, name)| name.as_str()).collect();
    let keys = parts.iter().map(|(class, _, name)| {
        format!(r#"<span><i class="key {class}"></i>{}</span>"#, escape(name))
    });
    format!(
        "<div class=\"whole-bar\" role=\"img\" aria-label=\"{}\">{each}</div>\n<p class=\"legend\">{}</p>\n",
        escape(&told.join(", ")),
        keys.collect::<String>()
    )
}
