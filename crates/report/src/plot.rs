//! Plots with axes, as self-contained HTML: lines in an SVG that stretches to any width, and text beside
//! it that does not. No script; colours are those of the page.

use crate::page::escape;

/// How values become places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// Equal differences are equally far apart; begins at 0.
    Linear,
    /// Equal ratios are; what is not positive is left out.
    Log,
}

/// An axis.
#[derive(Debug, Clone)]
pub struct Axis {
    /// What it shows, with its unit.
    pub label: String,
    /// How values become places.
    pub scale: Scale,
    /// Goes at least up to here.
    pub at_least: f64,
    /// A linear one begins here, or a little below.
    pub from: f64,
}

impl Axis {
    /// From 0 up to what is shown.
    #[must_use]
    pub fn linear(label: impl Into<String>) -> Self {
        Self { label: label.into(), scale: Scale::Linear, at_least: 0.0, from: 0.0 }
    }

    /// In powers of ten.
    #[must_use]
    pub fn log(label: impl Into<String>) -> Self {
        Self { scale: Scale::Log, ..Self::linear(label) }
    }

    /// From there on rather than from 0.
    #[must_use]
    pub fn beginning_at(self, from: f64) -> Self {
        Self { from, ..self }
    }

    /// Up to there at least.
    #[must_use]
    pub fn up_to(self, at_least: f64) -> Self {
        Self { at_least, ..self }
    }
}

/// How a series is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A line with a dot at each value.
    Line,
    /// A line alone.
    Trace,
    /// All below it is filled.
    Area,
    /// Its values go around what is filled. It has no name in the legend.
    Band,
    /// Dots with the name beside them rather than in the legend.
    Named,
}

/// Values that belong together, in the order of their first parts.
#[derive(Debug, Clone)]
pub struct Series {
    /// What the legend calls it.
    pub name: String,
    /// Which of the page's colours of series it has, from 1 to 4.
    pub colour: u8,
    /// How it is drawn.
    pub kind: Kind,
    /// What it shows.
    pub points: Vec<(f64, f64)>,
}

/// A line across the plot that says what lies on it.
#[derive(Debug, Clone)]
pub struct Mark {
    /// What it is.
    pub name: String,
    /// Where it is.
    pub at: f64,
    /// Whether it stands up at a place of the first axis, or lies at one of the second.
    pub upright: bool,
}

/// A plot of some series.
#[derive(Debug, Clone)]
pub struct Plot {
    /// What it shows.
    pub title: String,
    /// To the right.
    pub x: Axis,
    /// Up.
    pub y: Axis,
    /// What is drawn.
    pub series: Vec<Series>,
    /// What is marked.
    pub marks: Vec<Mark>,
}

/// An axis with its ends.
#[derive(Debug, Clone, Copy)]
struct Range {
    scale: Scale,
    from: f64,
    to: f64,
}

/// Pixels of a plot on a wide page, and of a letter and a line of the names in it.
const WIDE: f64 = 880.0;
const HIGH: f64 = 250.0;
const LETTER: f64 = 7.0;
const LINE: f64 = 14.0;

/// Ticks on an axis, about.
const TICKS: f64 = 5.0;

impl Range {
    fn of(axis: &Axis, values: impl Iterator<Item = f64>, to_ticks: bool) -> Self {
        let (mut least, mut most) = (f64::INFINITY, axis.at_least);
        for value in values.filter(|value| value.is_finite()) {
            if axis.scale == Scale::Linear || value > 0.0 {
                (least, most) = (least.min(value), most.max(value));
            }
        }
        match axis.scale {
            Scale::Linear => {
                let most = if most > axis.from { most } else { axis.from + 1.0 };
                let step = nice((most - axis.from) / TICKS);
                let to = if to_ticks { (most / step - 1e-9).ceil() * step } else { most };
                Self { scale: axis.scale, from: (axis.from / step).floor() * step, to }
            }
            Scale::Log => {
                let most = if most > 0.0 { most } else { 1.0 };
                let least = if least.is_finite() { least } else { most };
                let from = log_tick(least, f64::floor);
                let to = log_tick(most, f64::ceil);
                let to = if to > from { to } else { from * 10.0 };
                Self { scale: axis.scale, from, to }
            }
        }
    }

