//! What kernels achieve of an accelerator's peaks, and what a step's kernels take.

use crate::accelerator::Accelerator;
use crate::fit::Fit;
use crate::format::{Format, KvFormat};
use crate::sheet::SheetError;

/// A class of kernels whose times follow one smooth roofline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kernel {
    /// Matrix multiplication with weights.
    Gemm(Format),
    /// Routed experts, both multiplications and the permutations around them.
    Experts(Format, Routing),
    /// Attention of one new token per sequence.
    DecodeAttention(KvFormat),
    /// Attention of one new token per sequence to compressed keys and values.
    DecodeLatent(KvFormat),
    /// Attention of prompts.
    PrefillAttention(KvFormat),
    /// Attention of prompts whose keys and values are compressed.
    PrefillLatent(KvFormat),
}

/// How tokens choose experts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Routing {
    /// Every expert as often.
    Balanced,
    /// By a power law (exponent 1.01), as real prompts do.
    #[default]
    Skewed,
}

/// What constants rest on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Basis {
    /// Kernels of this engine measured on this accelerator.
    Measured,
    /// Kernels of this engine, or of another, measured on the same chip with another board or memory.
    SameChip,
    /// Kernels of another engine measured on this accelerator.
    OtherEngine,
    /// The middle of all accelerators that were measured.
    Generic,
}

/// The constants of a smooth roofline.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fractions {
    /// Seconds of a kernel that has next to nothing to do.
    pub start_s: f64,
    /// Fraction of the peak arithmetic that large kernels achieve.
    pub compute: f64,
    /// Fraction of the peak bandwidth that large kernels achieve.
    pub memory: f64,
    /// Of experts: how many times the activations of the rows that they compute are moved at the peak bandwidth, and how many
    /// times the results of all choices. 0 for other kernels.
    pub traffic: (f64, f64),
    /// Median absolute relative error of the fit, wider if the kernels were not these.
    pub error: f64,
    /// What they rest on.
    pub basis: Basis,
}

/// Seconds of a kernel beyond its start: `((F / (ec P))^4 + (B / (em W))^4)^(1/4)`, from the seconds that arithmetic and
/// memory would take alone. Far from the ridge it is the longer of the two; at the ridge 2^(1/4) of either.
#[must_use]
pub fn smooth_roofline(compute_s: f64, memory_s: f64) -> f64 {
    // By the larger one, so that nothing underflows; two square roots are exact to the last bit everywhere.
    let (large, small) =
        if compute_s > memory_s { (compute_s, memory_s) } else { (memory_s, compute_s) };
    if large <= 0.0 {
        return 0.0;
    }
    let ratio = small / large;
    let square = ratio * ratio;
    large * (1.0 + square * square).sqrt().sqrt()
}

#[derive(Debug, Clone, PartialEq)]
struct Measured {
    accelerator: String,
    engine: String,
    kernel: Kernel,
    fractions: Fractions,
}

#[derive(Debug, Clone, PartialEq)]
struct Link {
    accelerator: String,
    kernel: String,
    ranks: u32,
    alpha_s: f64,
    bus_bytes_per_s: f64,
}

/// Measured kernels: the fits that are carried, or those of a sheet.
#[derive(Debug, Clone, PartialEq)]
pub struct Kernels {
    fits: Vec<Measured>,
    links: Vec<Link>,
    served: Vec<Fit>,
}

/// How long an all-reduce of some bytes takes: the faster of at most two kernels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AllReduce {
    ranks: f64,
    kernels: [(f64, f64); 2],
    /// Times as long as it was measured.
    factor: f64,
    /// What it rests on.
    pub basis: Basis,
}

impl AllReduce {
    /// One accelerator alone has nothing to reduce.
    pub(crate) const NONE: Self = Self {
        ranks: 1.0,
        kernels: [(0.0, f64::INFINITY); 2],
        factor: 1.0,
        basis: Basis::Measured,
    };

    pub(crate) fn times(self, factor: f64) -> Self {
        Self { factor: self.factor * factor, ..self }
    }

    /// Seconds for `bytes` on every rank: `alpha + 2 (n - 1) / n x bytes / bus`, of the faster kernel.
    #[must_use]
    pub fn seconds(self, bytes: f64) -> f64 {
        let moved = 2.0 * (self.ranks - 1.0) / self.ranks * bytes;
        let [first, second] = self.kernels.map(|(alpha, bus)| alpha + moved / bus);
        self.factor * first.min(second)
    }
}

impl Kernels {
    /// The fits that are carried.
    ///
    /// # Errors
    /// [`SheetError`] if a carried sheet is damaged, which the tests rule out.
    pub fn built_in() -> Result<Self, SheetError> {
        let mut kernels = Self::read("kernels.txt", include_str!("../data/kernels.txt"))?;
        kernels.links = read_links("collectives.txt", include_str!("../data/collectives.txt"))?;
        Ok(kernels)
    }

