//! The pictures, as SVG that stands inside a page.
//!
//! Promises axes with units, and colours that the page's style sheet can turn for a dark theme (it knows the few that are
//! used here). Refuses to draw nothing: without values there is no picture.

use std::ops::Range;

use harness::error::{Error, Result};
use hdrhistogram::Histogram;
use plotters::chart::ChartContext;
use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::axes::{LogAxis, nice_steps};
use super::tables::shortened;
use crate::numbers::{count, latency, percent, rate};
use crate::result::{SecondFigures, StageFigures};

const WIDTH: u32 = 960;
const HEIGHT: u32 = 360;
/// A label of an axis; the SVG backend takes 1/1.24 of it as pixels.
const LABEL: f64 = 16.0;
const FONT: &str = "sans-serif";
const TEXT: RGBColor = RGBColor(0x52, 0x51, 0x4e);
const GRID: RGBColor = RGBColor(0xe1, 0xe0, 0xd9);
const AXIS: RGBColor = RGBColor(0xc3, 0xc2, 0xb7);
/// Colours of series; the page's `--s1`, `--s2`, ... are the same.
pub const SERIES: [RGBColor; 6] = [
    RGBColor(0x2a, 0x78, 0xd6),
    RGBColor(0xeb, 0x68, 0x34),
    RGBColor(0x1b, 0xaf, 0x7a),
    RGBColor(0x4a, 0x3a, 0xa7),
    RGBColor(0xd5, 0x51, 0x81),
    RGBColor(0xb4, 0x7a, 0x00),
];
/// More points than this are a line without dots.
const DOTS_MAX: usize = 60;
/// Enough for a smooth curve.
const TICKS_A_HALF: u32 = 10;

/// One line of a plot: the number of its colour, and its points.
pub struct Curve {
    /// Index into [`SERIES`], which begins anew after its end.
    pub colour: usize,
    /// Pieces of the line; between them there is nothing.
    pub pieces: Vec<Vec<(f64, f64)>>,
}

/// The number of a colour and what is drawn in it.
type OfSecond = (usize, fn(&SecondFigures) -> f64);
type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

/// Latency by percentile of one histogram of nanoseconds; none without values.
///
/// # Errors
/// Only when the library fails.
pub fn percentiles(all: &Histogram<u64>) -> Result<Option<String>> {
    if all.is_empty() {
        return Ok(None);
    }
    let end = nines(1.0 - 1.0 / all.len() as f64).max(1.0);
    let points = all.iter_quantiles(TICKS_A_HALF).map(|value| {
        let ms = value.value_iterated_to() as f64 / 1e6;
        (nines(value.quantile_iterated_to()).min(end), ms)
    });
    // Of few values there are few points: the line still goes from the least to the most.
    let ends = [(0.0, all.min() as f64 / 1e6), (end, all.max() as f64 / 1e6)];
    let points = ends[..1].iter().copied().chain(points).chain(ends[1..].iter().copied());
    let curve = Curve { colour: 0, pieces: vec![points.collect()] };
    by_percentile(&[curve], end).map(Some)
}

/// Latency by percentile of several engines, at the percentiles that a document has; `curves` in (quantile, ms).
///
/// # Errors
/// Only when the library fails.
pub fn percentiles_of(curves: &[Curve]) -> Result<Option<String>> {
    let on_scale = |curve: &Curve| Curve {
        colour: curve.colour,
        pieces: curve.pieces.iter().map(|piece| piece.iter().map(|(q, ms)| (nines(*q), *ms)).collect()).collect(),
    };
    let curves: Vec<_> = curves.iter().map(on_scale).collect();
    if points(&curves).next().is_none() {
        return Ok(None);
    }
    by_percentile(&curves, nines(0.999)).map(Some)
}

/// Latency over time: p50, p99 and the maximum of each second in which pushes came.
///
/// # Errors
/// Only when the library fails.
pub fn over_time(seconds: &[SecondFigures]) -> Result<Option<String>> {
    let read: [OfSecond; 3] = [(0, |second| second.p50_ms), (1, |second| second.p99_ms), (3, |second| second.max_ms)];
    let pieces = |read: fn(&SecondFigures) -> f64| {
        let full = seconds.split(|second| second.pushes == 0).filter(|piece| !piece.is_empty());
        full.map(|piece| piece.iter().map(|second| (second.at_seconds, read(second))).collect()).collect()
    };
    let curves = read.map(|(colour, read)| Curve { colour, pieces: pieces(read) });
    let Some(axis) = LogAxis::of(points(&curves).map(|(_, ms)| ms)) else { return Ok(None) };
    let end = seconds.iter().map(|second| second.at_seconds).fold(1.0, f64::max);
    let x = Axis {
        low: 0.0,
        high: end * 1.01,
        ticks: whole(nice_steps(end, 10)),
        title: "seconds since the warm-up ended",
    };
    let label_x = |x: &f64| count(x.round() as u64);
    draw(HEIGHT, |area| {
        let mut chart = frame(area, &x, &log_axis(&axis), &label_x, &|y| latency(10f64.powf(*y)))?;
        // The greatest first and with larger dots: where all are the same, each is still seen.
        let mut sized = curves.iter().zip([3, 4, 5]).rev();
        sized.try_for_each(|(curve, dot)| line(&mut chart, curve, &axis_of(&axis), Some(dot)))
    })
    .map(Some)
}