    /// From 0 to 1; `None` for what is not on it.
    fn place(&self, value: f64) -> Option<f64> {
        let place = match self.scale {
            Scale::Linear => (value - self.from) / (self.to - self.from),
            Scale::Log if value > 0.0 => (value / self.from).ln() / (self.to / self.from).ln(),
            Scale::Log => return None,
        };
        (place.is_finite() && (-1e-6..=1.0 + 1e-6).contains(&place)).then_some(place)
    }

    fn ticks(&self) -> Vec<f64> {
        match self.scale {
            Scale::Linear => {
                let step = nice((self.to - self.from) / TICKS);
                let mut ticks = Vec::new();
                let mut at = self.from;
                while at <= self.to * (1.0 + 1e-9) {
                    ticks.push(at);
                    at += step;
                }
                ticks
            }
            Scale::Log => {
                let decades = (self.to / self.from).log10();
                let parts: &[f64] = if decades > 3.1 { &[1.0] } else { &[1.0, 2.0, 5.0] };
                let mut decade = 10_f64.powf(self.from.log10().floor());
                let mut ticks = Vec::new();
                while decade <= self.to {
                    let all = parts.iter().map(|part| part * decade);
                    ticks.extend(all.filter(|tick| self.place(*tick).is_some()));
                    decade *= 10.0;
                }
                ticks
            }
        }
    }
}

/// 1, 2 or 5 times a power of ten that is not below a step.
fn nice(step: f64) -> f64 {
    let decade = 10_f64.powf(step.log10().floor());
    let parts = [1.0, 2.0, 5.0, 10.0].map(|part| part * decade);
    parts.into_iter().find(|nice| *nice >= step * (1.0 - 1e-9)).unwrap_or(step)
}

/// 1, 2 or 5 times a power of ten on one side of a value.
fn log_tick(value: f64, side: fn(f64) -> f64) -> f64 {
    let decade = 10_f64.powf(value.log10().floor());
    let within = value / decade;
    let up = side(1.5) > 1.5;
    let parts = [1.0, 2.0, 5.0, 10.0];
    let part = if up {
        parts.into_iter().find(|part| *part >= within * (1.0 - 1e-9))
    } else {
        parts.into_iter().rev().find(|part| *part <= within * (1.0 + 1e-9))
    };
    part.unwrap_or(1.0) * decade
}