    /// Reads a sheet of fits; without links, whose constants then are generic.
    ///
    /// # Errors
    /// [`SheetError`] names the line, what was found and what was expected.
    pub fn read(sheet: &str, text: &str) -> Result<Self, SheetError> {
        let mut fits = Vec::new();
        for (line, cells) in lines(text) {
            let wrong = |what: String| SheetError { sheet: sheet.to_owned(), line, what };
            let &[
                accelerator,
                engine,
                _version,
                kernel,
                format,
                routing,
                _points,
                t0,
                compute,
                memory,
                median,
                _p90,
                ref traffic @ ..,
            ] = cells.as_slice()
            else {
                return Err(wrong(format!("expected 12 columns, found {}", cells.len())));
            };
            let kernel = match (kernel, routing) {
                ("gemm", "-") => format.parse().ok().map(Kernel::Gemm),
                ("moe", "balanced") => {
                    format.parse().ok().map(|f| Kernel::Experts(f, Routing::Balanced))
                }
                ("moe", "skewed") => {
                    format.parse().ok().map(|f| Kernel::Experts(f, Routing::Skewed))
                }
                ("decode-attention", "-") => format.parse().ok().map(Kernel::DecodeAttention),
                ("decode-latent", "-") => format.parse().ok().map(Kernel::DecodeLatent),
                ("prefill-latent", "-") => format.parse().ok().map(Kernel::PrefillLatent),
                ("prefill-attention", "-") => format.parse().ok().map(Kernel::PrefillAttention),
                _ => None,
            };
            let kernel =
                kernel.ok_or_else(|| wrong("unknown kernel, format or routing".to_owned()))?;
            let number = |key: &str, cell: &str, least: f64| {
                let value = cell.parse::<f64>().ok();
                value.filter(|value| value.is_finite() && *value >= least).ok_or_else(|| {
                    wrong(format!("`{key}`: expected a number from {least}, found `{cell}`"))
                })
            };
            let traffic = match (kernel, traffic) {
                (Kernel::Experts(..), [rows, results]) => {
                    (number("rows", rows, 0.0)?, number("results", results, 0.0)?)
                }
                (Kernel::Experts(..), _) => {
                    return Err(wrong(format!("expected 14 columns, found {}", cells.len())));
                }
                (_, []) => (0.0, 0.0),
                _ => return Err(wrong(format!("expected 12 columns, found {}", cells.len()))),
            };
            let fractions = Fractions {
                start_s: number("t0_us", t0, 0.0)? * 1e-6,
                compute: number("compute", compute, 1e-3)?,
                memory: number("memory", memory, 1e-3)?,
                traffic,
                error: number("median%", median, 0.0)? / 100.0,
                basis: Basis::Measured,
            };
            let (accelerator, engine) = (accelerator.to_owned(), engine.to_owned());
            fits.push(Measured { accelerator, engine, kernel, fractions });
        }
        Ok(Self { fits, links: Vec::new(), served: Vec::new() })
    }

    /// Puts what measured runs say before what was there; the first of an accelerator and an engine counts.
    pub fn add_fits(&mut self, fits: Vec<Fit>) {
        self.served.splice(0..0, fits);
    }

    /// What measured runs say of an accelerator with an engine.
    #[must_use]
    pub fn fit(&self, accelerator: &Accelerator, engine: &str) -> Option<&Fit> {
        self.served.iter().find(|fit| fit.is_of(accelerator.row().name(), engine))
    }

    /// The constants of a kernel, the nearest that were measured: this engine on this accelerator, the same chip,
    /// another engine on this accelerator, the median of all accelerators. `None` if nobody measured such a kernel.
    ///
    /// The error is that of the fit's kernels, widened by 5 percentage points for the same chip and by 10 for another
    /// engine; for the median it is the median error plus how far the measured ones lie from their median.
    #[must_use]
    pub fn fractions(
        &self,
        accelerator: &Accelerator,
        engine: &str,
        kernel: Kernel,
    ) -> Option<Fractions> {
        const SAME_CHIP: f64 = 0.05;
        const OTHER_ENGINE: f64 = 0.10;
        let (chip, own) = accelerator.kernels();
        let there = || {
            self.fits.iter().filter(move |fit| {
                fit.kernel == kernel && fit.accelerator.eq_ignore_ascii_case(chip)
            })
        };
        let nearest = there().find(|fit| fit.engine == engine).or_else(|| there().next());
        if let Some(fit) = nearest {
            let mut fractions = fit.fractions;
            if !own {
                fractions.basis = Basis::SameChip;
                fractions.error += SAME_CHIP;
            }
            if fit.engine != engine {
                fractions.basis = fractions.basis.max(Basis::OtherEngine);
                fractions.error += OTHER_ENGINE;
            }
            return Some(fractions);
        }
        self.generic(kernel).or_else(|| self.generic(similar(kernel)?))
    }