/// A value of each trial of several engines, from 0; `curves` in (trial, value).
///
/// # Errors
/// Only when the library fails.
pub fn by_trial(curves: &[Curve]) -> Result<Option<String>> {
    let (last, most) = points(curves).fold((1.0_f64, 0.0_f64), |(x, y), (at, value)| (x.max(at), y.max(value)));
    if most <= 0.0 {
        return Ok(None);
    }
    let x = Axis { low: 0.5, high: last + 0.5, ticks: whole(nice_steps(last, 12)), title: "trial" };
    let y = Axis { low: 0.0, high: most * 1.08, ticks: nice_steps(most * 1.08, 6), title: "" };
    draw(HEIGHT, |area| {
        let mut chart = frame(area, &x, &y, &|x| format!("{x:.0}"), &|y| rate(*y))?;
        curves.iter().try_for_each(|curve| line(&mut chart, curve, &|value| value, Some(3)))
    })
    .map(Some)
}

/// A bar from p50 to p99 for each stage.
///
/// # Errors
/// Only when the library fails.
pub fn stages(stages: &[StageFigures]) -> Result<Option<String>> {
    let ends = stages.iter().flat_map(|stage| [stage.latency.p50_ms, stage.latency.p99_ms]);
    let Some(axis) = LogAxis::of(ends) else { return Ok(None) };
    // Room for the figures beside the bars.
    let room = (axis.high - axis.low) * 0.12;
    let ticks = axis.ticks.clone();
    let x = Axis { low: axis.low - room, high: axis.high + room, ticks, title: "time in the stage, log scale" };
    let rows = stages.len() as f64;
    let y = Axis { low: rows, high: 0.0, ticks: (0..stages.len()).map(|row| row as f64 + 0.5).collect(), title: "" };
    let name = |y: &f64| {
        stages
            .get(*y as usize)
            .map_or_else(String::new, |stage| shortened(&stage.stage.replace(char::is_control, " "), 13))
    };
    draw(80 + 44 * stages.len() as u32, |area| {
        let mut chart = frame(area, &x, &y, &|x| latency(10f64.powf(*x)), &name)?;
        let place = axis_of(&axis);
        stages.iter().enumerate().try_for_each(|(row, stage)| {
            let (p50, p99) = (stage.latency.p50_ms, stage.latency.p99_ms);
            range(&mut chart, row as f64 + 0.5, (place(p50), place(p99)), (&latency_3(p50), &latency_3(p99)))
        })
    })
    .map(Some)
}

/// Where a quantile is on the axis: one step a nine.
fn nines(quantile: f64) -> f64 {
    if quantile < 1.0 { -(1.0 - quantile).log10() } else { f64::MAX }
}

fn by_percentile(curves: &[Curve], end: f64) -> Result<String> {
    let axis = LogAxis::of(points(curves).map(|(_, ms)| ms)).unwrap_or_default();
    // Many nines need the room of two.
    let (step, first) = if end > 7.0 { (2, &[0.5][..]) } else { (1, &[0.0, 0.5][..]) };
    let whole = (1..=(end + 1e-9) as i32).step_by(step).map(f64::from);
    let ticks = first.iter().map(|quantile| nines(*quantile)).chain(whole).collect();
    let x = Axis { low: 0.0, high: end * 1.01, ticks, title: "percentile, scale 1/(1-p)" };
    draw(HEIGHT, |area| {
        let label = |x: &f64| percent(1.0 - 10f64.powf(-x));
        let mut chart = frame(area, &x, &log_axis(&axis), &label, &|y| latency(10f64.powf(*y)))?;
        let dots = (curves.len() > 1).then_some(3);
        curves.iter().try_for_each(|curve| line(&mut chart, curve, &axis_of(&axis), dots))
    })
}

/// Numbers of seconds and trials are whole; the first trial is 1.
fn whole(ticks: Vec<f64>) -> Vec<f64> {
    ticks.into_iter().filter(|tick| tick.fract() == 0.0).collect()
}

fn points(curves: &[Curve]) -> impl Iterator<Item = (f64, f64)> {
    curves.iter().flat_map(|curve| curve.pieces.iter().flatten().copied())
}