/// A value of an axis in as many digits as it needs, thousands as `k`.
#[must_use]
pub fn short(value: f64) -> String {
    let (value, unit) = match value.abs() {
        large if large >= 1e9 => (value / 1e9, "G"),
        large if large >= 1e6 => (value / 1e6, "M"),
        large if large >= 1e4 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let places = match value.abs() {
        0.0 => 0,
        size if size < 0.001 => 6,
        size if size < 0.1 => 4,
        size if size < 10.0 => 2,
        size if size < 100.0 => 1,
        _ => 0,
    };
    let text = format!("{value:.places$}");
    let text =
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{unit}")
}

impl Plot {
    /// As a figure.
    #[must_use]
    pub fn html(&self) -> String {
        let points = || self.series.iter().flat_map(|series| series.points.iter().copied());
        let marks = |upright: bool| {
            let some = self.marks.iter().filter(move |mark| mark.upright == upright);
            some.map(|mark| mark.at)
        };
        let x = Range::of(&self.x, points().map(|(x, _)| x).chain(marks(true)), false);
        let y = Range::of(&self.y, points().map(|(_, y)| y).chain(marks(false)), true);
        let mut svg = String::new();
        let mut text = String::new();
        for tick in y.ticks() {
            let Some(up) = y.place(tick) else { continue };
            svg += &format!(r#"<path class="grid" d="M0 {0:.1}H1000"/>"#, 1000.0 - up * 1000.0);
            text += &format!(
                r#"<span class="tick y" style="bottom:{:.2}%">{}</span>"#,
                up * 100.0,
                short(tick)
            );
        }
        for tick in x.ticks() {
            let Some(right) = x.place(tick) else { continue };
            svg += &format!(r#"<path class="grid" d="M{:.1} 1000v-14"/>"#, right * 1000.0);
            text += &format!(
                r#"<span class="tick x" style="left:{:.2}%">{}</span>"#,
                right * 100.0,
                short(tick)
            );
        }
        for series in &self.series {
            svg += &self.drawn(series, x, y);
        }
        // The left end, the right end and the middle of names, in pixels of a wide page.
        let mut named: Vec<[f64; 3]> = Vec::new();
        for series in self.series.iter().filter(|series| series.kind == Kind::Named) {
            for (right, up) in &series.points {
                let (Some(right), Some(up)) = (x.place(*right), y.place(*up)) else { continue };
                let (side, at) = if right > 0.6 { ("right", 1.0 - right) } else { ("left", right) };
                let (dot, length) = (right * WIDE, series.name.chars().count() as f64 * LETTER);
                let ends = if side == "left" { [dot, dot + length] } else { [dot - length, dot] };
                let free = |lines: &f64| {
                    let middle = up * HIGH - lines * LINE;
                    named.iter().all(|[from, to, other]| {
                        ends[1] < *from || ends[0] > *to || (middle - other).abs() >= LINE
                    })
                };
                // A name that would lie on another goes below or above it.
                let lines = [0.0, 1.0, -1.0, 2.0, -2.0, 3.0].into_iter().find(free).unwrap_or(0.0);
                named.push([ends[0], ends[1], up * HIGH - lines * LINE]);
                text += &format!(
                    r#"<span class="note name" style="{side}:{:.2}%;bottom:calc({:.2}% - {}px)">{}</span>"#,
                    at * 100.0,
                    up * 100.0,
                    lines * LINE,
                    escape(&series.name)
                );
            }
        }
        for mark in &self.marks {
            let place = if mark.upright { x.place(mark.at) } else { y.place(mark.at) };
            let Some(place) = place else { continue };
            let name = escape(&mark.name);
            if mark.upright {
                svg += &format!(r#"<path class="mark" d="M{:.1} 0V1000"/>"#, place * 1000.0);
                let (side, at) = if place > 0.6 { ("right", 1.0 - place) } else { ("left", place) };
                text += &format!(
                    r#"<span class="note top" style="{side}:{:.2}%">{name}</span>"#,
                    at * 100.0
                );
            } else {
                svg +=
                    &format!(r#"<path class="mark" d="M0 {:.1}H1000"/>"#, 1000.0 - place * 1000.0);
                text += &format!(
                    r#"<span class="note side" style="bottom:{:.2}%">{name}</span>"#,
                    place * 100.0
                );
            }
        }
        let in_legend =
            self.series.iter().filter(|series| !matches!(series.kind, Kind::Named | Kind::Band));
        let keys = in_legend.map(|series| {
            format!(
                r#"<span><i class="key s{}"></i>{}</span>"#,
                series.colour,
                escape(&series.name)
            )
        });
        format!(
            r#"<figure><figcaption><b>{}</b><span class="legend">{}</span></figcaption><p class="axis">{}</p><div class="plot" role="img" aria-label="{}"><svg viewBox="0 0 1000 1000" preserveAspectRatio="none">{svg}</svg>{text}</div><p class="axis under">{}</p></figure>
"#,
            escape(&self.title),
            keys.collect::<String>(),
            escape(&self.y.label),
            escape(&format!("{}: {} by {}", self.title, self.y.label, self.x.label)),
            escape(&self.x.label),
        )
    }

    fn drawn(&self, series: &Series, x: Range, y: Range) -> String {
        let colour = series.colour;
        let placed: Vec<_> = series
            .points
            .iter()
            .filter_map(|&(at, value)| {
                Some((x.place(at)? * 1000.0, 1000.0 - y.place(value)? * 1000.0, at, value))
            })
            .collect();
        let (Some(first), Some(last)) = (placed.first(), placed.last()) else {
            return String::new();
        };
        let line: String = placed
            .iter()
            .enumerate()
            .map(|(index, (x, y, ..))| {
                format!("{}{x:.1} {y:.1}", if index == 0 { "M" } else { "L" })
            })
            .collect();
        if series.kind == Kind::Band {
            return format!(r#"<path class="area s{colour}" d="{line}Z"/>"#);
        }
        let mut out = String::new();
        if series.kind == Kind::Area {
            out += &format!(
                r#"<path class="area s{colour}" d="{line}L{:.1} 1000L{:.1} 1000Z"/>"#,
                last.0, first.0
            );
        }
        if series.kind != Kind::Named {
            out += &format!(r#"<path class="line s{colour}" d="{line}"/>"#);
        }
        if matches!(series.kind, Kind::Line | Kind::Named) {
            for (x, y, at, value) in &placed {
                let told = format!("{}: {} at {}", series.name, short(*value), short(*at));
                out += &format!(
                    r#"<path class="dot s{colour}" d="M{x:.1} {y:.1}h0"><title>{}</title></path>"#,
                    escape(&told)
                );
            }
        }
        out
    }
}

/// Bars that lie across a middle, one under another.
#[derive(Debug, Clone)]
pub struct Bars {
    /// What they show.
    pub title: String,
    /// What their length is, with its unit.
    pub axis: String,
    /// A line through all of them.
    pub middle: f64,
    /// The bars, from the top.
    pub spans: Vec<Span>,
}

/// A bar from one value to another.
#[derive(Debug, Clone)]
pub struct Span {
    /// What it is of.
    pub name: String,
    /// Where it goes from and to; either may be the greater.
    pub ends: [f64; 2],
    /// What makes it go there.
    pub said: [String; 2],
}

impl Bars {
    /// As a figure.
    #[must_use]
    pub fn html(&self) -> String {
        let ends = || self.spans.iter().flat_map(|span| span.ends).chain([self.middle]);
        let least = ends().fold(f64::INFINITY, f64::min);
        let most = ends().fold(f64::NEG_INFINITY, f64::max);
        let width = (most - least).max(f64::MIN_POSITIVE);
        let place = |value: f64| (value - least) / width * 100.0;
        let middle = place(self.middle);
        let rows = self.spans.iter().map(|Span { name, ends, said }| {
            // Each part has the colour of the end that it reaches to.
            let parts = ends.iter().zip(["s2", "s1"]).map(|(end, colour)| {
                let (from, to) = (place(*end).min(middle), place(*end).max(middle));
                let width = to - from;
                format!(r#"<i class="key {colour}" style="left:{from:.2}%;width:{width:.2}%"></i>"#)
            });
            let parts: String = parts.collect();
            let told = ends.iter().zip(said);
            let told: Vec<_> = told.map(|(end, said)| format!("{} at {said}", short(*end))).collect();
            format!(
                r#"<div class="span"><b>{}</b><span>{}</span><div class="track">{parts}<i class="middle" style="left:{middle:.2}%"></i></div></div>
"#,
                escape(name),
                escape(&told.join(", "))
            )
        });
        format!(
            r#"<figure class="spans"><figcaption><b>{}</b><span class="legend"><span><i class="key s2"></i>at its low value</span><span><i class="key s1"></i>at its high value</span></span></figcaption>
{}<p class="axis ends"><span>{}</span><span>{}</span></p><p class="axis under">{}</p></figure>
"#,
            escape(&self.title),
            rows.collect::<String>(),
            short(least),
            short(most),
            escape(&self.axis)
        )
    }
}