    fn generic(&self, kernel: Kernel) -> Option<Fractions> {
        let fits = || self.fits.iter().filter(|fit| fit.kernel == kernel).map(|fit| fit.fractions);
        let of = |pick: fn(Fractions) -> f64| median(fits().map(pick).collect());
        let (compute, memory) = (of(|f| f.compute)?, of(|f| f.memory)?);
        let distance =
            |f: Fractions| (f.compute / compute - 1.0).abs().max((f.memory / memory - 1.0).abs());
        let spread = median(fits().map(distance).collect())?;
        Some(Fractions {
            start_s: of(|f| f.start_s)?,
            compute,
            memory,
            traffic: (of(|f| f.traffic.0)?, of(|f| f.traffic.1)?),
            error: of(|f| f.error)? + spread,
            basis: Basis::Generic,
        })
    }

    /// The all-reduce among `ranks` neighbours. Between measured sizes of groups the next larger one counts; beyond the
    /// largest the start grows with the logarithm of the group. On accelerators that nobody measured it takes the
    /// median start and 0.7 of the link, which NCCL achieves on boards with NVLink (0.71 to 0.78).
    #[must_use]
    pub fn all_reduce(
        &self,
        accelerator: &Accelerator,
        engine: &str,
        ranks: u32,
        link_bytes_per_s: f64,
    ) -> AllReduce {
        const LINK: f64 = 0.7;
        if ranks <= 1 {
            return AllReduce::NONE;
        }
        let (chip, own) = accelerator.kernels();
        let mut basis = if own { Basis::Measured } else { Basis::SameChip };
        let best = |kernel: &str| {
            let there = || {
                let links = self.links.iter();
                links.filter(move |link| {
                    link.accelerator.eq_ignore_ascii_case(chip) && link.kernel == kernel
                })
            };
            let fits = there().filter(|link| link.ranks >= ranks).min_by_key(|link| link.ranks);
            fits.or_else(|| there().max_by_key(|link| link.ranks))
        };
        let found = [best(engine), best("nccl")];
        let mut kernels = found.map(|link| {
            let link = link?;
            let steps = (f64::from(ranks).log2() / f64::from(link.ranks).log2()).max(1.0);
            if ranks > link.ranks {
                basis = Basis::Generic;
            }
            Some((link.alpha_s * steps, link.bus_bytes_per_s))
        });
        if kernels.iter().all(Option::is_none) {
            basis = Basis::Generic;
            let alphas = self.links.iter().map(|link| link.alpha_s).collect();
            kernels[0] = Some((median(alphas).unwrap_or(1e-5), LINK * link_bytes_per_s));
        }
        let any = kernels.iter().flatten().next().copied().unwrap_or((0.0, link_bytes_per_s));
        AllReduce {
            ranks: f64::from(ranks),
            kernels: kernels.map(|kernel| kernel.unwrap_or(any)),
            factor: 1.0,
            basis,
        }
    }
}

/// A kernel whose constants may stand in where a format was measured nowhere.
fn similar(kernel: Kernel) -> Option<Kernel> {
    match kernel {
        Kernel::Gemm(Format::Int8 | Format::Mxfp4 | Format::Mxfp4Fp8) => {
            Some(Kernel::Gemm(Format::Int4))
        }
        Kernel::Experts(Format::Int8, routing) => Some(Kernel::Experts(Format::Int4, routing)),
        _ => None,
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len().checked_sub(1)? / 2;
    Some((values[middle] + values[values.len() / 2]) / 2.0)
}

/// Lines with their cells, without comments.
fn lines(text: &str) -> impl Iterator<Item = (usize, Vec<&str>)> {
    let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
    let full = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    full.map(|(line, text)| (line, text.split_whitespace().collect()))
}

fn read_links(sheet: &str, text: &str) -> Result<Vec<Link>, SheetError> {
    let mut links = Vec::new();
    for (line, cells) in lines(text) {
        let wrong =
            |what: &str| SheetError { sheet: sheet.to_owned(), line, what: what.to_owned() };
        let &[accelerator, kernel, _version, ranks, alpha, bus] = cells.as_slice() else {
            return Err(wrong("expected 6 columns"));
        };
        let ranks = ranks.parse().ok().filter(|ranks| (2..=1_024).contains(ranks));
        let above_0 =
            |cell: &str| cell.parse().ok().filter(|value: &f64| value.is_finite() && *value > 0.0);
        links.push(Link {
            accelerator: accelerator.to_owned(),
            kernel: kernel.to_owned(),
            ranks: ranks.ok_or_else(|| wrong("`n`: expected a whole number from 2 to 1,024"))?,
            alpha_s: above_0(alpha)
                .ok_or_else(|| wrong("`alpha_us`: expected a number above 0"))?
                * 1e-6,
            bus_bytes_per_s: above_0(bus)
                .ok_or_else(|| wrong("`bus_gb_s`: expected a number above 0"))?
                * 1e9,
        });
    }
    Ok(links)
}