/// A value as three digits with its unit.
fn latency_3(ms: f64) -> String {
    if ms <= 0.0 {
        return "0".to_owned();
    }
    let unit = 10f64.powf(ms.log10().floor() - 2.0);
    latency((ms / unit).round() * unit)
}

/// An axis with ticks where it is told to; `low` may be above `high`.
#[derive(Clone)]
struct Axis {
    low: f64,
    high: f64,
    ticks: Vec<f64>,
    title: &'static str,
}

impl Ranged for Axis {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (start, end): (i32, i32)) -> i32 {
        start + ((value - self.low) / (self.high - self.low) * f64::from(end - start)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _hint: Hint) -> Vec<f64> {
        let (low, high) = (self.low.min(self.high), self.low.max(self.high));
        self.ticks.iter().copied().filter(|tick| (low..=high).contains(tick)).collect()
    }

    fn range(&self) -> Range<f64> {
        self.low..self.high
    }
}

fn log_axis(axis: &LogAxis) -> Axis {
    Axis { low: axis.low, high: axis.high, ticks: axis.ticks.clone(), title: "" }
}

fn axis_of(axis: &LogAxis) -> impl Fn(f64) -> f64 {
    |ms| axis.place(ms)
}

type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<Axis, Axis>>;

/// Draws and takes the document's own wrapping off: inside a page no name space is needed.
fn draw(height: u32, drawing: impl FnOnce(&Area<'_>) -> Result<()>) -> Result<String> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        drawing(&area)?;
        area.present().map_err(failed)?;
    }
    Ok(svg.replace(" xmlns=\"http://www.w3.org/2000/svg\"", ""))
}

fn frame<'a, 'b>(
    area: &'a Area<'b>,
    x: &Axis,
    y: &Axis,
    label_x: &dyn Fn(&f64) -> String,
    label_y: &dyn Fn(&f64) -> String,
) -> Result<Chart<'a, 'b>> {
    let mut chart = ChartBuilder::on(area)
        .margin_top(12)
        .margin_right(30)
        .x_label_area_size(48)
        .y_label_area_size(104)
        .build_cartesian_2d(x.clone(), y.clone())
        .map_err(failed)?;
    let style = (FONT, LABEL).into_font().color(&TEXT);
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(AXIS)
        .x_label_formatter(label_x)
        .y_label_formatter(label_y)
        .label_style(style.clone())
        .x_desc(x.title)
        .axis_desc_style(style)
        .draw()
        .map_err(failed)?;
    Ok(chart)
}

fn line(chart: &mut Chart<'_, '_>, curve: &Curve, place: &dyn Fn(f64) -> f64, dots: Option<i32>) -> Result<()> {
    let colour = SERIES[curve.colour % SERIES.len()];
    let is_sparse = curve.pieces.iter().map(Vec::len).sum::<usize>() <= DOTS_MAX;
    let with_dots = dots.is_some() && is_sparse;
    for piece in &curve.pieces {
        let points: Vec<_> = piece.iter().map(|(x, y)| (*x, place(*y))).collect();
        // A line of one point is nothing: it is seen as a dot.
        if with_dots || points.len() == 1 {
            // With more curves than colours, dots tell those of one colour apart.
            let style = if curve.colour < SERIES.len() { colour.filled() } else { colour.stroke_width(2) };
            let size = dots.unwrap_or(3) + if curve.colour < SERIES.len() { 0 } else { 2 };
            chart.draw_series(points.iter().map(|at| Circle::new(*at, size, style))).map_err(failed)?;
        }
        chart.draw_series(LineSeries::new(points, colour.stroke_width(2))).map_err(failed)?;
    }
    Ok(())
}

fn range(chart: &mut Chart<'_, '_>, y: f64, (low, high): (f64, f64), words: (&str, &str)) -> Result<()> {
    let high = high.max(low);
    let bar = PathElement::new([(low, y), (high, y)], SERIES[0].stroke_width(6));
    chart.draw_series([bar]).map_err(failed)?;
    for (at, colour) in [(low, SERIES[0]), (high, SERIES[1])] {
        chart.draw_series([Circle::new((at, y), 6, colour.filled())]).map_err(failed)?;
    }
    for (at, text, side, gap) in [(low, words.0, HPos::Right, -11), (high, words.1, HPos::Left, 11)] {
        let style = (FONT, LABEL).into_font().color(&TEXT).pos(Pos::new(side, VPos::Center));
        let label = EmptyElement::at((at, y)) + Text::new(text.to_owned(), (gap, 0), style);
        chart.draw_series([label]).map_err(failed)?;
    }
    Ok(())
}

fn failed(cause: impl std::fmt::Display) -> Error {
    Error::of("cannot draw the report", cause)
}
